# SPDX-License-Identifier: Apache-2.0
"""The way in and out under load, with real Dubbo and SOFARPC applications: W1 observe, then step by step; W2 rollback and
forward, again and again; W3 an application that starts again in the middle of each step.

Consumers are JVMs with retries off, one beside a Remora and one without. Ten changes of a list on, a Dubbo 3 consumer looks at
a change that comes less than 5 s after another only when these are over (`RegistryNotifier`, on purpose): so W2 pauses for longer
between its turns, and judges the first ten changes; of two providers that change together the second is seen late after that.
How long all took is given for each run.
"""

import time

from . import compare, rel_way_bare, zk
from .parts import LINES, SOFA_LINES
from .procs import Failed, wait_for
from .way import Way, differences

# Of each of the two consumers.
RATE = 600
# Its first ten changes of a list.
QUICK_TURNS = 4
# Between turns: longer than Dubbo 3 holds changes back.
PAUSE = {"3": 5.5}


def _registry_is(way, before, begin, limit=10):
    """Seconds from `begin` until the registry is as before."""
    rows = []

    def is_same():
        rows[:] = zk.dump(way.registry_host, way.address, way.port)
        return not differences(before, rows)

    try:
        wait_for("the registry is what it was", limit, is_same, 0.05)
    except Failed as error:
        raise Failed(f"{error}: {compare.told(differences(before, rows))}") from None
    return time.time() - begin


def _took(values):
    return f"{sorted(values)[len(values) // 2]:.2f} s in the median, {max(values):.2f} s at most"


def in_steps(settings, network, name, line):
    """Nothing, one service, some, all; sides, shares; back to nothing: by reload."""
    problems, seen = [], []
    seconds = settings.seconds or 60
    with Way(settings, network, name, line, {"mode": "observe"}, rate=RATE) as way:
        way.applications()
        before = way.rows()
        total = sum("/providers/" in row or row.startswith("E /services/") for row in before)
        service = {"service": "demo.EchoService"}
        policies = [
            ("one group", {"mode": "takeover", "takeover": {"allow": [{"group": "g1"}]}}),
            ("and a service", {"takeover": {"allow": [{"group": "g1"}, {"service": "demo.Later*"}]}}),
            ("and the one that is called", {"takeover": {"allow": [{"group": "g1"}, {"service": "demo.Later*"}, service]}}),
            ("all", {"takeover": {}}),
            ("all but the one that is called", {"takeover": {"deny": [service]}}),
            ("providers only", {"takeover": {"side": "provider"}}),
            ("consumers only", {"takeover": {"side": "consumer"}}),
            ("50 % of the instances", {"takeover": {"percent": 50}}),
            ("all again", {"takeover": {"percent": 100}}),
            ("observed", {"mode": "observe"}),
        ]
        for what, policy in policies:
            way.reload(**policy)
            time.sleep(seconds / len(policies))
            marked = sum("remora.app.port" in row for row in zk.dump(way.registry_host, way.address, way.port))
            seen.append(f"{what} {marked}")
        found = differences(before, way.rows())
        if found:
            problems.append(f"the registry is another one at the end: {compare.told(found)}")
        calls, failed = way.judged(problems)
        row = {"case": f"{line}: {len(policies)} policies, one after the other", "calls": calls, "failed": {"call": failed} if failed else {},
               "note": f"nodes at an ingress, of {total}: {', '.join(seen)}; slowest call {way.slowest_ms} ms"}
    return {"id": f"W1-{line}", "title": f"Dubbo or SOFARPC {line}: observed, then taken over in steps", "bar": "0 failed; at the end the registry is what it was",
            "runs": [row], "problems": problems}


def back_and_forward(settings, network, name, line, times=20):
    """`remora rollback` and `--forward` on every host at once."""
    problems, directs, registries = [], {"consumer": [], "bare": []}, []
    with Way(settings, network, name, line, {"mode": "observe"}, rate=RATE) as way:
        way.applications()
        before = way.rows()
        way.reload(mode="takeover")
        wait_for("all is taken over", 15, lambda: all(way.is_taken_over(host) for host in way.loops))
        pause = PAUSE.get(line[0], 0.3)
        for _ in range(times):
            time.sleep(pause)
            begin = time.time()
            way.roll_back()
            registries.append(_registry_is(way, before, begin))
            for host in directs:
                try:
                    wait_for(f"the consumer on {host} dials its providers", 15, lambda h=host: way.is_direct(h), 0.02)
                except Failed as error:
                    raise Failed(f"{error}: {sorted(way.peers(host))}; {problems}") from None
                directs[host].append(time.time() - begin)
            time.sleep(pause)
            way.roll_back("--forward")
            try:
                wait_for("every consumer is taken over", 15, lambda: all(way.is_taken_over(host) for host in way.loops), 0.02)
            except Failed as error:
                raise Failed(f"{error}: {({host: sorted(way.peers(host)) for host in way.loops})}; {problems}") from None
        answers = way._all("rollback", "--wait", "--timeout", "50s")
        safe = {host: way.takeover(host)["out_of_the_way"] for host in answers}
        if not all(safe.values()):
            problems.append(f"somebody still calls through a Remora: {safe}")
        found = differences(before, way.rows())
        if found:
            problems.append(f"the registry is another one: {compare.told(found)}")
        calls, failed = way.judged(problems, apart="bare")
        quick = [took for host in directs for took in directs[host][:QUICK_TURNS]]
        if max(quick) > 2 or (not line.startswith("3") and max(took for host in directs for took in directs[host]) > 2):
            problems.append(f"dialled directly only after {max(quick):.1f} s")
        row = {"case": f"{line}: rolled back and forward {times} times, {pause} s apart", "calls": calls, "failed": {"call": failed} if failed else {},
               "recovery_ms": int(max(quick) * 1000),
               "note": f"registry what it was: {_took(registries)}; consumer beside Remora dials directly: {_took(directs['consumer'])}; "
                       f"without: {_took(directs['bare'])}; first {QUICK_TURNS} turns {max(quick):.2f} s at most; then nobody calls through a Remora; slowest call {way.slowest_ms} ms"}
    rows = [row]
    if way.apart and line.startswith(("s", "3")):
        problems.append(way.apart[2])
    if way.apart and not line.startswith(("s", "3")):
        # What a consumer without a Remora loses when its providers' port changes is asked of Dubbo alone.
        rows.append(rel_way_bare.moved(settings, network, f"{name}-bare", line, times * 2, RATE))
        lost, of, words = way.apart
        alone = sum(rows[1]["failed"].values())
        if lost * rows[1]["calls"] > alone * of:
            problems.append(f"{words}; Dubbo alone loses {alone} of {rows[1]['calls']}")
    return {"id": f"W2-{line}", "title": f"{line}: rollback and forward",
            "bar": "0 failed beside a Remora, without one (2.6, 2.7) as many as where there is none at all; direct in 2 s (a consumer's first ten changes); registry as before, to the byte",
            "runs": rows, "problems": problems}


class _Diary:
    """What was done when, to find what a failed call met."""

    def __init__(self):
        self.done = []

    def did(self, what):
        self.done.append((time.time() * 1000, what))

    def told(self, report):
        """Ranges of failed calls, each with what was done last before it."""
        words = []
        for found in report["ranges"]:
            before = [(at, what) for at, what in self.done if at <= found["last_ms"]]
            at, what = before[-1] if before else (found["first_ms"], "begin")
            span = f"{(found['first_ms'] - at) / 1000:.1f} to {(found['last_ms'] - at) / 1000:.1f} s after {what}"
            words.append(f"{found['failed']} {span} ({found['error'].rsplit(' <- ', 1)[-1][:140]})")
        return words


def _restarts(way, changes, is_bare, problems):
    """Ends and starts p2 around each change; gives how many nodes stood at an ingress at each end, and the diary."""
    ends, diary = [], _Diary()

    def marked():
        rows = zk.dump(way.registry_host, way.address, way.port)
        rows = [row for row in rows if "/providers/" in row or row.startswith("E /services/")]
        return sum("remora.app.port" in row for row in rows), len(rows)

    def settled(what, is_taken):
        wanted = (full if is_taken and not is_bare else 0, full)
        try:
            wait_for(f"{what}: all stands as decided", 30, lambda: marked() == wanted, 0.2)
        except Failed as error:
            problems.append(f"{error}: {marked()} of {full}")

    full = marked()[1]
    for what, change, opposite, is_taken in changes:
        # An orderly end: what a consumer makes of a killed provider is not asked here.
        diary.did(f"SIGTERM ({what})")
        way.apps["p2"].popen.terminate()
        change()
        way.apps["p2"].wait(40)
        diary.did(f"start ({what})")
        way.provide("p2")
        settled(what, is_taken)
        # And the other way round: the change comes while it starts.
        diary.did(f"SIGTERM (before {what})")
        way.apps["p2"].popen.terminate()
        way.apps["p2"].wait(40)
        diary.did(f"start (during {what})")
        where, ports = way.network.host("p2"), ",".join(map(str, way.ports))
        way.apps["p2"] = way.parts.app(way.line, "provider", where, way.registry_for("p2"), "--threads", "200", *way.extra, "--ports", ports, "--name", "p2")
        if opposite:
            opposite()
            time.sleep(0.5)
            change()
        way.apps["p2"].event("ready", 60)
        settled(f"{what} while it starts", is_taken)
        ends.append(f"{what} {marked()[0]}/{full}")
    return ends, diary


def _restarted(settings, network, name, line, is_bare, problems):
    """One run of W3, with Remoras or without any."""
    way = Way(settings, network, name, line, {"mode": "observe"}, rate=RATE // 2)
    if is_bare:
        way.taken = []
    with way:
        way.applications()
        reload = lambda mode: (lambda: None if is_bare else way.reload(mode=mode))
        roll_back = lambda *flags: (lambda: None if is_bare else way.roll_back(*flags))
        changes = [("takeover", reload("takeover"), reload("observe"), True), ("rollback", roll_back(), None, False),
                   ("forward", roll_back("--forward"), None, True), ("observe", reload("observe"), reload("takeover"), False)]
        ends, diary = _restarts(way, changes, is_bare, problems)
        reports = way.end()
    kinds, when = {}, []
    for host, report in reports.items():
        for kind, count in report["kinds"].items():
            kinds[kind] = kinds.get(kind, 0) + count
        when += [f"{host}: {words}" for words in diary.told(report)]
    note = "no Remora anywhere" if is_bare else f"nodes at an ingress at each end: {', '.join(ends)}"
    calls = sum(report["calls"] for report in reports.values())
    note += f"; slowest call {max(report['slowest_ms'] for report in reports.values())} ms"
    return {"case": f"{line}: a provider ends and starts {'eight times' if is_bare else 'in the middle of each step'}", "calls": calls, "failed": kinds,
            "note": "; ".join([note, *when[:6]])}


def started_again(settings, network, name, line):
    """The provider p2 ends and starts again while a step is taken; p1 is up. What stands at the end is what was decided, and no
    call fails that would not without Remora: the same restarts are made once more with none."""
    problems = []
    bare = _restarted(settings, network, f"{name}-bare", line, True, problems)
    ours = _restarted(settings, network, name, line, False, problems)
    lost, own = sum(ours["failed"].values()), sum(bare["failed"].values())
    # The two runs make different numbers of calls.
    if lost * bare["calls"] > own * ours["calls"]:
        problems.append(f"{lost} of {ours['calls']} calls failed, without Remora {own} of {bare['calls']}")
    return {"id": f"W3-{line}", "title": f"{line}: an application starts again in the middle of a step",
            "bar": "each end is what was decided; no larger share of the calls fails than without Remora", "runs": [ours, bare], "problems": problems}


def cells(settings):
    found = []

    def add(name, function, *args):
        found.append((name, lambda network, n=name: function(settings, network, n, *args)))

    for line in [*LINES, *SOFA_LINES]:
        add(f"W1/{line}", in_steps, line)
        add(f"W2/{line}", back_and_forward, line)
        add(f"W3/{line}", started_again, line)
    return found
