# SPDX-License-Identifier: Apache-2.0
"""Cells in which the registry fails its applications: away while they start, back without its data, flapping, without a leader.

Each is one experiment of the reliability list; `run` says which and how its outcome is kept.
"""

import shutil
import signal
import time

from .cells_faults import Load
from .cells_outage_disk import snapshot_damaged, snapshot_refused
from .cells_outage_nodes import deleted_by_hand, dying_session, mass_drop
from .ensemble import EnsembleWorld
from .outage import Run, provider_addresses, timed
from .parts import LINES, SOFA_LINES, now_ms
from .procs import Failed, wait_for
from .sofa import SofaWorld
from .world import World


# Where the bar is a number of calls (`--full`), and the calls a second that give it.
MANY, MANY_RATE = 100_000, 1000


def many(settings, is_main=True):
    """How many calls are to be made at least, and options of the load that makes them; few in what is shown beside."""
    return (MANY, {"rate": settings.rate or MANY_RATE, "seconds": 400}) if settings.full and is_main else (0, {"seconds": 400 if settings.full else 200})


def starts_meanwhile(settings, network, name, line, again=None, applications=False):
    """E6: applications start while the registry is away, also beside a Remora that was stopped and started meanwhile
    (`again="restart"`) or upgraded in place (`again="upgrade"`).

    With `applications` discovery is by applications only: nobody finds a provider without its mapping and metadata.
    """
    is_sofa = line in SOFA_LINES
    world = SofaWorld(settings, network, name, session_ms=settings.session_ms) if is_sofa else \
        World(settings, network, name, session_ms=settings.session_ms)
    calls, pace = many(settings, is_main=not again and not applications)
    extra = ("--services", "plain") if is_sofa else ("--register-mode", "instance") if applications else ()
    forced = ("--migration", "FORCE_APPLICATION") if applications else ()
    run = Run(f"applications of {line} start meanwhile" + (", found by application" if applications else "") +
              {"restart": ", after a stop and a start of the consumer's Remora", "upgrade": ", after an upgrade of the consumer's Remora", None: ""}[again])
    with world:
        world.provider(line, *extra)
        load = Load(world, line, *forced, timeout=3000, **pace)
        # Its Remora is there before the outage, the application is not.
        world.registry_for("provider2")
        usual = world.consumer(line, "--mix", "echo", "--calls", 20, "--wait", 20, *forced)
        normal = usual.event("ready", 60)["start_ms"] + usual.event("first_answer", 30)["after_ms"]
        world.finish(usual)
        stopped = now_ms()
        world.keeper.stop()
        wait_for("Remora notices", 10, lambda: "remora_registry_up{registry=\"default\"} 0" in world.remoras["consumer"].http("/metrics"), 0.1)
        time.sleep(1.5)
        ended = now_ms()
        if again == "restart":
            world.remoras["consumer"].stop()
            world.remoras["consumer"].start()
        elif again == "upgrade":
            words, code = world.remoras["consumer"].command("upgrade")
            if code:
                raise Failed(f"the upgrade ended with {code}: {words}")
        restarted = now_ms()
        late = world.consumer(line, "--app", "late-consumer", "--mix", "echo", "--calls", 200, "--wait", 20, *forced)
        took = late.event("ready", 60)["start_ms"] + late.event("first_answer", 30)["after_ms"]
        world.finish(late)
        run.notes.append(f"starts and calls in {took / 1000:.1f} s, with the registry there in {normal / 1000:.1f} s")
        # Another application's name: it must get into the mapping.
        named = ("--app", "late-provider") if applications else ()
        second = world.provider(line, *extra, *named, host="provider2", name="p2")
        run.notes.append(f"a provider starts in {second.event('ready', 1)['start_ms'] / 1000:.1f} s")
        time.sleep(max(0, settings.outage_s - (now_ms() - stopped) / 1000))
        where = network.host("provider2").address
        world.keeper.start()
        run.within("its publications stand in the registry", timed("p2 is published", 30, lambda: any(where in a for a in provider_addresses(world))), 10)
        # Sessions from before the outage run out meanwhile, with what they held.
        time.sleep(settings.session_ms / 1000 + 3)
        found = provider_addresses(world)
        if not any(where in a for a in found) or len(found) < 2:
            raise Failed(f"published in the end: {found}")
        load.enough(calls)
        report = load.end()
        run.load(report, stopped)
        if again != "restart":
            run.no_failures(calls)
        else:
            # Calls while nobody listens, and until the consumer has dialled again, are its lifecycle's matter, not the outage's.
            # SOFARPC tries a lost connection again after its reconnect period of 10 s at the latest.
            limit = 11 if is_sofa else 3
            run.notes.append(f"its Remora drained and was away for {(restarted - ended) / 1000:.1f} s; failed are calls of that time and of {limit} s after it at most")
            if any(r["first_ms"] < ended - 500 or r["last_ms"] > restarted + 1000 * limit for r in report["ranges"]):
                raise Failed("calls failed before or long after the restart: " + "; ".join(run.notes))
        if not any(k.startswith("p2/") for k in report["answered_by"]):
            raise Failed(f"no call reached the provider that started meanwhile: {report['answered_by']}")
        if took > max(5000, normal + 2000):
            raise Failed("; ".join(run.notes))
    return run


REGISTRIES = {"zookeeper": "ZooKeeper", "embedded": "embedded registry", "sofaregistry": "SOFARegistry"}


def comes_back_empty(settings, network, name, line, registry="zookeeper"):
    """E7: the registry loses its data; ZooKeeper's zxids begin anew."""
    run = Run(f"{line}, {REGISTRIES[registry]} comes back empty")
    calls, pace = many(settings, is_main=registry != "embedded")
    if line in SOFA_LINES:
        world = SofaWorld(settings, network, name, registry, session_ms=settings.session_ms, shared=False)
        extra, where = ("--services", "plain"), {"door": "sofaregistry" if registry == "sofaregistry" else "zookeeper"}
        standing = world.published
    else:
        world = World(settings, network, name, session_ms=settings.session_ms, embedded=registry == "embedded")
        extra, where = (), {}
        standing = lambda: sorted(provider_addresses(world))
    with world:
        world.provider(line, *extra, **where)
        world.provider(line, *extra, host="provider2", name="p2", **where)
        count = 2 if line in SOFA_LINES else len(standing())
        wait_for("both are published", 20, lambda: len(standing()) == count, 0.2)
        load = Load(world, line, timeout=3000, **pace, **where)
        before = standing()
        stopped = now_ms()
        _emptied(settings, world, registry)
        run.within("all providers are back", timed("all providers are back", 40, lambda: standing() == before), 10)
        world.finish(world.consumer(line, "--mix", "echo", "--calls", 50, "--wait", 20, **where))
        time.sleep(settings.session_ms / 1000 + 3)
        if standing() != before:
            raise Failed(f"published before {before}, in the end {standing()}")
        load.enough(calls)
        run.load(load.end(), stopped)
        run.no_failures(calls)
    return run


def _emptied(settings, world, registry):
    """Stops the registry, takes its data away, and starts it again after the outage."""
    if registry == "embedded":
        world.embedded_proc.stop()
        shutil.rmtree(world.parts.folder / "registry")
        time.sleep(3)
        world._embedded_registry()
    elif registry == "sofaregistry":
        # It keeps nothing on disk.
        world.stop_registry()
        time.sleep(settings.outage_s)
        world.start_registry()
    else:
        world.keeper.stop()
        shutil.rmtree(world.keeper.data / "version-2")
        time.sleep(settings.outage_s)
        world.keeper.start()


def flaps(settings, network, name, line, times):
    """E8: the registry hangs for a second, answers for a second, and so on; sockets stay."""
    run = Run(f"{line}, {times} times 1 s without an answer")
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line, seconds=2 * times + 90)
        before = world.owners()
        begin = now_ms()
        for _ in range(times):
            world.keeper.proc.popen.send_signal(signal.SIGSTOP)
            time.sleep(1)
            world.keeper.proc.popen.send_signal(signal.SIGCONT)
            time.sleep(1)
        time.sleep(3)
        after = world.owners()
        run.load(load.end(), begin)
        run.no_failures()
        anew = [path for path in before if "/providers/" in path and after.get(path) != before[path]]
        if anew:
            raise Failed(f"{len(anew)} nodes were made anew, as {anew[0][:160]}")
        run.notes.append(f"{len(before)} ephemeral nodes, the same in the end")
    return run


def leader_killed(settings, network, name, line, times):
    """E9: kill -9 of the leader of three servers, again and again."""
    run = Run(f"{line}, the leader of 3 is killed {times} times")
    with EnsembleWorld(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line, seconds=20 * times + 90)
        before = {p: o for p, o in world.owners().items() if "/providers/" in p or p.startswith("/services/")}
        begin, gaps = now_ms(), []
        for _ in range(times):
            leader = world.ensemble.leader()
            leader.proc.kill()
            gaps.append(timed("another leader", 30, world.ensemble.leader, 0.1))
            time.sleep(1)
            leader.start()
            wait_for("three serve again", 30, lambda: all(s.mode() for s in world.ensemble.servers), 0.2)
            time.sleep(1)
        after = {p: o for p, o in world.owners().items() if "/providers/" in p or p.startswith("/services/")}
        run.load(load.end(), begin)
        run.notes.append(f"another leader after {max(gaps):.1f} s at most")
        run.no_failures()
        owners = {p: o[1] for p, o in before.items()}
        if {p: o[1] for p, o in after.items()} != owners:
            raise Failed(f"sessions changed: {owners} -> {after}; " + "; ".join(run.notes))
        run.notes.append("the same sessions own the same nodes")
    return run


def frozen(settings, network, name, line):
    """E13: the provider's Remora is stopped for longer than the session's time-out."""
    run = Run(f"{line}, Remora frozen for longer than the session")
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        world.provider(line, host="provider2", name="p2")
        load = Load(world, line, seconds=settings.session_ms // 1000 + 90)
        where = network.host("provider").address
        mine = lambda: sorted(p for p in world.provider_nodes() if where in p)
        before = mine()
        remora = world.remoras["provider"].proc.popen
        begin = now_ms()
        remora.send_signal(signal.SIGSTOP)
        try:
            gone = timed("the session runs out", settings.session_ms / 1000 + 10, lambda: not mine(), 0.2)
            run.notes.append(f"its nodes were gone after {gone:.1f} s")
            time.sleep(max(0, settings.session_ms / 1000 + 5 - gone))
        finally:
            remora.send_signal(signal.SIGCONT)
        run.within("the provider is back", timed("the provider is back", 30, lambda: mine() == before), 5)
        time.sleep(settings.session_ms / 1000 + 3)
        if mine() != before:
            raise Failed(f"published before {before}, in the end {mine()}")
        woken = now_ms()
        report = load.end()
        run.load(report, begin)
        if any(r["last_ms"] > woken for r in report["ranges"]):
            raise Failed("calls fail to the end: " + "; ".join(run.notes))
    return run


def experiments(settings):
    """(id, name, function of a network that gives a Run) of all experiments here."""
    found = []

    def add(number, name, function, *args, **keywords):
        found.append((number, name, lambda network, n=name: function(settings, network, n, *args, **keywords)))

    lines = list(LINES)
    some = lines if settings.full else ["2.7", "3.3"]
    for line in lines:
        add("E6", f"outage-start/{line}", starts_meanwhile, line)
    add("E6", "outage-start/s5.13", starts_meanwhile, "s5.13")
    for line in ("3.1", "3.3"):
        add("E6", f"outage-start/{line}-application", starts_meanwhile, line, applications=True)
    for line in [*some, *(["s5.13"] if settings.full else [])]:
        add("E6", f"outage-restart/{line}", starts_meanwhile, line, again="restart")
        add("E6", f"outage-upgrade/{line}", starts_meanwhile, line, again="upgrade")
    for line in lines:
        add("E7", f"registry-emptied/{line}", comes_back_empty, line)
    for line in some:
        add("E7", f"registry-emptied/{line}-embedded", comes_back_empty, line, registry="embedded")
    add("E7", "registry-emptied/s5.13", comes_back_empty, "s5.13")
    add("E7", "registry-emptied/sofaregistry", comes_back_empty, "s5.13", registry="sofaregistry")
    for line in some:
        add("E8", f"registry-flaps/{line}", flaps, line, 100 if settings.full else 20)
        add("E9", f"leader-killed/{line}", leader_killed, line, 50 if settings.full else 5)
        add("E13", f"remora-frozen/{line}", frozen, line)
    add("E14", "dying-session/200", dying_session, 200)
    for line in some:
        add("E15", f"deleted-by-hand/{line}", deleted_by_hand, line, 1000)
        add("E26", f"mass-drop/{line}", mass_drop, line)
    add("E25", "snapshot-damaged/2.7", snapshot_damaged, "2.7", 100 if settings.full else 20)
    for how in ("disk full", "read-only disk"):
        add("E24", f"snapshot-refused/{how.replace(' ', '-')}", snapshot_refused, "2.7", how)
    return found


def cells(settings):
    """(name, function) of all cells here."""
    if settings.bare:
        return []
    return [(name, lambda network, f=function: f(network).notes) for _id, name, function in experiments(settings)]
