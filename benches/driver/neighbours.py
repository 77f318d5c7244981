# SPDX-License-Identifier: Apache-2.0
"""Latency of small calls beside others on the same proxy: one with payloads of 8 MiB, one that does not read its replies."""

import statistics

from harness.procs import Failed

SMALL = {"connections": 16, "rate": 1000, "payload": 128}
# A body of Dubbo has 8 MiB at most by default; this leaves room for what else stands in it.
LONG = {"connections": 1, "payload": (8 << 20) - (64 << 10)}


KINDS = ("alone", "long", "slow")
# Seconds that the neighbour is given to begin.
AHEAD = 0.5


def measure(run, paths, rounds, seconds, long_rate):
    """Rows of {round, path, alone, long, slow: p50 and p99 in us, errors}."""
    rows = []
    for number in range(rounds):
        for path in paths:
            row = {"round": number, "path": path.key, "errors": 0, "said": []}
            for kind in KINDS:
                row[kind] = one(run, path, kind, seconds, long_rate, row)
            rows.append(row)
            said = "".join(f", {kind} p50 {row[kind]['p50']:.0f} p99 {row[kind]['p99']:.0f} us" for kind in KINDS)
            print(f"  {number + 1} {path.key:14}{said[1:]}, {row['errors']} errors {row['said'] or ''}", flush=True)
    return rows


def one(run, path, kind, seconds, long_rate, row):
    """Latency of small calls beside this kind of neighbour; what goes wrong is counted in `row`."""
    neighbour, duration = None, seconds + AHEAD + 1
    if kind == "long":
        neighbour = run.begin_load("calls", path.target, path.protocol, rate=long_rate, warmup=0.1, seconds=duration, **LONG)
    elif kind == "slow":
        neighbour = run.begin_load("slow", path.target, path.protocol, seconds=duration)
    result = run.calls(path, warmup=AHEAD, seconds=seconds, **SMALL)
    row["errors"] += result["error_count"]
    if neighbour:
        try:
            row["errors"] += run.end_load(neighbour, 60)["error_count"]
        except Failed as error:
            row["said"].append(str(error))
            row["errors"] += 1
            run.stop(neighbour)
    return {quantile: result["latency_us"][quantile] for quantile in ("p50", "p99")}


def summary(rows, path):
    """Medians over the rounds, ratios within a round."""
    rows = [row for row in rows if row["path"] == path]
    if not rows:
        return {}

    def median(read):
        return statistics.median(map(read, rows))
    found = {kind: {quantile: median(lambda row: row[kind][quantile]) for quantile in ("p50", "p99")} for kind in KINDS}
    for kind in KINDS[1:]:
        found[f"ratio_{kind}"] = median(lambda row: row[kind]["p99"] / row["alone"]["p99"])
    return {**found, "errors": sum(row["errors"] for row in rows), "said": [text for row in rows for text in row["said"]]}
