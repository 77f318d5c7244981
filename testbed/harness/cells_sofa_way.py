# SPDX-License-Identifier: Apache-2.0
"""SOFARPC by its doors, while Remora changes under it: `mode` and `takeover` by reload, rollback and forward; reloads and hot upgrades.

Two providers and a consumer beside Remoras, a bare consumer of the same registry; each consumer calls all the time, retries off.
By the mesh API an application never publishes itself and calls 127.0.0.1:12220 whatever it is answered: given back means there that its
own address stands in the registry, and its calls still pass its own Remora.
"""

import json
import time

from . import compare
from .parts import SOFA_LINES
from .procs import Failed, wait_for
from .sofa import SofaWorld
from .way import TIMEOUT_MS, WARM_S, Way

PLAIN = ("--services", "plain")
RATE = 200


class SofaWay(SofaWorld):
    """Hosts whose Remoras begin with `begin`."""

    def __init__(self, *args, begin=None, **more):
        super().__init__(*args, **more)
        self.begin, self.loops = begin or {}, {}

    def remora(self, name, **settings):
        return super().remora(name, **{**self.begin, **settings})

    reload, roll_back, _all, takeover = Way.reload, Way.roll_back, Way._all, Way.takeover
    end, judged, begin_file = Way.end, Way.judged, Way.begin_file

    def consume(self, line, host, door):
        stop = self.parts.folder / f"stop-{host}"
        proc = self.consumer(line, "--loop", 600, "--rate", RATE, "--timeout", TIMEOUT_MS, "--wait", 30, "--stop-file", stop,
                             "--begin-file", self.begin_file(), host=host, door=door)
        proc.event("ready", 60)
        self.loops[host] = (proc, stop)

    def applications(self, line, door):
        self.provider(line, *PLAIN, door=door, host="provider", name="p1")
        self.provider(line, *PLAIN, door=door, host="provider2", name="p2")
        wait_for("both are published", 15, lambda: len(self.published()) == 2, 0.2)
        self.consume(line, "consumer", door)
        self.consume(line, "bare", "bare")
        # JVMs run hot for the first seconds: what counts begins behind them.
        time.sleep(WARM_S)
        self.begin_file().touch()

    def own(self):
        """The applications' own addresses."""
        return sorted(f"{self.network.host(host).address}:12200" for host in ("provider", "provider2"))

    def ingress(self):
        return sorted(f"{self.network.host(host).address}:12201" for host in ("provider", "provider2"))

    def peers(self, host):
        proc, _ = self.loops[host]
        return {peer for _local, peer, _ in proc.host.sockets(proc.pid)}


def _stands(world, what, addresses):
    begin = time.time()
    try:
        wait_for(f"{what}: {addresses} stand in the registry", 15, lambda: _addresses(world) == addresses, 0.05)
    except Failed as error:
        raise Failed(f"{error}: {world.published()}") from None
    return time.time() - begin


def _addresses(world):
    """Without what SOFARPC's layout in ZooKeeper has behind an address."""
    return sorted(address.split("/")[0] for address in world.published())


def way(settings, network, name, line, door, upstream, times=5):
    """Observed, taken over, sides and services apart, rolled back and forward, observed: no call fails, and the registry is what it was."""
    problems, took = [], []
    without = _bare(settings, network, name, line, upstream) if door == upstream else set()
    with SofaWay(settings, network, name, upstream, session_ms=settings.session_ms, begin={"mode": "observe"}) as world:
        world.applications(line, door)
        before = world.dump()
        found = sorted({compare.blanked(row) for row in before if "/providers/" in row} ^ without)
        if door == upstream and found:
            problems.append(f"observed, the registry differs from one without Remora: {compare.told(found)}")
        _stands(world, "observed", world.own())
        service = {"service": "demo.EchoService*"}
        steps = [
            ("takeover", {"mode": "takeover"}, world.ingress()),
            ("denied", {"takeover": {"deny": [service]}}, world.own()),
            ("allowed", {"takeover": {"allow": [service]}}, world.ingress()),
            ("consumers only", {"takeover": {"side": "consumer"}}, world.own()),
            ("providers only", {"takeover": {"side": "provider"}}, world.ingress()),
            ("no instance", {"takeover": {"percent": 0}}, world.own()),
            ("all", {"takeover": {}}, world.ingress()),
        ]
        for what, policy, addresses in steps:
            world.reload(**policy)
            took.append(_stands(world, what, addresses))
            # SOFARegistry tells of a change up to a second later.
            time.sleep(1.5)
        for _ in range(times):
            world.roll_back()
            took.append(_stands(world, "rolled back", world.own()))
            if world.dump() != before:
                problems.append(f"rolled back, the registry is another one: {compare.told([*(f'- {r}' for r in before), *(f'+ {r}' for r in world.dump())])}")
            time.sleep(1.5)
            if door != "mesh" and not all(f"{address}" in world.peers("consumer") for address in world.own()):
                problems.append(f"the consumer does not dial its providers: {sorted(world.peers('consumer'))}")
            world.roll_back("--forward")
            took.append(_stands(world, "forward", world.ingress()))
            time.sleep(1.5)
        world.reload(mode="observe")
        _stands(world, "observed again", world.own())
        time.sleep(1.5)
        if world.dump() != before:
            problems.append("the registry is another one at the end")
        leads = {host: world.takeover(host).get("leads_here", 0) for host in world.remoras}
        calls, failed = world.judged(problems)
        words = f"{calls} calls, {failed} failed; {len(took)} changes, in the registry after {max(took):.2f} s at most; leading here at the end {leads}"
        if problems:
            raise Failed("; ".join(problems) + f" ({words})")
        return [words]


def _bare(settings, network, name, line, upstream):
    """What providers without a Remora have in the registry, without what changes from run to run."""
    with SofaWay(settings, network, name + "-bare", upstream) as world:
        for number, host in (("p1", "provider"), ("p2", "provider2")):
            world.provider(line, *PLAIN, door="bare", host=host, name=number)
        wait_for("both are published", 15, lambda: len(world.published()) == 2, 0.2)
        return {compare.blanked(row) for row in world.dump() if "/providers/" in row}


def _entries(world):
    """What goes with its owner; the directories around it stay in ZooKeeper."""
    return [row for row in world.dump() if row.startswith("E ") and "/providers/" in row]


def live(settings, network, name, line, door, upstream, reloads=30, upgrades=3):
    """Reloads that change what can change, then hot upgrades of every Remora, under load: no call fails, the registry sees nothing."""
    problems = []
    with SofaWay(settings, network, name, upstream, session_ms=settings.session_ms) as world:
        world.applications(line, door)
        before = _entries(world)
        for at in range(reloads):
            odd = at % 2
            world.reload(
                call={"max_attempts": 3 - odd, "idle_close": f"{200 + at}s"},
                discovery={"guard": {"max_drop_percent": 50 + odd}},
                log="info" if odd else "info,remora::call=warn",
                publish=[{"protocol": "bolt", "service": "reload.S:1.0", "address": "127.0.0.1:12299"}] if odd else [],
                follow=[{"protocol": "bolt", "service": f"reload.F{at % 3}:1.0"}],
            )
            time.sleep(0.2)
        world.reload(publish=[], follow=[])
        wait_for("what reloads published is gone", 15, lambda: _entries(world) == before, 0.2)
        for _ in range(upgrades):
            world._all("upgrade")
            time.sleep(2)
            if _entries(world) != before:
                problems.append(f"after an upgrade the registry has {world.published()}")
        calls, failed = world.judged(problems)
        words = f"{calls} calls, {failed} failed; {reloads} reloads and {upgrades} upgrades of each of {len(world.remoras)} Remoras"
        if problems:
            raise Failed("; ".join(problems) + f" ({words})")
        return [words]


def cells(settings):
    """(name, function) of all cells here."""
    found = []

    def add(name, function, *args):
        found.append((name, lambda network, n=name: function(settings, network, n, *args)))

    if settings.bare or not settings.full:
        return found
    for door, upstream in (("sofaregistry", "sofaregistry"), ("sofaregistry", "zookeeper"), ("mesh", "sofaregistry"), ("mesh", "zookeeper"), ("zookeeper", "zookeeper")):
        for line in SOFA_LINES:
            add(f"sofa-way/{line}-{door}-{upstream}", way, line, door, upstream)
            add(f"sofa-live/{line}-{door}-{upstream}", live, line, door, upstream)
    return found
