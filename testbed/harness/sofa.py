# SPDX-License-Identifier: Apache-2.0
"""What a SOFARPC cell plays in: applications that come to a Remora by one of its three doors, and any of three registries.

An application that is not taken over (door `bare`) is pointed at the real registry itself.
"""

from . import zk
from .procs import Failed, wait_for
from .sofaregistry import SofaRegistry
from .world import World

APP_PORT = 12200
DOORS = ("zookeeper", "mesh", "sofaregistry")
UPSTREAMS = ("zookeeper", "embedded", "sofaregistry")
# As an application is told of a door of the Remora on its host.
_DOOR_URLS = {"zookeeper": "zookeeper://{}:2181", "mesh": "mesh://{}:13330", "sofaregistry": "sofa://{}:9603"}
# Of all services of the suite, as SOFARegistry names them.
DATA_IDS = [f"demo.{name}@DEFAULT" for name in
            ("EchoService:1.0", "EchoService:1.0:u1", "EchoService:2.0.0", "LaterService:1.0", "ProtoService:1.0")]


class SofaWorld(World):
    """A World with a registry of a kind named in UPSTREAMS."""

    def __init__(self, settings, network, name, upstream="zookeeper", session_ms=40000, shared=True):
        if not network.isolated:
            raise Failed(f"SOFARPC's ports are fixed: these cells need network namespaces ({network.why})")
        super().__init__(settings, network, name, embedded=upstream == "embedded", session_ms=session_ms)
        self.upstream, self._shared = upstream, shared

    def _registry(self):
        if self.upstream != "sofaregistry":
            super()._registry()
            return
        if not self._shared:
            self.registry_host = self.network.host("own-sofaregistry")
            self.sofa = SofaRegistry(self.parts, self.registry_host)
            return
        # It takes twenty seconds to start, and is empty again when the applications of a cell are gone.
        self.registry_host = self.network.host("sofaregistry")
        self.sofa = self.settings.sofaregistry(self.registry_host)
        wait_for("SOFARegistry is empty", 30, lambda: not self.dump(), 0.3)

    def stop_registry(self):
        if self.upstream == "embedded":
            self.embedded_proc.stop()
        else:
            (self.keeper if self.upstream == "zookeeper" else self.sofa).stop()

    def start_registry(self):
        if self.upstream == "embedded":
            self._embedded_registry()
        else:
            (self.keeper if self.upstream == "zookeeper" else self.sofa).start()

    @property
    def url(self):
        """The registry, as Remora's configuration names it."""
        return self.sofa.url if self.upstream == "sofaregistry" else super().url

    def registry_for(self, name, door="zookeeper", at="127.0.0.1"):
        """The registry address for an application on that host; starts the host's Remora when it has one."""
        if door == "bare":
            return f"sofa://{self.sofa.endpoint}" if self.upstream == "sofaregistry" else self.url
        self.remora(name)
        return _DOOR_URLS[door].format(at)

    def remora(self, name, **settings):
        """The Remora on a host, started when first asked for."""
        if name not in self.remoras:
            self.remoras[name] = self.parts.remora(self.network.host(name), self.url, **settings)
        return self.remoras[name]

    def is_taken(self, host):
        return host in self.remoras

    def provider(self, line, *args, host="provider", door="zookeeper", at="127.0.0.1", ports=(APP_PORT,), name="p1", role="provider"):
        """A provider that has said it is ready; with the mesh and SOFARegistry its publications may still be on their way."""
        proc = self.parts.app(line, role, self.network.host(host), self.registry_for(host, door, at),
                              "--ports", ",".join(map(str, ports)), "--name", name, *args)
        if role == "provider":
            proc.event("ready", 60)
        return proc

    def consumer(self, line, *args, host="consumer", door="zookeeper", at="127.0.0.1"):
        """A consumer, not waited for. Its first calls may be too early: SOFARPC gets addresses and connects on threads of its own."""
        wait = () if "--wait" in args else ("--wait", 20)
        return self.parts.app(line, "consumer", self.network.host(host), self.registry_for(host, door, at), *args, *wait)

    def dump(self):
        """What stands in the registry, one publication or node a row."""
        if self.upstream == "sofaregistry":
            return sorted(f"E /sofaregistry/{data_id}/providers/{line} = " for data_id in DATA_IDS for line in self.sofa_lines(data_id))
        return super().dump()

    def sofa_lines(self, data_id, group="SOFA"):
        """Lines published under a dataId, as the session server has them."""
        return self.sofa.lines(f"{data_id}#@#DEFAULT_INSTANCE_ID#@#{group}")

    def published(self, interface="demo.EchoService"):
        """Addresses under which an interface stands in the registry, one of each publication."""
        if self.upstream == "sofaregistry":
            ids = [data_id for data_id in DATA_IDS if data_id.startswith(interface + ":")]
            return sorted(line.split("?")[0] for data_id in ids for line in self.sofa_lines(data_id))
        rows = zk.dump(self.registry_host, self.address, self.port)
        head = f"/sofa-rpc/{interface}/providers/"
        return sorted(row.split(head, 1)[1].split("://", 1)[1].split("?")[0] for row in rows if head in row)

    def figures(self):
        """A note on what each Remora took, and how much it said."""
        return [f"Remora of the {name}: {remora.figures()}" for name, remora in self.remoras.items()]

    def wait_published(self, door):
        """All EchoServices of a provider that came by `door` stand in the registry. ZooKeeper's layout does not tell a service's version: what
        comes from there to SOFARegistry has one dataId for all versions."""
        count = 2 if (door, self.upstream) == ("zookeeper", "sofaregistry") else 3
        wait_for(f"{count} publications", 15, lambda: len(self.published()) == count, 0.2)

    def check_quiet(self):
        """Where nothing breaks no Remora has anything to complain of."""
        for name, remora in self.remoras.items():
            loud = remora.complaints()
            if loud:
                raise Failed(f"the Remora on {name} complains: {loud[0][:300]} (and {len(loud) - 1} more)")
