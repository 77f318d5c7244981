# SPDX-License-Identifier: Apache-2.0
"""The command line: builds, measures, writes.

`benches/run --quick` is a smoke of about a minute: are there figures, is every reply right? Published figures come from
`benches/run` without options, on a machine that does nothing else.
"""

import argparse
import datetime
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

from harness.procs import Failed

from . import catalog, churn, machine, memory, neighbours, paths, peers, plot, rounds, table
from .bench import Echo, Run

PARTS = ("calls", "memory", "neighbours", "churn", "catalog", "allocations")
QUICK = {"rounds": 1, "seconds": 0.5, "warmup": 0.3, "paths": ["remora", "haproxy"], "parts": ["calls", "churn"],
         "connections": 1000, "protocols": ["dubbo"]}
FULL = {"rounds": 5, "seconds": 3.0, "warmup": 1.0, "paths": ["remora", *peers.PEERS], "parts": list(PARTS),
        "connections": 10000, "protocols": ["dubbo", "bolt"]}


def arguments():
    def words(allowed):
        def read(text):
            found = text.split(",")
            unknown = [word for word in found if word not in allowed]
            if unknown:
                raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; known are {', '.join(allowed)}")
            return found
        return read

    parser = argparse.ArgumentParser(prog="benches/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, Remora and HAProxy, dubbo; nothing is written")
    parser.add_argument("--protocols", type=words(["dubbo", "bolt"]))
    parser.add_argument("--paths", type=words(["remora", *peers.PEERS]), help="what stands between load and provider, besides nothing")
    parser.add_argument("--cases", type=words(list(rounds.CASES)), default=list(rounds.CASES))
    parser.add_argument("--parts", type=words(PARTS), help="default: all")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of measurement, each")
    parser.add_argument("--warmup", type=float, help="seconds before it")
    parser.add_argument("--connections", type=int, help="idle ones, for their memory")
    parser.add_argument("--services", type=int, default=10000, help="followed ones in a large catalog")
    parser.add_argument("--instances", type=int, default=20, help="of each of them")
    parser.add_argument("--long-rate", type=float, default=5.0, help="calls/s of the neighbour with 8 MiB")
    parser.add_argument("--mosn", metavar="FILE", help="a MOSN binary; without it MOSN is left out")
    parser.add_argument("--remora", type=pathlib.Path, metavar="FILE", help="a Remora that was built already")
    parser.add_argument("--profile", default="dist", help="cargo profile of the binaries, default dist")
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, help="folder for RESULTS.md, results.svg, results.json; default: benches")
    parser.add_argument("--report", type=pathlib.Path, metavar="JSON", help="only write tables of figures kept by an earlier run")
    chosen = parser.parse_args()
    for key, value in (QUICK if chosen.quick else FULL).items():
        if getattr(chosen, key) is None:
            setattr(chosen, key, value)
    return chosen


def target_dir():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", machine.REPO / "target"))


def build(profile, with_remora):
    for package in [["-p", "remora", "--bin", "remora"]] * with_remora + [["-p", "remora-bench", "--bins"]]:
        subprocess.run(["cargo", "build", "--profile", profile, *package], cwd=machine.REPO, check=True)


def allocations(profile):
    """Figure of `benches/allocations.rs`, which runs the call path inside itself."""
    argv = ["cargo", "bench", "-q", "-p", "remora-bench", "--profile", profile, "--bench", "allocations"]
    done = subprocess.run(argv, cwd=machine.REPO, capture_output=True, text=True)
    for row in done.stdout.splitlines():
        if row.startswith("{"):
            return json.loads(row)
    raise Failed(f"allocations: {done.stderr.strip()[-300:]}")


def about(chosen, skipped):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=machine.REPO, capture_output=True, text=True).stdout.strip()
    rows = [("command", "`benches/run " + shlex.join(sys.argv[1:]) + "`"), ("date", datetime.date.today().isoformat()),
            ("commit", commit), ("binaries", f"cargo profile `{chosen.profile}`"),
            ("rounds", f"{chosen.rounds}, {chosen.warmup:g} s of warm-up and {chosen.seconds:g} s of measurement each, cases and paths in turn")]
    rows += machine.describe()
    for name in chosen.paths:
        if name in ("remora", "envoy-dubbo"):
            continue
        try:
            rows.append((paths.TITLES[name].split(",")[0], peers.PEERS[name].version()))
        except peers.Missing as missing:
            skipped[paths.TITLES[name]] = str(missing)
    return rows


def measure(run, chosen):
    skipped = {}
    results = {"rows": [], "skipped": skipped, "paths": {}, "cases": chosen.cases, "protocols": chosen.protocols,
               "idle_connections": chosen.connections, "memory": {}, "churn": {}, "neighbours": {}, "catalog": None}
    results["about"] = about(chosen, skipped)
    for protocol in chosen.protocols:
        echo = Echo(run, protocol)
        if "calls" in chosen.parts or "neighbours" in chosen.parts:
            print(f"{protocol}: starting", flush=True)
            ways = paths.build(run, echo, protocol, chosen.paths, skipped)
            results["paths"][protocol] = [(path.key, path.title) for path in ways]
        if "calls" in chosen.parts:
            results["rows"] += rounds.measure(run, ways, chosen.cases, chosen.rounds, chosen.seconds, chosen.warmup)
        if "neighbours" in chosen.parts and protocol == "dubbo":
            print("neighbours", flush=True)
            some = [path for path in ways if path.key in ("direct", "remora-1", "haproxy-1")]
            results["neighbours"] = neighbours.measure(run, some, chosen.rounds, chosen.seconds, chosen.long_rate)
        if "memory" in chosen.parts:
            print("memory", flush=True)
            names = [name for name in chosen.paths if peers.PEERS.get(name) is not peers.EnvoyDubbo]
            results["memory"][protocol] = memory.measure(run, echo, protocol, names, chosen.connections, chosen.seconds)
        if "churn" in chosen.parts:
            print("providers killed and added", flush=True)
            results["churn"][protocol] = churn.measure(run, protocol)
        if "catalog" in chosen.parts and protocol == "dubbo":
            print("catalog", flush=True)
            results["catalog"] = catalog.measure(run, echo, protocol, chosen.services, chosen.instances, chosen.seconds, chosen.rounds)
    if "allocations" in chosen.parts:
        found = allocations(chosen.profile)
        results["allocations"] = found
        results["allocations_per_call"] = found["worst_per_call"]
        print(f"allocations: {found}", flush=True)
    return results


def write(results, out):
    out.mkdir(parents=True, exist_ok=True)
    has_plot = bool(results["rows"]) and "dubbo" in results["paths"]
    if has_plot:
        (out / "results.svg").write_text(plot.svg(results))
    (out / "RESULTS.md").write_text(table.page(results, "results.svg" if has_plot else None))
    print(f"written: {out / 'RESULTS.md'}")


def main():
    chosen = arguments()
    out = chosen.out or machine.ROOT
    if chosen.report:
        write(json.loads(chosen.report.read_text()), out)
        return 0
    if os.cpu_count() < 2:
        print("two cores are needed: one for load and provider, one for the proxies", file=sys.stderr)
        return 2
    peers.Mosn.binary = chosen.mosn
    if not chosen.no_build:
        build(chosen.profile, not chosen.remora)
    os.sched_setaffinity(0, {machine.LOAD_CORE})
    programs = target_dir().resolve() / ("debug" if chosen.profile == "dev" else chosen.profile)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="remora-bench-"))
    try:
        with Run(folder, programs, chosen.remora) as run:
            results = measure(run, chosen)
    except Failed as failure:
        print(f"FAILED: {failure}\nlogs are in {folder}", file=sys.stderr)
        return 1
    kept = target_dir() / "bench-results.json"
    kept.write_text(json.dumps(results))
    print(f"figures kept: {kept}")
    if chosen.quick and not chosen.out:
        print(table.page(results, None))
    else:
        write(results, out)
    wrong = sum(row["error_count"] for row in results["rows"] if row["path"].startswith(("direct", "remora")))
    wrong += sum(one["other_count"] for one in results["churn"].values())
    wrong += results["catalog"]["errors"] if results["catalog"] else 0
    if wrong:
        print(f"{wrong} errors; logs are in {folder}", file=sys.stderr)
        return 1
    subprocess.run(["rm", "-rf", str(folder)], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
