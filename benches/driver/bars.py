# SPDX-License-Identifier: Apache-2.0
"""What was set as a goal, and what came out: one row each. All of it is said of dubbo; bolt has figures, and no bars."""

from .rounds import cost, cpu, rate

OK, MISSED, UNKNOWN = "yes", "**no**", "not measured"


class Bar:
    """A limit: `value` is at most (or at least) `limit`."""

    def __init__(self, row, what, limit, value, is_most=True, unit="", digits=2):
        self.row, self.what, self.limit, self.value = row, what, limit, value
        self.is_most, self.unit, self.digits = is_most, unit, digits

    def cells(self):
        sign = "<=" if self.is_most else ">="
        limit = f"{sign} {self.limit:g}{self.unit}"
        if self.value is None:
            return [str(self.row), self.what, limit, "", UNKNOWN]
        met = self.value <= self.limit if self.is_most else self.value >= self.limit
        return [str(self.row), self.what, limit, f"{self.value:.{self.digits}f}{self.unit}", OK if met else MISSED]


def all_bars(results, table):
    """Every bar, with its value or None."""
    bars = []

    def least(row, what, limit, value, **more):
        bars.append(Bar(row, what, limit, value, is_most=False, **more))

    def most(row, what, limit, value, **more):
        bars.append(Bar(row, what, limit, value, **more))

    for row, case, limits in ((1, "pp-128", (0.7, 0.45)), (2, "mux-128", (1.3, 1.0)), (3, "mux-1k", (0.7, 0.7))):
        for hops, limit in zip((1, 2), limits):
            value = table.ratio(case, f"remora-{hops}", f"haproxy-{hops}", cost)
            most(row, f"{case}, {'one hop' if hops == 1 else 'two hops'}: CPU per call, ours / HAProxy", limit, value)
    for peer, title, limits in (("mosn-1", "MOSN", (4.5, 50)), ("envoy-dubbo-1", "Envoy's dubbo proxy", (2.5, 20))):
        for case, limit in zip(("pp-128", "mux-128"), limits):
            least(4, f"{case}, one hop: CPU per call, {title} / ours", limit, table.ratio(case, peer, "remora-1", cost))
    for case in ("pp-128", "mux-1k"):
        least(5, f"{case}, one hop: calls/s, ours / HAProxy", 1.3, table.ratio(case, "remora-1", "haproxy-1", rate))
    for hops, limit in ((1, 1.0), (2, 0.9)):
        value = table.ratio("open-1000", f"remora-{hops}", f"haproxy-{hops}", cpu)
        most(6, f"1,000 calls/s, {'one hop' if hops == 1 else 'two hops'}: CPU, ours / HAProxy", limit, value)

    memory = results.get("memory", {}).get("dubbo", {}).get("remora-1", {})
    mib = {key: memory[key] / 1024 if key in memory else None for key in ("loaded_kib", "saturated_kib")}
    most(7, "resident at 1,000 calls/s, 100 services followed", 12, mib["loaded_kib"], unit=" MiB", digits=1)
    most(7, "resident under saturation", 20, mib["saturated_kib"], unit=" MiB", digits=1)
    idle = memory.get("idle_bytes")
    most(7, f"per idle connection, {results.get('idle_connections', 10000):,} of them", 4,
         idle / 1024 if idle is not None else None, unit=" KiB")
    for case in ("open-1000", "open-10000"):
        for quantile in ("p50", "p99"):
            ours, theirs = (table.added(case, f"{name}-1", quantile) for name in ("remora", "haproxy"))
            bar = Bar(8, f"{case}, one hop: latency added at {quantile}, HAProxy's is the limit", theirs or 0, ours, unit=" us", digits=0)
            bar.limit = round(theirs) if theirs is not None else 0
            bars.append(bar if theirs is not None else Bar(8, bar.what, 0, None, unit=" us"))
    # What the clock does, some hundred times a second, is counted with it; a call that allocates would give 1.
    most(9, "allocations per call in steady state, housekeeping included", 0.01, results.get("allocations_per_call"), digits=4)
    beside = results.get("neighbours", {}).get("remora-1", {})
    most(10, "p99 of small calls beside an 8 MiB neighbour / alone", 3, beside.get("ratio_long"))
    most(10, "p99 of small calls beside a slow reader / alone", 1.5, beside.get("ratio_slow"))
    wrong = sum(row["error_count"] for row in results.get("rows", []) if row["path"].startswith("remora"))
    wrong += sum(one["errors"] for key, one in results.get("neighbours", {}).items() if key.startswith("remora"))
    churn = results.get("churn", {})
    wrong += sum(one["other_count"] for one in churn.values())
    note = "" if churn else " (providers were not killed in this run)"
    most(11, "wrong ids, payloads, errors in any run" + note, 0, wrong if results.get("rows") or churn else None, digits=0)
    return bars
