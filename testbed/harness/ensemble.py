# SPDX-License-Identifier: Apache-2.0
"""Three real ZooKeeper servers that elect a leader, and a world with them as its registry."""

from .parts import ZooKeeper, zookeeper_classpath
from .procs import wait_for
from .world import World


class Ensemble:
    """Three real servers, on one host, at three ports."""

    def __init__(self, parts, host, session_ms):
        self.parts, self.host, self.servers = parts, host, []
        address = host.address if host.namespace else "127.0.0.1"
        ports = [[host.port(p + n) for p in (2181, 2888, 3888)] for n in range(3)]
        members = "".join(f"server.{n + 1}={address}:{quorum}:{election}\n" for n, (_client, quorum, election) in enumerate(ports))
        for number, (client, _quorum, _election) in enumerate(ports, 1):
            server = Member.__new__(Member)
            server.parts, server.host, server.port, server.address = parts, host, client, address
            server.data = parts.folder / f"member-{number}"
            server.data.mkdir(parents=True)
            (server.data / "myid").write_text(f"{number}\n")
            server.config = server.data / "zoo.cfg"
            server.config.write_text(
                f"dataDir={server.data}\nclientPort={client}\nclientPortAddress={address}\ntickTime=1000\ninitLimit=10\nsyncLimit=5\n"
                f"minSessionTimeout=2000\nmaxSessionTimeout={session_ms}\nmaxClientCnxns=0\nadmin.enableServer=false\n"
                f"4lw.commands.whitelist=*\nstandaloneEnabled=false\n" + members)
            self.servers.append(server)
        for server in self.servers:
            server.start()
        wait_for("a leader is elected", 30, self.leader, 0.2)

    @property
    def url(self):
        return "zookeeper://" + ",".join(f"{s.address}:{s.port}" for s in self.servers)

    def leader(self):
        return next((s for s in self.servers if s.mode() == "leader"), None)

    def any(self):
        """A server that serves."""
        return wait_for("a server answers", 30, lambda: next((s for s in self.servers if s.mode()), None), 0.2)


class Member(ZooKeeper):
    """One of three."""

    def start(self):
        argv = ["java", "-Xms32m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.admin.enableServer=false",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-cp", zookeeper_classpath(), "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self.config)]
        self.proc = self.parts._start("zookeeper", self.host, argv)

    def mode(self):
        """leader, follower, or None while it does not serve."""
        try:
            with self.host.connect(self.address, self.port, 1.0) as socket:
                socket.sendall(b"srvr")
                answer = b""
                while part := socket.recv(4096):
                    answer += part
        except OSError:
            return None
        rows = [row for row in answer.decode(errors="replace").splitlines() if row.startswith("Mode: ")]
        return rows[0].split()[1] if rows else None


class EnsembleWorld(World):
    """A World whose registry is an ensemble."""

    def _registry(self):
        self.registry_host = self.network.host("registry")
        self.ensemble = Ensemble(self.parts, self.registry_host, self.session_ms)

    @property
    def url(self):
        return self.ensemble.url

    def _where(self):
        server = self.ensemble.any()
        self.address, self.port = server.address, server.port

    def owners(self):
        self._where()
        return super().owners()
