# SPDX-License-Identifier: Apache-2.0
"""Dubbo and bolt frames, just enough to call and to cheat."""

import struct

DUBBO = b"\xda\xbb"


def text(value):
    """A Hessian 2 string of up to 1,023 characters."""
    data = value.encode()
    if len(value) < 32:
        return bytes([len(value)]) + data
    return struct.pack(">BB", 0x30 + (len(value) >> 8), len(value) & 0xFF) + data


def dubbo_body(service, argument, method="echo"):
    body = text("2.0.2") + text(service) + text("0.0.0") + text(method) + text("Ljava/lang/String;") + text(argument)
    attachments = {"path": service, "interface": service, "version": "0.0.0"}
    return body + b"H" + b"".join(text(k) + text(v) for k, v in attachments.items()) + b"Z"


def dubbo_request(number, service, argument, length=None):
    """A request; `length` is what its head claims."""
    body = dubbo_body(service, argument)
    return DUBBO + b"\xc2\0" + struct.pack(">QI", number, len(body) if length is None else length) + body


def dubbo_reply(number, value, length=None):
    """A reply that holds a string."""
    body = b"\x91" + text(value)
    return DUBBO + b"\x02\x14" + struct.pack(">QI", number, len(body) if length is None else length) + body


def bolt_request(number, service, content, length=None):
    """A bolt v1 request of SOFARPC; routing stands in the header map."""
    name = b"com.alipay.sofa.rpc.core.request.SofaRequest"
    fields = {"service": f"{service}:1.0", "sofa_head_target_service": f"{service}:1.0", "sofa_head_method_name": "echo"}
    pair = lambda value: struct.pack(">i", len(value)) + value.encode()
    header = b"".join(pair(k) + pair(v) for k, v in fields.items())
    size = len(content) if length is None else length
    return struct.pack(">BBHBIBIHHI", 1, 1, 1, 1, number, 1, 3000, len(name), len(header), size) + name + header + content


def bolt_reply(number, content):
    name = b"com.alipay.sofa.rpc.core.response.SofaResponse"
    return struct.pack(">BBHBIBHHHI", 1, 0, 2, 1, number, 1, 0, len(name), 0, len(content)) + name + content


class Frames:
    """Splits a byte stream of one protocol, as its own decoder does."""

    def __init__(self, protocol):
        self.protocol, self.input = protocol, b""

    def feed(self, part):
        """(kind, number, body) of each whole frame; `ValueError` for what is none."""
        self.input += part
        found = []
        while (frame := self._one()) is not None:
            found.append(frame)
        return found

    def _one(self):
        data = self.input
        if self.protocol == "dubbo":
            if data and not DUBBO.startswith(data[:2]):
                raise ValueError(f"no dubbo: {data[:16].hex()}")
            if len(data) < 16:
                return None
            number, size = struct.unpack_from(">QI", data, 4)
            end = 16 + size
            kind = ("request" if data[2] & 0x80 else "reply") if not data[2] & 0x20 else "event"
            body = data[16:end]
        else:
            if data and data[0] != 1:
                raise ValueError(f"no bolt: {data[:16].hex()}")
            if len(data) < 22:
                return None
            is_request = data[1] in (1, 2)
            number = struct.unpack_from(">I", data, 5)[0]
            head = 22 if is_request else 20
            name, header, content = struct.unpack_from(">HHI", data, head - 8)
            end = head + name + header + content
            kind = "event" if struct.unpack_from(">H", data, 2)[0] == 0 else "request" if is_request else "reply"
            body = data[end - content:end]
        if len(data) < end:
            return None
        self.input = data[end:]
        return kind, number, body
