# SPDX-License-Identifier: Apache-2.0
"""Providers killed and added in mid-run: only calls in flight on the dead one may fail."""

import time

from harness.procs import Failed

from .bench import Echo
from .paths import BARE_HOST, Path
from .proc import cpu_seconds
from .remora import Site

# Calls fail that were in flight on the dead host; they say so, and there cannot be more than are in flight. A bolt reply says it
# with its status, CONNECTION_CLOSED.
SAYS_SO, STATUS_SAYS_SO = "upstream_closed", "status_16"
CONNECTIONS, OUTSTANDING = 16, 8


def cpu_ms(pid):
    return int(cpu_seconds(pid) * 1000)


def measure(run, protocol, step=1.5):
    """Three providers; the first is killed, a fourth comes, the second is killed, a fifth comes."""
    with Site(run, f"churn-{protocol}", protocol) as site:
        remora = site.remora("consumer", BARE_HOST)
        echoes, places = [], []

        def add():
            echo = Echo(run, protocol)
            echoes.append(echo)
            places.append(site.provide_bare(echo.host, echo.port))

        def kill(number):
            """As a host dies: its connections now, its node when the session runs out, somewhat later."""
            used.append(cpu_ms(echoes[number].proc.pid))
            run.kill(echoes[number].proc)
            time.sleep(step / 2)
            session, node = places[number]
            session.delete(node)

        used = []
        for _ in range(3):
            add()
        site.follow_at(remora)
        path = Path("remora-1", "Remora, egress", 1, protocol, ("127.0.0.1", remora.egress), [remora])
        path.answers(run)
        load = run.begin_load("calls", path.target, protocol, [(path.key, path.pids)], connections=CONNECTIONS,
                              outstanding=OUTSTANDING, payload=128, warmup=0.5, seconds=step * 6)
        load.event("begin", 30)
        time.sleep(step)
        kill(0)
        time.sleep(step / 2)
        add()
        time.sleep(step)
        kill(1)
        time.sleep(step / 2)
        add()
        result = run.end_load(load, 60 + step * 6)
        used += [cpu_ms(echo.proc.pid) for echo in echoes[2:]]
        for echo in echoes[2:]:
            run.stop(echo.proc)
    if min(used) == 0:
        raise Failed(f"a provider was never called: CPU in ms {used}")
    in_flight, others = 0, {}
    for kind, seen in result["errors"].items():
        told = sum(count for words, count in seen["words"].items() if SAYS_SO in words)
        if protocol == "bolt" and kind == STATUS_SAYS_SO:
            told = seen["count"]
        in_flight += told
        if seen["count"] > told:
            others[kind] = {**seen, "count": seen["count"] - told}
    if in_flight > 2 * CONNECTIONS * OUTSTANDING:
        others["too_many"] = {"count": in_flight}
    found = {"calls": result["calls"], "kills": 2, "in_flight_failed": in_flight, "others": others,
             "other_count": sum(seen["count"] for seen in others.values()), "p99_us": result["latency_us"]["p99"],
             "provider_cpu_ms": used}
    print(f"  {protocol}: {found['calls']} calls, 2 providers killed and 2 added: {in_flight} calls in flight on the dead hosts failed, "
          f"{found['other_count']} others {others or ''}", flush=True)
    return found
