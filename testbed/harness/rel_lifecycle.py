# SPDX-License-Identifier: Apache-2.0
"""Orderly ends and changes under load: `remora stop`, `remora exec`, reloads. Consumers with and without a Remora; retries off."""

import json
import os
import pathlib
import signal
import subprocess
import time

from .parts import now_ms
from .procs import Failed, wait_for
from .rel_parts import Site, binary, failures
from .world import World

INGRESS_APPS = {"dubbo": 20880, "bolt": 12200}


def _remora(site, host, *args, timeout=60):
    """A command to the Remora of a host."""
    remora = site.remoras[host]
    argv = remora.host.command([str(site.parts.binary), *args, "--admin", f"127.0.0.1:{remora.admin}"])
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout)


def _judged(site, case, problems, **figures):
    row = site.judged(case, **figures)
    if failures(row) or row["wrong"] or row["duplicates"]:
        problems.append(f"{case}: {row['failed']}, {row['wrong']} wrong, {row['duplicates']} executed twice; {site.words}")
    return row


def stopped(settings, network, name):
    """`remora stop` of one of two providers' hosts, three times; the application stays, and is published again with the next Remora."""
    problems, backs = [], []
    with Site(settings, network, name, taken=["p1", "p2", "consumer"]) as site:
        site.standard()
        # Without a Remora, as an application that has not been moved yet.
        for protocol in ("dubbo", "bolt"):
            site.call(protocol, host="bare")
        time.sleep(3)
        before = site.sample("consumer")
        wanted = sorted(site.published("p1"))
        for _ in range(3):
            done = _remora(site, "p1", "stop")
            if done.returncode:
                problems.append(f"stop ended with {done.returncode}: {done.stderr.strip()[-200:]}")
            left = site.published("p1")
            if left:
                problems.append(f"{len(left)} entries were left behind, as {left[0][:100]}")
            time.sleep(1)
            site.remoras["p1"].start()
            started = now_ms()
            try:
                wait_for("all is published again", 15, lambda: sorted(site.published("p1")) == wanted, 0.1)
            except Failed as error:
                problems.append(f"{error}: {len(site.published('p1'))} of {len(wanted)}")
                break
            backs.append(now_ms() - started)
            time.sleep(2)
        after = site.sample("consumer")
        row = _judged(site, "remora stop x3, the application stays; consumers with and without Remora", problems,
                      rss_kib=[before["rss_kib"], after["rss_kib"]], fds=[before["fds"], after["fds"]])
        row["note"] = f"published again {max(backs, default=0) / 1000:.1f} s after the next start at most"
    return {"id": "L1", "title": "remora stop under load, another provider is up", "bar": "0 failed, also without Remora; published again with the next one",
            "runs": [row], "problems": problems}


def _exec(site, host, command, prefix=(), **settings):
    """`remora exec` on a host with a configuration as the harness makes it; `prefix` is the command that it is started by."""
    where = site.network.host(host)
    config = {"registry": site.url, "data_dir": str(site.parts.folder / f"exec-{host}"),
              "facades": {"zookeeper": {"listen": "127.0.0.1:2181"}}, "admin": {"listen": "127.0.0.1:15020"}, **settings}
    path = site.parts.folder / f"exec-{host}.yaml"
    path.write_text(json.dumps(config))
    return site.parts._start(f"remora-exec-{host}", where, [*prefix, str(site.parts.binary), "exec", "--config", str(path), "--", *map(str, command)])


def executed(settings, network, name):
    """A provider that is a child of `remora exec` gets SIGTERM under load, and starts again, some times."""
    problems, ends = [], []
    with Site(settings, network, name, taken=["p2", "consumer"]) as site:
        address = network.host("p1").address

        def start(protocol):
            command = [binary("oracle"), "provide", "--protocol", protocol, "--journal", site.journal("provider"), "--listen", f"0.0.0.0:{INGRESS_APPS[protocol]}",
                       "--publish", f"{address}:{INGRESS_APPS[protocol]}", "--registry", "zookeeper://127.0.0.1:2181", "--session-ms", site.session_ms]
            proc = _exec(site, "p1", command)
            wait_for("the child is published", 30, lambda: site.published("p1"), 0.1)
            return proc

        for protocol in ("dubbo", "bolt"):
            site.provide(protocol, "p2")
        proc = start("dubbo")
        site.call("dubbo")
        site.call("dubbo", host="bare", rate=400)
        time.sleep(3)
        for _ in range(3):
            begin = now_ms()
            proc.popen.terminate()
            code = proc.wait(40)
            ends.append(now_ms() - begin)
            if proc.popen.returncode != 0:
                problems.append(f"exec ended with {proc.popen.returncode} ({code})")
            if site.published("p1"):
                problems.append("entries were left behind")
            time.sleep(1)
            proc = start("dubbo")
            time.sleep(2)
        row = _judged(site, "SIGTERM to remora exec x3, another provider is up; consumers with and without Remora", problems)
        row["note"] = f"from SIGTERM to the end {max(ends) / 1000:.1f} s at most"
        proc.popen.terminate()
        proc.wait(40)
    return {"id": "L2", "title": "remora exec gets SIGTERM under load", "bar": "0 failed, also without Remora", "runs": [row], "problems": problems}


# The application of a container: passes the end on to a provider, notes other signals, and leaves orphans all the time.
ENTRY = """
for name in HUP QUIT USR1 USR2 WINCH; do trap "echo $name >> $1" $name; done
trap 'kill -TERM $provider; wait $provider; exit $?' TERM
(while :; do (sleep 0.02 &) ; sleep 0.01; done) &
signals=$1; shift
"$@" &
provider=$!
while :; do wait $provider; done
"""
FORWARDED = ("HUP", "QUIT", "USR1", "USR2", "WINCH")


def first_process(settings, network, name):
    """`remora exec` is process 1 of a pid namespace, as in a container: signals reach the application, orphans are reaped."""
    problems, ends, zombies, seen = [], [], [], 0
    with Site(settings, network, name, taken=["p2", "consumer"]) as site:
        address = network.host("p1").address
        site.provide("dubbo", "p2")
        command = [binary("oracle"), "provide", "--protocol", "dubbo", "--journal", site.journal("provider"), "--listen", f"0.0.0.0:{INGRESS_APPS['dubbo']}",
                   "--publish", f"{address}:{INGRESS_APPS['dubbo']}", "--registry", "zookeeper://127.0.0.1:2181", "--session-ms", site.session_ms]
        for at in range(3):
            heard = site.parts.folder / f"signals-{at}"
            proc = _exec(site, "p1", ["bash", "-c", ENTRY, "entry", heard, *command], prefix=["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"])
            wait_for("the child is published", 30, lambda: site.published("p1"), 0.1)
            if at == 0:
                site.call("dubbo")
                site.call("dubbo", host="bare", rate=400)
            first = _first_in_namespace(proc.pid)
            for signal_name in FORWARDED:
                os.kill(first, getattr(signal, f"SIG{signal_name}"))
                wait_for(f"{signal_name} reaches the application", 5, lambda: heard.exists() and signal_name in heard.read_text().split(), 0.05)
            until = time.time() + 5
            while time.time() < until:
                dead = _zombies(first)
                zombies.append(len(dead))
                time.sleep(0.1)
            begin = now_ms()
            os.kill(first, signal.SIGTERM)
            proc.wait(40)
            ends.append(now_ms() - begin)
            seen += 1
            if proc.popen.returncode != 0:
                problems.append(f"exec ended with {proc.popen.returncode}")
            if site.published("p1"):
                problems.append("entries were left behind")
        row = _judged(site, f"remora exec as process 1, SIGTERM x{seen}; another provider is up; consumers with and without Remora", problems)
        row["note"] = (f"{len(FORWARDED)} other signals forwarded each time; about 400 orphans each time, {max(zombies)} waited to be reaped at a moment at most; "
                       f"from SIGTERM to the end {max(ends) / 1000:.1f} s at most")
        # One that has just ended may be seen; they must not pile up.
        if max(zombies) > 5:
            problems.append(f"{max(zombies)} zombies at a moment")
    return {"id": "L5", "title": "remora exec is process 1 of a container", "bar": "signals reach the application, orphans are reaped, 0 failed", "runs": [row],
            "problems": problems}


def _first_in_namespace(pid):
    """The child of `unshare`, below whatever put it into the network namespace."""
    while True:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            raise Failed("unshare has no child")
        pid = int(children[0])
        row = next(line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid"))
        if row.split()[-1] == "1":
            return pid


def _zombies(parent):
    """Ended children that nobody has asked after."""
    found = []
    for child in pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        try:
            state = pathlib.Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state == "Z":
            found.append(int(child))
    return found


def reloaded(settings, network, name):
    """1,000 reloads under load: limits, guard, publications, follows, a door and the log's levels change each time; each tenth file is wrong."""
    problems, took = [], []
    times = 1000
    with Site(settings, network, name) as site:
        site.standard()
        time.sleep(3)
        remora = site.remoras["consumer"]
        first = json.loads(remora.config.read_text())
        samples = []
        refused = 0
        for at in range(times):
            odd = at % 2
            config = {
                **first,
                "lifecycle": {"watch_config": False},
                "call": {"max_attempts": 3 - odd, "idle_close": f"{200 + at}s"},
                "discovery": {"guard": {"max_drop_percent": 50 + odd, "probe_interval": f"{5 + odd}s"}},
                "log": "info" if odd else "info,remora::call=warn",
                "publish": [{"protocol": "dubbo", "service": f"reload.S{n}", "address": "127.0.0.1:20899"} for n in range(odd, 2)],
                "follow": [{"protocol": "dubbo", "service": f"reload.F{at % 3}"}],
            }
            config["facades"] = {**first["facades"], "dubbod": {"listen": f"127.0.0.1:{22222 + odd}"} if at % 20 < 10 else "off"}
            wrong = at % 10 == 9
            if wrong:
                config["call"] = {"max_attempts": 99}
            draft = remora.config.with_suffix(".new")
            draft.write_text(json.dumps(config))
            os.replace(draft, remora.config)
            begin = time.time()
            answer = _post(remora, "/reload")
            took.append((time.time() - begin) * 1000)
            refused += "refused" in answer
            if wrong != ('"refused"' in answer):
                problems.append(f"reload {at}: {answer[-300:]}")
                break
            if at % 100 == 50:
                samples.append(site.sample("consumer"))
        time.sleep(1)
        row = _judged(site, f"{times} reloads of the consumer's Remora", problems, rss_kib=[samples[1]["rss_kib"], samples[-1]["rss_kib"]],
                      fds=[samples[1]["fds"], samples[-1]["fds"]])
        took.sort()
        row["note"] = f"{refused} of them refused as they had to be; a reload took {took[len(took) // 2]:.1f} ms in the median, {took[-1]:.0f} ms at most"
        if samples[-1]["fds"] > samples[1]["fds"] + 4:
            problems.append(f"descriptors grew from {samples[1]['fds']} to {samples[-1]['fds']}")
        # What an allocator keeps back settles in the first hundreds.
        if samples[-1]["rss_kib"] > samples[1]["rss_kib"] + 2048:
            problems.append(f"memory grew: {[s['rss_kib'] for s in samples]}")
    return {"id": "L3", "title": "1,000 reloads under load", "bar": "0 failed; no growth", "runs": [row], "problems": problems}


def _post(remora, path):
    """The whole answer of the admin port to a POST."""
    with remora.host.connect("127.0.0.1", remora.admin) as stream:
        stream.settimeout(20)
        stream.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{remora.admin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        parts = []
        while part := stream.recv(65536):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


def applications_stay(settings, network, name, line):
    """Real providers stay while their Remora is stopped for good and started again: their clients publish anew."""
    problems = []
    with World(settings, network, name, session_ms=40000) as world:
        world.provider(line, host="provider", name="p1")
        wait_for("the provider is published", 30, lambda: world.provider_nodes(), 0.3)
        before = {path.split("?")[0].split("%3F")[0] for path in world.provider_nodes()}
        remora = world.remoras["provider"]
        argv = remora.host.command([str(world.parts.binary), "stop", "--admin", f"127.0.0.1:{remora.admin}"])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        left = world.provider_nodes()
        if done.returncode or left:
            problems.append(f"stop ended with {done.returncode}, {len(left)} nodes were left: {left[:1]}")
        time.sleep(2)
        remora.start()
        started = now_ms()
        try:
            wait_for("all is published again", 60, lambda: {p.split("?")[0].split("%3F")[0] for p in world.provider_nodes()} >= before, 0.2)
        except Failed as error:
            problems.append(f"{line}: {error}: {world.provider_nodes()}")
        row = {"case": f"real provider {line} stays over remora stop and start", "calls": 0, "failed": {}, "recovery_ms": now_ms() - started,
               "note": f"{len(before)} nodes withdrawn and published again"}
    return {"id": "L4", "title": "applications stay over a stop for good", "bar": "withdrawn at once, published again by themselves", "runs": [row], "problems": problems}


def _all_lines(settings, network):
    result = None
    for line in ("2.6", "2.7", "3.3", "s5.13"):
        one = applications_stay(settings, network, f"L4-{line}", line)
        if result is None:
            result = one
        else:
            result["runs"] += one["runs"]
            result["problems"] += one["problems"]
    return result


def cells(settings):
    return [
        ("L1", lambda network: stopped(settings, network, "L1")),
        ("L2", lambda network: executed(settings, network, "L2")),
        ("L3", lambda network: reloaded(settings, network, "L3")),
        ("L4", lambda network: _all_lines(settings, network)),
        ("L5", lambda network: first_process(settings, network, "L5")),
    ]
