# SPDX-License-Identifier: Apache-2.0
"""E16 to E18: many connections, no descriptors left, clients that come and go."""

import resource
import time

from . import zk
from .parts import now_ms
from .procs import Failed
from .rel_parts import EGRESS, INGRESS, Site, failures

QUIET = 15


def many(settings, network, name):
    """E16: 10,000 connections at an ingress, each silent after a call, and the load on top."""
    with Site(settings, network, name) as site:
        callers = site.standard(hosts=("p1",))
        begun = now_ms()
        time.sleep(QUIET)
        before, quiet = site.sample("p1"), (begun, now_ms())
        to = f"{network.host('p1').address}:{INGRESS['dubbo']}"
        began = now_ms()
        crowds = [site.crowd("hold", "dubbo", to, host=host, connections=5000, calls=True, seconds=400, client=0xc0 + number)
                  for number, host in enumerate(("crowd1", "crowd2"))]
        opened = [crowd.event("open", 150) for crowd in crowds]
        came = now_ms()
        begun = now_ms()
        time.sleep(QUIET)
        full, loud = site.sample("p1"), (begun, now_ms())
        noise = ", ".join(f"{c.protocol} p99 {c.p99(*quiet)} → {c.p99(*loud)} ms" for c in callers)
        ratio = max(c.p99(*loud) / c.p99(*quiet) for c in callers)
        results = []
        for crowd in crowds:
            crowd.popen.terminate()
            results.append(crowd.event("result", 60))
        time.sleep(5)
        after = site.sample("p1")
        there = sum(o["connections"] for o in opened)
        each = (full["rss_kib"] - before["rss_kib"]) * 1024 / max(1, there)
        row = site.judged(f"{there} connections and the load", rss_kib=[before["rss_kib"], full["rss_kib"], after["rss_kib"]],
                          fds=[before["fds"], full["fds"], after["fds"]])
        row["note"] = f"{each / 1000:.1f} KB for each; they came in {(came - began) / 1000:.0f} s, with a call each; the load: {noise}"
        problems = []
        lost = sum(r["refused"] + r["failed"] + r["closed"] + r["wrong"] for r in results)
        if lost or there != 10000:
            problems.append(f"of the 10,000: {results}")
        if failures(row) or row["wrong"] or row["duplicates"]:
            problems.append(f"the load: {row['failed']}, {row['wrong']} wrong, {row['duplicates']} duplicates; {site.words}")
        if each > 20000:
            problems.append(f"{each / 1000:.1f} KB for each connection")
        if ratio > 1.5:
            problems.append(f"p99 of the load rose by {ratio:.1f}")
        if after["fds"] > before["fds"] + 8:
            problems.append(f"{after['fds'] - before['fds']} descriptors are left")
        return {"id": "E16", "title": "10,000 connections, and the load", "bar": "≤ 20 KB for each; 0 failed; p99 ≤ 1.5×", "runs": [row], "problems": problems}


def _limit(pid, limit):
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)


def exhausted(settings, network, name):
    """E17: 256 descriptors and 1,000 clients that want in: who is there does not notice."""
    runs, problems = [], []
    for side, speech, to in (("consumer", "dubbo", f"127.0.0.1:{EGRESS['dubbo']}"), ("p1", "dubbo", None), ("consumer", "zookeeper", "127.0.0.1:2181")):
        with Site(settings, network, f"{name}-{len(runs)}") as site:
            site.standard(hosts=("p1",))
            time.sleep(3)
            pid = site.remoras[side].proc.pid
            before = site.sample(side)
            _limit(pid, (256, 256))
            host = "consumer" if side == "consumer" else "crowd1"
            to = to or f"{network.host('p1').address}:{INGRESS['dubbo']}"
            crowd = site.crowd("hold", speech, to, host=host, connections=1000, seconds=100)
            time.sleep(12)
            full = site.sample(side) if site.remoras[side].proc.is_alive() else {"rss_kib": 0, "fds": 0}
            crowd.kill()
            released = now_ms()
            again = None
            while again is None and now_ms() < released + 20000:
                try:
                    _one_call(site, host, to) if speech == "dubbo" else zk.Client(network.host(host), "127.0.0.1", 2181, 1.0).__exit__()
                    again = now_ms() - released
                except (Failed, OSError, EOFError):
                    pass
            time.sleep(2)
            is_alive = site.remoras[side].proc.is_alive()
            after = site.sample(side) if is_alive else {"rss_kib": 0, "fds": 0}
            row = site.judged(f"{speech} port of the {'consumer' if side == 'consumer' else 'provider'}'s Remora",
                              rss_kib=[before["rss_kib"], full["rss_kib"], after["rss_kib"]], fds=[before["fds"], full["fds"], after["fds"]])
            row["recovery_ms"] = again
            row["note"] = f"{len(site.remoras[side].complaints())} warnings in its log" if is_alive else "it ended"
            runs.append(row)
            if not is_alive:
                problems.append(f"{row['case']}: the process ended")
            if failures(row) or row["wrong"] or row["duplicates"]:
                problems.append(f"{row['case']}: {row['failed']}, {row['wrong']} wrong, {row['duplicates']} duplicates; {site.words}")
            if again is None or again > 1500:
                problems.append(f"{row['case']}: accepted again after {again} ms")
    return {"id": "E17", "title": "no descriptors left (limit 256, 1,000 clients come)", "bar": "no exit; calls of those that are there: 0 failed; accepts again within 1 s",
            "runs": runs, "problems": problems}


def _one_call(site, host, to):
    """A call by a client that has just come; raises when it fails."""
    crowd = site.crowd("hold", "dubbo", to, host=host, connections=1, calls=True, seconds=0.1)
    result = crowd.event("result", 10)
    if result["refused"] or result["failed"] or not result["open"]:
        raise Failed("not served")


def churn(settings, network, name):
    """E18: 500 clients a second come and go in many ways, at the egress and at an ingress; memory and descriptors do not grow."""
    seconds = settings.seconds or 360
    with Site(settings, network, name) as site:
        site.standard(hosts=("p1",), rate=200)
        time.sleep(3)
        before = {side: site.sample(side) for side in ("consumer", "p1")}
        gauges = _gauges(site)
        crowds = [site.crowd("churn", "dubbo", f"127.0.0.1:{EGRESS['dubbo']}", connections=400, rate=200, seconds=seconds, client=0xa0),
                  site.crowd("churn", "bolt", f"127.0.0.1:{EGRESS['bolt']}", connections=400, rate=50, seconds=seconds, client=0xa1),
                  site.crowd("churn", "dubbo", f"{network.host('p1').address}:{INGRESS['dubbo']}", host="crowd1", connections=400, rate=250, seconds=seconds, client=0xa2)]
        begun, curve = now_ms(), {"consumer": [], "p1": []}
        while now_ms() < begun + seconds * 1000:
            for side, points in curve.items():
                points.append(((now_ms() - begun) / 1000, site.sample(side)["rss_kib"]))
            time.sleep(1)
        results = [crowd.event("result", 60) for crowd in crowds]
        time.sleep(8)
        after = {side: site.sample(side) for side in ("consumer", "p1")}
        left = {side: {k: (gauges[side].get(k, 0), v) for k, v in now.items() if v > gauges[side].get(k, 0) + 2} for side, now in _gauges(site).items()}
        rows, problems = [], []
        ends, each = {}, {"consumer": results[0]["connections"] + results[1]["connections"], "p1": results[2]["connections"]}
        for result in results:
            for end, count in result["ends"].items():
                ends[end] = ends.get(end, 0) + count
        load = site.judged("the load meanwhile", note=f"the clients: {sum(r['connections'] for r in results):,} came, {ends}")
        for side, points in curve.items():
            slope = _slope([p for p in points if p[0] > seconds / 3])
            per = slope * seconds / max(1, each[side]) * 100000
            rows.append({"case": f"the {'consumer' if side == 'consumer' else 'provider'}'s Remora", "calls": 0, "failed": {}, "rss_kib": [before[side]["rss_kib"], after[side]["rss_kib"]],
                         "fds": [before[side]["fds"], after[side]["fds"]], "note": f"{each[side]:,} connections in {seconds} s; slope of the last two thirds "
                         f"{per / 1024:+.2f} MiB for 100,000 connections" + (f"; gauges that rose: {left[side]}" if left[side] else "")})
            if per > 1024:
                problems.append(f"{side}: {per / 1024:.2f} MiB for 100,000 connections")
            if after[side]["fds"] > before[side]["fds"] + 8:
                problems.append(f"{side}: {after[side]['fds'] - before[side]['fds']} descriptors are left")
            if left[side]:
                problems.append(f"{side}: gauges that rose: {left[side]}")
        if failures(load) or load["wrong"] or load["duplicates"] or ends.get("failed") or ends.get("wrong_answer"):
            problems.append(f"calls: {load['failed']}, {load['wrong']} wrong; {ends}; {site.words}")
        return {"id": "E18", "title": "500 clients a second come and go", "bar": "≤ 1 MiB for 100,000 connections, no gauge or descriptor left, 0 failed",
                "runs": [load, *rows], "problems": problems}


def _slope(points):
    """KiB a second, by least squares."""
    if len(points) < 3:
        return 0.0
    mean_x, mean_y = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def _gauges(site):
    """Gauges of things that are held, by Remora: connections, streams, sessions, watches."""
    found = {}
    for side in ("consumer", "p1"):
        rows = site.remoras[side].http("/metrics").splitlines()
        held = {row.split()[2] for row in rows if row.startswith("# TYPE") and row.endswith(" gauge")}
        found[side] = {}
        for row in rows:
            if row and not row.startswith("#") and row.split("{")[0].split()[0] in held and "bytes" not in row and "seconds" not in row:
                key, value = row.rsplit(" ", 1)
                try:
                    found[side][key] = float(value)
                except ValueError:
                    pass
    return found


def cells(settings):
    def cell(name, function):
        return name, lambda network: function(settings, network, name)

    return [cell("E16", many), cell("E17", exhausted), cell("E18", churn)]
