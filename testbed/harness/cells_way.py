# SPDX-License-Identifier: Apache-2.0
"""Cells of the way in and out: observe, steps by service, rollback and forward. Under load; the long ones are in `rel_way.py`."""

import time

from . import compare, zk
from .parts import LINES, SOFA_LINES
from .procs import Failed, wait_for
from .way import Way, differences


def observe(settings, network, name, line):
    """`mode: observe` leaves the registry as it is without a Remora, and shows consumers real addresses."""
    problems = []
    bare = Way(settings, network, name + "-bare", line, {}, rate=50)
    bare.taken = []
    with bare:
        bare.applications(consumers=["consumer"])
        without = bare.rows()
        bare.end()
    with Way(settings, network, name, line, {"mode": "observe"}, rate=50) as way:
        way.applications(consumers=["consumer"])
        found = sorted({compare.blanked(row) for row in without} ^ {compare.blanked(row) for row in way.rows()})
        if found:
            problems.append(f"the registry differs from one without Remora: {compare.told(found)}")
        if not way.is_direct("consumer"):
            problems.append(f"the consumer does not dial the providers: {sorted(way.peers('consumer'))}")
        counts = {(d["side"], d["decision"]): d["count"] for host in ("p1", "consumer") for d in way.takeover(host)["decisions"]}
        if not counts.get(("provider", "observed")) or not counts.get(("consumer", "observed")):
            problems.append(f"what would be taken over is not counted: {counts}")
        # A hundred calls are made in 2 s.
        time.sleep(5)
        calls, failed = way.judged(problems)
        return _told(problems, f"{len(without)} nodes as without Remora, {calls} calls, {failed} failed, counted {counts}")


def steps(settings, network, name, line, is_long=False):
    """From nothing to some services, to all, one side after the other, and back to observe, by reload under load."""
    problems, seen = [], []
    with Way(settings, network, name, line, {"mode": "observe"}) as way:
        way.applications()
        before = way.rows()
        policies = [
            ("one group", {"mode": "takeover", "takeover": {"allow": [{"group": "g1"}]}}),
            *([("and a service", {"takeover": {"allow": [{"group": "g1"}, {"service": "demo.Later*"}]}})] if is_long else []),
            ("all but one", {"takeover": {"deny": [{"service": "demo.LaterService"}]}}),
            ("all", {"takeover": {}}),
            ("providers only", {"takeover": {"side": "provider"}}),
            ("consumers only", {"takeover": {"side": "consumer"}}),
            *([("none of the instances", {"takeover": {"percent": 0}}), ("all again", {"takeover": {"percent": 100}})] if is_long else []),
            ("what is nowhere", {"takeover": {"allow": [{"service": "demo.Nowhere"}]}}),
            ("observed", {"mode": "observe", "takeover": {}}),
        ]
        for what, policy in policies:
            way.reload(**policy)
            time.sleep(1.2 if is_long else 0.4)
            marked = sum("remora.app.port" in row for row in zk.dump(way.registry_host, way.address, way.port))
            seen.append(f"{what}: {marked}")
            if what == "what is nowhere":
                warnings = [rule for host in ("p1", "consumer") for rule in way.takeover(host)["allow"] if rule["names"] == 0]
                if marked or len(warnings) != 2:
                    problems.append(f"a list of unknown services is not told of: {warnings}, {marked} nodes")
        left = differences(before, way.rows())
        if left:
            problems.append(f"the registry is another one at the end: {compare.told(left)}")
        calls, failed = way.judged(problems)
        return _told(problems, f"nodes at an ingress by step: {', '.join(seen)}; {calls} calls, {failed} failed")


def rollback(settings, network, name, line, times):
    """`remora rollback` and forward under load: the registry is what it was, consumers dial providers directly, and back."""
    problems, took = [], []
    with Way(settings, network, name, line, {"mode": "observe"}) as way:
        way.applications()
        before = way.rows()
        way.reload(mode="takeover")
        wait_for("all is taken over", 10, lambda: way.is_taken_over("consumer"))
        for _ in range(times):
            took.append(_back_and_forward(way, before, problems))
        way.roll_back("--wait", "--timeout", "40s")
        states = {host: way.takeover(host)["out_of_the_way"] for host in way.remoras}
        if not all(states.values()):
            problems.append(f"somebody still calls through a Remora: {states}")
        for remora in way.remoras.values():
            remora.stop()
        time.sleep(1)
        calls, failed = way.judged(problems, "bare")
        return _told(problems, f"{calls} calls, {failed} failed; direct after {max(took):.2f} s at most")


def _back_and_forward(way, before, problems):
    begin = time.time()
    way.roll_back()
    try:
        wait_for("every consumer dials its providers", 10, lambda: all(way.is_direct(host) for host in way.loops), 0.02)
        took = time.time() - begin
        wait_for("the registry is what it was", 10, lambda: not differences(before, zk.dump(way.registry_host, way.address, way.port)), 0.05)
    except Failed as error:
        now = zk.dump(way.registry_host, way.address, way.port)
        raise Failed(f"{error}: {compare.told(differences(before, now))}; {[sorted(way.peers(h)) for h in way.loops]}; {problems}") from None
    way.roll_back("--forward")
    wait_for("every consumer is taken over", 10, lambda: all(way.is_taken_over(host) for host in way.loops), 0.02)
    return took


def _told(problems, words):
    if problems:
        raise Failed("; ".join(problems) + f" ({words})")
    return [words]


def cells(settings):
    """(name, function) of all cells here."""
    found = []
    if settings.bare:
        return found

    def add(name, function, *args):
        found.append((name, lambda network, n=name: function(settings, network, n, *args)))

    # The rest is asked for with --full, and in the experiments W1 to W3.
    for line in [*LINES, *SOFA_LINES] if settings.full else ["2.7"]:
        add(f"observe/{line}", observe, line)
        add(f"steps/{line}", steps, line, settings.full)
        add(f"rollback/{line}", rollback, line, 5 if settings.full else 2)
    return found
