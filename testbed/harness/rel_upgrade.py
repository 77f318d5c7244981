# SPDX-License-Identifier: Apache-2.0
"""E19, E20: a new process takes over from a running Remora under load, or fails to."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

from .cells_faults import Load
from .parts import now_ms
from .procs import Failed
from .rel_parts import INGRESS, Site, failures, sample
from .sofa import SofaWorld
from .world import World

LONG_MS = 10_000
SOFA_LINE = "s5.13"
PLAIN = ("--check", "false")


def serving(remora):
    """The process that serves: the one that was started stands in for it after an upgrade."""
    with remora.host.connect("127.0.0.1", remora.admin) as stream:
        stream.sendall(b"GET /upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
    return json.loads(answer.split("\r\n\r\n", 1)[1])["pid"]


def command(remora, *more):
    return remora.host.command([str(remora.parts.binary), "upgrade", "--admin", f"127.0.0.1:{remora.admin}", *more])


def upgrade(remora, *more):
    """Its exit status, what it said, and how long it took in milliseconds."""
    begin = now_ms()
    done = subprocess.run(command(remora, *more), capture_output=True, text=True, timeout=120)
    return done.returncode, (done.stdout + done.stderr).strip(), now_ms() - begin


class Watch:
    """Looks at the registry all the time: what a follower of the lists would see."""

    def __init__(self, owners):
        self.owners, self.before, self.changes, self.end = owners, owners(), [], threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self):
        while not self.end.wait(0.1):
            self.look()

    def look(self):
        now = self.owners()
        if now != self.before and len(self.changes) < 20:
            self.changes.append(str(sorted(_rows(now) ^ _rows(self.before))[:1]))

    def stop(self):
        self.end.set()
        self.thread.join()
        self.look()
        return self.changes


def _rows(seen):
    return set(seen.items() if isinstance(seen, dict) else seen)


def told(said):
    """Connections and pause, in what `remora upgrade` said."""
    found = re.search(r"(\d+) connections handed over in (\d+) ms", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def under_load(settings, network, name):
    """Every Remora is upgraded in turn, with calls of 10 s among the others."""
    times = 20 if settings.full else 6
    with Site(settings, network, name) as site:
        site.standard()
        for protocol in ("dubbo", "bolt"):
            site.call(protocol, connections=4, rate=8, slow_every=1, slow_ms=LONG_MS)
        hosts = ["consumer", "p1", "p2"]
        if settings.full:
            hosts.append("consumer2")
            site.call("dubbo", host="consumer2", rate=2500)
        time.sleep(2)
        first = {host: serving(site.remoras[host]) for host in hosts}
        before = sample(first["consumer"])
        watch, took, pauses, connections, problems = Watch(site.owners), [], [], [], []
        spacing = max(1.5, (settings.seconds or 60) / times)
        for at in range(times):
            host = hosts[at % len(hosts)]
            remora = site.remoras[host]
            code, said, ms = upgrade(remora)
            if code:
                problems.append(f"upgrade {at} of {host} ended with {code}: {said[-300:]}")
                break
            handed, pause = told(said)
            took.append(ms)
            pauses.append(pause)
            connections.append(handed)
            time.sleep(spacing)
        time.sleep(LONG_MS / 1000 + 1)
        changes = watch.stop()
        after = sample(serving(site.remoras["consumer"]))
        sessions = {caller.protocol: caller.sessions() for caller in site.callers}
        row = site.judged(f"oracle, {len(took)} upgrades, calls of {LONG_MS // 1000} s among the others", rss_kib=[before["rss_kib"], after["rss_kib"]],
                          fds=[before["fds"], after["fds"]])
        row["note"] = (f"upgrades took {min(took, default=0)} to {max(took, default=0)} ms, calls paused for {min(pauses, default=0)} to {max(pauses, default=0)} ms, "
                       f"{min(connections, default=0)} to {max(connections, default=0)} connections each; {len(changes)} registry changes")
        problems += judged(row, site.words)
        if changes:
            problems.append(f"the registry changed: {changes[0][:160]}")
        if any(len(ids) != 1 for ids in sessions.values()):
            problems.append(f"sessions were not resumed: {sessions}")
        if max(took, default=0) > 2000:
            problems.append(f"an upgrade took {max(took)} ms")
        return row, problems


def with_a_crowd(settings, network, name, connections=10_000):
    """A provider's Remora with 10,000 callers is upgraded twice: each of them stays connected, and calls again afterwards."""
    with Site(settings, network, name) as site:
        site.standard()
        remora, to = site.remoras["p1"], f"{network.host('p1').address}:{INGRESS['dubbo']}"
        crowds = [site.crowd("hold", "dubbo", to, host=host, connections=connections // 2, calls=True, calls_again=True, seconds=400, client=0xc0 + number)
                  for number, host in enumerate(("crowd1", "crowd2"))]
        came = sum(crowd.event("open", 150)["connections"] for crowd in crowds)
        before, watch, handed, pauses, took, problems = site.sample("p1"), Watch(site.owners), [], [], [], []
        for _ in range(2):
            code, said, ms = upgrade(remora)
            if code:
                problems.append(f"an upgrade with {came} connections ended with {code}: {said[-300:]}")
                break
            count, pause = told(said)
            handed.append(count)
            pauses.append(pause)
            took.append(ms)
            time.sleep(4)
        after = site.sample("p1")
        results = []
        for crowd in crowds:
            crowd.popen.terminate()
            results.append(crowd.event("result", 120))
        changes = watch.stop()
        again = sum(result["again"] for result in results)
        row = site.judged(f"oracle, 2 upgrades with {came} more connections", rss_kib=[before["rss_kib"], after["rss_kib"]], fds=[before["fds"], after["fds"]])
        row["note"] = (f"{min(handed, default=0)} connections handed over, calls paused for {max(pauses, default=0)} ms at most, an upgrade took {max(took, default=0)} ms at most; "
                       f"{again} of {came} called again on the same connection; {len(changes)} registry changes")
        problems += judged(row, site.words)
        if again != connections or any(result["closed"] + result["wrong"] + result["failed"] + result["refused"] for result in results):
            problems.append(f"of the {connections}: {results}")
        if changes:
            problems.append(f"the registry changed: {changes[0][:160]}")
        if max(took, default=0) > 2000:
            problems.append(f"an upgrade took {max(took)} ms")
        return row, problems


def judged(row, words):
    if failures(row) or row["wrong"] or row["duplicates"]:
        return [f"{row['failed']}, {row['wrong']} wrong, {row['duplicates']} executed twice; {words}"]
    return []


def dubbo(settings, network, name, line):
    """The same with real Dubbo applications."""
    with World(settings, network, name, session_ms=10000) as world:
        world.provider(line)
        load = Load(world, line)
        # Dubbo 3 writes the data of its node under /services anew by itself.
        watch = Watch(lambda: {path: row[-1] for path, row in world.owners().items()})
        problems = _each_twice(world)
        changes = watch.stop()
        report = load.end()
    return _applications(f"real Dubbo {line}", report, changes, problems)


def sofa(settings, network, name, door, upstream):
    """The same with real SOFARPC applications."""
    with SofaWorld(settings, network, name, upstream, session_ms=10000) as world:
        world.provider(SOFA_LINE, *PLAIN, door=door)
        load = Load(world, SOFA_LINE, door=door)
        watch = Watch(world.published)
        problems = _each_twice(world)
        time.sleep(12 if door == "sofaregistry" else 1)
        changes = watch.stop()
        report = load.end()
    return _applications(f"real SOFARPC, door {door}, registry {upstream}", report, changes, problems)


def _each_twice(world):
    problems = []
    for _ in range(2):
        for host, remora in world.remoras.items():
            code, said, _ = upgrade(remora)
            if code:
                problems.append(f"{host}: {said[-300:]}")
            time.sleep(4)
    return problems


def _applications(case, report, changes, problems):
    failed = {}
    for r in report["ranges"]:
        kind = r["error"].split(":")[0].split(".")[-1][:60]
        failed[kind] = failed.get(kind, 0) + r["failed"]
    row = {"case": f"{case}, 2 upgrades of each Remora", "calls": report["calls"], "failed": failed, "note": f"{len(changes)} registry changes"}
    if failed:
        problems.append(f"{case}: {failed}")
    if changes:
        problems.append(f"{case}: the registry changed: {changes[0][:160]}")
    return row, problems


def handed_over(settings, network, name):
    result = {"id": "E19", "title": "hot upgrade under load, calls of 10 s included", "bar": "0 failed; no registry change; at most 2 s until the new one serves",
              "runs": [], "problems": []}
    parts = [lambda: under_load(settings, network, f"{name}-oracle"), lambda: with_a_crowd(settings, network, f"{name}-crowd")]
    parts += [lambda line=line: dubbo(settings, network, f"{name}-{line}", line) for line in settings.lines]
    for door, upstream in (("zookeeper", "zookeeper"), ("mesh", "zookeeper"), ("sofaregistry", "sofaregistry")):
        parts.append(lambda door=door, upstream=upstream: sofa(settings, network, f"{name}-{door}-{upstream}", door, upstream))
    for part in parts:
        row, problems = part()
        result["runs"].append(row)
        result["problems"] += problems
    return result


def not_handed_over(settings, network, name):
    """E20: what cannot take over, and what is killed while it does."""
    with Site(settings, network, name) as site:
        site.standard()
        site.call("dubbo", connections=2, rate=4, slow_every=1, slow_ms=LONG_MS)
        time.sleep(2)
        remora = site.remoras["consumer"]
        before, watch, problems, failed, killed, done = serving(remora), Watch(site.owners), [], 0, 0, 0
        good = remora.config.read_text()
        for binary in ("/bin/false", "/bin/true", "/etc/passwd"):
            code, said, _ = upgrade(remora, "--binary", binary)
            failed += 1
            if code != 1:
                problems.append(f"--binary {binary} ended with {code}: {said}")
        remora.config.write_text(good.replace('"data_dir"', '"data_dri"'))
        code, said, _ = upgrade(remora)
        failed += 1
        if code != 1 or "data_dri" not in said:
            problems.append(f"with a wrong configuration it ended with {code}: {said}")
        remora.config.write_text(good)
        if serving(remora) != before:
            problems.append("another process serves")
        # From its first instant to behind its end.
        for delay_ms in range(0, 260, 10 if settings.full else 26):
            outcome = _kill_new(remora, delay_ms / 1000)
            killed += outcome == "killed"
            done += outcome == "done"
            time.sleep(0.7)
        code, said, _ = upgrade(remora)
        if code:
            problems.append(f"the next good upgrade ended with {code}: {said}")
        time.sleep(2)
        changes = watch.stop()
        row = site.judged(f"{failed} that cannot take over, {killed} killed on their way, {done} that were faster, and a good one at the end")
        row["note"] = f"{len(changes)} registry changes"
        problems += judged(row, site.words)
        if changes:
            problems.append(f"the registry changed: {changes[0][:160]}")
        return {"id": "E20", "title": "hot upgrade to a broken program, with a wrong configuration, killed on the way", "runs": [row], "problems": problems,
                "bar": "0 failed; the old one serves; the next upgrade works"}


def _children(pid):
    """Of any of its threads."""
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in path.read_text().split()]
        except OSError:
            pass
    return found


def _kill_new(remora, delay):
    """Kills the new process some time after it was started, unless it serves by then."""
    old = serving(remora)
    asked = subprocess.Popen(command(remora), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.time() + 10
    new = None
    while new is None and asked.poll() is None and time.time() < until:
        new = next(iter(_children(old)), None)
    time.sleep(delay)
    if new is None or asked.poll() is not None:
        asked.communicate(timeout=60)
        return "done"
    try:
        # Stopped first: on a busy machine it would go on between the look and the kill. What it had said before is heard meanwhile.
        os.kill(new, signal.SIGSTOP)
        time.sleep(0.2)
        has_taken_over = any("handed over" in row and f"pid={new} " in row for row in remora.log())
        os.kill(new, signal.SIGCONT if has_taken_over else signal.SIGKILL)
    except ProcessLookupError:
        has_taken_over = False
    said, _ = asked.communicate(timeout=60)
    if has_taken_over:
        return "done"
    if asked.returncode == 0:
        raise Failed(f"killed a process that had taken over: {said}")
    return "killed"


def cells(settings):
    return [("E19", lambda network: handed_over(settings, network, "E19")), ("E20", lambda network: not_handed_over(settings, network, "E20"))]
