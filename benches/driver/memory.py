# SPDX-License-Identifier: Apache-2.0
"""Resident memory, each figure with proxies that were started for it."""

from .paths import BARE_HOST, Path
from .peers import PEERS, Missing, most_relayed
from .remora import Site
from .rounds import CASES

SERVICES = 100
# Set aside for tests, leads nowhere.
NOWHERE = "198.18.0.1"


def with_remora(run, echo, protocol, services, use):
    """A fresh Remora whose application follows `services` services, and what `use` makes of its path."""
    with Site(run, f"memory-{protocol}", protocol) as site:
        remora = site.remora("consumer", BARE_HOST)
        session, _ = site.provide_bare(echo.host, echo.port)
        for number in range(1, services):
            session.provide(protocol, NOWHERE, 20000 + number, f"demo.Other{number}")
        site.follow_at(remora)
        application = site.sessions[-1]
        for number in range(1, services):
            if not application.follow(protocol, f"demo.Other{number}"):
                raise AssertionError(f"demo.Other{number} is not shown")
        path = Path("remora-1", "Remora, egress", 1, protocol, ("127.0.0.1", remora.egress), [remora])
        path.answers(run)
        return use(path)


def with_peer(run, echo, protocol, name, use):
    peer = PEERS[name](run, f"{name}-memory", echo.address, protocol)
    try:
        return use(Path(f"{name}-1", name, 1, protocol, ("127.0.0.1", peer.port), [peer]))
    finally:
        run.stop(peer.proc)


def measure(run, echo, protocol, names, connections, seconds):
    """{path: {loaded_kib, saturated_kib, idle_bytes}}."""
    found = {}
    for name in names:
        def fresh(services, use):
            if name == "remora":
                return with_remora(run, echo, protocol, services, use)
            return with_peer(run, echo, protocol, name, use)

        def loaded(path):
            result = run.calls(path, warmup=1, seconds=seconds, **CASES["open-1000"])
            return result["watched"][path.key]["rss_kib"]

        def saturated(path):
            most = 0
            for case in ("pp-128", "mux-1k"):
                result = run.calls(path, warmup=1, seconds=seconds, **CASES[case])
                most = max(most, result["watched"][path.key]["rss_kib"])
            return most

        def idle(path):
            count = min(connections, most_relayed() - 10)
            result = run.load("idle", path.target, protocol, [(path.key, path.pids)], connections=count)
            return result["watched"][path.key]["bytes_per_connection"]

        try:
            row = {"loaded_kib": fresh(SERVICES, loaded), "saturated_kib": fresh(1, saturated), "idle_bytes": fresh(1, idle)}
        except Missing:
            continue
        found[f"{name}-1"] = row
        print(f"  {name}-1: {row['loaded_kib'] / 1024:.1f} MiB at 1,000/s, {row['saturated_kib'] / 1024:.1f} MiB saturated, "
              f"{row['idle_bytes']:.0f} B per idle connection", flush=True)
    return found
