# SPDX-License-Identifier: Apache-2.0
"""S14: strangers who take connections and memory at an ingress port, and say nothing or half of something."""

import contextlib
import os
import pathlib
import re
import struct
import time

from harness.procs import wait_for

from .calls import EGRESS, INGRESS, SERVICE, Bystander, Provider, _request
from .doors import row
from .frames import Frames, bolt_request, dubbo_body
from .place import Place

CONNECTIONS, SHARE, CAP = 1000, 80, 16 << 20
MIB = 1 << 20


def crowds(settings, network, name):
    silent, half = (5000, 400) if settings.full else (1500, 60)
    rows, problems = [], []
    for protocol in ("dubbo", "bolt"):
        with Place(settings, network, f"{name}-{protocol}") as place, contextlib.ExitStack() as ends:
            here, there = place.here, place.there
            provider = place.serve(Provider(here, protocol))
            entry = {"protocol": protocol, "service": SERVICE, "version": "0.0.0" if protocol == "dubbo" else "1.0"}
            remora = place.remora("remora", {
                "facades": {"mesh": "off", "sofaregistry": "off"}, "publish": [{**entry, "address": f"127.0.0.1:{provider.port}"}], "follow": [entry],
                "call": {"max_connections": CONNECTIONS, "ingress_percent": SHARE, "max_silent_per_address": 10 * silent, "half_read_cap": CAP}}, log="warn")
            place.ready()
            dial = lambda: there.connect(here.address, INGRESS[protocol], 20)
            wait_for("a call at the ingress", 20, lambda: _answered(dial(), protocol, _request(protocol, 1, "control"), 3))
            wait_for("a call at the egress", 20, lambda: _answered(here.connect("127.0.0.1", EGRESS[protocol], 5), protocol, _request(protocol, 1, "control"), 3))
            bystander = Bystander(here, protocol)
            bystander.start()
            wait_for("the bystander's calls", 20, lambda: bystander.calls > 5 or bystander.wrong)

            crowd = [ends.enter_context(dial()) for _ in range(silent)]
            shut_out = sum(not _answered(stream(), protocol, _request(protocol, 7, "late"), 10) for stream in (
                dial, dial, lambda: here.connect("127.0.0.1", EGRESS[protocol], 10), lambda: here.connect("127.0.0.1", EGRESS[protocol], 10)))
            fds = len(os.listdir(f"/proc/{remora.pid}/fd"))
            rows.append(row(f"{protocol}: {silent} connections from another host that say nothing", silent, shut_out,
                            f"{fds} descriptors open, {CONNECTIONS * SHARE // 100} places for callers; {shut_out} of 4 later callers shut out"))
            if shut_out:
                problems.append(f"{protocol}: {shut_out} of 4 callers shut out by silent connections")
            if fds > CONNECTIONS:
                problems.append(f"{protocol}: {fds} descriptors open")
            for stream in crowd:
                stream.close()

            before = _rss(remora)
            frame, sent, peak = _long(protocol, 8 * MIB), 0, before
            halves = [[ends.enter_context(dial()), 0] for _ in range(half)]
            for stream, _ in halves:
                stream.setblocking(False)
            give_up = time.monotonic() + 6
            while time.monotonic() < give_up:
                for one in halves:
                    sent += _push(one, frame, 6 * MIB)
                peak = max(peak, _rss(remora))
                time.sleep(0.02)
            begun = time.monotonic()
            is_served = _answered(dial(), protocol, _long(protocol, MIB), 30)
            took = time.monotonic() - begun
            peak = max(peak, _rss(remora))
            bystander.ends.set()
            bystander.join(5)
            # As much again for buffers that grow by doubling.
            allowed = 2 * 2 * CAP + 2 * 8 * MIB + 16 * MIB
            rows.append({**row(f"{protocol}: {half} frames of 8 MiB from another host that stop before their end", half, int(not is_served),
                               f"{sent >> 20} MiB taken from them, {peak - before >> 20} MiB more memory at most, cap {CAP >> 20} MiB; a caller with 1 MiB "
                               f"beside them {'served after %.1f s' % took if is_served else 'not served'}; {bystander.calls} calls of the application here, {len(bystander.wrong)} wrong"),
                         "wrong": len(bystander.wrong)})
            if peak - before > allowed:
                problems.append(f"{protocol}: {peak - before >> 20} MiB more memory")
            if not is_served:
                problems.append(f"{protocol}: a long request beside half-sent ones was not answered")
            if bystander.wrong or bystander.calls < 50:
                problems.append(f"{protocol}: the application here: {bystander.calls} calls, {bystander.wrong[:1]}")
    return {"id": "S14", "title": "silent connections and half-sent frames at an ingress port",
            "bar": "nobody is shut out, memory stays within call.half_read_cap", "runs": rows, "problems": problems}


def _rss(proc):
    """Memory of a process, in bytes."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{proc.pid}/status").read_text()).group(1)) << 10


def _long(protocol, size):
    """A request of about that size."""
    if protocol == "bolt":
        return bolt_request(9, SERVICE, bytes(size))
    body = dubbo_body(SERVICE, "long") + bytes(size)
    return b"\xda\xbb\xc2\0" + struct.pack(">QI", 9, len(body)) + body


def _push(one, frame, most):
    """Sends what the socket takes of the rest; gives how much that was."""
    stream, at = one
    try:
        taken = stream.send(frame[at:min(most, at + MIB)]) if at < most else 0
    except BlockingIOError:
        taken = 0
    except OSError:
        # Closed for holding too much: that is what is wanted.
        taken, one[1] = 0, most
    one[1] += taken
    return taken


def _answered(stream, protocol, request, seconds):
    """Whether the provider's reply comes in time, not one of Remora's own."""
    frames = Frames(protocol)
    stream.settimeout(seconds)
    with stream:
        try:
            stream.sendall(request)
            while part := stream.recv(65536):
                for kind, _, body in frames.feed(part):
                    if kind == "reply":
                        return b"emora" not in body
        except (OSError, ValueError):
            pass
    return False
