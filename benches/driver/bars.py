# SPDX-License-Identifier: Apache-2.0
"""What was set as a goal, and what came out: one row each. Set for dubbo; of bolt the same is asked where it can be."""

from . import neighbours
from .rounds import Table, cost, cpu, rate

HEADER = ["row", "what", "bar", "measured", "met"]
OK, MISSED, UNKNOWN = "met", "**missed**", "not measured"
HOPS = {1: "one hop", 2: "two hops"}


class Bar:
    """A limit: `value` is at most (or at least) `limit`."""

    def __init__(self, row, what, limit, value, is_most=True, unit="", digits=2):
        self.row, self.what, self.limit, self.value = row, what, limit, value
        self.is_most, self.unit, self.digits = is_most, unit, digits

    @property
    def is_measured(self):
        return self.value is not None and self.limit is not None

    @property
    def is_met(self):
        return self.value <= self.limit if self.is_most else self.value >= self.limit

    def cells(self):
        limit = "" if self.limit is None else f"{'<=' if self.is_most else '>='} {self.limit:g}{self.unit}"
        if not self.is_measured:
            return [str(self.row), self.what, limit, "", UNKNOWN]
        return [str(self.row), self.what, limit, f"{self.value:.{self.digits}f}{self.unit}", OK if self.is_met else MISSED]


def all_bars(kept, protocol):
    """Every bar, measured or not."""
    return calls(kept, protocol) + resident(kept, protocol) + latency(kept, protocol) + rest(kept, protocol)


def calls(kept, protocol):
    table, bars = Table(kept.rows(protocol)), []
    for row, case, limits in ((1, "pp-128", (0.7, 0.45)), (2, "mux-128", (1.3, 1.0)), (3, "mux-1k", (0.7, 0.7))):
        for hops, limit in zip(HOPS, limits):
            value = table.ratio(case, f"remora-{hops}", f"haproxy-{hops}", cost)
            bars.append(Bar(row, f"{case}, {HOPS[hops]}: CPU per call, ours / HAProxy", limit, value))
    for peer, title, limits in (("mosn-1", "MOSN", (4.5, 50)), ("envoy-dubbo-1", "Envoy's dubbo proxy", (2.5, 20))):
        if protocol == "dubbo" or peer == "mosn-1":
            for case, limit in zip(("pp-128", "mux-128"), limits):
                value = table.ratio(case, peer, "remora-1", cost)
                bars.append(Bar(4, f"{case}, one hop: CPU per call, {title} / ours", limit, value, is_most=False))
    for case in ("pp-128", "mux-1k"):
        value = table.ratio(case, "remora-1", "haproxy-1", rate)
        bars.append(Bar(5, f"{case}, one hop: calls/s, ours / HAProxy", 1.3, value, is_most=False))
    for hops, limit in zip(HOPS, (1.0, 0.9)):
        value = table.ratio("open-1000", f"remora-{hops}", f"haproxy-{hops}", cpu)
        bars.append(Bar(6, f"1,000 calls/s, {HOPS[hops]}: CPU, ours / HAProxy", limit, value))
    return bars


def resident(kept, protocol):
    found = (kept.one("memory", protocol) or {}).get("figures", {}).get("remora-1", {})

    def of(key, unit):
        return found[key] / unit if key in found else None
    return [
        Bar(7, "resident at 1,000 calls/s, 100 services followed", 12, of("loaded_kib", 1024), unit=" MiB", digits=1),
        Bar(7, "resident under saturation", 20, of("saturated_kib", 1024), unit=" MiB", digits=1),
        Bar(7, f"per idle connection, {found.get('idle_connections', 10000):,} of them", 4, of("idle_bytes", 1024), unit=" KiB"),
    ]


def latency(kept, protocol):
    table, bars = Table(kept.rows(protocol)), []
    for case in ("open-1000", "open-10000", "awake-1000", "awake-10000"):
        for hops in HOPS:
            for quantile in ("p50", "p99"):
                ours, theirs = (table.added(case, f"{name}-{hops}", quantile) for name in ("remora", "haproxy"))
                limit = None if theirs is None else round(theirs)
                what = f"{case}, {HOPS[hops]}: latency added at {quantile}, HAProxy's is the bar"
                bars.append(Bar(8, what, limit, ours, unit=" us", digits=0))
    return bars


def rest(kept, protocol):
    bars = []
    if protocol == "dubbo":
        # What the clock does, some hundred times a second, is counted with it; a call that allocates would give 1.
        value = (kept.one("allocations") or {}).get("worst_per_call")
        bars.append(Bar(9, "allocations per call in steady state, what the clock does included (0.01 stands for 0)", 0.01, value, digits=4))
        beside = neighbours.summary((kept.one("neighbours", protocol) or {}).get("rows", []), "remora-1")
        for kind, title, limit in (("long", "an 8 MiB neighbour", 3), ("slow", "a slow reader", 1.5)):
            bars.append(Bar(10, f"p99 of small calls beside {title} / alone", limit, beside.get(f"ratio_{kind}")))
    churn = kept.one("churn", protocol)
    seen = protocol_wrong(kept, protocol)
    note = "" if churn else " (no providers were killed)"
    bars.append(Bar(11, "wrong ids, payloads, errors in any run, but for calls in flight on a killed provider" + note, 0, seen, digits=0))
    return bars


def protocol_wrong(kept, protocol):
    """Errors of Remora and of no proxy in every run of a protocol; None when nothing was run."""
    counts = [row["error_count"] for row in kept.rows(protocol) if is_ours(row["path"])]
    counts += [row["errors"] for row in (kept.one("neighbours", protocol) or {}).get("rows", []) if is_ours(row["path"])]
    counts += [row["errors"] for path, row in (kept.one("memory", protocol) or {}).get("figures", {}).items() if is_ours(path)]
    for part, key in (("churn", "other_count"), ("catalog", "errors")):
        found = kept.one(part, protocol)
        counts += [found[key]] if found else []
    return sum(counts) if counts else None


def wrong_count(kept):
    return sum(protocol_wrong(kept, protocol) or 0 for protocol in ("dubbo", "bolt"))


def is_ours(path):
    return path.startswith(("remora", "direct"))
