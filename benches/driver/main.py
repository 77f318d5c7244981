# SPDX-License-Identifier: Apache-2.0
"""Measures what Remora costs, beside no proxy and other proxies, and writes RESULTS.md.

`benches/run --quick` is a smoke of about a minute: are there figures, is every reply right? Published figures come from
`benches/run` without options, on a machine that does nothing else.
"""

import datetime
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

from harness.procs import Failed

from . import bars, catalog, churn, machine, memory, neighbours, options, paths, peers, plot, rounds, table
from .bench import Echo, Run
from .kept import Kept


def target_dir():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", machine.REPO / "target")).resolve()


def programs_profile(chosen):
    """Of what measures; `--profile` is that of what is measured."""
    return "dev" if chosen.profile == "dev" else "release"


def folder_of(profile):
    return target_dir() / ("debug" if profile == "dev" else profile)


def build(chosen):
    wanted = [(programs_profile(chosen), ["build", "-p", "remora-bench", "--bins"])]
    if not chosen.remora:
        wanted.append((chosen.profile, ["build", "-p", "remora", "--bin", "remora"]))
    if "allocations" in chosen.parts:
        wanted.append((programs_profile(chosen), ["bench", "--no-run", "-p", "remora-bench", "--bench", "allocations"]))
    for profile, argv in wanted:
        subprocess.run(["cargo", *argv, "--profile", profile], cwd=machine.REPO, check=True)


def allocations(programs):
    """Figure of `benches/allocations.rs`, which runs the call path inside itself."""
    built = [file for file in (programs / "deps").glob("allocations-*") if os.access(file, os.X_OK) and not file.suffix]
    if not built:
        raise Failed("allocations: not built")
    done = subprocess.run([max(built, key=lambda file: file.stat().st_mtime), "--bench"], capture_output=True, text=True, timeout=300)
    for row in done.stdout.splitlines():
        print(f"  {row}")
        if row.startswith("{"):
            return json.loads(row)
    raise Failed(f"allocations: {done.stderr.strip()[-300:]}")


def about(chosen, binary):
    """Which run of the driver made a figure."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=machine.REPO, capture_output=True, text=True).stdout.strip()
    # Where programs stand on this machine is of no interest to others.
    words = ["FILE" if sys.argv[index] in ("--mosn", "--envoy", "--remora", "--out", "--kept") else word
             for index, word in enumerate(sys.argv[1:])]
    return {"command": shlex.join(["benches/run", *words]), "date": datetime.date.today().isoformat(), "commit": commit,
            "profile": chosen.profile, "remora": hashlib.sha256(binary.read_bytes()).hexdigest()[:12],
            "warmup": chosen.warmup, "seconds": chosen.seconds, "machine": machine.describe()}


def measure(run, chosen, kept, save):
    said = about(chosen, run.binary)

    def put(key, figures, is_appended=False):
        kept.put(key, said, figures, is_appended)
        save()

    for protocol in chosen.protocols:
        if chosen.parts == ["allocations"]:
            break
        echo = Echo(run, protocol)
        if "calls" in chosen.parts:
            print(f"{protocol}: starting", flush=True)
            skipped = {}
            ways = paths.build(run, echo, protocol, chosen.paths, skipped)
            rows = rounds.measure(run, ways, chosen.cases, chosen.rounds, chosen.seconds, chosen.warmup)
            versions = paths.versions(chosen.paths)
            for case in chosen.cases:
                figures = {"paths": [(path.key, path.title) for path in ways if rounds.has_case(case, path)], "skipped": skipped,
                           "versions": versions, "rows": [row for row in rows if row["case"] == case]}
                put(("calls", protocol, case), figures, chosen.append)
            paths.stop(run, ways)
        if "neighbours" in chosen.parts and protocol == "dubbo":
            print("neighbours", flush=True)
            ways = paths.build(run, echo, protocol, [name for name in chosen.paths if name in ("remora", "haproxy")], {})
            some = [path for path in ways if path.key in ("direct", "remora-1", "haproxy-1")]
            rows = neighbours.measure(run, some, chosen.rounds, chosen.seconds, chosen.long_rate)
            put(("neighbours", protocol), {"rows": rows}, chosen.append)
            paths.stop(run, ways)
        if "memory" in chosen.parts:
            print("memory", flush=True)
            names = [name for name in paths.of_protocol(chosen.paths, protocol) if name != "envoy-dubbo"]
            put(("memory", protocol), memory.measure(run, echo, protocol, names, chosen.connections, chosen.seconds))
        if "churn" in chosen.parts:
            print("providers killed and added", flush=True)
            put(("churn", protocol), churn.measure(run, protocol))
        if "catalog" in chosen.parts and protocol == "dubbo":
            print("catalog", flush=True)
            found = catalog.measure(run, echo, protocol, chosen.services, chosen.instances, chosen.seconds, min(3, chosen.rounds))
            put(("catalog", protocol), found)
        run.stop(echo.proc)
    if "allocations" in chosen.parts:
        print("allocations", flush=True)
        put(("allocations",), allocations(run.programs))


def write(kept, out):
    out.mkdir(parents=True, exist_ok=True)
    drawn = plot.svg(kept, "dubbo")
    if drawn:
        (out / "results.svg").write_text(drawn)
    (out / "RESULTS.md").write_text(table.page(kept, "results.svg" if drawn else None))
    print(f"written: {out / 'RESULTS.md'}")


def main():
    chosen = options.read(__doc__)
    out = chosen.out or machine.ROOT
    file = chosen.kept or target_dir() / "bench-results.json"
    if chosen.report:
        write(Kept(file), out)
        return 0
    if os.cpu_count() < 2:
        print("two cores are needed: one for load and provider, one for the proxies", file=sys.stderr)
        return 2
    peers.Mosn.binary, peers.Envoy.binary = chosen.mosn, chosen.envoy
    if not chosen.no_build:
        build(chosen)
    machine.leave_proxies_alone()
    binary = (chosen.remora or folder_of(chosen.profile) / "remora").resolve()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="remora-bench-"))
    kept = Kept(None if chosen.is_printed else file)
    try:
        with Run(folder, folder_of(programs_profile(chosen)), binary) as run:
            measure(run, chosen, kept, lambda: None if chosen.is_printed else kept.save())
    except Failed as failure:
        print(f"FAILED: {failure}\nlogs are in {folder}", file=sys.stderr)
        return 1
    if chosen.is_printed:
        print(table.markdown(bars.HEADER, [bar.cells() for protocol in chosen.protocols for bar in bars.all_bars(kept, protocol)
                                           if bar.is_measured and (not chosen.bar or bar.row in chosen.bar)]))
    else:
        print(f"figures kept: {file}")
        write(kept, out)
    wrong = bars.wrong_count(kept)
    if wrong:
        print(f"{wrong} errors; logs are in {folder}", file=sys.stderr)
        return 1
    subprocess.run(["rm", "-rf", str(folder)], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
