# SPDX-License-Identifier: Apache-2.0
"""Rounds: in each, every case on every path in turn, so that what disturbs the machine disturbs all alike."""

import statistics

PP, MUX = {"connections": 64, "outstanding": 1}, {"connections": 8, "outstanding": 32}
CASES = {
    "pp-128": {**PP, "payload": 128},
    "mux-128": {**MUX, "payload": 128},
    "mux-1k": {**MUX, "payload": 1024},
    "open-1000": {"connections": 64, "rate": 1000, "payload": 1024},
    "open-10000": {"connections": 64, "rate": 10000, "payload": 1024},
    "awake-1000": {"connections": 64, "rate": 1000, "payload": 1024, "awake": True},
    "awake-10000": {"connections": 64, "rate": 10000, "payload": 1024, "awake": True},
}
CASE_TITLES = {
    "pp-128": "64 connections, 1 call outstanding on each, 128 B",
    "mux-128": "8 connections, 32 calls outstanding on each, 128 B",
    "mux-1k": "8 connections, 32 calls outstanding on each, 1 KiB",
    "open-1000": "1,000 calls/s, 64 connections, 1 KiB",
    "open-10000": "10,000 calls/s, 64 connections, 1 KiB",
    "awake-1000": "1,000 calls/s, 64 connections, 1 KiB, cores kept from sleeping",
    "awake-10000": "10,000 calls/s, 64 connections, 1 KiB, cores kept from sleeping",
}


# Paths of a case, where they are not all: what cannot carry a rate has no latency at it.
CASE_PATHS = {case: ("direct", "remora", "haproxy", "nginx") for case in ("open-10000", "awake-1000", "awake-10000")}
# Share of a core that others took above which a measurement is made again, and how often.
NOISE, AGAIN = 0.15, 2


def has_case(case, path):
    return case not in CASE_PATHS or path.key.rsplit("-", 1)[0] in CASE_PATHS[case]


def measure(run, paths, cases, rounds, seconds, warmup):
    """Rows of {round, case, path, ...figures}."""
    rows = []
    for number in range(rounds):
        for case in cases:
            for path in paths:
                if has_case(case, path):
                    rows.append(measure_one(run, number, case, path, seconds, warmup))
    return rows


def measure_one(run, number, case, path, seconds, warmup):
    """The least disturbed of a few attempts; errors of all of them."""
    best, wrong, kinds = None, 0, {}
    for _ in range(1 + AGAIN):
        result = run.calls(path, warmup=warmup, seconds=seconds, **CASES[case])
        result["noise"] = max(result["foreign"], result["foreign_load"])
        wrong += result["error_count"]
        kinds.update(result["errors"])
        if best is None or result["noise"] < best["noise"]:
            best = result
        if best["noise"] <= NOISE:
            break
    watched = best["watched"].get(path.key, {})
    row = {"round": number, "case": case, "path": path.key, "protocol": path.protocol, "calls": best["calls"], "rate": best["rate"],
           "latency_us": best["latency_us"], "late_us": best["late_us"], "cpu_us_per_call": watched.get("cpu_us_per_call"),
           "cpu": watched.get("cpu"), "rss_kib": watched.get("rss_kib"), "noise": best["noise"], "error_count": wrong, "errors": kinds}
    cost = f"{row['cpu_us_per_call']:8.2f} us/call" if watched else " " * 16
    noise = f"  others {best['foreign_load']:.0%} and {best['foreign']:.0%}" if row["noise"] > NOISE else ""
    errors = f"  {wrong} ERRORS {list(kinds)}" if wrong else ""
    print(f"  {number + 1} {path.protocol:5} {case:11} {path.key:14} {row['rate']:10.0f} calls/s {cost}"
          f"  p50 {row['latency_us']['p50']:8.0f} us  p99 {row['latency_us']['p99']:8.0f} us{noise}{errors}", flush=True)
    return row


class Table:
    """Rows, asked by case and path."""

    def __init__(self, rows):
        self.rows = rows

    def values(self, case, path, read):
        """By round."""
        found = {row["round"]: read(row) for row in self.rows if row["case"] == case and row["path"] == path}
        return {number: value for number, value in found.items() if value is not None}

    def median(self, case, path, read):
        values = self.values(case, path, read)
        return statistics.median(values.values()) if values else None

    def spread(self, case, path, read):
        """(least, most)."""
        values = self.values(case, path, read).values()
        return (min(values), max(values)) if values else None

    def ratio(self, case, over, under, read):
        """Median of the ratios within each round."""
        over, under = self.values(case, over, read), self.values(case, under, read)
        ratios = [over[number] / under[number] for number in over if under.get(number)]
        return statistics.median(ratios) if ratios else None

    def added(self, case, path, quantile):
        """Median of the latency added over no proxy within each round, in microseconds."""
        def read(row):
            return row["latency_us"][quantile]
        through, direct = self.values(case, path, read), self.values(case, "direct", read)
        added = [through[number] - direct[number] for number in through if number in direct]
        return statistics.median(added) if added else None


def cost(row):
    return row["cpu_us_per_call"]


def cpu(row):
    return row["cpu"]


def rate(row):
    return row["rate"]
