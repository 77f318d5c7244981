# SPDX-License-Identifier: Apache-2.0
"""L6: a real systemd runs the unit of `deploy/systemd`: started when ready, reloaded, upgraded in place, hung, stopped.

A manager of its own, so that nothing of this machine's is touched; see `systemd.sh`. Not shown: the unit's protection of the file
system and `DynamicUser`, which need the system's manager.
"""

import pathlib
import shutil

from .net import Host
from .parts import REPO, Parts
from .procs import Failed

SCRIPT = pathlib.Path(__file__).with_name("systemd.sh")
MANAGER = pathlib.Path("/usr/lib/systemd/systemd")


def seen_by_systemd(settings, network, name):
    if not MANAGER.exists():
        raise Failed(f"no {MANAGER}: apt-get install systemd")
    if not network.isolated:
        raise Failed(f"needs network namespaces ({network.why})")
    folder = settings.work / name
    shutil.rmtree(folder, ignore_errors=True)

    with Parts(folder, settings.binary) as parts:
        unit = REPO / "deploy/systemd/remora.service"
        proc = parts._start("systemd", Host("systemd", None, "127.0.0.1"), ["unshare", "-m", "-p", "-n", "-f", "--mount-proc", "bash", str(SCRIPT), str(settings.binary), str(unit)])
        proc.wait(150)
        proc._reader.join(5)
        rows = (folder / f"{proc.name}.out").read_text().splitlines()
    said = dict(row.split("=", 1) for row in rows if "=" in row)
    return judged(said, rows)


def judged(said, rows):
    problems = []

    def wants(key, test, what):
        if not test(said.get(key, "")):
            problems.append(f"{what}: {key}={said.get(key)}")

    is_zero = lambda value: value == "0"
    pid = lambda key: said.get(key, "").partition("pid=")[2].split(" ")[0]
    wants("verify", lambda v: v == "", "systemd-analyze verify complains")
    wants("ready_at_once", is_zero, "systemctl start returned before Remora was ready")
    wants("started", lambda v: v.startswith("active/running") and "status=serving" in v, "not active")
    wants("reload", is_zero, "systemctl reload failed")
    wants("reloaded", lambda v: v.startswith("active/running") and pid("reloaded") == pid("started"), "another process after a reload")
    wants("upgrade", is_zero, "the upgrade failed")
    wants("upgraded", lambda v: v.startswith("active/running") and pid("upgraded") != pid("started") and "restarts=0" in v, "systemd does not know the process that took over")
    wants("after_watchdog", lambda v: v.startswith("active/running") and "restarts=1" in v, "a frozen process was not started again")
    wants("ready_again", is_zero, "not ready after the restart")
    wants("stopped", lambda v: v == "inactive result=success left=0", "not stopped in order")
    if problems:
        problems.append(" | ".join(rows)[:600])
    note = (f"systemctl start returned after {said.get('start_ms')} ms, ready; reload in the same process; after `remora upgrade` systemd's main process is the new "
            f"one, no restart counted; a frozen one was ended and another served after {said.get('watchdog_ms')} ms (WatchdogSec=3); stop: {said.get('stopped')}")
    return {"id": "L6", "title": "systemd runs the unit", "bar": "active once ready; the same service over reload and upgrade; a frozen process replaced; an orderly stop",
            "runs": [{"case": "systemd (a user's manager), deploy/systemd/remora.service", "calls": 0, "failed": {}, "note": note}], "problems": problems}


def cells(settings):
    return [("L6", lambda network: seen_by_systemd(settings, network, "L6"))]
