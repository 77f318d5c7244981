# SPDX-License-Identifier: Apache-2.0
"""W4: one, ten and a hundred of a hundred services, by list and by share, under load; and back to nothing.

Each of two providers offers all services, spread over 50 ports: a hundred instances with an address each, for the share to choose
from. Dubbo 3 registers and looks by interface here: what it calls by an application's entry is one thing for all its services.
"""

import re
import time

from . import compare, many, zk
from .procs import Failed, wait_for
from .way import Way, differences

COUNT = 100
PORTS = 50
RATE = 600
# No consumer opens or closes a connection for so long: it is done with a step.
QUIET_S = 3
FIRST_PORT = {"dubbo": 21000, "bolt": 12500}
EXTRA = {"3": ("--register-mode", "interface", "--migration", "FORCE_INTERFACE")}


class Many(Way):
    """A Way whose applications offer and call many services."""

    def __init__(self, settings, network, name, line):
        extra = ("--many", COUNT, *EXTRA.get(line[0], ()))
        super().__init__(settings, network, name, line, {"mode": "observe"}, rate=RATE, extra=extra)
        self.parts.classes = [many.classes(self.parts.folder / "many", COUNT)]
        first = FIRST_PORT[self.protocol]
        self.ports = range(first, first + PORTS)

    def at_ingress(self):
        """How many provider nodes lead to a Remora, how many services they are of, and how many nodes there are."""
        root = "/sofa-rpc" if self.protocol == "bolt" else "/dubbo"
        with zk.Client(self.registry_host, self.address, self.port) as client:
            nodes = [client.children(f"{root}/{name}/providers") for name in many.names(COUNT)]
        taken = [sum("remora.app.port" in node for node in of_one) for of_one in nodes]
        return sum(taken), sum(count > 0 for count in taken), sum(map(len, nodes))

    def followed(self, limit=60):
        """Waits until the consumers have followed: a Dubbo consumer takes in one list after the other."""
        last, since, until = None, time.time(), time.time() + limit
        while time.time() < until and time.time() - since < QUIET_S:
            now = {host: self.peers(host) for host in self.loops}
            if now != last:
                last, since = now, time.time()
            time.sleep(0.2)

    def through(self):
        """Calls that passed the egress of the consumer's Remora so far."""
        page = self.remoras["consumer"].http("/metrics")
        rows = re.findall(r'^remora_calls_total\{([^}]*)\} (\d+)', page, re.M)
        return sum(int(number) for labels, number in rows if 'side="egress"' in labels)


def many_services(settings, network, name, line):
    problems, seen = [], []
    seconds = settings.seconds or 96
    with Many(settings, network, name, line) as way:
        way.applications()
        before = way.rows()
        nodes = way.at_ingress()[2]
        if nodes != 2 * COUNT:
            raise Failed(f"{nodes} provider nodes instead of {2 * COUNT}")
        observed = {"mode": "observe", "takeover": {}}
        taken = lambda **takeover: {"mode": "takeover", "takeover": takeover}
        named = lambda pattern: taken(allow=[{"service": pattern}])
        steps = [
            ("1 by list", named("demo.many.Many00"), 2),
            ("10 by list", named("demo.many.Many0*"), 20),
            ("100 by list", named("demo.many.*"), 2 * COUNT),
            ("observe", observed, 0),
            ("1 %", taken(percent=1), None),
            ("10 %", taken(percent=10), None),
            ("100 %", taken(percent=100), 2 * COUNT),
            ("observe", observed, 0),
        ]
        took, last = [], 0
        for what, policy, wanted in steps:
            begin = time.time()
            way.reload(**policy)
            if wanted is not None:
                try:
                    wait_for(f"{what}: {wanted} nodes at an ingress", 15, lambda w=wanted: way.at_ingress()[0] == w, 0.1)
                    took.append(time.time() - begin)
                except Failed as error:
                    problems.append(f"{error}: {way.at_ingress()[0]}")
            way.followed()
            through, at = way.through(), time.time()
            time.sleep(max(1, begin + seconds / len(steps) - at))
            share = (way.through() - through) / (time.time() - at) / RATE * 100
            now = way.at_ingress()
            if what.endswith("%") and now[0] < last:
                problems.append(f"{what}: {now[0]} nodes, {last} before")
            last = now[0] if what.endswith("%") else 0
            seen.append(f"{what} {now[0]} ({now[1]} services, {share:.0f} % of the calls beside a Remora through its egress)")
        found = differences(before, way.rows())
        if found:
            problems.append(f"the registry is another one at the end: {compare.told(found)}")
        calls, failed = way.judged(problems)
        row = {"case": f"{line}: {COUNT} services of 2 providers at {PORTS} ports each", "calls": calls, "failed": {"call": failed} if failed else {},
               "recovery_ms": int(max(took, default=0) * 1000),
               "note": f"nodes at an ingress, of {nodes}: {'; '.join(seen)}; the registry has a step by list after {max(took, default=0):.2f} s at most; slowest call {way.slowest_ms} ms"}
    return {"id": f"W4-{line}", "title": f"{line}: 1, 10 and 100 of 100 services, by list and by share", "bar": "0 failed of 100,000; at the end the registry is what it was",
            "runs": [row], "problems": problems}


def cells(settings):
    return [(f"W4/{line}", lambda network, n=f"W4/{line}", l=line: many_services(settings, network, n, l)) for line in ("2.6", "2.7", "3.1", "3.3", "s5.6", "s5.13")]
