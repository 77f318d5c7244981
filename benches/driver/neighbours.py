# SPDX-License-Identifier: Apache-2.0
"""Latency of small calls beside others on the same proxy: one with payloads of 8 MiB, one that does not read its replies."""

import statistics

from harness.procs import Failed

SMALL = {"connections": 16, "rate": 1000, "payload": 128}
# A body of Dubbo has 8 MiB at most by default; this leaves room for what else stands in it.
LONG = {"connections": 1, "payload": (8 << 20) - (64 << 10)}


def measure(run, paths, rounds, seconds, long_rate):
    """{path: {alone, long, slow: p99 in us, ratio_long, ratio_slow, errors}}."""
    found = {}
    for path in paths:
        rows = []
        for _ in range(rounds):
            row = {"errors": 0}
            for kind in ("alone", "long", "slow"):
                neighbour = None
                duration = seconds + 3
                if kind == "long":
                    neighbour = run.begin_load("calls", path.target, path.protocol, rate=long_rate, warmup=0.1,
                                               seconds=duration, **LONG)
                elif kind == "slow":
                    neighbour = run.begin_load("slow", path.target, path.protocol, seconds=duration)
                result = run.calls(path, warmup=1, seconds=seconds, **SMALL)
                row[kind] = result["latency_us"]["p99"]
                row["errors"] += result["error_count"]
                if neighbour:
                    try:
                        beside = run.end_load(neighbour, 90)
                        row["errors"] += beside["error_count"]
                    except Failed as error:
                        row["neighbour"] = str(error)
                        row["errors"] += 1
                        run.stop(neighbour)
            rows.append(row)
        ratio = {kind: statistics.median(row[kind] / row["alone"] for row in rows) for kind in ("long", "slow")}
        medians = {kind: statistics.median(row[kind] for row in rows) for kind in ("alone", "long", "slow")}
        found[path.key] = {**medians, "ratio_long": ratio["long"], "ratio_slow": ratio["slow"],
                           "errors": sum(row["errors"] for row in rows),
                           "said": [row["neighbour"] for row in rows if "neighbour" in row]}
        print(f"  {path.key:14} p99 alone {medians['alone']:.0f} us, beside 8 MiB x{ratio['long']:.2f}, "
              f"beside a slow reader x{ratio['slow']:.2f}, {found[path.key]['errors']} errors {found[path.key]['said'] or ''}", flush=True)
    return found
