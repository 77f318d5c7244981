# SPDX-License-Identifier: Apache-2.0
"""E10 to E12: slow readers, half-open peers, clients that send a byte now and then; others must not notice."""

import time

from .parts import now_ms
from .procs import wait_for
from .rel_parts import EGRESS, INGRESS, Relay, Site, failures, last_failure

QUIET = 15
# Times of the heartbeats at which a dead peer is found within 10 s; the defaults are 15 s, 5 s, 3.
QUICK = {"call": {"heartbeat_interval": "3s", "heartbeat_timeout": "3s", "heartbeat_misses": 1}}


def _noise(callers, quiet, loud):
    """The 99th percentile of the others before and meanwhile, in words."""
    return ", ".join(f"{c.protocol} p50 {c.quantile('p50', *quiet)} → {c.quantile('p50', *loud)}, p99 {c.p99(*quiet)} → {c.p99(*loud)} ms" for c in callers)


def slow_readers(settings, network, name):
    """E10: clients that call as fast as they may and read 1 KB/s, on the same upstream connections as the others."""
    with Site(settings, network, name) as site:
        callers = site.standard(errors_every=0)
        begun = now_ms()
        time.sleep(QUIET)
        before, quiet = site.sample("consumer"), (begun, now_ms())
        crowds = [site.crowd("slow", speech, f"127.0.0.1:{EGRESS[speech]}", connections=4, rate=1024, seconds=120, client=0xc00 + number * 16)
                  for number, speech in enumerate(("dubbo", "bolt"))]
        begun = now_ms()
        peak, peers_peak = 0, 0
        while now_ms() < begun + 40000:
            peak = max(peak, site.sample("consumer")["rss_kib"])
            peers_peak = max(peers_peak, site.sample("p1")["rss_kib"], site.sample("p2")["rss_kib"])
            time.sleep(0.5)
        loud = (begun + 2000, now_ms())
        results = []
        for crowd in crowds:
            crowd.popen.terminate()
            results.append(crowd.event("result", 20))
        time.sleep(4)
        after = site.sample("consumer")
        noise, problems = _noise(callers, quiet, loud), []
        ratio = max(c.p99(*loud) / c.p99(*quiet) for c in callers)
        row = site.judged("8 clients that read 1 KB/s", rss_kib=[before["rss_kib"], peak, after["rss_kib"]], fds=[before["fds"], after["fds"]])
        closed = sum(r["closed"] for r in results)
        times = [r["closed_after_ms"]["last"] for r in results if r["closed"]]
        row["note"] = (f"the others: {noise}; the slow ones sent {sum(r['sent'] for r in results)} calls of 30 KB, {closed} of 8 were closed"
                       + (f" after {max(times) / 1000:.0f} s at most" if times else "") + f"; the middle RSS is the peak, the providers' {peers_peak / 1024:.0f} MiB")
        if failures(row):
            problems.append(f"calls of the others failed: {row['failed']} {site.words}")
        if row["wrong"] or row["duplicates"]:
            problems.append("wrong answers or duplicates")
        if ratio > 1.5:
            problems.append(f"p99 of the others rose by {ratio:.1f}")
        if peak > 400 << 10:
            problems.append(f"RSS rose to {peak >> 10} MiB")
        return {"id": "E10", "title": "slow readers beside others", "bar": "0 failed of the others, their p99 ≤ 1.5×, RSS bounded, the slow ones held back",
                "runs": [row], "problems": problems}


def half_open(settings, network, name):
    """E11: 1,000 clients cut off without a goodbye, and a provider's host that vanishes."""
    runs, problems = [], []
    for case, extra, limit in (("default heartbeats", {}, 65), ("heartbeats of 3 s", QUICK, 12)):
        row, wrong = _silent_clients(settings, network, f"{name}-{len(runs)}", case, extra, limit)
        runs.append(row)
        problems += wrong
    row, wrong = _vanished_host(settings, network, f"{name}-host")
    return {"id": "E11", "title": "half-open peers", "bar": "found within 10 s with heartbeats of 3 s, descriptors back; 0 wrong",
            "runs": [*runs, row], "problems": problems + wrong}


def _silent_clients(settings, network, name, case, extra, limit):
    with Site(settings, network, name) as site:
        site.extra["p1"] = extra
        callers = site.standard(hosts=("p1", "p2"))
        p1 = network.host("p1").address
        wire = network.host("wire").address
        relay = Relay(site, "wire", {"p1": (f"{wire}:{INGRESS['dubbo']}", f"{p1}:{INGRESS['dubbo']}")})
        time.sleep(2)
        before = site.sample("p1")
        crowd = site.crowd("hold", "dubbo", f"{wire}:{INGRESS['dubbo']}", connections=1000, calls=True, seconds=200)
        opened = crowd.event("open", 60)
        open_fds = site.sample("p1")["fds"]
        relay.tell("p1 hold")
        cut = now_ms()
        try:
            wait_for("descriptors are back", limit, lambda: site.sample("p1")["fds"] <= before["fds"] + 5, 0.25)
            found = now_ms() - cut
        except Exception:  # noqa: BLE001 what was found is told below
            found = None
        crowd.kill()
        after = site.sample("p1")
        row = site.judged(f"1,000 clients cut off, {case}", rss_kib=[before["rss_kib"], after["rss_kib"]], fds=[before["fds"], open_fds, after["fds"]])
        row["recovery_ms"] = found
        row["note"] = f"{opened['connections']} were open; load of the others {row['calls']} calls; p99 {callers[0].p99(cut, now_ms())} ms"
        problems = []
        if found is None:
            problems.append(f"{case}: {after['fds'] - before['fds']} descriptors are left {limit} s after the cut")
        if failures(row) or row["wrong"] or row["duplicates"]:
            problems.append(f"{case}: {row['failed']}, {row['wrong']} wrong, {row['duplicates']} duplicates; {site.words}")
        return row, problems


def _vanished_host(settings, network, name):
    """The plug of a provider's host is pulled: no reset, no goodbye, packets go nowhere; 20 s later it is back."""
    with Site(settings, network, name) as site:
        site.standard()
        time.sleep(3)
        before = site.sample("consumer")
        pulled = now_ms()
        site.link("p1", "down")
        time.sleep(20)
        site.link("p1", "up")
        back = now_ms()
        time.sleep(8)
        after = site.sample("consumer")
        row = site.judged("the host of one of two providers vanishes for 20 s", rss_kib=[before["rss_kib"], after["rss_kib"]], fds=[before["fds"], after["fds"]])
        last = last_failure(site.ranges, pulled, back)
        row["recovery_ms"] = last - pulled
        row["note"] = f"calls failed until {(last - pulled) / 1000:.1f} s after the plug was pulled; session timeout {site.session_ms / 1000:.0f} s"
        problems = []
        if row["wrong"] or row["duplicates"]:
            problems.append(f"vanished host: {row['wrong']} wrong, {row['duplicates']} duplicates")
        if last - pulled > site.session_ms + 3000:
            problems.append(f"vanished host: calls failed for {last - pulled} ms")
        return row, problems


def drip(settings, network, name):
    """E12: 2,100 clients that send a byte each 5 s, at the ports of dubbo, bolt and the doors."""
    with Site(settings, network, name) as site:
        callers = site.standard()
        begun = now_ms()
        time.sleep(QUIET)
        before, quiet = site.sample("consumer"), (begun, now_ms())
        doors = {"dubbo": ("dubbo", EGRESS["dubbo"]), "bolt": ("bolt", EGRESS["bolt"]), "ZooKeeper": ("zookeeper", 2181), "admin": ("http", 15020),
                 "mesh": ("http", 13330), "SOFARegistry": ("bolt", 9600)}
        seconds = settings.seconds or 60
        begun = now_ms()
        crowds = {door: site.crowd("drip", speech, f"127.0.0.1:{port}", connections=350, interval_ms=5000, seconds=seconds) for door, (speech, port) in doors.items()}
        peak = before
        while now_ms() < begun + seconds * 1000:
            now = site.sample("consumer")
            peak = max(peak, now, key=lambda s: s["rss_kib"])
            time.sleep(1)
        results = {door: crowd.event("result", 30) for door, crowd in crowds.items()}
        noise = _noise(callers, quiet, (begun + 2000, now_ms()))
        time.sleep(4)
        after = site.sample("consumer")
        row = site.judged("2,100 clients, a byte each 5 s", rss_kib=[before["rss_kib"], peak["rss_kib"], after["rss_kib"]],
                          fds=[before["fds"], peak["fds"], after["fds"]])
        words = [f"{door}: {r['closed']} closed" + (f" after {r['closed_after_ms']['first'] / 1000:.0f} to {r['closed_after_ms']['last'] / 1000:.0f} s" if r["closed"] else "")
                 + (f", {r['refused']} refused" if r["refused"] else "") + (f", {r['still_open']} still open" if r["still_open"] else "") for door, r in results.items()]
        row["note"] = f"{'; '.join(words)}; the others: {noise}"
        problems = [f"{door}: {r['still_open']} of 350 were still open after {seconds} s" for door, r in results.items() if r["still_open"]]
        if failures(row) or row["wrong"] or row["duplicates"]:
            problems.append(f"the others: {row['failed']}, {row['wrong']} wrong, {row['duplicates']} duplicates; {site.words}")
        if after["fds"] > before["fds"] + 8:
            problems.append(f"{after['fds'] - before['fds']} descriptors are left")
        return {"id": "E12", "title": "2,100 clients that send a byte now and then", "bar": "0 failed of the others; each closed in time; memory bounded",
                "runs": [row], "problems": problems}


def cells(settings):
    def cell(name, function):
        return name, lambda network: function(settings, network, name)

    return [cell("E10", slow_readers), cell("E11", half_open), cell("E12", drip)]


