# SPDX-License-Identifier: Apache-2.0
"""Captures what SOFARegistry's own client libraries and a real SOFARegistry 6.3.0 say to each other.

`python3 -m harness.golden_sofaregistry` in `testbed`, as root, after `mvn package` in `testbed/java`; 3 minutes. Writes
`golden/sofaregistry/VERSION-*.hex`: one message a file, and whole connections.
"""

import os
import pathlib
import struct
import tempfile

from . import capture
from .golden import wrapped
from .net import Network
from .parts import ROOT, Parts
from .sofaregistry import HTTP, SESSION, Driver, SofaRegistry

VERSIONS = {"v52": "5.2.0", "v63": "6.3.0", "v65": "6.5.6"}
GOLDEN = ROOT / "golden" / "sofaregistry"
MODEL = b"com.alipay.sofa.registry.core.model."
LINE = ("10.77.0.3:12200?rpcVer=51302&serialization=hessian2&weight=100&timeout=3000&appName=demo-app&p=1&v=4.0&_SERIALIZETYPE=hessian2"
        "&_WEIGHT=100&_TIMEOUT=3000&app_name=demo-app&startTime=1795251356562")
SERVICE = "demo.EchoService:1.0@DEFAULT"
# Class of a message -> what its file is called.
KINDS = {
    "PublisherRegister": "publisher-register", "SubscriberRegister": "subscriber-register", "ConfiguratorRegister": "configurator-register",
    "RegisterResponse": "register-response", "SyncConfigRequest": "sync-config-request", "SyncConfigResponse": "sync-config-response",
    "ReceivedData": "received-data", "ReceivedConfigData": "received-config-data", "Result": "result",
}


def bolt_length(buffer):
    """Length of a bolt v1 frame."""
    if len(buffer) < 20:
        return None
    if buffer[0] != 1:
        raise ValueError(f"not a bolt v1 frame: {buffer[:20].hex()}")
    if buffer[1] == 0:
        classes, header, content = struct.unpack_from(">HHI", buffer, 12)
        return 20 + classes + header + content
    if len(buffer) < 22:
        return None
    classes, header, content = struct.unpack_from(">HHI", buffer, 14)
    return 22 + classes + header + content


def class_of(frame):
    head = 20 if frame[1] == 0 else 22
    size = struct.unpack_from(">H", frame, head - 8)[0]
    return frame[head:head + size].removeprefix(MODEL).decode()


class Book:
    """Files of one version, each name written once."""

    def __init__(self, version):
        self.version, self.written = version, []
        self.how = f"captured on the wire between registry-client-all {version} and registry-server-integration 6.3.0, JDK 17, no proxy"

    def message(self, name, frame, note):
        path = GOLDEN / f"{self.version}-{name}.hex"
        if path.name not in self.written:
            GOLDEN.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {note}; {self.how}\n{wrapped(frame)}\n")
            self.written.append(path.name)

    def connection(self, name, frames, note):
        rows = [("> " if up else "< ") + frame.hex() for _at, up, frame in frames]
        (GOLDEN / f"{self.version}-{name}.hex").write_text(
            f"# {note}, > client to server, < server to client, one frame a line; {self.how}\n" + "\n".join(rows) + "\n")
        self.written.append(name)


def name_messages(frames, book, names):
    """Writes the first message of each kind; `names` maps a text inside a message to a name of its own."""
    asked = {}
    for _at, up, frame in frames:
        kind, side = frame[1], "client to server" if up else "server to client"
        if struct.unpack_from(">H", frame, 2)[0] == 0:
            book.message("heartbeat-ack" if kind == 0 else "heartbeat", frame, f"heartbeat, {side}")
            continue
        name = KINDS.get(class_of(frame))
        if name is None:
            raise ValueError(f"a message of class {class_of(frame)}")
        if b"UNREGISTER" in frame:
            name = name.replace("register", "unregister")
        number = struct.unpack_from(">I", frame, 5)[0]
        if kind == 0:
            name = f"{name}-to-{asked.pop((not up, number))}"
        else:
            asked[(up, number)] = name
            name += next((f"-{suffix}" for text, suffix in names if text in frame), "")
        book.message(name, frame, f"{'response' if kind == 0 else 'request'}, {side}")


# What a message holds -> what is put behind its name.
NAMES = [("Grüße".encode(), "non-ascii"), (b"demo.Two", "two-lines"),
         (b"demo.Many", "many"), (b"demo.Long", "long"), (b"demo.Other", "other"), (b"demo.None", "empty")]


def line(module, work):
    book = Book(VERSIONS[module])
    with Network() as network, Parts(work / f"golden-sofaregistry-{module}") as parts:
        if not network.isolated:
            raise SystemExit(f"golden messages need network namespaces: {network.why}")
        registry = SofaRegistry(parts, network.host("registry"))
        host = network.host("client")
        recording = capture.Capture(host)
        client = Driver(parts, host, module, registry.endpoint)
        client.tell("sub", "none", "demo.None:1.0@DEFAULT", "SOFA", "global")
        client.seen("data", key="none", count=0)
        client.tell("pub", "one", SERVICE, "SOFA", LINE)
        client.done("one")
        client.tell("conf", "config", SERVICE, "SOFA.CONFIG")
        # A real server has no texts to push since 6.0, it pushes once that there is none.
        client.seen("config", key="config", data=None)
        client.tell("sub", "list", SERVICE, "SOFA", "global")
        client.seen("data", key="list", count=1)
        # A parameter that is not ASCII, and a character outside the first plane of Unicode.
        client.tell("republish", "one", LINE + "&note=Grüße\U0001F600")
        client.done("one", version=2)
        client.seen("data", key="list", count=1)
        client.tell("pub", "two", "demo.TwoService:1.0:blue@rest", "SOFA", LINE, LINE.replace("12200", "12201"))
        client.tell("sub", "two-list", "demo.TwoService:1.0:blue@rest", "SOFA", "dataCenter")
        client.seen("data", key="two-list", count=2)
        # Lists of more than 255 elements have another form.
        client.tell("many", "many", "demo.ManyService:1.0@DEFAULT", "SOFA", 300)
        client.tell("sub", "many-list", "demo.ManyService:1.0@DEFAULT", "SOFA", "zone")
        client.seen("data", key="many-list", count=300)
        client.tell("pub", "other", "demo.Other", "DEFAULT_GROUP", "anything")
        client.done("other")
        client.tell("drop", "one")
        client.seen("data", key="list", count=0)
        client.tell("drop", "config")
        client.tell("drop", "list")
        client.done("list")
        # The first exchange of configuration comes 30 s after the start, a heartbeat after 15 s of silence.
        client.tell("sleep", 34000)
        client.tell("quit")
        client.proc.wait(60)
        recording.stop()
        streams = recording.streams(SESSION)
        if len(streams) != 1:
            raise ValueError(f"{len(streams)} connections instead of one")
        frames = capture.frames(streams[0][1], bolt_length)
        name_messages(frames, book, NAMES)
        book.connection("connection", frames, "a whole connection, from connect to close")
        asked = [bytes_ for _client, pieces in recording.streams(HTTP) for _at, _up, bytes_ in pieces]
        (GOLDEN / f"{book.version}-http.txt").write_bytes(
            f"# What it asks of the HTTP port and is answered; {book.how}\n".encode() + b"\n".join(asked).replace(b"\r", b"") + b"\n")
        if module == "v65":
            long_strings(parts, host, module, registry, book)
    return book


def long_strings(parts, host, module, registry, book):
    """A line that does not fit into one piece of a hessian string, there and back."""
    recording = capture.Capture(host)
    client = Driver(parts, host, module, registry.endpoint)
    client.tell("pub", "long", "demo.LongService:1.0@DEFAULT", "SOFA", "10.77.0.3:12200?v=4.0&note=" + "0123456789abcdef" * 2100 + "ü" * 1000)
    client.tell("sub", "long-list", "demo.LongService:1.0@DEFAULT", "SOFA", "global")
    client.seen("data", key="long-list", count=1)
    client.tell("quit")
    client.proc.wait(10)
    recording.stop()
    name_messages(capture.frames(recording.streams(SESSION)[0][1], bolt_length), book, NAMES)


def main(work):
    for module, version in VERSIONS.items():
        print(f"{version}: {len(line(module, work).written)} files", flush=True)


if __name__ == "__main__":
    main(pathlib.Path(os.environ.get("REMORA_WORK", tempfile.gettempdir())) / "golden-sofaregistry")
