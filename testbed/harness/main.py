# SPDX-License-Identifier: Apache-2.0
"""The interop tier: runs cells one after the other and says what each showed. See `testbed/README.md`."""

import argparse
import fnmatch
import pathlib
import signal
import sys
import time

from . import build, cells_calls, cells_dubbod, cells_faults, cells_mesh, cells_outage, cells_preflight, cells_security, cells_sofa, cells_sofa_faults, cells_sofa_way, cells_topology, cells_way, reliability
from .net import Network
from .parts import ROOT
from .procs import Failed
from .world import Settings


def arguments():
    parser = argparse.ArgumentParser(prog="testbed/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 calls a cell, two lines in most fault cells (the default)")
    parser.add_argument("--full", action="store_true", help="1,000 calls a cell, all lines everywhere, session time-out 40 s")
    parser.add_argument("--bare", action="store_true", help="no Remora at all: what the applications do by themselves")
    parser.add_argument("--only", metavar="PATTERN", action="append", help="cells whose name matches, such as 'matrix/*' or '*3.3*'; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the names of the cells and stop")
    parser.add_argument("--golden", action="store_true", help="capture golden frames again, instead of running cells")
    parser.add_argument("--reliability", metavar="ID", nargs="*", help="reliability experiments instead, such as E1 or 'E1*'; none named: their names")
    parser.add_argument("--record", action="store_true", help="keep their results in testbed/reliability and write RELIABILITY.md")
    parser.add_argument("--reliability-report", action="store_true", help="write RELIABILITY.md from testbed/reliability and stop")
    parser.add_argument("--seed", type=int, help="of what is random in an experiment (default: a new one, which is told)")
    parser.add_argument("--seconds", type=int, help="length of E35 (default 60), E18 (360), E21 (120), E12 (60)")
    parser.add_argument("--rate", type=int, help="calls a second of the applications while something breaks (default 50; E6 and E7 with --full 1,000)")
    parser.add_argument("--lines", help="Dubbo lines of the applications in E1 and E2, such as 2.7,3.3 (the default); 'none': the oracle only")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "work", help="folder for logs and data (default testbed/work)")
    return parser.parse_args()


# Fixed ports of SOFARPC's and MOSN's clients, and doors that tell applications apart by their address.
NEED_NAMESPACES = ("sofa", "mesh/", "dubbod/", "topology/", "security/")


def chosen(settings, patterns):
    cells = [cell for part in (cells_calls, cells_faults, cells_outage, cells_sofa, cells_sofa_faults, cells_sofa_way, cells_mesh, cells_dubbod, cells_topology, cells_security, cells_way, cells_preflight) for cell in part.cells(settings)]
    if patterns:
        cells = [c for c in cells if any(fnmatch.fnmatch(c[0], p) or p in c[0] for p in patterns)]
    return cells


def run(cells, settings):
    """Runs the cells; the number that failed."""
    failed = []
    with Network() as network:
        print(f"hosts: {'network namespaces' if network.isolated else 'this machine only, loopback (' + network.why + '): sockets and registry rows are not compared'}",
              flush=True)
        if not network.isolated:
            left_out = [name for name, _ in cells if name.startswith(NEED_NAMESPACES)]
            cells = [cell for cell in cells if cell[0] not in left_out]
            if left_out:
                print(f"not run: {len(left_out)} cells that need network namespaces: {', '.join(left_out)}", flush=True)
        for name, cell in cells:
            begin = time.time()
            try:
                notes = cell(network)
                print(f"pass  {name}  {time.time() - begin:.1f} s  {'; '.join(notes)}", flush=True)
            except (Failed, OSError, EOFError) as error:
                failed.append(name)
                print(f"FAIL  {name}  {time.time() - begin:.1f} s  {error}", flush=True)
        settings.close()
    for name in failed:
        print(f"failed: {name}, logs in {settings.work / name.replace('/', '_')}")
    print(f"{len(cells) - len(failed)} passed, {len(failed)} failed", flush=True)
    return len(failed)


def reliably(settings, args):
    settings.seed = args.seed if args.seed is not None else reliability.fresh_seed()
    settings.seconds = args.seconds
    settings.lines = [line for line in (args.lines or "2.7,3.3").split(",") if line != "none"]
    if not args.reliability:
        print("\n".join(reliability.names(settings)))
        return 0
    if settings.binary is None:
        print("no target/release/remora: build it with `cargo build --release`, or name it in REMORA_BIN", file=sys.stderr)
        return 2
    print(f"applications: {build.java(args.work)}; proxy: {settings.binary}, seed {settings.seed}", flush=True)
    return 1 if reliability.run(settings, args.reliability, args.record) else 0


def main():
    # A signal ends the run as an exception does: processes are stopped, namespaces removed.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: sys.exit(128 + n))
    args = arguments()
    args.work = args.work.resolve()
    settings = Settings(bare=args.bare, full=args.full, binary=build.binary(), work=args.work, rate=args.rate)
    if args.reliability_report:
        reliability.report()
        return 0
    if args.reliability is not None:
        return reliably(settings, args)
    cells = chosen(settings, args.only)
    if args.list:
        print("\n".join(name for name, _ in cells))
        return 0
    print(f"applications: {build.java(args.work)}", flush=True)
    if args.golden:
        from . import golden
        golden.main(args.work)
        return 0
    if not settings.bare and settings.binary is None:
        print("no target/release/remora: build it with `cargo build --release`, name it in REMORA_BIN, or use --bare", file=sys.stderr)
        return 2
    print(f"proxy: {'none' if settings.bare else settings.binary}; {len(cells)} cells, {'full' if args.full else 'quick'}", flush=True)
    return 1 if run(cells, settings) else 0


if __name__ == "__main__":
    sys.exit(main())
