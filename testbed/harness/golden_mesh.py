# SPDX-License-Identifier: Apache-2.0
"""Captures what SOFARPC's mesh registry sends, from a client of an old and of a new line.

`python3 -m harness.golden_mesh` in `testbed`, after `mvn package` in `testbed/java`; a minute, needs no root. Writes
`golden/mesh/VERSION-NAME.http`: one request a file, byte for byte.
"""

import json
import socket
import subprocess
import tempfile
import threading

from .parts import ROOT

LINES = {"5.6.5": "sofa56", "5.13.2": "sofa513"}
NAMES = ["application", "publish", "publish-full", "subscribe", "subscribe-full", "unsubscribe-full", "unsubscribe", "unpublish-full", "unpublish"]


class Stub:
    """Says yes to everything and keeps what it was asked."""

    def __init__(self):
        self.requests = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            connection, _ = self._socket.accept()
            with connection:
                request = read(connection)
                self.requests.append(request)
                answer = {"success": True}
                if b"/services/subscribe" in request:
                    answer |= {"serviceName": json.loads(request.split(b"\r\n\r\n", 1)[1])["serviceName"], "datas": []}
                body = json.dumps(answer).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def read(connection):
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    head, body = request.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def main():
    golden = ROOT / "golden" / "mesh"
    for version, module in LINES.items():
        libraries = f"{ROOT}/java/{module}/target/lib/*"
        with tempfile.TemporaryDirectory() as classes:
            subprocess.run(["javac", "-nowarn", "-cp", libraries, "-d", classes, ROOT / "java" / "golden-mesh" / "demo" / "Speak.java"], check=True)
            stub = Stub()
            command = ["java", "-Xmx192m", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp", f"{classes}:{libraries}", "demo.Speak", stub.address]
            subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if len(stub.requests) != len(NAMES):
            raise SystemExit(f"{version} asked {len(stub.requests)} times: {stub.requests}")
        for name, request in zip(NAMES, stub.requests):
            (golden / f"{version}-{name}.http").write_bytes(request)
            print(version, name, request.split(b"\r\n\r\n", 1)[1].decode())


if __name__ == "__main__":
    main()
