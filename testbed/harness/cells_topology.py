# SPDX-License-Identifier: Apache-2.0
"""Who calls whom: applications of four kinds, some beside a Remora and some not, and what `remora topology` tells of them."""

import json

from .procs import Failed, wait_for
from .sofa import SofaWorld

NAMES = ["applications"]
ECHO = "demo.EchoService"


def topology(remora, *words):
    """What the command prints as JSON, of one Remora."""
    said, code = remora.command("topology", "--format", "json", *words)
    if code:
        raise Failed(f"remora topology ended with {code}: {said[:300]}")
    return json.loads(said)["remoras"][0]


def of_service(view, side, service=ECHO, protocol="dubbo"):
    """Rows of one interface, whatever its groups and versions."""
    return [row for row in view[side] if row["protocol"] == protocol and row["service"].split("/")[-1].split(":")[0] == service]


def callers(rows):
    """Caller, host and calls of all rows."""
    seen = {}
    for row in rows:
        for consumer in row["consumers"]:
            key = (consumer["application"], consumer["host"])
            seen[key] = seen.get(key, 0) + consumer["calls"]
    return seen


def expect(what, wanted, seen):
    if wanted != seen:
        raise Failed(f"{what}: {seen}, and not {wanted}")


def called(view, application):
    return sum(row["calls"] for out in view["out"] for row in out["consumers"] if row["application"] == application)


def calls_from(view, host):
    return sum(row["calls"] for into in view["in"] for row in into["consumers"] if row["host"] == host)


def check_running(view):
    """While they run the Remora of the consumers knows each of them and its framework."""
    # Dubbo has a session of its own for its configuration, which says no name.
    frameworks = {row["application"]: row["framework"] for row in view["applications"] if row["application"]}
    expect("frameworks of the consumers", {"shop": "dubbo 2.7.23", "till": "dubbo 3.3.6", "desk": "sofarpc 5.13.2"}, frameworks)


def check_consumers(world, view, ends):
    """The Remora of the consumers counted what each application called, and how calls got there."""
    for name, protocol in (("shop", "dubbo"), ("till", "dubbo"), ("desk", "bolt")):
        counted = sum(calls for (caller, _host), calls in callers(of_service(view, "out", protocol=protocol)).items() if caller == name)
        made = ends[name]["calls"]
        # Until its first answer each tries a few times more.
        if not made < counted <= made + 100:
            raise Failed(f"{name} made {made} calls, counted {counted}")
        world.notes.append(f"{name}: {made} calls, {counted} counted")
    ways, errors = {}, 0
    for row in of_service(view, "out"):
        for instance in row["instances"]:
            way = (instance["application"], instance["framework"], instance["through"])
            ways[way] = ways.get(way, 0) + instance["calls"]
            errors += instance["errors"]
    expect("ways to Dubbo", {("orders", "dubbo 3.3.6", "remora"), ("stock", "dubbo 2.7.23", "direct")}, set(ways))
    for (application, _framework, _through), counted in ways.items():
        provider = {"orders": "p1/", "stock": "p3/"}[application]
        answers = [answer for name in ("shop", "till") for answer in ends[name]["answered_by"].items()]
        made = sum(count for who, count in answers if who.startswith(provider))
        if not made <= counted <= made + 200:
            raise Failed(f"{application} answered {made} calls, counted {counted}")
        world.notes.append(f"{application}: answered {made}, counted {counted}")
    expect("errors", 0, errors)
    sofa = {(i["application"], i["framework"], i["through"]) for row in of_service(view, "out", protocol="bolt") for i in row["instances"]}
    expect("ways to SOFARPC", {("ledger", "sofarpc 5.6.5", "remora")}, sofa)


def check_providers(world, view):
    """The Remora of the providers knows who calls, from where, and which application answers."""
    consumer, bare = world.network.host("consumer").address, world.network.host("bare").address
    rows = of_service(view, "in")
    expect("the provider behind the ingress", {"orders"}, {row["application"] for row in rows})
    # Dubbo 2.6 does not say who calls.
    expect("callers of Dubbo", {("shop", consumer), ("till", consumer), ("", bare)}, set(callers(rows)))
    rows = of_service(view, "in", protocol="bolt")
    expect("the provider of SOFARPC", {"ledger"}, {row["application"] for row in rows})
    expect("callers of SOFARPC", {consumer}, {host for _name, host in callers(rows)})


def applications(settings, network, name):
    """Dubbo 2.6, 2.7 and 3.3 and both lines of SOFARPC; one provider and one consumer without a Remora."""
    with SofaWorld(settings, network, name) as world:
        world.provider("3.3", "--app", "orders", ports=(20880,))
        world.provider("s5.6", "--app", "ledger", name="p2")
        world.provider("2.7", "--app", "stock", host="bare", door="bare", ports=(20880,), name="p3")
        stop, running = world.parts.folder / "stop", {}
        for line, app, host, door in (("2.7", "shop", "consumer", "zookeeper"), ("3.3", "till", "consumer", "zookeeper"),
                                      ("s5.13", "desk", "consumer", "zookeeper"), ("2.6", "attic", "bare", "bare")):
            running[app] = world.consumer(line, "--app", app, "--loop", 120, "--rate", 20, "--stop-file", stop, host=host, door=door)
        consumers, providers = world.remoras["consumer"], world.remoras["provider"]
        for app in ("shop", "till", "desk"):
            wait_for(f"200 calls of {app}", 60, lambda app=app: called(topology(consumers), app) >= 200, 0.5)
        wait_for("100 calls from the host without a Remora", 60, lambda: calls_from(topology(providers), world.network.host("bare").address) >= 100, 0.5)
        check_running(topology(consumers))
        stop.touch()
        ends = {app: proc.event("loop_end", 30) for app, proc in running.items()}
        failed = {app: end["kinds"] for app, end in ends.items() if end["failed"]}
        expect("failed calls", {}, failed)
        check_consumers(world, topology(consumers), ends)
        check_providers(world, topology(providers))
        only = topology(consumers, "--application", "desk")
        expect("services of one application", {"bolt"}, {row["protocol"] for row in only["out"]})
        graph, code = consumers.command("topology", "--format", "dot")
        if code or not graph.startswith("digraph") or '"application shop" -> "service demo.EchoService' not in graph:
            raise Failed(f"no graph: {graph[:300]}")
        return world.notes


def cells(settings):
    # Seven JVMs at once: too long for the quick tier.
    if settings.bare or not settings.full:
        return []
    return [(f"topology/{name}", lambda network: applications(settings, network, "topology/applications")) for name in NAMES]
