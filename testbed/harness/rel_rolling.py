# SPDX-License-Identifier: Apache-2.0
"""E21: everything is restarted, one after the other, under load."""

import time

from .parts import now_ms
from .procs import wait_for
from .rel_parts import Site, failures

PROVIDERS = ("p1", "p2", "p3")
CONSUMERS = ("consumer", "consumer2", "consumer3")


def rolling(settings, network, name):
    """Of three providers each application and each Remora ends in order and comes back; the consumers' Remoras are upgraded in place."""
    with Site(settings, network, name) as site:
        for host in PROVIDERS:
            for protocol in ("dubbo", "bolt"):
                site.provide(protocol, host)
        for host in CONSUMERS:
            site.call("dubbo", host=host, rate=1200)
            site.call("bolt", host=host, rate=300)
        time.sleep(2)
        before = site.sample("consumer")
        steps, problems = [], []
        providers = {host: site.providers[at * 2:at * 2 + 2] for at, host in enumerate(PROVIDERS)}
        until = now_ms() + (settings.seconds or 120) * 1000
        rounds = 0
        while rounds == 0 or now_ms() < until:
            rounds += 1
            for host in PROVIDERS:
                _restart_provider(site, host, providers, steps)
            for host in CONSUMERS:
                problem = _upgrade(site, host, steps)
                if problem:
                    problems.append(problem)
            if problems:
                break
        time.sleep(2)
        after = site.sample("consumer")
        row = site.judged(f"{rounds} rounds of 3 providers, 3 of their Remoras, 3 consumers' Remoras", rss_kib=[before["rss_kib"], after["rss_kib"]],
                          fds=[before["fds"], after["fds"]])
        near = _near(site.ranges, steps)
        row["note"] = f"{len(steps)} restarts" + (f"; calls failed at: {near}" if near else "")
        if failures(row) or row["wrong"] or row["duplicates"]:
            problems.append(f"{row['failed']}, {row['wrong']} wrong, {row['duplicates']} duplicates at {near}; {site.words}")
        return {"id": "E21", "title": "rolling restart of everything", "bar": "0 failed", "runs": [row], "problems": problems}


def _restart_provider(site, host, providers, steps):
    """The applications say goodbye and end, then their Remora; both come back."""
    steps.append((now_ms(), f"{host}: applications end"))
    for proc in providers[host]:
        proc.popen.terminate()
    for proc in providers[host]:
        proc.wait(20)
    steps.append((now_ms(), f"{host}: Remora ends"))
    site.remoras[host].stop()
    site.remoras[host].start()
    steps.append((now_ms(), f"{host}: applications start"))
    providers[host] = [site.provide(protocol, host) for protocol in ("dubbo", "bolt")]
    wait_for(f"{host} is published again", 15, lambda: len(site.published(host)) == 2)
    time.sleep(1)


def _upgrade(site, host, steps):
    """`remora upgrade` without arguments; what went wrong, if anything."""
    steps.append((now_ms(), f"{host}: upgrade"))
    words, code = site.remoras[host].command("upgrade")
    time.sleep(1)
    return f"{host}: upgrade ended with {code}: {words[-200:]}" if code else None


def _near(ranges, steps):
    """The step during which calls failed, for each range of failures."""
    found = {}
    for r in ranges:
        at = [what for ms, what in steps if ms <= r["first_ms"]]
        found[at[-1] if at else "before"] = found.get(at[-1] if at else "before", 0) + r["failed"]
    return found


def cells(settings):
    return [("E21", lambda network: rolling(settings, network, "E21"))]
