# SPDX-License-Identifier: Apache-2.0
"""A relay before a ZooKeeper that notes every operation which its clients send, and who waits for a watch."""

import collections
import socket
import struct
import threading

from .net import inside

# https://zookeeper.apache.org: ZooDefs.OpCode
NAMES = {3: "exists", 4: "getData", 8: "getChildren", 11: "ping", 12: "getChildren2", 100: "auth", -11: "closeSession"}
WITH_WATCH = (3, 4, 8, 12)


class Recorder:
    """Listens on `host`; a context. `seen` counts operations by name, those not in NAMES by number."""

    def __init__(self, host, address, port):
        self._host, self._to = host, (address, port)
        self.seen = collections.Counter()
        self._open = []

    def __enter__(self):
        with inside(self._host.namespace):
            self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()
        for one in self._open:
            one.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
                server = self._host.connect(*self._to, timeout=10)
            except OSError:
                return
            server.settimeout(None)
            self._open += [client, server]
            threading.Thread(target=self._forth, args=(client, server), daemon=True).start()
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    @staticmethod
    def _back(server, client):
        try:
            while part := server.recv(65536):
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _forth(self, client, server):
        input, greeted = b"", False
        try:
            while part := client.recv(65536):
                input += part
                if not greeted and len(input) == 4 and input.isalpha():
                    self.seen["word " + input.decode()] += 1
                    input = b""
                while len(input) >= 4 and len(input) >= 4 + (size := struct.unpack_from(">i", input)[0]):
                    frame, input = input[4:4 + size], input[4 + size:]
                    if not greeted:
                        greeted = True
                        self.seen["greeting"] += 1
                        continue
                    op = struct.unpack_from(">i", frame, 4)[0]
                    watch = " with a watch" if op in WITH_WATCH and frame[-1] else ""
                    self.seen[NAMES.get(op, f"operation {op}") + watch] += 1
                server.sendall(part)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def not_reads(self):
        """What was sent that is neither a read nor the session's own beginning, end and sign of life."""
        allowed = {"greeting", "exists", "getData", "getChildren", "ping", "auth", "closeSession", "word srvr", "word conf"}
        return {what: number for what, number in self.seen.items() if what not in allowed}
