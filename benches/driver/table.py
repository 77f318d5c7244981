# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md out of what is kept."""

from . import neighbours as beside
from .bars import HEADER, all_bars
from .rounds import CASE_TITLES, CASES, NOISE, Table, cost, cpu, rate

PROTOCOLS = ("dubbo", "bolt")


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def page(kept, plot_name):
    """The text of RESULTS.md."""
    lines = ["# What Remora costs", "", "Made by `benches/run`; not edited by hand. How it measures: [README.md](README.md).", ""]
    lines += ["## Bars", "", "Ratios are medians of the ratios within each round.", ""]
    for protocol in PROTOCOLS:
        rows = [bar.cells() for bar in all_bars(kept, protocol)]
        if protocol == "dubbo":
            lines += [markdown(HEADER, rows), ""]
        elif kept.rows(protocol):
            lines += [f"The bars were set for dubbo. The same figures of {protocol}:", "", markdown(HEADER, rows), ""]
    if plot_name:
        lines += [f"![CPU per call by path]({plot_name})", ""]
    lines += how(kept)
    for protocol in PROTOCOLS:
        lines += by_case(kept, protocol)
    lines += memory(kept) + catalog(kept) + neighbours(kept) + churn(kept) + allocations(kept)
    return "\n".join(lines).rstrip() + "\n"


def how(kept):
    """The machine, the programs, and by which commands."""
    machines, versions, runs = {}, {}, {}
    for name, unit in kept.units.items():
        versions.update(unit.get("versions", {}))
        for about in unit["about"]:
            machines.update({what: value for what, value in about["machine"]})
            key = tuple(about[word] for word in ("command", "date", "commit", "profile", "remora", "warmup", "seconds"))
            runs.setdefault(key, []).append(name)
    if not runs:
        return []
    lines = ["## How", "", markdown(["", ""], [[what, value] for what, value in {**machines, **versions}.items()]), ""]
    rows = []
    for (command, date, commit, profile, digest, warmup, seconds), names in runs.items():
        parts = ", ".join(dict.fromkeys(name.split("/")[0] for name in names))
        rows.append([f"`{command}`", parts, date, commit, f"{profile}, sha256 {digest}", f"{warmup:g} s, {seconds:g} s"])
    lines += [markdown(["command", "parts", "date", "commit", "profile, Remora's binary", "warm-up, measured"], rows), ""]
    noise = sorted(row["noise"] for protocol in PROTOCOLS for row in kept.rows(protocol))
    if noise and noise[-1] > NOISE:
        loud = sum(one > NOISE for one in noise)
        lines += [f"In {loud} of {len(noise)} measurements other programs took more than {NOISE:.0%} of a core, however often they were made:"
                  " take figures of time with care; CPU per call and ratios suffer less.", ""]
    skipped = kept.skipped()
    if skipped:
        lines += ["Left out:", ""] + [f"- {name}: {why}" for name, why in skipped.items()] + [""]
    return lines


def by_case(kept, protocol):
    lines = []
    for case in CASES:
        unit = kept.one("calls", protocol, case)
        if not unit:
            continue
        table, rows = Table(unit["rows"]), []
        for key, title in unit["paths"]:
            if not table.values(case, key, rate):
                continue
            spread = table.spread(case, key, cost)
            errors = sum(row["error_count"] for row in unit["rows"] if row["path"] == key)

            def at(quantile):
                return number(table.median(case, key, lambda row: row["latency_us"][quantile]))
            rows.append([title, number(table.median(case, key, rate)), number(table.median(case, key, cost), 2),
                         f"{spread[0]:.2f} to {spread[1]:.2f}" if spread else "",
                         number(table.median(case, key, cpu), 3), at("p50"), at("p90"), at("p99"), at("p999"),
                         number(table.median(case, key, lambda row: row["rss_kib"] and row["rss_kib"] / 1024), 1), str(errors)])
        rounds = len({row["round"] for row in unit["rows"]})
        header = ["path", "calls/s", "CPU us/call", "least to most", "vCPU", "p50 us", "p90", "p99", "p99.9", "RSS MiB", "errors"]
        lines += [f"## {protocol}, {CASE_TITLES[case]}", "", f"Medians of {rounds} rounds.", "", markdown(header, rows), ""]
    return lines


def memory(kept):
    rows = []
    for (protocol,), unit in kept.of("memory").items():
        for key, row in unit["figures"].items():
            rows.append([protocol, key, number(row["loaded_kib"] / 1024, 1), number(row["saturated_kib"] / 1024, 1),
                         number(row["idle_bytes"]), number(row["idle_connections"])])
    header = ["protocol", "path", "MiB at 1,000 calls/s", "MiB under saturation", "bytes per idle connection", "idle connections"]
    text = "Each figure with processes that were started for it; Remora follows 100 services in the first."
    return ["## Memory", "", text, "", markdown(header, rows), ""] if rows else []


def catalog(kept):
    found = kept.one("catalog", "dubbo")
    if not found:
        return []
    rows = [
        ["services followed x instances of each", f"{found['services']:,} x {found['instances']:,}"],
        ["resident with one service, MiB", number(found["first_kib"] / 1024, 1)],
        ["with all services, one instance each, MiB", number(found["one_kib"] / 1024, 1)],
        ["with all instances, MiB", number(found["all_kib"] / 1024, 1)],
        ["after the changes, MiB", number(found["last_kib"] / 1024, 1)],
        ["bytes per service with one instance", number(found["bytes_per_service"])],
        ["bytes per further instance", number(found["bytes_per_instance"])],
        ["instances replaced, one each 10 ms", number(found["flips"])],
        ["longest that the replacing fell behind, s", number(found["behind_s"], 2)],
        ["CPU of Remora for each, ms", number(found["ms_per_flip"], 2)],
        ["p99 of 1,000 calls/s without changes, us", number(found["alone_p99"])],
        ["beside the changes, us", number(found["p99"])],
        ["errors", str(found["errors"])],
    ]
    return ["## A large catalog", "", markdown(["what", ""], rows), ""]


def neighbours(kept):
    rows = []
    for unit in kept.of("neighbours").values():
        for path in dict.fromkeys(row["path"] for row in unit["rows"]):
            found = beside.summary(unit["rows"], path)
            rows.append([path, *(f"{found[kind]['p50']:,.0f}, {found[kind]['p99']:,.0f}" for kind in beside.KINDS),
                         number(found["ratio_long"], 2), number(found["ratio_slow"], 2), str(found["errors"])])
    header = ["path", "alone: p50, p99 in us", "beside 8 MiB", "beside a slow reader", "p99 / alone: 8 MiB", "slow reader", "errors"]
    text = ("1,000 small calls a second (128 B, 16 connections). The neighbour calls the same provider through the same proxy; load and"
            " provider share a core with it, so the row without a proxy shows what they alone do to the latency.")
    return ["## Beside neighbours", "", text, "", markdown(header, rows), ""] if rows else []


def churn(kept):
    rows = [[protocol, number(row["calls"]), str(row["kills"]), str(row["in_flight_failed"]), str(row["other_count"]), number(row["p99_us"])]
            for (protocol,), row in kept.of("churn").items()]
    header = ["protocol", "calls", "providers killed", "failed: in flight on the dead host", "failed otherwise", "p99 us"]
    text = ("Three providers; one is killed, one comes, one is killed, one comes. A dead one stays in the registry for a while. A failed"
            " call counts as in flight when its reply says so within a second of the kill.")
    return ["## Providers killed and added", "", text, "", markdown(header, rows), ""] if rows else []


def allocations(kept):
    found = kept.one("allocations")
    if not found:
        return []
    rows = [[one["protocol"], one["way"], one["load"], f"{one['per_call']:.5f}", number(one["per_second"])] for one in found.get("ways", [])]
    return ["## Allocations", "", markdown(["protocol", "way", "connections x outstanding", "allocations per call", "per second"], rows), ""]
