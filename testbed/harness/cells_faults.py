# SPDX-License-Identifier: Apache-2.0
"""Cells in which something breaks while calls go on: Remora, the registry, a provider."""

import time

from .parts import LINES, now_ms
from .procs import Failed, wait_for
from .world import World

RATE = 50


class Load:
    """A consumer that calls all the time, `rate` times a second, until it is told to stop."""

    def __init__(self, world, line, *args, seconds=150, timeout=1000, rate=None, **where):
        self.world, self.rate, self.begun = world, rate or world.settings.rate or RATE, time.time()
        self.stop_file = world.parts.folder / "stop-load"
        self.proc = world.consumer(line, "--loop", seconds, "--rate", self.rate, "--timeout", timeout, "--wait", 20, "--stop-file", self.stop_file, *args, **where)
        self.proc.event("ready", 60)
        time.sleep(3)

    def enough(self, calls):
        """Goes on until so many calls should have been made."""
        time.sleep(max(0.0, self.begun + 1.1 * calls / self.rate - time.time()))

    def end(self):
        """The report of the loop: calls, failed, ranges of failures."""
        self.stop_file.touch()
        report = self.proc.event("loop_end", 30)
        self.proc.wait(30)
        if report["calls"] < RATE:
            raise Failed(f"only {report['calls']} calls were made: this shows nothing")
        return report


def brief(error):
    """An application's error with its head and its causes: Dubbo's own words are two hundred characters of addresses."""
    head, found, causes = error.partition(" <- ")
    return f"{head[:60]}.. <- {causes[:240]}" if found else error[:300]


def told(report, begin_ms):
    """Ranges of failures in seconds after `begin_ms`."""
    ranges = [f"{(r['first_ms'] - begin_ms) / 1000:.1f}..{(r['last_ms'] - begin_ms) / 1000:.1f} s ({r['failed']}: {brief(r['error'])})"
              for r in report["ranges"]]
    return f"{report['calls']} calls, {report['failed']} failed" + (f", at {'; '.join(ranges[:4])}" if ranges else "")


def same_node(path, before, after):
    """Curator's service discovery (`ServiceDiscoveryImpl`) makes its node anew after every reconnect, so only its owner is compared."""
    if path.startswith("/services/"):
        return after is not None and after[1] == before[1]
    return after == before


def remora_killed(settings, network, name, line, side):
    """kill -9 and restart of a Remora, shorter than the session time-out: nobody notices in the registry."""
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line)
        before = world.owners()
        killed = now_ms()
        world.remoras[side].kill()
        time.sleep(1)
        world.remoras[side].start()
        restarted = now_ms()
        # Long enough for a session that was not resumed to run out.
        time.sleep(settings.session_ms / 1000 + 4)
        after = world.owners()
        report = load.end()
        world.notes.append(told(report, killed))
        last = max((r["last_ms"] for r in report["ranges"]), default=killed)
        world.notes.append(f"Remora was back after {(restarted - killed) / 1000:.1f} s, the last call failed at {(last - killed) / 1000:.1f} s")
        changed = [path for path in before if not same_node(path, before[path], after.get(path))] + [path for path in after if path not in before]
        if changed:
            raise Failed(f"{len(changed)} ephemeral nodes changed, as {changed[0][:200]}: {before.get(changed[0])} -> {after.get(changed[0])}; "
                         + "; ".join(world.notes))
        if last > restarted + 3000:
            raise Failed("no recovery within 3 s of the restart; " + "; ".join(world.notes))
        return world.notes


def registry_away(settings, network, name, line):
    """ZooKeeper is stopped for a while and comes back with its data: no call fails, all stays published."""
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line)
        before = world.provider_nodes()
        stopped = now_ms()
        world.keeper.stop()
        time.sleep(settings.outage_s)
        world.keeper.start()
        time.sleep(settings.session_ms / 1000 + 5)
        after = world.provider_nodes()
        report = load.end()
        world.notes.append(told(report, stopped))
        # Bare Dubbo loses calls now and then some seconds after the registry is back, when old sessions run out: told, not held against it.
        if report["failed"] and not settings.bare:
            raise Failed(f"calls failed with the registry away for {settings.outage_s} s: {world.notes[-1]}")
        if before != after:
            raise Failed(f"published before {before}, after {after}")
        return world.notes


def start_before_registry(settings, network, name, line):
    """A consumer starts while ZooKeeper is away, which comes back 5 s later: it gets its lists then, and others lose no call."""
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line)
        world.keeper.stop()
        time.sleep(2)
        late = world.consumer(line, "--app", "late-consumer", "--mix", "echo", "--calls", 100, "--check", "false", "--wait", 20)
        time.sleep(5)
        world.keeper.start()
        late.event("ready", 60)
        world.finish(late)
        report = load.end()
        if report["failed"]:
            raise Failed(told(report, now_ms()))
        return world.notes


def provider_killed(settings, network, name, line):
    """kill -9 of one of two providers: calls go to the other, and its nodes leave with its session."""
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        first = world.provider(line, name="p1")
        world.provider(line, host="provider2", name="p2")
        load = Load(world, line)
        address = f"{network.host('provider').address}%3A" if network.isolated else None
        killed = now_ms()
        first.kill()
        limit = settings.session_ms / 1000 + 4
        if address:
            wait_for("the killed provider's nodes are gone", limit,
                     lambda: not any(address in p or f"{network.host('provider').address}:" in p for p in world.provider_nodes()), 0.3)
            world.notes.append(f"gone from the registry after {(now_ms() - killed) / 1000:.1f} s")
        time.sleep(max(0.0, 8 - (now_ms() - killed) / 1000))
        report = load.end()
        world.notes.append(told(report, killed))
        last = max((r["last_ms"] for r in report["ranges"]), default=killed)
        if last > killed + 3000:
            raise Failed("no fail-over within 3 s; " + "; ".join(world.notes))
        who = report["answered_by"]
        if not any(k.startswith("p1/") for k in who) or not any(k.startswith("p2/") for k in who):
            raise Failed(f"calls did not go to both providers: {who}")
        return world.notes


def provider_stopped(settings, network, name, line):
    """SIGTERM to one of two providers under load: it says goodbye in time."""
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        first = world.provider(line, name="p1")
        world.provider(line, host="provider2", name="p2")
        load = Load(world, line)
        stopped = now_ms()
        first.stop(30)
        time.sleep(3)
        report = load.end()
        world.notes.append(told(report, stopped))
        if report["failed"]:
            raise Failed(f"calls failed at an orderly end of a provider: {world.notes[-1]}")
        return world.notes


def scaled_down(settings, network, name, line):
    """SIGTERM to two of three providers, a second apart, under load: most of the list leaves, and none of it is called to the end."""
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line, name="p1")
        leaving = [world.provider(line, host=f"provider{n}", name=f"p{n}") for n in (2, 3)]
        load = Load(world, line)
        stopped = now_ms()
        for proc in leaving:
            proc.popen.terminate()
            time.sleep(1)
        for proc in leaving:
            proc.wait(40)
        time.sleep(3)
        report = load.end()
        world.notes.append(told(report, stopped))
        if report["failed"]:
            raise Failed(f"calls failed at an orderly end of two providers: {world.notes[-1]}")
        return world.notes


def cells(settings):
    """(name, function) of all cells here."""
    lines = list(LINES) if settings.full else ["2.7", "3.3"]
    found = []

    def add(name, function, *args):
        found.append((name, lambda network, n=name: function(settings, network, n, *args)))

    for line in LINES:
        if not settings.bare:
            add(f"kill-remora/{line}-of-consumer", remora_killed, line, "consumer")
    for line in lines:
        if not settings.bare:
            add(f"kill-remora/{line}-of-provider", remora_killed, line, "provider")
            add(f"start-before-registry/{line}", start_before_registry, line)
        add(f"registry-away/{line}", registry_away, line)
        add(f"kill-provider/{line}", provider_killed, line)
        add(f"stop-provider/{line}", provider_stopped, line)
        add(f"scale-down/{line}", scaled_down, line)
    return found
