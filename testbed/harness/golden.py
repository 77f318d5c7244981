# SPDX-License-Identifier: Apache-2.0
"""Captures golden frames from real Dubbo and ZooKeeper peers: `testbed/run --golden`. Needs namespaces (root).

A provider and a consumer of one line talk directly; the consumer makes each kind of call once. Writes
`golden/dubbo/VERSION-*.hex` (one frame a file) and `golden/zookeeper/VERSION-*.hex` (one session a file).
"""

import pathlib
import shutil
import struct
import tempfile
import time
import urllib.parse

from . import capture, zk
from .parts import JAVA, LINES, ROOT, Parts
from .net import Network

VERSIONS = {"2.6": "2.6.12", "2.7": "2.7.23", "3.1": "3.1.11", "3.3": "3.3.6"}
SOFA_VERSIONS = {"s5.6": "5.6.5", "s5.13": "5.13.2"}
GOLDEN = ROOT / "golden"
# What a request's body holds -> the name of the frame. The first match counts.
NAMES = [
    (b"getMetadataInfo", "metadata-info"), (b"getAndListenInstanceMetadata", "metadata-listen"), (b"9.9.9", "service-not-found"),
    (b"$invoke", "generic"), (b"\x06watch", "callback-argument"), (b"watch", "callback-argument"), (b"changed", "callback"),
    (b"fired", "int-answer"), (b"fire", "oneway"), (b"later", "async"), (b"nothing", "null-answer"), (b"unchecked", "runtime-exception"),
    (b"checked", "checked-exception"), (b"order", "pojo"), (b"slow", "threads-exhausted"), (b"echo", "simple"), (b"who", "no-arguments"),
]


def wrapped(data, width=64):
    text = data.hex()
    return "\n".join(text[i:i + width] for i in range(0, len(text), width))


class Book:
    """Files of one version; each name is written once."""

    def __init__(self, version, how):
        self.version, self.how, self.written = version, how, []

    def frame(self, name, frame, note):
        path = GOLDEN / "dubbo" / f"{self.version}-{name}.hex"
        if path.name in self.written:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {note}; {self.how}\n{wrapped(frame)}\n")
        self.written.append(path.name)


def request_name(body):
    name = next((name for word, name in NAMES if word in body), None)
    if name == "no-arguments":
        name = "group-version" if b"g1" in body else "version" if b"2.0.0" in body else name
    return name


def dubbo_frames(streams, book, suffix=""):
    """Names the frames of all connections and writes the first of each name."""
    for _client, pieces in streams:
        asked = {}
        for _at, from_client, frame in capture.frames(pieces, capture.dubbo_length):
            flag, status = frame[2], frame[3]
            stream_id = frame[4:12]
            end = "consumer to provider" if from_client else "provider to consumer"
            if flag & 0x20:
                kind = "readonly" if flag & 0x80 and not flag & 0x40 else "heartbeat"
                way = "request" if flag & 0x80 else "response"
                side = "consumer" if from_client else "provider"
                book.frame(f"{kind}-{way}-of-{side}{suffix}", frame, f"{kind} {way}, {end}")
            elif flag & 0x80:
                name = request_name(frame[16:])
                if name is None:
                    continue
                asked[(from_client, stream_id)] = name
                book.frame(f"request-{name}{suffix}", frame, f"request, {end}")
            else:
                name = asked.get((not from_client, stream_id))
                if name and (name != "threads-exhausted" or status != 20):
                    book.frame(f"response-{name}{suffix}", frame, f"response, status {status}, {end}")


def zookeeper_sessions(streams, book, role):
    folder = GOLDEN / "zookeeper"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (_client, pieces) in enumerate(streams, 1):
        rows = [("> " if up else "< ") + frame.hex() for _at, up, frame in capture.frames(pieces, capture.zookeeper_length)]
        path = folder / f"{book.version}-{role}-session-{number}.hex"
        path.write_text(f"# session {number} of a {role}, > client to server, < server to client, length prefix included; {book.how}\n"
                        + "\n".join(rows) + "\n")
        book.written.append(path.name)


def false_node(host, zookeeper):
    """Registers the provider under a version that it does not have."""
    base = "/dubbo/demo.EchoService/providers"
    with zk.Client(host, zookeeper.address, zookeeper.port) as client:
        url = next(u for u in map(urllib.parse.unquote_plus, client.children(base)) if "&version=" not in u)
        client.create(f"{base}/{urllib.parse.quote_plus(url + '&version=9.9.9', safe='*')}")


def bad_request(consumer, provider, port, book):
    """A head whose body is no hessian: what a provider answers to what it cannot read."""
    with consumer.connect(provider.address, port, 5) as raw:
        raw.sendall(bytes.fromhex("dabbc200 0000000000000777 00000004 ffffffff".replace(" ", "")))
        raw.settimeout(5)
        head = raw.recv(16, 0x100)
        body = raw.recv(struct.unpack_from(">I", head, 12)[0], 0x100)
    book.frame("response-bad-request", head + body, f"response, status {head[3]}, to a request whose body is ffffffff")


def neutral(parts):
    """Applications publish the path of their classes as metadata: give them one that says nothing about this machine."""
    parts.java = pathlib.Path(tempfile.gettempdir()) / "demo-app"
    shutil.rmtree(parts.java, ignore_errors=True)
    for folder in LINES.values():
        shutil.copytree(JAVA / folder / "target/classes", parts.java / folder / "target/classes", dirs_exist_ok=True)


def line(short, work):
    """The golden run of one line."""
    version = VERSIONS[short]
    how = f"captured on the wire between a Dubbo {version} provider and consumer, JDK 17, ZooKeeper 3.9.5, no proxy"
    book = Book(version, how)
    with Network() as network, Parts(work / f"golden-{short}") as parts:
        if not network.isolated:
            raise SystemExit(f"golden frames need network namespaces: {network.why}")
        registry, provider, consumer = network.host("zookeeper"), network.host("provider"), network.host("consumer")
        keeper = parts.zookeeper(registry)
        neutral(parts)
        at_provider, at_consumer = capture.Capture(provider), capture.Capture(consumer)
        served = parts.app(short, "provider", provider, keeper.url, "--heartbeat", 1000, "--threads", 4)
        served.event("ready", 40)
        time.sleep(1)
        false_node(registry, keeper)
        calling = parts.app(short, "consumer", consumer, keeper.url, "--golden", "--linger", 14, "--timeout", 2500)
        calling.event("end", 60)
        time.sleep(4)
        bad_request(consumer, provider, 20880, book)
        served.stop()
        calling.wait(40)
        at_provider.stop()
        at_consumer.stop()
        dubbo_frames(at_consumer.streams(20880), book)
        zookeeper_sessions(at_provider.streams(2181), book, "provider")
        zookeeper_sessions(at_consumer.streams(2181), book, "consumer")
    return book


def serialization(short, name, work):
    """The same calls with another serialization; only the frames."""
    version = VERSIONS[short]
    book = Book(version, f"captured on the wire between a Dubbo {version} provider and consumer with serialization {name}, JDK 17, no proxy")
    with Network() as network, Parts(work / f"golden-{short}-{name}") as parts:
        registry, provider, consumer = network.host("zookeeper"), network.host("provider"), network.host("consumer")
        keeper = parts.zookeeper(registry)
        neutral(parts)
        parts.app(short, "provider", provider, keeper.url, "--serialization", name, "--prefer-serialization", name,
                  "--heartbeat", 1000, "--threads", 4).event("ready", 40)
        time.sleep(1)
        false_node(registry, keeper)
        recording = capture.Capture(consumer)
        calling = parts.app(short, "consumer", consumer, keeper.url, "--golden", "--linger", 3, "--timeout", 2500)
        calling.event("end", 60)
        calling.wait(30)
        recording.stop()
        dubbo_frames(recording.streams(20880), book, f"-{name}")
    return book


def sofa_sessions(short, work):
    """The ZooKeeper sessions of a SOFARPC provider and consumer; the provider has a weight, a warm-up and a word of its own."""
    version = SOFA_VERSIONS[short]
    book = Book(f"sofarpc-{version}", f"captured on the wire from SOFARPC {version}, JDK 17, ZooKeeper 3.9.5, no proxy")
    with Network() as network, Parts(work / f"golden-{short}") as parts:
        registry, provider, consumer = network.host("zookeeper"), network.host("provider"), network.host("consumer")
        keeper = parts.zookeeper(registry)
        at_provider, at_consumer = capture.Capture(provider), capture.Capture(consumer)
        served = parts.app(short, "provider", provider, keeper.url, "--services", "plain,g1,v2", "--weight", 50,
                           "--parameters", "tag=blue,warmupTime=60000,warmupWeight=5")
        served.event("ready", 40)
        calling = parts.app(short, "consumer", consumer, keeper.url, "--mix", "echo,variants", "--calls", 20)
        calling.event("end", 60)
        calling.wait(40)
        served.stop()
        at_provider.stop()
        at_consumer.stop()
        zookeeper_sessions(at_provider.streams(2181), book, "provider")
        zookeeper_sessions(at_consumer.streams(2181), book, "consumer")
    return book


def main(work):
    for short in SOFA_VERSIONS:
        print(f"SOFARPC {SOFA_VERSIONS[short]}: {len(sofa_sessions(short, work).written)} files", flush=True)
    for short in VERSIONS:
        print(f"{VERSIONS[short]}: {len(line(short, work).written)} files", flush=True)
    for short, name in (("3.3", "fastjson2"), ("3.1", "fastjson2"), ("2.7", "java"), ("2.6", "java")):
        try:
            print(f"{VERSIONS[short]} {name}: {len(serialization(short, name, work).written)} files", flush=True)
        except Exception as error:  # noqa: BLE001 - one that a line does not have must not lose the others
            print(f"{VERSIONS[short]} {name}: {error}", flush=True)
