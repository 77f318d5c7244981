# SPDX-License-Identifier: Apache-2.0
"""What passed on a host's interface, as TCP byte streams. Needs root: reads packets with AF_PACKET.

Enough for a veth pair, where nothing is lost or fragmented: segments are put in order by sequence number.
"""

import collections
import socket
import struct
import threading
import time

from .net import inside

ETH_P_ALL = 3
Segment = collections.namedtuple("Segment", "at source target seq data syn")


class Capture:
    """Records from its start until `stop`; `streams` then gives the connections to some port."""

    def __init__(self, host, interface="eth0"):
        with inside(host.namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._socket.bind((interface, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        self._socket.settimeout(0.2)
        self._segments, self._on = [], True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while self._on:
            try:
                packet = self._socket.recv(70000)
            except TimeoutError:
                continue
            segment = parse(packet)
            if segment:
                self._segments.append(segment)

    def stop(self):
        time.sleep(0.3)
        self._on = False
        self._thread.join()
        self._socket.close()

    def streams(self, port):
        """Connections to `port` in order of opening: (client address, [(at, from_client, bytes), ...])."""
        found = {}
        for segment in self._segments:
            if segment.target[1] == port:
                found.setdefault((segment.source, segment.target), [])
        result = []
        for client, server in found:
            pieces = [(at, True, data) for at, data in self._ordered(client, server)]
            pieces += [(at, False, data) for at, data in self._ordered(server, client)]
            result.append((client, sorted(pieces, key=lambda piece: piece[0])))
        return result

    def _ordered(self, source, target):
        """The bytes of one direction, each piece with the time when it and all before it had been seen."""
        segments = [s for s in self._segments if s.source == source and s.target == target]
        begin = next((s.seq + 1 for s in segments if s.syn), None)
        if begin is None:
            return []
        at, last, out = begin, 0.0, []
        for s in sorted((s for s in segments if s.data), key=lambda s: ((s.seq - begin) & 0xffffffff, s.at)):
            skip = (at - s.seq) & 0xffffffff
            if skip >= 1 << 31:
                raise ValueError(f"bytes missing between {source} and {target}")
            if skip < len(s.data):
                last = max(last, s.at)
                out.append((last, s.data[skip:]))
                at = (s.seq + len(s.data)) & 0xffffffff
        return out


def parse(packet):
    """An Ethernet frame as a TCP segment, or None."""
    if packet[12:14] != b"\x08\x00" or packet[23] != 6:
        return None
    head = (packet[14] & 15) * 4
    total = struct.unpack_from(">H", packet, 16)[0] or len(packet) - 14
    tcp = packet[14 + head:14 + total]
    sport, dport, seq = struct.unpack_from(">HHI", tcp)
    return Segment(time.time(), (socket.inet_ntoa(packet[26:30]), sport), (socket.inet_ntoa(packet[30:34]), dport), seq,
                   tcp[(tcp[12] >> 4) * 4:], bool(tcp[13] & 2))


def frames(pieces, split):
    """Cuts each direction of a connection into frames: (at, from_client, frame). `split(buffer)` gives a frame's length or None."""
    buffers = {True: b"", False: b""}
    out = []
    for at, side, data in pieces:
        buffers[side] += data
        while (size := split(buffers[side])) and len(buffers[side]) >= size:
            out.append((at, side, buffers[side][:size]))
            buffers[side] = buffers[side][size:]
    return out


def dubbo_length(buffer):
    if len(buffer) < 16:
        return None
    if buffer[:2] != b"\xda\xbb":
        raise ValueError(f"not a dubbo frame: {buffer[:16].hex()}")
    return 16 + struct.unpack_from(">I", buffer, 12)[0]


def zookeeper_length(buffer):
    return 4 + struct.unpack(">I", buffer[:4])[0] if len(buffer) >= 4 else None
