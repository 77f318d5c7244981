# SPDX-License-Identifier: Apache-2.0
"""Resident memory, each figure with proxies that were started for it."""

from harness.procs import Failed

from .paths import BARE_HOST, TITLES, Path
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
    """{"figures": {path: {loaded_kib, saturated_kib, idle_bytes, errors}}, "connections": of the idle ones}."""
    figures, skipped = {}, {}
    for name in names:
        row = {"errors": 0}

        def fresh(services, use):
            if name == "remora":
                return with_remora(run, echo, protocol, services, use)
            return with_peer(run, echo, protocol, name, use)

        def resident(path, *cases):
            most = 0
            for case in cases:
                result = run.calls(path, warmup=1, seconds=seconds, **CASES[case])
                most = max(most, result["watched"][path.key]["rss_kib"])
                row["errors"] += result["error_count"]
            return most

        def idle(path):
            # A relay has two sockets for each.
            count = connections if name == "remora" else min(connections, most_relayed() - 10)
            result = run.load("idle", path.target, protocol, [(path.key, path.pids)], connections=count)
            row["idle_connections"] = count
            return result["watched"][path.key]["bytes_per_connection"]

        try:
            row["loaded_kib"] = fresh(SERVICES, lambda path: resident(path, "open-1000"))
            row["saturated_kib"] = fresh(1, lambda path: resident(path, "pp-128", "mux-1k"))
            row["idle_bytes"] = fresh(1, idle)
        except (Missing, Failed) as error:
            if name == "remora":
                raise
            skipped[f"{TITLES[name]}, memory ({protocol})"] = str(error)
            print(f"  {name}-1: left out, {error}", flush=True)
            continue
        figures[f"{name}-1"] = row
        print(f"  {name}-1: {row['loaded_kib'] / 1024:.1f} MiB at 1,000/s, {row['saturated_kib'] / 1024:.1f} MiB saturated, "
              f"{row['idle_bytes']:.0f} B per idle connection ({row['idle_connections']})", flush=True)
    return {"figures": figures, "skipped": skipped}
