# SPDX-License-Identifier: Apache-2.0
"""S7: addresses in a shared registry that Remora must never dial."""

import ipaddress
import json
import re
import shutil
import subprocess
import urllib.parse

from harness.net import ETC
from harness.procs import Failed, wait_for

from .frames import dubbo_request
from .place import Listener, Place, create, end, heard, pause
from .doors import row

SERVICE = "demo.Victim"
PORTS = {"zookeeper": 2181, "mesh": 13330, "sofaregistry": 9603, "admin": 15020, "egress": 20882, "ingress": 20881, "bolt egress": 12220}


def _poison(place, bait):
    """Addresses that nobody may make us dial: (host, port)."""
    here = place.here.address
    ports = list(PORTS.values())
    loopbacks = ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "localhost", "2130706433", "127.1", "0x7f000001", "017700000001", "poison-loopback"]
    found = [(host, port) for host in loopbacks for port in (bait, 80, 15020)]
    found += [(here, port) for port in ports if port != 20881] + [("127.0.0.1", port) for port in ports]
    found += [(host, port) for host in ("169.254.169.254", "169.254.0.1", "poison-link-local", "[fe80::1]") for port in (80, bait)]
    found += [(host, bait) for host in ("224.0.0.1", "239.255.255.250", "255.255.255.255", "[ff02::1]", "0.0.0.0", "[::]", "poison-multicast", "0")]
    found += [("192.0.2.77", 0), (here, 0), ("127.0.0.1", 0)]
    return found


def _forbidden(address, port, own):
    """Whether a connect to this address is one that must not be."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if port == 0:
        return True
    return ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255" or (str(ip) == own)


def poisoned(settings, network, name):
    if not shutil.which("strace"):
        raise Failed("strace is not installed")
    calls = 300 if settings.full else 40
    problems = []
    with Place(settings, network, name) as place:
        here, there = place.here, place.there
        hosts = ETC / here.namespace / "hosts"
        hosts.write_text(hosts.read_text() + "127.0.0.1 poison-loopback\n169.254.7.7 poison-link-local\n224.0.0.9 poison-multicast\n")
        bait = place.serve(Listener(here, address="0.0.0.0"))
        # On the host beside, where a list may lead.
        outside = place.serve(Listener(there, address=there.address))
        place.remora("remora", {"facades": {"zookeeper": {"listen": "127.0.0.1:2181", "raw": "127.0.0.1:2191"}},
                                "follow": [{"protocol": "dubbo", "service": SERVICE}, {"protocol": "bolt", "service": SERVICE}],
                                "discovery": {"resolve_interval": "1s"}})
        place.ready()
        registry = place.zookeeper(2191)
        poison = _poison(place, bait.port)
        for host, port in poison:
            url = f"dubbo://{host}:{port}/{SERVICE}?application=p&interface={SERVICE}&version=0.0.0&methods=echo&side=provider&timestamp=1"
            create(registry, f"/dubbo/{SERVICE}/providers/{urllib.parse.quote(url, safe='')}")
            line = f"bolt://{host}:{port}?version=1.0&uniqueId=&interface={SERVICE}&protocol=bolt&appName=p"
            create(registry, f"/sofa-rpc/{SERVICE}/providers/{urllib.parse.quote(line, safe='')}")
            plain = host.strip("[]")
            instance = {"name": "poison", "id": f"{plain}:{port}", "address": plain, "port": port, "sslPort": None,
                        "payload": {"@class": "org.apache.dubbo.registry.zookeeper.ZookeeperInstance", "id": f"{plain}:{port}", "name": "poison",
                                    "metadata": {"dubbo.metadata.revision": "0123456789abcdef0123456789abcdef", "dubbo.metadata.storage-type": "local",
                                                 "dubbo.metadata-service.url-params": json.dumps({"port": str(port), "protocol": "dubbo", "version": "1.0.0"}),
                                                 "dubbo.endpoints": json.dumps([{"port": port, "protocol": "dubbo"}])}},
                        "registrationTimeUTC": 1, "serviceType": "DYNAMIC", "uriSpec": None}
            create(registry, f"/services/poison/{urllib.parse.quote(plain, safe='')}:{port}", json.dumps(instance).encode())
        trace = place.folder / "connects.txt"
        # `ip netns exec` becomes the program, so it is the child itself.
        pid = place.procs["remora"].pid
        strace = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=connect", "-o", str(trace), "-p", str(pid)], stderr=subprocess.PIPE)
        try:
            wait_for("strace attached", 20, lambda: "TracerPid:\t0" not in open(f"/proc/{pid}/status").read())
            url = f"dubbo://{there.address}:{outside.port}/{SERVICE}?application=p&interface={SERVICE}&version=0.0.0&methods=echo&side=provider&timestamp=1"
            create(registry, f"/dubbo/{SERVICE}/providers/{urllib.parse.quote(url, safe='')}")
            # The application-level list is followed as a consumer of Dubbo 3 follows it: its directory is read at the door.
            app = place.zookeeper(2181)
            app.children("/services/poison")
            app.children(f"/dubbo/{SERVICE}/providers")
            wait_for("the list in the catalog", 20, lambda: len(_refused(place)) >= len(poison) - 5)
            for number in range(calls):
                heard(here.connect("127.0.0.1", 20882, 5), dubbo_request(number + 1, SERVICE, "x"), 0.2)
            wait_for("a call at the good provider", 20, lambda: outside.connections)
            pause(3 if settings.full else 1.5)
            refused = _refused(place)
        finally:
            end(strace)
        dialled = _streams(trace.read_text(errors="replace"))
        wrong = sorted({f"{address}:{port}" for address, port in dialled if _forbidden(address, port, here.address)})
        reasons = {}
        for entry in refused:
            reasons[entry["why"]] = reasons.get(entry["why"], 0) + 1
        note = f"{len(dialled)} connects by strace, to {len(set(dialled))} addresses; bait got {bait.connections}; refused: " + \
            ", ".join(f"{count} {why}" for why, count in sorted(reasons.items()))
        rows = [row("addresses in lists of services and of applications", len(poison) * 3, len(wrong) + bait.connections, note)]
        if wrong:
            problems.append(f"dialled {', '.join(wrong[:5])}")
        if bait.connections:
            problems.append(f"the bait got {bait.connections} connections")
        if (there.address, outside.port) not in dialled:
            problems.append("strace did not see the good provider dialled, so it shows nothing")
    return {"id": "S7", "title": "addresses that a registry must not make us dial", "bar": "never dialled (strace of connect)", "runs": rows, "problems": problems}


def _refused(place):
    status, body = place.admin("GET", "/catalog")
    return json.loads(body)["refused"] if status == 200 else []


def _streams(trace):
    """Addresses of connects of stream sockets. A datagram socket's connect sends nothing: it asks for the way (port 9, and `getaddrinfo`)."""
    found = []
    for line in trace.splitlines():
        match = re.search(r"sa_family=AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\(\"([^\"]+)\"\)", line)
        match6 = re.search(r"sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, \"([^\"]+)\"", line)
        hit = match or match6
        # Streams are non-blocking: EINPROGRESS, or refused; datagram sockets are connected at once.
        if hit and "= 0" not in line.rsplit(")", 1)[-1]:
            found.append((hit.group(2), int(hit.group(1))))
    return found
