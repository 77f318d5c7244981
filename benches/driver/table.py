# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md out of the figures of a run."""

from .bars import all_bars
from .rounds import CASE_TITLES, Table, cost, cpu, rate


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def page(results, plot_name):
    """The text of RESULTS.md."""
    lines = [
        "# What Remora costs", "",
        "Made by `benches/run`; not edited by hand. How it measures: [README.md](README.md).", "",
        markdown(["", ""], [[f"`{what}`" if what == "command" else what, value] for what, value in results["about"]]), "",
    ]
    foreign = [row["foreign"] for row in results["rows"]]
    if foreign and max(foreign) > 0.05:
        lines += [f"Other programs took up to {max(foreign):.0%} of the proxies' core (median {sorted(foreign)[len(foreign) // 2]:.0%}):"
                  " take figures of time with care; CPU per call and ratios suffer less.", ""]
    table = Table(results["rows"], "dubbo")
    lines += ["## Bars", "", "Ratios are medians of the ratios within each round.", "",
              markdown(["row", "what", "bar", "measured", "met"], [bar.cells() for bar in all_bars(results, table)]), ""]
    if results["skipped"]:
        lines += ["Left out:", ""] + [f"- {name}: {why}" for name, why in results["skipped"].items()] + [""]
    if plot_name:
        lines += [f"![CPU per call by path]({plot_name})", ""]
    for protocol in results["protocols"]:
        lines += by_case(results, protocol)
    lines += memory(results) + catalog(results) + neighbours(results) + churn(results)
    return "\n".join(lines).rstrip() + "\n"


def by_case(results, protocol):
    table, lines = Table(results["rows"], protocol), []
    for case in results["cases"]:
        rows = []
        for key, title in results["paths"].get(protocol, []):
            if not table.values(case, key, rate):
                continue
            spread = table.spread(case, key, cost)
            errors = sum(table.values(case, key, lambda row: row["error_count"]).values())

            def at(quantile):
                return number(table.median(case, key, lambda row: row["latency_us"][quantile]))
            rows.append([title, number(table.median(case, key, rate)), number(table.median(case, key, cost), 2),
                         f"{spread[0]:.2f} to {spread[1]:.2f}" if spread else "",
                         number(table.median(case, key, cpu), 3), at("p50"), at("p90"), at("p99"), at("p999"),
                         number(table.median(case, key, lambda row: row["rss_kib"] and row["rss_kib"] / 1024), 1), str(errors)])
        if rows:
            header = ["path", "calls/s", "CPU us/call", "least to most", "vCPU", "p50 us", "p90", "p99", "p99.9", "RSS MiB", "errors"]
            lines += [f"## {protocol}, {CASE_TITLES[case]}", "", markdown(header, rows), ""]
    return lines


def memory(results):
    rows = []
    for protocol, found in results.get("memory", {}).items():
        for key, row in found.items():
            rows.append([protocol, key, number(row["loaded_kib"] / 1024, 1), number(row["saturated_kib"] / 1024, 1),
                         number(row["idle_bytes"])])
    header = ["protocol", "path", "MiB at 1,000 calls/s", "MiB under saturation", "bytes per idle connection"]
    text = "Each figure with processes that were started for it; Remora follows 100 services in the first."
    return ["## Memory", "", text, "", markdown(header, rows), ""] if rows else []


def catalog(results):
    found = results.get("catalog")
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
        ["CPU of Remora for each, ms", number(found["ms_per_flip"], 2)],
        ["p99 of 1,000 calls/s without changes, us", number(found["alone_p99"])],
        ["beside the changes, us", number(found["p99"])],
        ["errors", str(found["errors"])],
    ]
    return ["## A large catalog", "", markdown(["what", ""], rows), ""]


def neighbours(results):
    rows = [[key, number(row["alone"]), number(row["long"]), number(row["ratio_long"], 2), number(row["slow"]),
             number(row["ratio_slow"], 2), str(row["errors"])] for key, row in results.get("neighbours", {}).items()]
    header = ["path", "p99 alone, us", "beside 8 MiB", "ratio", "beside a slow reader", "ratio", "errors"]
    text = ("1,000 small calls a second (128 B, 16 connections). The neighbour calls the same provider through the same proxy; load and"
            " provider share a core with it, so the row without a proxy shows what they alone do to the latency.")
    return ["## Beside neighbours", "", text, "", markdown(header, rows), ""] if rows else []


def churn(results):
    rows = [[protocol, number(row["calls"]), str(row["kills"]), str(row["in_flight_failed"]), str(row["other_count"]), number(row["p99_us"])]
            for protocol, row in results.get("churn", {}).items()]
    header = ["protocol", "calls", "providers killed", "failed: in flight on the dead host", "failed otherwise", "p99 us"]
    text = "Three providers; one is killed, one comes, one is killed, one comes. A dead one stays in the registry for a while."
    return ["## Providers killed and added", "", text, "", markdown(header, rows), ""] if rows else []
