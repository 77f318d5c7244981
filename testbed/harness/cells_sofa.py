# SPDX-License-Identifier: Apache-2.0
"""SOFARPC cells in which nothing breaks: each pair of lines by each door over each registry, and sides that differ."""

import time

from . import compare
from .parts import SOFA_LINES
from .procs import Failed, wait_for
from .sofa import APP_PORT, DOORS, UPSTREAMS, SofaWorld

ALL_KINDS = ("echo,order,checked,unchecked,oneway,later,outoforder,future,thrown,nothing,blob,generic,genericobject,protobuf,peer,baggage,"
             "uniqueid,version")
_bare_dumps = {}


def bare_dump(settings, network, provider, upstream):
    """What a bare provider writes; made once for each. Before the cell's own world: it is on the same hosts."""
    key = (provider, upstream)
    if key not in _bare_dumps:
        with SofaWorld(settings, network, f"bare/sofa-{provider}-{upstream}", upstream) as world:
            world.provider(provider, door="bare")
            world.wait_published("bare")
            _bare_dumps[key] = world.dump()
    return _bare_dumps[key]


def check_dump(world, bare):
    """What stands in the registry differs from a bare run in port and marker only."""
    rows = world.dump()
    wrong = compare.untouched(rows, APP_PORT)
    if wrong:
        raise Failed(f"published without takeover: {wrong[0][:300]}")
    found = compare.differences(bare, rows, APP_PORT)
    if found:
        raise Failed(f"the registry differs from a bare run in {compare.told(found)}")
    world.notes.append("registry as bare but for port and marker")


def pair(settings, network, name, provider, consumer, doors, upstream, *, dump=False, provider_args=(), consumer_args=()):
    """One provider, one consumer, the whole suite. `doors` are those of the provider and of the consumer."""
    bare = bare_dump(settings, network, provider, upstream) if dump else None
    with SofaWorld(settings, network, name, upstream) as world:
        served = world.provider(provider, *provider_args, door=doors[0])
        world.wait_published(doors[0])
        if doors[0] != "bare" and any(a.endswith(f":{APP_PORT}") for a in world.published()):
            raise Failed(f"the application's own port is published: {world.published()}")
        if dump:
            check_dump(world, bare)
        calling = world.consumer(consumer, "--calls", settings.calls, *mix(doors, upstream), *consumer_args, door=doors[1])
        calling.event("ready", 60)
        _calls, peers = world.finish(calling)
        world.check_sockets("consumer", peers)
        # Nobody keeps a connection to a mesh application that nobody calls.
        if doors[0] in ("zookeeper", "sofaregistry"):
            world.check_sockets("provider", {(a, b) for a, b, _ in served.host.sockets(served.pid)})
        if not served.is_alive():
            raise Failed(f"the provider ended: {served.last_words()}")
        world.check_quiet()
        world.notes += world.figures()
        return world.notes


def mix(doors, upstream):
    """All kinds of call, but for another version where ZooKeeper's layout stands between one that knows versions and one that does not."""
    knows = {"mesh": True, "sofaregistry": True, "zookeeper": False, "bare": upstream == "sofaregistry"}
    if upstream == "sofaregistry" and knows[doors[0]] != knows[doors[1]]:
        return ("--mix", ALL_KINDS.removesuffix(",version"))
    return ()


def one_jvm(settings, network, name, line, door, upstream):
    """An application that follows what it publishes itself."""
    with SofaWorld(settings, network, name, upstream) as world:
        app = world.provider(line, "--calls", settings.calls, door=door, role="both")
        app.event("ready", 60)
        _calls, peers = world.finish(app)
        world.check_sockets("provider", peers)
        return world.notes


def consumer_first(settings, network, name, line, door, upstream):
    """The consumer starts when there is no provider yet, and finds it when it comes."""
    with SofaWorld(settings, network, name, upstream) as world:
        calling = world.consumer(line, "--calls", settings.calls, "--check", "false", "--wait", "60", door=door)
        calling.event("ready", 60)
        time.sleep(3)
        world.provider(line, door=door)
        ready = time.time()
        first = calling.event("first_answer", 60)
        world.notes.append(f"all services answered {max(0.0, first['seen'] - ready):.1f} s after the provider was ready")
        _calls, peers = world.finish(calling)
        world.check_sockets("consumer", peers)
        return world.notes


def weights(settings, network, name, line, door, upstream):
    """Two providers, one with three times the weight of the other: it gets three times the calls, about."""
    with SofaWorld(settings, network, name, upstream) as world:
        world.provider(line, "--services", "plain", "--weight", 300, door=door, name="heavy")
        world.provider(line, "--services", "plain", "--weight", 100, door=door, name="light", host="provider2")
        wait_for("both are published", 15, lambda: len(world.published()) == 2, 0.2)
        time.sleep(1)
        calling = world.consumer(line, "--loop", 4, "--rate", 200, door="zookeeper" if door == "bare" else door)
        report = calling.event("loop_end", 60)
        got = {who.split("/")[0]: count for who, count in report["answered_by"].items()}
        heavy, light = got.get("heavy", 0), got.get("light", 0)
        world.notes.append(f"{report['calls']} calls, {report['failed']} failed, {heavy} to weight 300, {light} to weight 100")
        if report["failed"] or not light or not 2.2 < heavy / light < 4.1:
            raise Failed(world.notes[-1])
        return world.notes


def bare_pair(settings, network, name, provider, consumer, upstream):
    """No Remora: what SOFARPC does by itself."""
    return pair(settings, network, name, provider, consumer, ("bare", "bare"), upstream)


# Doors of provider and consumer that differ, and the registry behind.
MIXED = [("mesh", "zookeeper", "zookeeper"), ("zookeeper", "mesh", "zookeeper"), ("bare", "mesh", "zookeeper"), ("mesh", "bare", "zookeeper"),
         ("bare", "zookeeper", "zookeeper"), ("zookeeper", "bare", "zookeeper"), ("sofaregistry", "bare", "zookeeper"), ("bare", "sofaregistry", "zookeeper"),
         ("sofaregistry", "zookeeper", "embedded"), ("mesh", "sofaregistry", "embedded"),
         ("mesh", "bare", "sofaregistry"), ("bare", "mesh", "sofaregistry"), ("zookeeper", "bare", "sofaregistry"), ("bare", "zookeeper", "sofaregistry"),
         ("sofaregistry", "bare", "sofaregistry"), ("bare", "sofaregistry", "sofaregistry"), ("zookeeper", "sofaregistry", "sofaregistry")]
# Of the pairs of lines, which doors and registries a quick run takes: each door and each registry with each line on each side.
QUICK = {("s5.13", "s5.13"): [("zookeeper", "zookeeper"), ("mesh", "zookeeper"), ("sofaregistry", "sofaregistry")],
         ("s5.6", "s5.6"): [("mesh", "embedded"), ("sofaregistry", "zookeeper")],
         ("s5.6", "s5.13"): [("zookeeper", "embedded"), ("mesh", "sofaregistry")],
         ("s5.13", "s5.6"): [("sofaregistry", "embedded"), ("zookeeper", "sofaregistry")]}


def cells(settings):
    """(name, function) of all cells here."""
    found = []

    def add(name, function, *args, **keywords):
        found.append((name, lambda network, n=name: function(settings, network, n, *args, **keywords)))

    for provider in SOFA_LINES:
        for consumer in SOFA_LINES:
            if settings.bare:
                for upstream in ("zookeeper", "sofaregistry"):
                    add(f"sofa-bare/{provider}-to-{consumer}-{upstream}", bare_pair, provider, consumer, upstream)
                continue
            for door in DOORS:
                for upstream in UPSTREAMS:
                    if settings.full or (door, upstream) in QUICK[provider, consumer]:
                        add(f"sofa/{provider}-to-{consumer}-{door}-{upstream}", pair, provider, consumer, (door, door), upstream,
                            dump=door == upstream)
    if settings.bare:
        return found
    quick_mixed = {("mesh", "zookeeper", "zookeeper"), ("mesh", "bare", "zookeeper"), ("bare", "mesh", "sofaregistry"), ("zookeeper", "bare", "sofaregistry")}
    for number, (provider, consumer, upstream) in enumerate(MIXED):
        if settings.full or (provider, consumer, upstream) in quick_mixed:
            lines = [("s5.13", "s5.6"), ("s5.6", "s5.13")][number % 2]
            add(f"sofa-mixed/{provider}-to-{consumer}-{upstream}", pair, *lines, (provider, consumer), upstream)
    for door in DOORS:
        add(f"sofa-consumer-first/{door}", consumer_first, "s5.13", door, "zookeeper")
        if settings.full:
            add(f"sofa-one-jvm/{door}", one_jvm, "s5.6", door, "zookeeper")
    add("sofa-weights/zookeeper", weights, "s5.13", "zookeeper", "zookeeper")
    if settings.full:
        add("sofa-weights/sofaregistry", weights, "s5.6", "sofaregistry", "zookeeper")
    return found
