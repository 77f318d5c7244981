# SPDX-License-Identifier: Apache-2.0
"""MOSN's dubbod API: Dubbo applications without a registry, whose SDK (here: this harness) tells Remora what they publish and follow."""

import time

from . import web
from .procs import Failed, wait_for
from .world import World

DUBBOD = 22222
# Java Dubbo takes 127.0.0.1 and localhost for its machine's own address, and dials that. The decimal form it leaves alone; or else the
# egress listens there, too, and refuses other machines.
EGRESS = "dubbo://2130706433:20882"
EVERYWHERE = {"protocols": {"dubbo": {"egress": "0.0.0.0:20882"}}}
METHODS = ["echo", "who", "order", "checked", "unchecked", "fire", "fired", "nothing", "slow", "blob", "peer", "$invoke"]
# What the suite calls.
SERVICES = [{"interface": "demo.EchoService", "methods": METHODS}, {"interface": "demo.EchoService", "methods": METHODS, "group": "g1", "version": "1.0.0"},
            {"interface": "demo.EchoService", "methods": METHODS, "version": "2.0.0"}, {"interface": "demo.LaterService", "methods": ["later"]}]
MIX = "echo,order,checked,unchecked,oneway,later,outoforder,nothing,blob,generic,peer,variants"


def ask(world, host, path, service, registry=True, **headers):
    """Calls the door of the Remora on `host`; raises unless it says `err_no` 0."""
    status, answer = answered(world, host, path, {**({"registry": {"type": "zookeeper", "addr": "10.77.0.2:2181"}} if registry else {}), "service": service}, **headers)
    if status != 200 or answer.get("err_no") != 0:
        raise Failed(f"{path} of {service} was answered {status} {answer}")
    return answer


def answered(world, host, path, body, **headers):
    return web.post(world.network.host(host), DUBBOD, path, body, **headers)


class DubbodWorld(World):
    """Both hosts have a Remora, the applications know no registry."""

    def __init__(self, settings, network, name, remora=None, **keywords):
        if not network.isolated:
            raise Failed(f"the dubbod API does not say who asks: these cells need network namespaces ({network.why})")
        super().__init__(settings, network, name, **keywords)
        self._remora = remora or {}

    def registry_for(self, name):
        if name not in self.remoras:
            # Off unless named. Without a name of its own the ZooKeeper door is at its usual port.
            settings = {"facades": {"dubbod": {}}, **self._remora}
            self.remoras[name] = self.parts.remora(self.network.host(name), self.url, **settings)
        return "N/A"

    def publish_all(self):
        for service in SERVICES:
            ask(self, "provider", "/pub", service)
        wait_for("all is published", 10, lambda: len(self.provider_nodes()) == len(SERVICES), 0.1)

    def follow_all(self):
        self.registry_for("consumer")
        for service in SERVICES:
            ask(self, "consumer", "/sub", service, registry=False)


def pair(settings, network, name, provider, consumer, embedded=False, egress=EGRESS, remora=None):
    """Provider with /pub, consumer with a direct address and /sub: the suite."""
    with DubbodWorld(settings, network, name, embedded=embedded, remora=remora) as world:
        served = world.provider(provider, "--services", "plain,g1,v2,later")
        world.publish_all()
        world.follow_all()
        calling = world.consumer(consumer, "--url", egress, "--mix", MIX, "--calls", settings.calls)
        calling.event("ready", 60)
        _calls, peers = world.finish(calling)
        world.check_sockets("consumer", peers)
        world.check_sockets("provider", {(a, b) for a, b, _ in served.host.sockets(served.pid)})
        return world.notes


def restarts(settings, network, name, line):
    """Asked twice; Remora killed and back; the application killed; asked to withdraw twice."""
    with DubbodWorld(settings, network, name, session_ms=settings.session_ms) as world:
        served = world.provider(line, "--services", "plain,g1,v2,later")
        world.publish_all()
        world.publish_all()
        world.follow_all()
        world.follow_all()
        before = addresses(world)
        world.remoras["provider"].kill()
        world.remoras["consumer"].kill()
        time.sleep(1)
        world.remoras["provider"].start()
        world.remoras["consumer"].start()
        time.sleep(settings.session_ms / 1000 + 4)
        if addresses(world) != before:
            raise Failed(f"published before {before}, after {addresses(world)}")
        calling = world.consumer(line, "--url", EGRESS, "--mix", "echo,variants", "--calls", 50)
        calling.event("ready", 60)
        world.finish(calling)
        killed = time.time()
        served.kill()
        wait_for("the killed provider is withdrawn", 5, lambda: not world.provider_nodes(), 0.1)
        world.notes.append(f"withdrawn {time.time() - killed:.1f} s after kill -9")
        for _ in range(2):
            for service in SERVICES:
                ask(world, "provider", "/unpub", service)
                ask(world, "consumer", "/unsub", service)
        return world.notes


def addresses(world):
    return sorted((path.split("?")[0].split("%3F")[0]) for path in world.provider_nodes())


def bad_requests(settings, network, name):
    """What cannot be understood is told with the key; content types that MOSN does not take are no hindrance."""
    with DubbodWorld(settings, network, name) as world:
        world.registry_for("provider")
        good = SERVICES[0]
        for what, body, key in [("no JSON", "{", None), ("no service", {}, "service"), ("no interface", {"service": {"methods": ["a"]}}, "interface"),
                                ("methods that are no list", {"service": {"interface": "a.B", "methods": "echo"}}, "methods"),
                                ("an interface that is a number", {"service": {"interface": 7, "methods": ["a"]}}, "interface")]:
            status, answer = answered(world, "provider", "/pub", body)
            if status != 200 or not isinstance(answer, dict) or answer.get("err_no") != 1 or key and key not in answer.get("err_msg", ""):
                raise Failed(f"{what} was answered {status} {answer}")
        for kind in ("application/json; charset=utf-8", "text/plain", None):
            ask(world, "provider", "/pub", good, registry=False, Content_Type=kind)
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            status, answer = answered(world, "provider", "/pub", {"service": good}, **headers)
            if status == 200 and isinstance(answer, dict) and answer.get("err_no") == 0:
                raise Failed(f"let in with {headers}")
        # Nothing listens where the application should be.
        time.sleep(3)
        if world.provider_nodes():
            raise Failed(f"published without an application: {world.provider_nodes()}")
        served = world.provider("2.7", "--services", "plain")
        wait_for("it is published once its port is open", 10, lambda: len(world.provider_nodes()) == 1, 0.1)
        if not served.is_alive():
            raise Failed(served.last_words())
        return world.notes


def cells(settings):
    """(name, function) of all cells here."""
    found = []

    def add(name, function, *args, **keywords):
        found.append((f"dubbod/{name}", lambda network, n=f"dubbod/{name}": function(settings, network, n, *args, **keywords)))

    if settings.bare:
        return found
    for provider, consumer in (("2.6", "3.3"), ("3.3", "2.7"), ("2.7", "2.6"), ("3.1", "3.1")):
        if settings.full or (provider, consumer) == ("3.3", "2.7"):
            add(f"{provider}-to-{consumer}", pair, provider, consumer)
    add("2.7-to-3.3-embedded", pair, "2.7", "3.3", embedded=True)
    add("3.3-to-3.3-dialled-as-127.0.0.1", pair, "3.3", "3.3", egress="dubbo://127.0.0.1:20882", remora=EVERYWHERE)
    add("restarts", restarts, "2.7")
    add("bad-requests", bad_requests)
    return found
