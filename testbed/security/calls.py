# SPDX-License-Identifier: Apache-2.0
"""S4: frames hidden in frames on a connection that callers share. S5: text at an ingress port."""

import json
import random
import struct
import threading

from harness.procs import wait_for

from .frames import Frames, bolt_reply, bolt_request, dubbo_reply, dubbo_request, text
from .place import Listener, Place, heard
from .doors import row

SERVICE = "demo.Echo"
EGRESS = {"dubbo": 20882, "bolt": 12220}
INGRESS = {"dubbo": 20881, "bolt": 12201}


class Provider(Listener):
    """Answers each request with its body, once; notes what it got."""

    def __init__(self, host, protocol):
        self.protocol, self.bodies, self.broken = protocol, [], []
        super().__init__(host)

    def _serve(self, stream):
        frames = Frames(self.protocol)
        with stream:
            try:
                while part := stream.recv(65536):
                    for kind, number, body in frames.feed(part):
                        if kind == "request":
                            self.bodies.append(body)
                            stream.sendall(self._reply(number, body))
            except ValueError as error:
                self.broken.append(str(error))
            except OSError:
                pass

    def _reply(self, number, body):
        if self.protocol == "bolt":
            return bolt_reply(number, body)
        # The argument comes after the types.
        mark = text("Ljava/lang/String;")
        argument = body.split(mark, 1)[1] if mark in body else b"\x01?"
        head = argument[0]
        end = 1 + head if head < 32 else 2 + ((head - 0x30 << 8) | argument[1])
        value = argument[1 if head < 32 else 2:end].decode(errors="replace")
        return dubbo_reply(number, value)


def _request(protocol, number, value, length=None):
    if protocol == "bolt":
        return bolt_request(number, SERVICE, value.encode(), length)
    return dubbo_request(number, SERVICE, value, length)


class Bystander(threading.Thread):
    """Calls one after the other on one connection and looks at every byte that comes back."""

    def __init__(self, host, protocol):
        super().__init__(daemon=True)
        self.protocol, self.stream = protocol, host.connect("127.0.0.1", EGRESS[protocol], 5)
        self.ends, self.calls, self.wrong = threading.Event(), 0, []

    def run(self):
        frames, number = Frames(self.protocol), 1
        try:
            while not self.ends.is_set():
                value = f"bystander-{number}-{random.getrandbits(64):016x}"
                self.stream.sendall(_request(self.protocol, number, value))
                found = []
                while not found:
                    part = self.stream.recv(65536)
                    if not part:
                        raise OSError("closed")
                    found = [f for f in frames.feed(part) if f[0] != "event"]
                self.calls += 1
                kind, got, body = found[0]
                if len(found) != 1 or kind != "reply" or got != number or value.encode() not in body:
                    self.wrong.append(f"{len(found)} frames, {kind} {got} for {number}: {body[:60]!r}")
                number += 1
        except (OSError, ValueError) as error:
            self.wrong.append(repr(error))


def _attacks(protocol, number):
    """(label, bytes, whether the connection must be closed)."""
    inner = _request(protocol, 1, "smuggled-inner")
    hidden = (dubbo_reply(number, "smuggled-reply") if protocol == "dubbo" else bolt_reply(number, b"smuggled-reply"))
    # The head claims less than what follows: the rest begins in the middle of a string.
    honest = _request(protocol, number, "smuggled-short" + "x" * 40)
    size = _size(protocol, honest)
    yield "a whole request inside a body", _request(protocol, number, "smuggled-" + inner.decode("latin-1")), False
    yield "a whole reply inside a body", _request(protocol, number, "smuggled-" + hidden.decode("latin-1")), False
    for cut in (1, 7, 20):
        yield f"a length {cut} bytes short", _request(protocol, number, "smuggled-short" + "x" * 40, size - cut), True
    yield "a length of zero", _request(protocol, number, "smuggled-zero" + "x" * 40, 0), True
    yield "a reply instead of a request", hidden, False
    yield "replies with the numbers of others", b"".join(_forged(protocol, n) for n in range(1, 40)), False
    yield "a request, then replies with the numbers of others", honest + b"".join(_forged(protocol, n) for n in range(1, 40)), False


def _forged(protocol, number):
    return dubbo_reply(number, "smuggled-forged") if protocol == "dubbo" else bolt_reply(number, b"smuggled-forged")


def _size(protocol, frame):
    """What the head says of what follows."""
    return struct.unpack_from(">I", frame, 12 if protocol == "dubbo" else 18)[0]


def smuggling(settings, network, name):
    rounds = 100 if settings.full else 10
    rows, problems = [], []
    for protocol in ("dubbo", "bolt"):
        with Place(settings, network, f"{name}-{protocol}") as place:
            here = place.here
            provider = place.serve(Provider(here, protocol))
            entry = {"protocol": protocol, "service": SERVICE, "address": f"127.0.0.1:{provider.port}"}
            if protocol == "dubbo":
                entry["version"] = "0.0.0"
            services = place.folder / "services.yaml"
            services.write_text('{"instances": [' + json.dumps(entry) + "]}")
            place.remora("remora", {"registry": f"file://{services}", "facades": {"zookeeper": "off", "mesh": "off", "sofaregistry": "off"},
                                    "follow": [{"protocol": protocol, "service": SERVICE}], "call": {"max_connections_per_instance": 1}}, log="warn")
            place.ready()
            bystanders = [Bystander(here, protocol) for _ in range(2)]
            for bystander in bystanders:
                bystander.start()
            wait_for("the bystanders' calls", 20, lambda: all(b.calls > 5 or b.wrong for b in bystanders))
            attacks = leaked = left_open = 0
            for number in range(rounds):
                for label, data, must_close in _attacks(protocol, number + 1):
                    attacks += 1
                    answer, closed = heard(here.connect("127.0.0.1", EGRESS[protocol], 5), data, 0.3 if not must_close else 3)
                    left_open += must_close and closed is None
                    leaked += b"bystander" in answer
            for bystander in bystanders:
                bystander.ends.set()
                bystander.join(5)
            calls = sum(b.calls for b in bystanders)
            wrong = [w for b in bystanders for w in b.wrong]
            split = sum(1 for body in provider.bodies if body.startswith(b"smuggled-inner"))
            rows.append({**row(f"{protocol}: hidden frames beside callers on one upstream connection", attacks, leaked + len(wrong),
                               f"{calls} calls of bystanders, {len(wrong)} wrong; {provider.connections} upstream connection(s), "
                               f"{len(provider.bodies)} requests reached the provider, {len(provider.broken)} unreadable; {left_open} left open"),
                         "wrong": len(wrong)})
            if wrong:
                problems.append(f"{protocol}: a bystander got {wrong[0]}")
            if leaked:
                problems.append(f"{protocol}: {leaked} replies of others reached an attacker")
            if left_open:
                problems.append(f"{protocol}: {left_open} connections stay open after a wrong length")
            if provider.broken or split:
                problems.append(f"{protocol}: the provider got {provider.broken[:1] or 'a hidden request'}")
            if provider.connections > 1:
                problems.append(f"{protocol}: {provider.connections} upstream connections, the callers did not share one")
            if calls < 50:
                problems.append(f"{protocol}: only {calls} calls of bystanders")
    return {"id": "S4", "title": "frames hidden in frames on a shared connection", "bar": "no other client ever receives them, the connection is closed",
            "runs": rows, "problems": problems}


TEXTS = [b"\r\n", b"ls\r\n", b"status\r\n", b"invoke demo.Echo.echo(\"x\")\r\n", b"telnet\n", b"help\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
         b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\xff\xfb\x01\xff\xfb\x03", b"\0" * 64,
         b"ruok", b"quit\n" * 1000, b"\xda", b"\xda\xba" + bytes(30), b"\x03" + bytes(30), b"\x01\x07" + bytes(30)]


def _without_heartbeats(protocol, data):
    """What an application got, without the heartbeats by which Remora asks it for a sign of life: it never answers here."""
    rest = b""
    while data:
        head, end = data[:22], 0
        if protocol == "dubbo" and len(data) >= 16 and head[:2] == b"\xda\xbb" and head[2] & 0x20:
            end = 16 + int.from_bytes(head[12:16], "big")
        elif protocol == "bolt" and len(head) == 22 and head[:4] == b"\x01\x01\x00\x00":
            end = 22
        rest, data = rest + data[:1] * (end == 0), data[max(1, end):]
    return rest


def telnet(settings, network, name):
    times = 1000 if settings.full else 20
    rows, problems = [], []
    with Place(settings, network, name) as place:
        here, there = place.here, place.there
        apps = {protocol: place.serve(Listener(here)) for protocol in INGRESS}
        place.remora("remora", {"facades": {"mesh": "off", "sofaregistry": "off"}, "protocols": {
            "dubbo": {"egress": "127.0.0.1:20882", "ingress": "0.0.0.0:20881"}, "bolt": {"egress": "127.0.0.1:12220", "ingress": "0.0.0.0:12201"}},
            "publish": [{"protocol": protocol, "service": SERVICE, "address": f"127.0.0.1:{app.port}"} for protocol, app in apps.items()]}, log="warn")
        place.ready()
        for protocol, app in apps.items():
            # A real call must get there, or this shows nothing.
            heard(there.connect(here.address, INGRESS[protocol], 5), _request(protocol, 1, "control"), 1)
            wait_for("a call at the application", 10, lambda app=app: app.bytes)
            kept, sent, still_open = len(app.parts), 0, 0
            for _ in range(times):
                for data in TEXTS:
                    sent += 1
                    # One byte that may begin a frame is waited for; everything else is closed at once.
                    _, closed = heard(there.connect(here.address, INGRESS[protocol], 5), data, 0.05 if len(data) == 1 else 3)
                    still_open += closed is None and len(data) > 1 and not (protocol == "bolt" and data[:1] == b"\x01")
            got = _without_heartbeats(protocol, b"".join(app.parts[kept:]))
            rows.append(row(f"{protocol}: text and other protocols at the ingress", sent, len(got), f"{len(got)} bytes reached the application"))
            if got:
                problems.append(f"{protocol}: the application got {got[:40]!r}")
            if still_open:
                problems.append(f"{protocol}: {still_open} connections stay open")
    return {"id": "S5", "title": "telnet at an ingress port", "bar": "0 bytes reach the application", "runs": rows, "problems": problems}
