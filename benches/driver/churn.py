# SPDX-License-Identifier: Apache-2.0
"""Providers killed and added in mid-run: only calls in flight on the dead one may fail."""

import time

from harness.procs import Failed

from .bench import Echo
from .paths import BARE_HOST, Path
from .proc import cpu_seconds
from .remora import Site

# Calls fail that were in flight on the dead host: they say so, at once, and there cannot be more than are in flight. A bolt
# reply says it with its status, CONNECTION_CLOSED.
SAYS_SO, STATUS_SAYS_SO, AT_ONCE_MS = "upstream_closed", "status_16", 1000
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
            killed_ms.append(time.time() * 1000)
            run.kill(echoes[number].proc)
            time.sleep(step / 2)
            session, node = places[number]
            session.delete(node)

        used, killed_ms = [], []
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
    in_flight, others = judge(protocol, result["errors"], killed_ms)
    found = {"calls": result["calls"], "kills": len(killed_ms), "in_flight_failed": in_flight, "others": others,
             "other_count": sum(others.values()), "p99_us": result["latency_us"]["p99"], "provider_cpu_ms": used}
    print(f"  {protocol}: {found['calls']} calls, 2 providers killed and 2 added: {in_flight} calls in flight on the dead hosts failed, "
          f"{found['other_count']} others {others or ''}", flush=True)
    return found


def judge(protocol, errors, killed_ms):
    """Calls that failed because they were in flight on a dead host, and {kind: number} of the others."""
    by_kill, others = [0] * len(killed_ms), {}
    for kind, seen in errors.items():
        explained = 0
        for words, told in seen["words"].items():
            if SAYS_SO in words or (protocol == "bolt" and kind == STATUS_SAYS_SO):
                for at_ms, count in told["at_ms"]:
                    # `at_ms` is the beginning of a tenth of a second.
                    near = [number for number, killed in enumerate(killed_ms) if killed - 100 <= at_ms <= killed + AT_ONCE_MS]
                    if near:
                        by_kill[near[-1]] += count
                        explained += count
        if seen["count"] > explained:
            others[kind] = seen["count"] - explained
    too_many = sum(max(0, count - CONNECTIONS * OUTSTANDING) for count in by_kill)
    if too_many:
        others["more than were in flight"] = too_many
    return sum(by_kill), others
