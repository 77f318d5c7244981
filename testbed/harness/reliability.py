# SPDX-License-Identifier: Apache-2.0
"""Reliability experiments: faults under load, one command each, results in `testbed/reliability/ID.json` and `testbed/RELIABILITY.md`.

An experiment is a cell that gives a dict: `id`, `title`, `bar`, `runs` (a list of rows, see `rel_parts.Site.judged`), and
`problems`, a list of what did not hold. To add one: a module here with `cells(settings)` that gives (name, function of the
network) pairs, named in MODULES.
"""

import datetime
import fnmatch
import importlib
import json
import os
import re
import time

from .net import Network
from .parts import ROOT
from .procs import Failed
from .rel_parts import commit

# Modules with experiments; one line each.
MODULES = [
    "rel_crash",
    "rel_peers",
    "rel_many",
    "rel_rolling",
    "rel_upgrade",
    "rel_driver",
    "rel_outage",
    "rel_security",
    "rel_lifecycle",
    "rel_systemd",
    "rel_sofa_stop",
    "rel_way",
    "rel_way_many",
]
RESULTS = ROOT / "reliability"
PAGE = ROOT / "RELIABILITY.md"


def experiments(settings, patterns):
    found = []
    for name in MODULES:
        found += importlib.import_module(f".{name}", __package__).cells(settings)
    return [cell for cell in found if any(fnmatch.fnmatch(cell[0], p) or cell[0].split("/")[0] == p for p in patterns)]


def run(settings, patterns, record):
    """Runs them; the number that failed. With `record` results are kept."""
    cells = experiments(settings, patterns)
    failed = 0
    with Network() as network:
        if not network.isolated:
            print(f"not run: {len(cells)} experiments that need network namespaces ({network.why})")
            return 0
        for name, cell in cells:
            begin = time.time()
            try:
                result = cell(network)
                problems = result.pop("problems", [])
            except (Failed, OSError, EOFError) as error:
                result, problems = None, [str(error)]
            seconds = time.time() - begin
            for row in (result or {}).get("runs", []):
                print(f"      {told(row)}", flush=True)
            failed += bool(problems)
            print(f"{'FAIL' if problems else 'pass'}  {name}  {seconds:.1f} s  seed {settings.seed}  {'; '.join(problems)}", flush=True)
            if record and result:
                keep(name, settings, result, problems)
        settings.close()
    print(f"{len(cells) - failed} passed, {failed} failed", flush=True)
    return failed


def told(row):
    words = [f"{row.get('case', '')}: {row.get('calls', 0)} calls, failed {row.get('failed', {})}"]
    words += [f"{key} {row[key]}" for key in ("wrong", "duplicates", "recovery_ms", "rss_kib", "fds") if key in row]
    return ", ".join(words) + (f"; {row['note']}" if row.get("note") else "")


def keep(name, settings, result, problems):
    """One file for each experiment. Pieces of a long run that were made with one commit are kept together."""
    path, is_piece = RESULTS / f"{name.replace('/', '-')}.json", result.pop("is_piece", False)
    result.update(how=f"testbed/run --reliability {name}" + f" --seed {settings.seed}" + (f" --seconds {settings.seconds}" if settings.seconds else "") + (" --full" if settings.full else "") + (f" --rate {settings.rate}" if settings.rate else ""), seed=settings.seed,
                  commit=commit(), date=datetime.date.today().isoformat(), holds=not problems, problems=problems)
    before = json.loads(path.read_text()) if is_piece and path.exists() else {}
    if before.get("commit") == result["commit"]:
        result["runs"] = before["runs"] + result["runs"]
        result["problems"] = before["problems"] + problems
        result["holds"] = not result["problems"]
    RESULTS.mkdir(exist_ok=True)
    # Several runs may record at a time, and each reads all files for the page.
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)
    report()


def report():
    """Writes the page from the files."""
    # Parts of an experiment (E7-2.6) are told apart by the names of their files.
    results = [{**json.loads(path.read_text()), "name": path.stem} for path in sorted(RESULTS.glob("*.json"), key=_order)]
    PAGE.write_text(page(results))


def _order(path):
    letters, number = re.match(r"([A-Za-z]*)(\d*)", path.stem).groups()
    return letters, int(number or 0), path.stem


def page(results):
    rows = ["# Reliability", "",
            "What was done to Remora under load, and what came of it. Written by `testbed/run --reliability-report` from `reliability/*.json`;",
            "each file is written by the command in its section with `--record`. 2 cores shared with other work; real ZooKeeper 3.9.5; hosts",
            "are network namespaces. Retries of callers are off. Callers compare each answer byte for byte; providers note each call that",
            "they execute, so `wrong` and `twice` (a call that was executed twice) count what a proxy can break without being noticed.",
            "Failures: `no_connection` (nobody listens), `lost` (the connection broke with the call in flight), `timeout` (no answer in",
            "time), `proxy_error` (Remora said why it could not), `other_error`. How it is done: [README](README.md#reliability).", "",
            "| | experiment | bar | calls | failed | wrong | twice | holds |", "|---|---|---|---|---|---|---|---|"]
    for result in results:
        runs = result["runs"]
        total = lambda key: sum(row.get(key) or 0 for row in runs)
        failed = sum(sum((row.get("failed") or {}).values()) for row in runs)
        rows.append(f"| {result['name']} | {result['title']} | {result['bar']} | {total('calls'):,} | {failed:,} | {total('wrong')} | "
                    f"{total('duplicates')} | {'yes' if result['holds'] else '**no**'} |")
    for result in results:
        rows += ["", f"## {result['name']}: {result['title']}", "", f"`{result['how']}`; commit {result['commit']}, seed {result['seed']}, {result['date']}. "
                 f"Bar: {result['bar']}.", ""]
        rows += [f"{text}" for text in [result.get("text")] if text]
        rows += ["", "| case | calls | failed | recovery | RSS MiB | fds | |", "|---|---|---|---|---|---|---|"] if result.get("text") else \
            ["| case | calls | failed | recovery | RSS MiB | fds | |", "|---|---|---|---|---|---|---|"]
        for row in result["runs"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in (row.get("failed") or {}).items()) or "0"
            recovery = f"{row['recovery_ms'] / 1000:.1f} s" if row.get("recovery_ms") is not None else ""
            memory = " → ".join(f"{kib / 1024:.1f}" for kib in row.get("rss_kib", []))
            descriptors = " → ".join(str(count) for count in row.get("fds", []))
            rows.append(f"| {row.get('case', '')} | {row.get('calls', 0):,} | {kinds} | {recovery} | {memory} | {descriptors} | {row.get('note', '')} |")
        if result["problems"]:
            rows += ["", "Does not hold: " + "; ".join(result["problems"]) + "."]
    return "\n".join(rows) + "\n"


def names(settings):
    return [name for name, _ in experiments(settings, ["*"])]


# A seed that is not chosen is told, so that a run can be had again.
def fresh_seed():
    return int.from_bytes(os.urandom(3), "big")
