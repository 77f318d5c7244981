# SPDX-License-Identifier: Apache-2.0
"""A small ZooKeeper client for the harness: enough to look at a registry and to move nodes. Independent of the proxy's own code.

Wire: jute records, big endian; frames are length-prefixed. Source: ZooKeeper's `zookeeper.jute`.
Not here: watches, reconnects.
"""

import collections
import struct
import urllib.parse

Stat = collections.namedtuple(
    "Stat", "czxid mzxid ctime mtime version cversion aversion ephemeral_owner data_length num_children pzxid")
NO_NODE = -101


class ZkError(Exception):
    def __init__(self, code, path):
        super().__init__(f"error {code} on {path}")
        self.code = code


class Client:
    """One session from `host`; a context which closes it."""

    def __init__(self, host, address, port, timeout=5.0):
        self._socket = host.connect(address, port, timeout)
        self._xid = 0
        self._send(struct.pack(">iqiqi16s?", 0, 0, 10000, 0, 16, bytes(16), False))
        self.session_timeout_ms = struct.unpack_from(">i", self._receive(), 4)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._call(-11, b"", "close")
        except (OSError, ZkError, EOFError):
            pass
        self._socket.close()

    def _send(self, body):
        self._socket.sendall(struct.pack(">i", len(body)) + body)

    def _exactly(self, count):
        parts = []
        while count:
            part = self._socket.recv(count)
            if not part:
                raise EOFError("server closed")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _receive(self):
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def _call(self, op, body, path):
        self._xid += 1
        self._send(struct.pack(">ii", self._xid, op) + body)
        while True:
            answer = self._receive()
            xid, _zxid, error = struct.unpack_from(">iqi", answer)
            if xid == self._xid:
                break
        if error:
            raise ZkError(error, path)
        return answer[16:]

    @staticmethod
    def _text(text):
        data = text.encode()
        return struct.pack(">i", len(data)) + data

    def children(self, path):
        """Names below `path`, sorted; empty when there is no such node."""
        try:
            body = self._call(8, self._text(path) + b"\0", path)
        except ZkError as error:
            if error.code == NO_NODE:
                return []
            raise
        count, at, names = struct.unpack_from(">i", body)[0], 4, []
        for _ in range(count):
            size = struct.unpack_from(">i", body, at)[0]
            names.append(body[at + 4:at + 4 + size].decode())
            at += 4 + size
        return sorted(names)

    def get(self, path):
        """(data, Stat); data is empty for null."""
        body = self._call(4, self._text(path) + b"\0", path)
        size = struct.unpack_from(">i", body)[0]
        data = body[4:4 + max(size, 0)]
        return data, Stat(*struct.unpack_from(">qqqqiiiqiiq", body, 4 + max(size, 0)))

    def create(self, path, data=b"", ephemeral=False):
        acl = struct.pack(">ii", 1, 31) + self._text("world") + self._text("anyone")
        body = self._text(path) + struct.pack(">i", len(data)) + data + acl + struct.pack(">i", 1 if ephemeral else 0)
        self._call(1, body, path)

    def delete(self, path):
        self._call(2, self._text(path) + struct.pack(">i", -1), path)

    def move(self, moves):
        """Ephemeral nodes {old path: (new path, data)} stand under their new paths, of this session, in one transaction."""
        body = b""
        for old, (new, data) in moves.items():
            acl = struct.pack(">ii", 1, 31) + self._text("world") + self._text("anyone")
            body += struct.pack(">i?i", 2, False, -1) + self._text(old) + struct.pack(">i", -1)
            body += struct.pack(">i?i", 1, False, -1) + self._text(new) + struct.pack(">i", len(data)) + data + acl + struct.pack(">i", 1)
        self._call(14, body + struct.pack(">i?i", -1, True, -1), str(list(moves)))

    def ping(self):
        """Keeps the session."""
        self.children("/")

    def tree(self, path="/"):
        """{path: (data, Stat)} of everything but /zookeeper."""
        found, todo = {}, [path]
        while todo:
            here = todo.pop()
            if here == "/zookeeper":
                continue
            try:
                found[here] = self.get(here)
            except ZkError as error:
                if error.code == NO_NODE:
                    continue
                raise
            todo += [(here if here != "/" else "") + "/" + name for name in self.children(here)]
        return found


def dump(host, address, port):
    """The whole registry as text, one node a line: E or P, the decoded path, the data."""
    rows = []
    with Client(host, address, port) as client:
        for path, (data, stat) in sorted(client.tree().items()):
            kind = "E" if stat.ephemeral_owner else "P"
            rows.append(f"{kind} {urllib.parse.unquote_plus(path)} = {data.decode(errors='replace')}")
    return rows
