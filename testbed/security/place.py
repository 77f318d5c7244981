# SPDX-License-Identifier: Apache-2.0
"""A Remora under test on one host, a host beside it, and processes of other users."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from harness.net import inside
from harness.procs import Failed, Proc, wait_for
from harness.zk import Client, ZkError

ADMIN = 15020
NODE_EXISTS = -110
PATIENCE = 30


class Place:
    """Hosts `here` and `there`, and what runs on them. Use as a context."""

    def __init__(self, settings, network, name):
        self.settings, self.here, self.there = settings, network.host("here"), network.host("there")
        self.folder = settings.work / f"security-{name}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._ends = contextlib.ExitStack()
        self.procs = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ends.close()
        for proc in self.procs.values():
            proc.stop()

    def remora(self, name, config, host=None, argv=None, log="info"):
        """Starts one and waits until it is ready; `config` is JSON, which is YAML."""
        host = host or self.here
        path = self.folder / f"{name}.yaml"
        config = {"data_dir": str(self.folder / f"{name}-data"), "log": {"level": log}, **config}
        path.write_text(json.dumps(config))
        proc = Proc(name, host, [str(self.settings.binary), *(argv or ["run", "--config", str(path)])], self.folder)
        self.procs[name] = proc
        return proc

    def ready(self, host=None):
        wait_for("Remora ready", PATIENCE, lambda: self.admin("GET", "/readyz", host=host)[0] == 200)

    def admin(self, method, path, host=None, address="127.0.0.1", headers=()):
        """(status, body) of the admin port; (0, error) without an answer."""
        host = host or self.here
        try:
            return exchange(host.connect(address, ADMIN, 10), method, path, address, ADMIN, headers)
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)

    def log(self, name):
        return (self.folder / f"{name}.err").read_text(errors="replace")

    def serve(self, server):
        """Ends `server` with the place."""
        self._ends.callback(server.close)
        return server

    def zookeeper(self, port, host=None):
        host = host or self.here
        wait_for(f"port {port}", PATIENCE, lambda: host.listening(port))
        return self._ends.enter_context(Client(host, "127.0.0.1", port))


def exchange(stream, method, path, address, port, headers=(), body=b""):
    """One HTTP request over a connection: (status, body)."""
    fields = {"Host": f"{address}:{port}", "Connection": "close", "Content-Length": str(len(body)), **dict(headers)}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items() if v is not None) + "\r\n"
    with stream:
        stream.sendall(head.encode() + body)
        parts = []
        while part := stream.recv(65536):
            parts.append(part)
    head, _, text = b"".join(parts).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):
        return 0, "no answer"
    return int(head.split(b" ", 2)[1]), text.decode(errors="replace")


def as_user(uid, host, work):
    """What `work()` gives in a process of another user on `host`; must be JSON."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            with inside(host.namespace):
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                answer = json.dumps(work())
        except BaseException as error:  # The parent must hear of it, whatever it is.
            answer = json.dumps({"error": repr(error)})
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    parts = []
    while part := os.read(read, 65536):
        parts.append(part)
    os.close(read)
    os.waitpid(child, 0)
    answer = json.loads(b"".join(parts))
    if isinstance(answer, dict) and "error" in answer:
        raise Failed(f"user {uid}: {answer['error']}")
    return answer


def dial(address, port, timeout=5.0):
    """As `Host.connect`, for the body of `as_user`, which is on its host already."""
    return socket.create_connection((address, port), timeout)


def heard(stream, question, seconds=3.0):
    """What comes back for `question` until the other end closes, or for some seconds; `None` as second value if it stays open."""
    parts = []
    stream.settimeout(seconds)
    with stream:
        try:
            stream.sendall(question)
            while part := stream.recv(65536):
                parts.append(part)
        except (ConnectionError, BrokenPipeError):
            pass
        except TimeoutError:
            return b"".join(parts), None
    return b"".join(parts), True


class Listener:
    """Counts connections and keeps the bytes that come in."""

    def __init__(self, host, port=0, address="127.0.0.1"):
        with inside(host.namespace):
            self._socket = socket.create_server((address, port), backlog=512)
        self.port = self._socket.getsockname()[1]
        self.connections, self.bytes, self.parts = 0, 0, []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                stream, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        with stream:
            try:
                while part := stream.recv(65536):
                    with self._lock:
                        self.bytes += len(part)
                        self.parts.append(part)
            except OSError:
                pass

    def close(self):
        self._socket.close()


def create(zookeeper, path, data=b""):
    """Makes a node and those above it, persistent and open to everybody."""
    text = lambda value: struct.pack(">i", len(value)) + value
    above = ""
    names = path.strip("/").split("/")
    for depth, name in enumerate(names):
        above += "/" + name
        body = text(above.encode()) + text(data if depth == len(names) - 1 else b"")
        body += struct.pack(">ii", 1, 31) + text(b"world") + text(b"anyone") + struct.pack(">i", 0)
        try:
            zookeeper._call(1, body, above)
        except ZkError as error:
            if error.code != NODE_EXISTS:
                raise


def end(process):
    """Ends a process that is ours."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pause(seconds):
    """For what must not happen: a moment in which it could."""
    time.sleep(seconds)
