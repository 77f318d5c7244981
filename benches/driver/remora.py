# SPDX-License-Identifier: Apache-2.0
"""Remora as users run it: a registry, one Remora beside each application, applications that know their front doors only.

Hosts are loopback addresses, which Remoras that advertise such addresses take for hosts like any other.
"""

import itertools
import json
import struct
import threading
import urllib.parse

from harness.procs import Failed, Proc, wait_for
from harness.zk import NO_NODE, Client, ZkError

from .machine import LOAD, PROXY, free_port, is_open

SERVICES = {"dubbo": ("/dubbo", "demo.EchoService"), "bolt": ("/sofa-rpc", "demo.EchoService")}
EGRESS_HOST = "127.0.0.1"
NODE_EXISTS = -110
OPS = {"create": 1, "create_kept": 1, "delete": 2, "children": 8}
# Requests sent before their answers are read.
IN_FLIGHT = 200


def provider_url(protocol, host, port, service=None):
    """What a provider registers: the fields that Dubbo 2.7 and SOFARPC 5.13 write, without a warm-up."""
    root, name = SERVICES[protocol]
    name = service or name
    if protocol == "dubbo":
        query = {"anyhost": "true", "application": "bench-provider", "deprecated": "false", "dubbo": "2.0.2",
                 "dynamic": "true", "generic": "false", "interface": name, "methods": "echo", "pid": "1",
                 "release": "2.7.23", "side": "provider", "timestamp": "1700000000000", "warmup": "0"}
        url = f"dubbo://{host}:{port}/{name}?{urllib.parse.urlencode(query)}"
    else:
        query = {"version": "1.0", "accepts": "100000", "appName": "bench-provider", "weight": "100", "language": "java",
                 "pid": "1", "interface": name, "timeout": "0", "serialization": "hessian2", "protocol": "bolt",
                 "delay": "-1", "dynamic": "true", "startTime": "1700000000000", "id": "null", "uniqueId": "",
                 "rpcVer": "51302"}
        url = f"bolt://{host}:{port}?{urllib.parse.urlencode(query)}"
    return f"{root}/{name}/providers", url


def provider_node(protocol, host, port, service=None):
    """The path of a provider's node."""
    folder, url = provider_url(protocol, host, port, service)
    return f"{folder}/{urllib.parse.quote(url, safe='')}"


class Session(Client):
    """An application's session at a registry's address, kept alive until it is closed."""

    def __init__(self, port):
        super().__init__(LOAD, "127.0.0.1", port)
        self._lock = threading.RLock()
        self._ended = threading.Event()
        threading.Thread(target=self._keep, daemon=True).start()

    def _call(self, op, body, path):
        with self._lock:
            return super()._call(op, body, path)

    def _keep(self):
        while not self._ended.wait(self.session_timeout_ms / 4000):
            try:
                self.children("/")
            except (OSError, EOFError):
                return

    def close(self):
        self._ended.set()
        self.__exit__()

    def create_all(self, path):
        """The node and those above it, persistent; existing ones stay."""
        parts = path.strip("/").split("/")
        for end in range(1, len(parts) + 1):
            try:
                self.create("/" + "/".join(parts[:end]))
            except ZkError as error:
                if error.code != NODE_EXISTS:
                    raise

    def provide(self, protocol, host, port, service=None):
        """Registers a provider; gives the path of its node."""
        path = provider_node(protocol, host, port, service)
        self.create_all(path.rsplit("/", 1)[0])
        self.create(path, ephemeral=True)
        return path

    def many(self, requests):
        """Many requests (what, path) without waiting for each answer: create (ephemeral), create_kept, delete, children.

        Raises on the first refusal, but for a node to be created that is there.
        """
        with self._lock:
            for start in range(0, len(requests), IN_FLIGHT):
                chunk = requests[start:start + IN_FLIGHT]
                out, first = [], self._xid + 1
                for what, path in chunk:
                    self._xid += 1
                    body = self._body(what, path)
                    out.append(struct.pack(">iii", len(body) + 8, self._xid, OPS[what]) + body)
                self._socket.sendall(b"".join(out))
                waiting = len(chunk)
                while waiting:
                    xid, _zxid, error = struct.unpack_from(">iqi", self._receive())
                    if xid < first:
                        continue  # a watch that fired
                    waiting -= 1
                    what, path = chunk[xid - first]
                    if error and not (error == NODE_EXISTS and what.startswith("create")):
                        raise ZkError(error, path)

    def _body(self, what, path):
        if what == "children":
            return self._text(path) + b"\1"
        if what == "delete":
            return self._text(path) + struct.pack(">i", -1)
        acl = struct.pack(">ii", 1, 31) + self._text("world") + self._text("anyone")
        return self._text(path) + struct.pack(">i", 0) + acl + struct.pack(">i", 1 if what == "create" else 0)

    def follow(self, protocol, service=None):
        """The list, as a consumer reads it; empty if there is none yet."""
        root, name = SERVICES[protocol]
        folder = f"{root}/{service or name}"
        scheme, query = ("consumer", "category=consumers&side=consumer&application=bench-consumer&interface=" + name) \
            if protocol == "dubbo" else ("bolt", "appName=bench-consumer&interface=" + name)
        url = f"{scheme}://127.0.0.1/{service or name}?{query}"
        try:
            self.create_all(f"{folder}/consumers")
            self.create(f"{folder}/consumers/{urllib.parse.quote(url, safe='')}", ephemeral=True)
        except ZkError as error:
            if error.code not in (NODE_EXISTS, NO_NODE):
                raise
        return self.children(f"{folder}/providers")


class Registry:
    """`remora registry`: the embedded registry, for several Remoras."""

    def __init__(self, run, name):
        self.port = free_port("127.0.0.1")
        argv = [run.binary, "registry", "--listen", f"127.0.0.1:{self.port}", "--data-dir", run.folder / f"{name}-data"]
        self.proc = run.start(name, LOAD, argv)
        wait_for(f"{name} listens", 20, lambda: is_open("127.0.0.1", self.port))

    @property
    def url(self):
        return f"zookeeper://127.0.0.1:{self.port}"


class Remora:
    """One Remora with the default settings but for its ports and host."""

    _numbers = itertools.count(1)

    def __init__(self, run, name, host, registry, protocol):
        self.host, self.protocol = host, protocol
        self.door, self.admin = free_port("127.0.0.1"), free_port("127.0.0.1")
        folder = run.folder / f"{name}-{next(self._numbers)}"
        folder.mkdir(parents=True)
        # All that is on by default is on, at ports that nobody else has.
        ports = {one: {"egress": f"{EGRESS_HOST}:{free_port(EGRESS_HOST)}", "ingress": f"{host}:{free_port(host)}"} for one in SERVICES}
        self.egress, self.ingress = (int(ports[protocol][side].rsplit(":", 1)[1]) for side in ("egress", "ingress"))
        doors = {"zookeeper": {"listen": f"127.0.0.1:{self.door}"}, "mesh": {"listen": f"127.0.0.1:{free_port('127.0.0.1')}"},
                 "sofaregistry": {key: f"127.0.0.1:{free_port('127.0.0.1')}" for key in ("listen", "session")}}
        config = {"registry": registry.url, "advertise": host, "data_dir": str(folder / "data"), "facades": doors,
                  "protocols": ports, "admin": {"listen": f"127.0.0.1:{self.admin}"}}
        # JSON is YAML.
        (folder / "remora.yaml").write_text(json.dumps(config, indent=2) + "\n")
        self.proc = run.start(name, PROXY, [run.binary, "run", "--config", folder / "remora.yaml"])
        wait_for(f"{name} is ready", 30, self._is_ready)

    @property
    def pids(self):
        return [self.proc.pid]

    def _is_ready(self):
        if not self.proc.is_alive():
            raise Failed(f"{self.proc.name} ended: {self.proc.last_words()}")
        return self.http("/readyz").startswith("HTTP/1.1 200")

    def http(self, path):
        """The whole answer of the admin port, or '' when there is none."""
        try:
            with LOAD.connect("127.0.0.1", self.admin) as stream:
                stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{self.admin}\r\nConnection: close\r\n\r\n".encode())
                parts = []
                while part := stream.recv(65536):
                    parts.append(part)
                return b"".join(parts).decode(errors="replace")
        except OSError:
            return ""

    def application(self):
        return Session(self.door)

    def follow(self, service=None):
        """An application follows the service; its session, once the list is not empty."""
        session = self.application()
        wait_for(f"{self.proc.name} shows a provider", 20, lambda: session.follow(self.protocol, service))
        return session


class Site:
    """What stands in a shop: a registry, and Remoras at it. A context that ends all of it."""

    def __init__(self, run, name, protocol):
        self.run, self.name, self.protocol = run, name, protocol
        self.registry = Registry(run, f"{name}-registry")
        self.sessions, self.remoras = [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def remora(self, role, host):
        remora = Remora(self.run, f"{self.name}-{role}", host, self.registry, self.protocol)
        self.remoras.append(remora)
        return remora

    def provide_bare(self, host, port, service=None):
        """A provider without a Remora: registered in the registry itself. Its session and its node."""
        session = Session(self.registry.port)
        self.sessions.append(session)
        return session, session.provide(self.protocol, host, port, service)

    def provide_at(self, remora, host, port):
        """A provider whose registry is a Remora's door."""
        session = remora.application()
        self.sessions.append(session)
        return session.provide(self.protocol, host, port)

    def follow_at(self, remora, service=None):
        self.sessions.append(remora.follow(service))

    def stop(self):
        for session in self.sessions:
            session.close()
        for remora in self.remoras:
            self.run.stop(remora.proc)
        self.run.stop(self.registry.proc)
        self.sessions, self.remoras = [], []
