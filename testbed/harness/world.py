# SPDX-License-Identifier: Apache-2.0
"""What one cell plays in: a registry, hosts, applications, and a Remora on each host that is taken over."""

import shutil
import time

from . import compare
from .parts import Parts
from .procs import Failed, wait_for
from .sofaregistry import SofaRegistry

APP_PORT = 20880
# Bare applications start in 0.5 to 6 s here, and in up to 15 s when 3.x must do without its metadata.
START_LIMIT_MS = 30000


class Settings:
    """What the command line chose for all cells."""

    def __init__(self, bare=False, full=False, binary=None, work=None, rate=None):
        self.bare, self.full, self.binary, self.work, self.rate = bare, full, binary, work, rate
        self.calls = 1000 if full else 100
        self.session_ms = 40000 if full else 10000
        self.outage_s = 60 if full else 20
        self._sofaregistry = None

    def sofaregistry(self, host):
        """The SOFARegistry that cells share, started when first asked for."""
        if self._sofaregistry is None:
            self._sofaregistry = SofaRegistry(Parts(self.work / "shared-sofaregistry"), host)
        return self._sofaregistry

    def close(self):
        """Ends what cells share."""
        if self._sofaregistry is not None:
            self._sofaregistry.kill()
            self._sofaregistry = None


class World:
    """A context. `taken` names the hosts that have a Remora: all but the registry's by default, none in a bare run."""

    def __init__(self, settings, network, name, taken=None, embedded=False, session_ms=40000):
        self.settings, self.network, self.name = settings, network, name
        self.taken, self.embedded, self.session_ms = taken, embedded, session_ms
        folder = settings.work / name.replace("/", "_")
        # Data of a run before would be this registry's beginning.
        shutil.rmtree(folder, ignore_errors=True)
        self.parts = Parts(folder, settings.binary)
        self.remoras = {}
        self.notes = []

    def __enter__(self):
        self.parts.__enter__()
        try:
            self._registry()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.parts.__exit__()

    def _registry(self):
        self.registry_host = self.network.host("registry")
        if self.embedded:
            self._embedded_registry()
        else:
            self.keeper = self.parts.zookeeper(self.registry_host, self.session_ms)
            self.address, self.port = self.keeper.address, self.keeper.port

    def _embedded_registry(self):
        host = self.registry_host
        self.address, self.port = (host.address if host.namespace else "127.0.0.1"), host.port(2181)
        argv = [str(self.parts.binary), "registry", "--listen", f"{self.address}:{self.port}", "--data-dir", str(self.parts.folder / "registry")]
        proc = self.embedded_proc = self.parts._start("remora-registry", host, argv)
        wait_for("the embedded registry listens", 15, lambda: host.listening(self.port, self.address) or self._ended(proc))

    @staticmethod
    def _ended(proc):
        if not proc.is_alive():
            raise Failed(f"{proc.name} ended with {proc.popen.returncode}: {proc.last_words()}")

    @property
    def url(self):
        return f"zookeeper://{self.address}:{self.port}"

    def is_taken(self, host):
        return not self.settings.bare and (self.taken is None or host in self.taken)

    def registry_for(self, name):
        """The registry address for an application on that host; starts the host's Remora when it has one."""
        if not self.is_taken(name):
            return self.url
        if name not in self.remoras:
            self.remoras[name] = self.parts.remora(self.network.host(name), self.url)
        return self.remoras[name].url

    def provider(self, line, *args, host="provider", ports=(APP_PORT,), name="p1", role="provider"):
        """A provider that has said it is ready."""
        where = self.network.host(host)
        ports = ",".join(str(where.port(p)) for p in ports)
        proc = self.parts.app(line, role, where, self.registry_for(host), "--ports", ports, "--name", name, *args)
        if role == "provider":
            proc.event("ready", 60)
        return proc

    def consumer(self, line, *args, host="consumer"):
        """A consumer, not waited for."""
        return self.parts.app(line, "consumer", self.network.host(host), self.registry_for(host), *args)

    def dump(self):
        return compare.settled(self.registry_host, self.address, self.port)

    def owners(self):
        return compare.stats(self.registry_host, self.address, self.port)

    def provider_nodes(self):
        return sorted(path for path in self.owners() if "/providers/" in path or path.startswith("/services/"))

    def finish(self, proc, timeout=120):
        """Waits for a consumer's end; raises when a call failed. Gives the number of calls, and the peers of each socket seen."""
        peers, until = set(), time.time() + timeout
        while proc.is_alive() and time.time() < until:
            if proc.host.namespace:
                peers |= {(local, peer) for local, peer, _ in proc.host.sockets(proc.pid)}
            time.sleep(0.15)
        proc.wait(1)
        proc._reader.join(2)
        started = next((e["start_ms"] for e in proc.all("ready")), 0)
        if started > START_LIMIT_MS:
            raise Failed(f"{proc.name} took {started / 1000:.0f} s to start")
        bad = [p for p in proc.all("phase") if p["failed"]]
        if bad:
            raise Failed("; ".join(f"{p['phase']}: {p['failed']} of {p['calls']} failed: {p['errors'][0]}" for p in bad[:3]))
        ends = proc.all("end")
        if proc.popen.returncode or not ends:
            raise Failed(f"{proc.name} ended with {proc.popen.returncode}: {proc.last_words()}")
        self.notes.append(f"{ends[0]['calls']} calls, {ends[0]['failed']} failed")
        return ends[0]["calls"], peers

    def check_sockets(self, host, peers):
        """An application that was taken over talks to its own host only."""
        where = self.network.host(host)
        if not where.namespace or not self.is_taken(host):
            return
        foreign = sorted({peer for _local, peer in peers if not peer.startswith("127.") and peer.rsplit(":", 1)[0] != where.address})
        if foreign:
            raise Failed(f"the application on {where} has connections to {', '.join(foreign)}")
        if not peers:
            raise Failed(f"no connection of the application on {where} was seen")
        self.notes.append("sockets on own host only")
