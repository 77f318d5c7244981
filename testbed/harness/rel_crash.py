# SPDX-License-Identifier: Apache-2.0
"""E1 to E4: crashes. A Remora or a provider is killed under load (SIGKILL)."""

import time

from .cells_faults import Load
from .parts import now_ms
from .procs import wait_for
from .rel_parts import Site, failures, last_failure
from .world import World

SPACING = 9
RESTART_AFTER = 1.0


def remora_killed(settings, network, name, side, ident, times):
    """The Remora of a host is killed and started again 1 s later, some times in a row."""
    with Site(settings, network, name) as site:
        callers = site.standard()
        time.sleep(3)
        before, owners = site.sample(side), site.owners()
        removed, kills, recoveries, gaps = set(), [], [], []
        for _ in range(times):
            killed = now_ms()
            site.remoras[side].kill()
            time.sleep(RESTART_AFTER)
            site.remoras[side].start()
            kills.append((killed, now_ms()))
            until = time.time() + SPACING
            while time.time() < until:
                removed |= {path for path in owners if path not in site.owners()}
                time.sleep(0.3)
        after = site.sample(side)
        sessions = {caller.protocol: caller.sessions() for caller in callers}
        changed = [path for path, owner in site.owners().items() if owners.get(path) != owner]
        row = site.judged(f"oracle, {times} kills of the {side}'s", rss_kib=[before["rss_kib"], after["rss_kib"]], fds=[before["fds"], after["fds"]])
        for killed, restarted in kills:
            last = last_failure(site.ranges, killed, restarted + SPACING * 1000)
            gaps.append(max(0, last - killed))
            recoveries.append(max(0, last - restarted))
        row["recovery_ms"] = max(recoveries)
        row["note"] = (f"calls failed for {min(gaps) / 1000:.2f} to {max(gaps) / 1000:.2f} s after a kill; Remora was ready again after "
                       f"{max(r - k for k, r in kills) / 1000:.1f} s at most; {len(changed) + len(removed)} registry nodes changed; "
                       f"{failures(row) / times:.0f} failures a kill")
        problems = []
        if max(recoveries) > 3000:
            problems.append(f"a recovery took {max(recoveries)} ms after the restart")
        if row["wrong"] or row["duplicates"]:
            problems.append(f"{row['wrong']} wrong answers, {row['duplicates']} calls executed twice")
        if changed or removed:
            problems.append(f"{len(changed) + len(removed)} registry nodes changed, as {(changed + sorted(removed))[0][:120]}")
        if side == "consumer" and any(len(ids) != 1 for ids in sessions.values()):
            problems.append(f"sessions were not resumed: {sessions}")
        if side == "p1":
            # In flight on that Remora: at most one for each connection, dubbo and bolt.
            if max(gaps) > 1000:
                problems.append(f"the other provider took over after {max(gaps)} ms")
            if failures(row) > times * 10:
                problems.append(f"{failures(row)} calls failed, more than were in flight")
        return {"id": ident, "runs": [row], "problems": problems}


def with_applications(settings, network, name, side, line):
    """The same once, with a real consumer and providers."""
    with World(settings, network, name, session_ms=10000) as world:
        world.provider(line)
        if side == "provider":
            world.provider(line, host="provider2", name="p2")
        load = Load(world, line)
        before = world.owners()
        killed = now_ms()
        world.remoras[side].kill()
        time.sleep(RESTART_AFTER)
        world.remoras[side].start()
        restarted = now_ms()
        time.sleep(14)
        after = world.owners()
        report = load.end()
        last = max((r["last_ms"] for r in report["ranges"]), default=killed)
        lost = [path for path in before if "/services/" not in path and after.get(path) != before[path]]
        kinds = {}
        for r in report["ranges"]:
            kinds[r["error"].split(":")[0].split(".")[-1][:40]] = kinds.get(r["error"].split(":")[0].split(".")[-1][:40], 0) + r["failed"]
        row = {"case": f"real Dubbo {line}, one kill of the {side}'s", "calls": report["calls"], "failed": kinds, "recovery_ms": max(0, last - restarted),
               "note": f"calls failed until {(last - killed) / 1000:.1f} s after the kill; {len(lost)} registry nodes changed"}
        problems = []
        if last > restarted + 3000:
            problems.append(f"{line}: no recovery within 3 s of the restart")
        if lost:
            problems.append(f"{line}: registry nodes changed: {lost[0][:120]}")
        return row, problems


def killed_experiment(settings, network, name, side, ident):
    times = 20 if settings.full else 5
    result = remora_killed(settings, network, name, "consumer" if side == "consumer" else "p1", ident, times)
    for line in settings.lines:
        row, problems = with_applications(settings, network, f"{name}-{line}", side, line)
        result["runs"].append(row)
        result["problems"] += problems
    if side == "consumer":
        result.update(title="the consumer's Remora is killed and back after 1 s",
                      bar="failures only in flight or while it is down; recovery within 3 s; session resumed")
    else:
        result.update(title="a provider's Remora is killed and back after 1 s, another provider is up",
                      bar="failures only in flight; the other one takes over within 1 s; no registry change")
    return result


def dead_for_good(settings, network, name):
    """E3: a provider's Remora is killed and stays away."""
    with Site(settings, network, name) as site:
        site.standard()
        time.sleep(3)
        before = site.sample("consumer")
        killed = now_ms()
        site.remoras["p1"].kill()
        wait_for("its entries are gone", site.session_ms / 1000 + 6, lambda: not site.published("p1"), 0.1)
        gone = now_ms()
        time.sleep(3)
        after = site.sample("consumer")
        row = site.judged("oracle", rss_kib=[before["rss_kib"], after["rss_kib"]], fds=[before["fds"], after["fds"]])
        last = last_failure(site.ranges, killed)
        row["recovery_ms"] = last - killed
        row["note"] = f"gone from the registry after {(gone - killed) / 1000:.1f} s, session timeout {site.session_ms / 1000:.0f} s"
        problems = _counted(row)
        if gone - killed > site.session_ms + 2000:
            problems.append(f"the entries stayed for {gone - killed} ms")
        if last - killed > 1000:
            problems.append(f"calls failed until {last - killed} ms after the kill")
        return {"id": "E3", "title": "a provider's Remora is killed for good", "bar": "entry gone within session timeout + 2 s; consumers leave it within 1 s",
                "runs": [row], "problems": problems}


def application_killed(settings, network, name):
    """E4: one of two provider applications is killed, its Remora lives."""
    with Site(settings, network, name) as site:
        for host in ("p1", "p2"):
            for protocol in ("dubbo", "bolt"):
                site.provide(protocol, host)
        for protocol in ("dubbo", "bolt"):
            site.call(protocol)
        time.sleep(3)
        before = site.sample("p1")
        killed = now_ms()
        for proc in site.providers[:2]:
            proc.kill()
        wait_for("its entries are gone", site.session_ms / 1000 + 6, lambda: not site.published("p1"), 0.1)
        gone = now_ms()
        time.sleep(3)
        after = site.sample("p1")
        row = site.judged("oracle", rss_kib=[before["rss_kib"], after["rss_kib"]], fds=[before["fds"], after["fds"]])
        last = last_failure(site.ranges, killed)
        row["recovery_ms"] = last - killed
        row["note"] = f"gone from the registry after {(gone - killed) / 1000:.1f} s, session timeout {site.session_ms / 1000:.0f} s"
        problems = _counted(row)
        if gone - killed > site.session_ms + 2000:
            problems.append(f"the entries stayed for {gone - killed} ms")
        if failures(row) > 10 + 10:
            problems.append(f"{failures(row)} calls failed, more than in flight; {site.words}")
        return {"id": "E4", "title": "a provider application is killed, its Remora lives", "bar": "de-listed within the application's session timeout; failures only in flight",
                "runs": [row], "problems": problems}


def _counted(row):
    if row["wrong"] or row["duplicates"]:
        return [f"{row['wrong']} wrong answers, {row['duplicates']} calls executed twice"]
    return []


def cells(settings):
    def cell(name, function, *args):
        return name, lambda network: function(settings, network, name, *args)

    return [
        cell("E1", killed_experiment, "consumer", "E1"),
        cell("E2", killed_experiment, "provider", "E2"),
        cell("E3", dead_for_good),
        cell("E4", application_killed),
    ]


