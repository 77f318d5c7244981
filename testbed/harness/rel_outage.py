# SPDX-License-Identifier: Apache-2.0
"""E6 to E9, E13 to E15, E24, E26: the registry away, emptied, flapping, without a leader; nodes and lists that vanish.

Calls under an oracle where the bar is a number of calls; real applications (`cells_outage`) for what only they can show.
"""

import shutil
import time

from . import cells_outage
from .parts import now_ms
from .procs import Failed, wait_for
from .rel_parts import Site, failures

BARS = {
    "E6": ("the registry is down for 60 s", "0 failed of >= 100,000; new applications start and call within 5 s; also beside a Remora restarted meanwhile"),
    "E7": ("the registry comes back without its data", "0 failed of >= 100,000; all live providers back within 10 s; nobody locked out"),
    "E8": ("the registry flaps, 1 s on and off", "0 failed; no node made anew"),
    "E9": ("the leader of three is killed again and again", "0 failed; sessions and nodes kept"),
    "E13": ("a Remora is frozen for longer than the session", "the provider is back within 5 s; no fake resume"),
    "E14": ("nodes owned by dying sessions", "all of 200 stand in the end, with their new owner"),
    "E15": ("nodes deleted by hand", "1,000 of 1,000 restored, each within 5 s; 0 failed"),
    "E25": ("the last known lists are damaged", "no panic; the state before or none is used; never another registry's"),
    "E24": ("disk full or read-only for the last known lists", "0 failed; the last good file untouched; an alert; kept again afterwards"),
    "E26": ("lists emptied by hand, then a true end of most", "0 failed while the providers live; the true end honoured within the probe's time"),
}


def answer(ident, rows, problems, is_short=False):
    title, bar = BARS[ident]
    if is_short:
        bar = bar.replace("0 failed of >= 100,000", "0 failed of few (of >= 100,000: --full, and under the oracle)")
    return {"id": ident, "title": title, "bar": bar, "runs": rows, "problems": problems}


def oracle(settings, network, name, seconds, wipes):
    """Calls under the oracle while ZooKeeper is down, and empty afterwards when `wipes`."""
    with Site(settings, network, name) as site:
        site.standard()
        time.sleep(3)
        before, address = site.sample("consumer"), {host: network.host(host).address for host in ("p1", "p2")}
        published = {host: len(site.published(host)) for host in address}
        stopped = now_ms()
        site.keeper.stop()
        if wipes:
            shutil.rmtree(site.keeper.data / "version-2")
        time.sleep(seconds)
        site.keeper.start()
        begin, problems = time.time(), []
        try:
            wait_for("all providers are published again", 40, lambda: {h: len(site.published(h)) for h in address} == published, 0.1)
        except Failed as error:
            problems.append(str(error))
        back = time.time() - begin
        # Sessions of before run out meanwhile.
        time.sleep(15 if wipes else 40)
        left = {h: len(site.published(h)) for h in address}
        if left != published:
            problems.append(f"published before {published}, in the end {left}")
        after = site.sample("consumer")
        row = site.judged("oracle, 2 providers each of dubbo and bolt", rss_kib=[before["rss_kib"], after["rss_kib"]], fds=[before["fds"], after["fds"]])
        row["recovery_ms"] = int(back * 1000)
        row["note"] = f"down for {seconds} s; all providers stood {back:.1f} s after the registry answered"
        if failures(row) or row["wrong"] or row["duplicates"]:
            problems.append(f"{failures(row)} failed, {row['wrong']} wrong, {row['duplicates']} executed twice; {[(r['first_ms'] - stopped) / 1000 for r in site.ranges][:3]} s after the stop")
        if row["calls"] < 100_000:
            problems.append(f"only {row['calls']} calls were made")
        if wipes and back > 10:
            problems.append(f"all providers were back after {back:.1f} s")
        return row, problems


def with_applications(settings, network, ident, names):
    """The cells of an experiment with real applications."""
    rows, problems = [], []
    for number, name, cell in cells_outage.experiments(settings):
        if number != ident or (names and not any(n in name for n in names)):
            continue
        try:
            run = cell(network)
            rows.append({**run.figures, "note": "; ".join(run.notes).replace("org.apache.dubbo.rpc.", "")[:400]})
        except (Failed, OSError, EOFError) as error:
            rows.append({"case": name, "calls": 0, "failed": {}, "note": "did not hold"})
            problems.append(f"{name}: {error}")
    return rows, problems


def cells(settings):
    """(name, function of a network) of all experiments here; `E6/2.7` is the part with one line of applications."""
    found = []

    def add(name, ident, names=(), seconds=0, wipes=False):
        def cell(network):
            rows, problems = with_applications(settings, network, ident, names) if names is not None else ([], [])
            if seconds:
                row, more = oracle(settings, network, name.replace("/", "-"), seconds, wipes)
                rows, problems = [row] + rows, more + problems
            return answer(ident, rows, problems, is_short=not settings.full and not seconds)
        found.append((name, cell))

    add("E6", "E6", seconds=60)
    add("E7", "E7", seconds=45, wipes=True)
    for ident in ("E8", "E9", "E13", "E14", "E15", "E24", "E25", "E26"):
        add(ident, ident)
    add("E6-oracle", "E6", names=None, seconds=60)
    add("E7-oracle", "E7", names=None, seconds=45, wipes=True)
    for ident in ("E6", "E7", "E8", "E9", "E13", "E15", "E24", "E26"):
        for line in ("2.6", "2.7", "3.1", "3.3", "s5.13", "sofaregistry", "application", "disk-full", "read-only"):
            if any(number == ident and line in name for number, name, _ in cells_outage.experiments(settings)):
                add(f"{ident}-{line}", ident, names=(line,))
    return found
