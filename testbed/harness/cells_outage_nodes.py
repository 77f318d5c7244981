# SPDX-License-Identifier: Apache-2.0
"""Cells in which nodes vanish from the registry, or their sessions die: E14, E15, E26."""

import random
import threading
import time

from . import zk
from .cells_faults import Load
from .outage import Run, provider_addresses, timed
from .parts import now_ms
from .procs import Failed
from .world import World

# The door's way of naming an application's own port; consumers never see it.
URL = "dubbo%3A%2F%2F{host}%3A{port}%2F{service}%3Fapplication%3Dtestbed%26interface%3D{service}"


def ephemerals(client, service, count, port):
    """Publishes `count` services through a door as an application would."""
    for number in range(count):
        one = f"{service}{number}"
        for path in ("/dubbo", f"/dubbo/{one}", f"/dubbo/{one}/providers"):
            try:
                client.create(path)
            except zk.ZkError:
                pass
        client.create(f"/dubbo/{one}/providers/" + URL.format(host="10.77.0.9", port=port, service=one), ephemeral=True)


def in_registry(client, service, count):
    """Names of the services whose provider stands in the registry, each with its session."""
    found = {}
    for number in range(count):
        directory = f"/dubbo/{service}{number}/providers"
        for child in client.children(directory):
            try:
                found[f"{service}{number}"] = client.get(f"{directory}/{child}")[1].ephemeral_owner
            except zk.ZkError:
                pass
    return found


def created_at(client, service, count):
    """When the provider of each service was made, in seconds since the epoch."""
    found = {}
    for number in range(count):
        directory = f"/dubbo/{service}{number}/providers"
        for child in client.children(directory):
            found[f"{service}{number}"] = client.get(f"{directory}/{child}")[1].ctime / 1000
    return found


class Pinging(threading.Thread):
    """Keeps a client's session alive from a thread of its own."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.ended = client, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(1.0):
            try:
                self.client.get("/")
            except (OSError, EOFError, zk.ZkError):
                return


def deleted_by_hand(settings, network, name, line, nodes):
    """E15: nodes are deleted by hand, of a real application and of one with very many."""
    run = Run(f"{nodes} nodes deleted by hand, and those of {line}")
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line, seconds=120)
        begin = now_ms()
        before = sorted(provider_addresses(world))
        with zk.Client(world.registry_host, world.address, world.port) as registry:
            for path in world.provider_nodes():
                registry.delete(path)
        run.within(f"{line} is back", timed(f"{line} is back", 30, lambda: sorted(provider_addresses(world)) == before), 5)
        host, remora = network.host("provider"), world.remoras["provider"]
        with zk.Client(host, "127.0.0.1", remora.facade, timeout=30) as application:
            ephemerals(application, "hand.S", nodes, 31000)
            pinging = Pinging(application)
            with zk.Client(world.registry_host, world.address, world.port) as registry:
                owners = in_registry(registry, "hand.S", nodes)
                if len(owners) != nodes:
                    raise Failed(f"only {len(owners)} of {nodes} nodes stand in the registry")
                order = list(range(nodes))
                random.Random(15).shuffle(order)
                deleted = {}
                for number in order:
                    directory = f"/dubbo/hand.S{number}/providers"
                    for child in registry.children(directory):
                        deleted[f"hand.S{number}"] = time.time()
                        registry.delete(f"{directory}/{child}")
                last = time.time()
                while in_registry(registry, "hand.S", nodes) != owners:
                    if time.time() > last + 30:
                        raise Failed(f"{len(in_registry(registry, 'hand.S', nodes))} of {nodes} are back after 30 s")
                    time.sleep(0.1)
                # By the server's clock, which is this machine's: to look at all of them takes seconds.
                made = created_at(registry, "hand.S", nodes)
                run.within(f"each of {nodes} stands again, in the application's own session,", max(made[name] - deleted[name] for name in deleted), 5)
                pinging.ended.set()
                pinging.join()
        run.load(load.end(), begin)
        run.no_failures()
    return run


def dying_session(settings, network, name, tries):
    """E14: a node still stands, but its session dies: the application publishes again before that."""
    run = Run(f"{tries} nodes owned by dying sessions")
    with World(settings, network, name, session_ms=4000) as world:
        world.registry_for("provider")
        host, remora = network.host("provider"), world.remoras["provider"]
        old = []
        for number in range(tries):
            client = zk.Client(host, "127.0.0.1", remora.facade, timeout=20)
            ephemerals(client, f"dying.T{number}x", 1, 32000)
            old.append(client)
        # Cut without a word: the sessions live on for their time-out.
        for client in old:
            client._socket.close()
        cut, rng, new = time.time(), random.Random(14), []
        for number in sorted(range(tries), key=lambda _: rng.random()):
            client = zk.Client(host, "127.0.0.1", remora.facade, timeout=20)
            try:
                ephemerals(client, f"dying.T{number}x", 1, 32000)
            except zk.ZkError as error:
                if error.code != -110:
                    raise
            new.append((client, Pinging(client)))
            # Spread over the time in which they die.
            time.sleep(max(0.0, cut + 8.0 * (len(new) / tries) - time.time()))
        time.sleep(6)
        with zk.Client(world.registry_host, world.address, world.port) as registry:
            left = sum(len(in_registry(registry, f"dying.T{number}x", 1)) for number in range(tries))
        for client, pinging in new:
            pinging.ended.set()
            pinging.join()
            client._socket.close()
        run.notes.append(f"{left} of {tries} stand in the end")
        if left != tries:
            raise Failed(run.notes[-1])
    return run


def mass_drop(settings, network, name, line):
    """E26: providers that nobody restores vanish from the registry while they live; then most of them really end."""
    run = Run(f"{line}, lists emptied by hand, then a true end of most")
    taken = ("consumer",)
    with World(settings, network, name, session_ms=settings.session_ms, taken=taken) as world:
        hosts = ["provider", "provider2", "provider3", "provider4"]
        procs = [world.provider(line, host=host, name=f"p{n}") for n, host in enumerate(hosts)]
        # Time enough that a busy machine fails no call; the end of a provider fails its calls at once.
        load = Load(world, line, seconds=120, timeout=3000)
        begin = now_ms()
        with zk.Client(world.registry_host, world.address, world.port) as registry:
            for path in world.provider_nodes():
                registry.delete(path)
        time.sleep(12)
        emptied = now_ms()
        for proc in procs[1:]:
            proc.kill()
        ended = now_ms()
        time.sleep(12)
        report = load.end()
        run.load(report, begin)
        # A call counts from its begin, and those under way at the end of a provider are lost with it.
        if any(r["first_ms"] < emptied - 500 for r in report["ranges"]):
            raise Failed("calls failed though all providers lived: " + "; ".join(run.notes))
        last = max((r["last_ms"] for r in report["ranges"]), default=ended)
        run.within("calls went to the one that was left only", (last - ended) / 1000, 8)
    return run
