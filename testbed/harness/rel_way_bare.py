# SPDX-License-Identifier: Apache-2.0
"""What W2's consumers lose without any Remora: Dubbo's own price of a list in which providers have another port.

A consumer that hears of a new list ends its connections to addresses that are no longer in it; a call that had chosen one of
them a moment before fails. So the harness does to the registry what W2 does, with a relay at the second port.
"""

import time

from .procs import Failed
from .rel_parts import Relay
from .way import INGRESS, PORT, Way
from .zk import Client

# Between two providers, and between turns.
APART_S = 0.03
PAUSE_S = 0.5


def moved(settings, network, name, line, times, rate):
    """Both providers stand at another port and at their own again, `times` times each; gives the row of the run."""
    way = Way(settings, network, name, line, {}, rate=rate)
    way.taken = []
    own, other = f"%3A{PORT[way.protocol]}%2F", f"%3A{INGRESS[way.protocol]}%2F"
    with way:
        way.applications()
        for host in ("p1", "p2"):
            address = network.host(host).address
            Relay(way, host, {"away": (f"{address}:{INGRESS[way.protocol]}", f"{address}:{PORT[way.protocol]}")})
        with Client(way.registry_host, way.address, way.port) as client:
            nodes = {path: data for path, (data, _) in client.tree("/dubbo").items() if "/providers/" in path and own in path}
            groups = [[path for path in nodes if f"%3A%2F%2F{network.host(host).address}{own}" in path] for host in ("p1", "p2")]
            if not all(groups):
                raise Failed(f"a provider has no node: {list(nodes)[:3]}")
            for turn in range(times * 2):
                away = turn % 2 == 0
                # Each provider for itself, as their Remoras do.
                for group in groups:
                    pairs = [(path, path.replace(own, other, 1)) for path in group]
                    client.move({(a if away else b): ((b if away else a), nodes[a]) for a, b in pairs})
                    time.sleep(APART_S)
                time.sleep(PAUSE_S)
                client.ping()
            reports = way.end()
    calls, failed = (sum(report[key] for report in reports.values()) for key in ("calls", "failed"))
    kinds = {}
    for report in reports.values():
        for kind, count in report["kinds"].items():
            kinds[kind] = kinds.get(kind, 0) + count
    return {"case": f"{line}: no Remora, both providers stand at another port and back {times} times", "calls": calls, "failed": kinds,
            "note": f"{failed} of {calls} calls of Dubbo alone"}
