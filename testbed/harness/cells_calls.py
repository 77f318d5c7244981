# SPDX-License-Identifier: Apache-2.0
"""Cells in which nothing breaks: every pair of lines, one side taken over, application-level discovery, and so on."""

import time

from . import compare
from .parts import LINES
from .procs import Failed
from .world import World

_bare_dumps = {}


def bare_dump(settings, network, provider, consumer=None):
    """The registry of a bare run of the same applications; made once for each pair. On the same hosts: before the cell's own world."""
    key = (provider, consumer)
    if not network.isolated or settings.bare:
        return []
    if key not in _bare_dumps:
        with World(settings, network, f"bare/{provider}-{consumer}", taken=()) as world:
            world.provider(provider)
            if consumer:
                world.consumer(consumer, "--loop", "30", "--check", "false").event("ready", 60)
            _bare_dumps[key] = world.dump()
    return _bare_dumps[key]


def check_dump(world, bare):
    if not world.network.isolated or world.settings.bare:
        return
    rows = world.dump()
    wrong = compare.untouched(rows)
    if wrong:
        raise Failed(f"published without takeover: {wrong[0][:300]}")
    found = compare.differences(bare, rows)
    if found:
        raise Failed(f"the registry differs from a bare run in {compare.told(found)}")
    world.notes.append("registry as bare but for port and marker")


def pair(settings, network, name, provider, consumer, *, taken=None, embedded=False, dump=False, provider_args=(), consumer_args=()):
    """One provider, one consumer, the whole suite."""
    bare = bare_dump(settings, network, provider) if dump else None
    with World(settings, network, name, taken=taken, embedded=embedded) as world:
        served = world.provider(provider, *provider_args)
        if dump:
            check_dump(world, bare)
        calling = world.consumer(consumer, "--calls", settings.calls, *consumer_args)
        calling.event("ready", 60)
        _calls, peers = world.finish(calling)
        world.check_sockets("consumer", peers)
        if served.host.namespace and world.is_taken("provider"):
            world.check_sockets("provider", {(a, b) for a, b, _ in served.host.sockets(served.pid)})
        if not served.is_alive():
            raise Failed(f"the provider ended: {served.last_words()}")
        return world.notes


def dump_of_pair(settings, network, name, line):
    """Provider and consumer of one line: all that both write."""
    bare = bare_dump(settings, network, line, line)
    with World(settings, network, name) as world:
        world.provider(line)
        world.consumer(line, "--loop", "60", "--check", "false").event("ready", 60)
        if settings.bare:
            world.notes.append(f"{len(world.dump())} nodes")
        check_dump(world, bare)
        return world.notes


def embedded_alone(settings, network, name, line):
    """Applications straight at `remora registry`, no proxy between: it holds what ZooKeeper would hold."""
    bare = bare_dump(settings, network, line)
    with World(settings, network, name, taken=(), embedded=True) as world:
        world.provider(line)
        if network.isolated:
            found = compare.differences(bare, world.dump())
            if found:
                raise Failed(f"differs from ZooKeeper in {compare.told(found)}")
            world.notes.append("same tree as in ZooKeeper")
        world.finish(world.consumer(line, "--calls", settings.calls))
        return world.notes


def one_jvm(settings, network, name, line):
    """An application that follows what it publishes itself."""
    with World(settings, network, name) as world:
        app = world.provider(line, "--calls", settings.calls, "--check", "false", "--wait", "20", role="both")
        app.event("ready", 60)
        _calls, peers = world.finish(app)
        world.check_sockets("provider", peers)
        return world.notes


def consumer_first(settings, network, name, line):
    """The consumer starts when there is no provider yet, and finds it when it comes."""
    with World(settings, network, name) as world:
        calling = world.consumer(line, "--calls", settings.calls, "--check", "false", "--wait", "60")
        calling.event("ready", 60)
        time.sleep(3)
        world.provider(line)
        ready = time.time()
        first = calling.event("first_answer", 60)
        world.notes.append(f"all services answered {max(0.0, first['seen'] - ready):.1f} s after the provider was ready")
        _calls, peers = world.finish(calling)
        world.check_sockets("consumer", peers)
        return world.notes


def two_ports(settings, network, name, line):
    """A provider with two ports: each gets an ingress port of its own.

    With two protocols of one kind Dubbo 3 refuses getMetadataInfo, bare too: its consumers use the interface level then.
    """
    with World(settings, network, name) as world:
        world.provider(line, ports=(20880, 20890))
        calling = world.consumer(line, "--calls", settings.calls)
        _calls, peers = world.finish(calling)
        world.check_sockets("consumer", peers)
        addresses = {path.split("%2F%2F")[1].split("%2F")[0] for path in world.provider_nodes() if "/providers/" in path}
        if len(addresses) != 2:
            raise Failed(f"two ports became {sorted(addresses)}")
        own = {str(network.host("provider").port(p)) for p in (20880, 20890)}
        if world.is_taken("provider") and any(a.rsplit("%3A", 1)[1] in own for a in addresses):
            raise Failed(f"an application's own port is published: {sorted(addresses)}")
        return world.notes


def cells(settings):
    """(name, function) of all cells here."""
    lines = list(LINES)
    found = []

    def add(name, function, *args, **keywords):
        found.append((name, lambda network, n=name: function(settings, network, n, *args, **keywords)))

    for provider in lines:
        for consumer in lines:
            add(f"matrix/{provider}-to-{consumer}", pair, provider, consumer, dump=True)
    for line in lines:
        add(f"registry/{line}", dump_of_pair, line)
    for line in lines if settings.full else ["2.7", "3.3"]:
        sides = {"bare-to-bare": (), "taken-to-bare": ("provider",), "bare-to-taken": ("consumer",), "taken-to-taken": None}
        for words, taken in sides.items():
            if not settings.bare or taken == ():
                add(f"mixed/{line}-{words}", pair, line, line, taken=taken)
    instance = ("--register-mode", "instance")
    forced = ("--migration", "FORCE_APPLICATION")
    for provider, consumer in (("3.1", "3.1"), ("3.3", "3.3"), ("3.1", "3.3"), ("3.3", "3.1")):
        for metadata in ("local", "remote"):
            if settings.full or provider == consumer:
                add(f"applevel/{provider}-to-{consumer}-{metadata}", pair, provider, consumer,
                    provider_args=(*instance, "--metadata-type", metadata), consumer_args=(*forced, "--metadata-type", metadata))
    add("applevel/3.3-to-3.3-default-consumer", pair, "3.3", "3.3", provider_args=instance)
    add("interface/3.3-to-3.3", pair, "3.3", "3.3", provider_args=("--register-mode", "interface"))
    for line in lines:
        add(f"callback/{line}", pair, line, line, consumer_args=("--mix", ",".join(["callback", "echo"] * 10)))
        add(f"one-jvm/{line}", one_jvm, line)
        add(f"consumer-first/{line}", consumer_first, line)
    for line in lines if settings.full else ["2.7", "3.3"]:
        add(f"two-ports/{line}", two_ports, line)
    plain = "echo,order,unchecked,oneway,later,outoforder,nothing,blob,generic,peer,variants"
    add("serialization/2.7-java", pair, "2.7", "2.7", provider_args=("--serialization", "java"))
    # Dubbo's fastjson2 loses the message of an exception, with or without a proxy: no checked exceptions here.
    add("serialization/3.3-fastjson2", pair, "3.3", "3.3", consumer_args=("--mix", plain),
        provider_args=("--serialization", "fastjson2", "--prefer-serialization", "fastjson2"))
    if not settings.bare:
        for line in lines:
            add(f"embedded/{line}", pair, line, line, embedded=True)
            add(f"embedded-alone/{line}", embedded_alone, line)
    return found
