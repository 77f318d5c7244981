# SPDX-License-Identifier: Apache-2.0
"""Writes `link/order.ld`: the functions that a sidecar uses, in the order of their first call (`build.rs` says what for).

Builds the published profile with its symbols, then traces (`trace.py`) Remoras that start, follow and publish a hundred
services, carry calls of both protocols out and in, tell their metrics, and stop; with a registry and with the embedded one. To be run after updates of Rust or of
dependencies: those change names. `--check` only says how much of the present list is still found.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import sys
import tempfile

from . import machine, memory, paths
from .bench import Echo, Run
from .main import folder_of
from .remora import SERVICES, Remora, Site

ORDER = machine.REPO / "link" / "order.ld"
HEAD = """/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that starting and calling use, in the order of their first call. Written by benches/order; not edited by hand.
   `17h` and 16 digits end a name; they change with Rust, dependencies and profiles, and are left out where most functions of
   a name are used. Where few are, the others of the name come after all that are used: there they lie idle as long as the
   digits are right, and near each other when they are not any more. */
SECTIONS
{
  .text.used : {
"""
TAIL = """  }
}
INSERT BEFORE .text;
"""
DIGITS = re.compile(r"17h[0-9a-f]{16}E.*")
# What the standard library's names have, instead: which build of which crate it is.
LIBRARY = re.compile(r"Cs[0-9A-Za-z]+_")
# A name stands for all its functions when this share of their bytes is used, or no more than so many bytes are not.
MOST, FEW_BYTES = 0.5, 1024


def build():
    """The binary, with symbols. Said to the compiler, not to cargo: another profile has other digits."""
    argv = ["cargo", "rustc", "-p", "remora", "--bin", "remora", "--profile", "dist", "--", "-C", "strip=none"]
    subprocess.run(argv, cwd=machine.REPO, check=True)
    return folder_of("dist") / "remora"


def sizes(binary):
    """{function: bytes}."""
    rows = subprocess.run(["nm", "--print-size", binary], capture_output=True, text=True, check=True).stdout.splitlines()
    return {words[3]: int(words[1], 16) for words in map(str.split, rows) if len(words) == 4 and words[2] in "tTwW"}


def traced(folder, binary):
    """A program that is `binary`, but leaves a trace in `folder` when it runs as a sidecar."""
    wrapper = folder / "remora"
    wrapper.write_text('#!/bin/sh\n'
                       f'[ "$1" = run ] || exec "{binary}" "$@"\n'
                       f'exec "{sys.executable}" -m driver.trace "{folder}/$$.trace" "{binary}" "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def use(run):
    """What sidecars do all day."""
    def calls(path):
        path.answers(run)
        run.load("calls", path.target, path.protocol, connections=64, rate=1000, payload=1024, warmup=0.5, seconds=2)
        run.load("calls", path.target, path.protocol, connections=8, outstanding=32, payload=1024, warmup=0.5, seconds=1)

    for protocol in SERVICES:
        echo = Echo(run, protocol)
        memory.with_remora(run, echo, protocol, memory.SERVICES, calls)
        whole = Site(run, f"both-{protocol}", protocol)
        with whole:
            first, second = whole.remora("consumer", paths.CONSUMER_HOST), whole.remora("provider", paths.FAR_HOST)
            whole.provide_at(second, echo.host, echo.port)
            whole.follow_at(first)
            calls(paths.Path("remora-2", "both", 2, protocol, ("127.0.0.1", first.egress), [first, second], whole))
            for remora in (first, second):
                for page in ("/metrics", "/readyz", "/livez"):
                    remora.http(page)
        alone = Remora(run, f"alone-{protocol}", paths.BARE_HOST, Embedded, protocol)
        provider = alone.application()
        provider.provide(protocol, echo.host, echo.port)
        consumer = alone.follow()
        calls(paths.Path("remora-1", "alone", 1, protocol, ("127.0.0.1", alone.egress), [alone]))
        for session in (provider, consumer):
            session.close()
        run.stop(alone.proc)
        run.stop(echo.proc)


class Embedded:
    """The registry of a Remora that has no other."""

    url = "embedded"


def script(used, size):
    """Lines of the linker script."""
    bare = [DIGITS.sub("", name) for name in used]
    total, of_used = collections.Counter(), collections.Counter()
    for name, length in size.items():
        total[DIGITS.sub("", name)] += length
    for name, short in zip(used, bare):
        of_used[short] += size.get(name, 0)
    first, then = [], []
    for name, short in zip(used, bare):
        if short == name:
            first.append(LIBRARY.sub("Cs*_", name))  # of the standard library, or not of Rust
        elif of_used[short] >= MOST * total[short] or total[short] - of_used[short] <= FEW_BYTES:
            first.append(f"{short}17h*")
        else:
            # A suffix stands where the optimizer renamed it.
            first.append(f"{short}{DIGITS.search(name)[0][:20]}*")
            then.append(f"{short}17h*")
    return [f"    *(.text.{pattern} .text.unlikely.{pattern})\n" for pattern in dict.fromkeys(first + then)]


def check(size):
    """How much of the list is found in the binary."""
    here = collections.Counter()
    known = {False: {DIGITS.sub("", name) for name in size}, True: {DIGITS.sub(lambda end: end[0][:20], name) for name in size}}
    for pattern in re.findall(r"\*\(\.text\.(_ZN\S+)\*", ORDER.read_text()):
        has_digits = not pattern.endswith("17h")
        here[has_digits, pattern.removesuffix("17h") in known[has_digits]] += 1
    for has_digits, what in ((False, "without digits"), (True, "with digits")):
        found, gone = here[has_digits, True], here[has_digits, False]
        print(f"names {what}: {found} of {found + gone} are found")


def main():
    parser = argparse.ArgumentParser(prog="benches/order", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say how much of the present list is still found")
    parser.add_argument("--binary", type=pathlib.Path, metavar="FILE", help="of profile dist, with symbols; default: it is built")
    chosen = parser.parse_args()
    binary = (chosen.binary or build()).resolve()
    size = sizes(binary)
    if chosen.check:
        return check(size)
    machine.leave_proxies_alone()
    with tempfile.TemporaryDirectory(prefix="remora-order-") as name:
        folder = pathlib.Path(name)
        with Run(folder, folder_of("release"), traced(folder, binary)) as run:
            use(run)
        files = sorted(folder.glob("*.trace"), key=lambda file: int(file.stem))
        used = list(dict.fromkeys(row for file in files for row in file.read_text().split()))
    lines = script(used, size)
    ORDER.parent.mkdir(exist_ok=True)
    ORDER.write_text("".join([HEAD, *lines, TAIL]))
    print(f"{len(used)} functions of {sum(size.get(name, 0) for name in used) >> 10} KiB (of {sum(size.values()) >> 10}) in {len(lines)} lines: {ORDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
