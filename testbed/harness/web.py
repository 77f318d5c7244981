# SPDX-License-Identifier: Apache-2.0
"""HTTP requests made from a host, as a client of the mesh and dubbod APIs makes them."""

import json


def post(host, port, path, body, address="127.0.0.1", **headers):
    """(status, JSON of the answer or its text). `body` is sent as it is, or as JSON when it is no text; a header given as None is left out."""
    text = (body if isinstance(body, str) else json.dumps(body)).encode()
    fields = {"Host": f"{address}:{port}", "Content-Type": "application/json", "Content-Length": str(len(text)), "Connection": "close"}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items() if v is not None) + "\r\n"
    with host.connect(address, port, 20) as socket:
        socket.sendall(head.encode() + text)
        parts = []
        while part := socket.recv(65536):
            parts.append(part)
    head, _, answer = b"".join(parts).partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    try:
        return status, json.loads(answer)
    except ValueError:
        return status, answer.decode(errors="replace")
