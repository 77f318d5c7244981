# SPDX-License-Identifier: Apache-2.0
"""Runs the security checks by name, all of them without one. To keep the results: `testbed/run --reliability S4 --record`."""

import argparse
import pathlib
import sys
import time

from harness import build
from harness.net import Network
from harness.parts import ROOT
from harness.procs import Failed
from harness.world import Settings

from . import checks


def main():
    parser = argparse.ArgumentParser(prog="testbed/security/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CHECK", help=f"of {', '.join(checks.CHECKS)}")
    parser.add_argument("--full", action="store_true", help="ten times as many attempts")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "work", help="folder for logs and data (default testbed/work)")
    args = parser.parse_args()
    settings = Settings(bare=False, full=args.full, binary=build.binary(), work=args.work.resolve())
    if settings.binary is None:
        print("no target/release/remora: build it with `cargo build --release`, or name it in REMORA_BIN", file=sys.stderr)
        return 2
    failed = 0
    with Network() as network:
        if not network.isolated:
            print(f"the checks need network namespaces: {network.why}", file=sys.stderr)
            return 2
        for name in args.names or checks.CHECKS:
            begin = time.time()
            try:
                result = checks.CHECKS[name](settings, network, name)
                problems = result["problems"]
            except (Failed, OSError, EOFError) as error:
                result, problems = {"runs": []}, [str(error)]
            for row in result["runs"]:
                print(f"      {row['case']}: {row['calls']} attempts, {sum(row['failed'].values())} let through; {row['note']}", flush=True)
            failed += bool(problems)
            print(f"{'FAIL' if problems else 'pass'}  {name}  {time.time() - begin:.1f} s  {'; '.join(problems)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
