# SPDX-License-Identifier: Apache-2.0
"""Large catalogs: what a followed service and an instance cost in memory, and what changes in the lists cost beside calls."""

import itertools
import random
import statistics
import threading
import time

from harness.procs import wait_for

from .paths import BARE_HOST, Path
from .proc import cpu_seconds, rss_kib
from .remora import SERVICES, Session, Site, provider_node

CALLS = {"connections": 16, "rate": 1000, "payload": 128}
FLIP_EVERY = 0.01
# So that no session's end is a transaction of 200,000 deletions.
PER_SESSION = 50_000


def name(number):
    return f"bench.catalog.Service{number}"


def address(number):
    """Addresses set aside for tests, which lead nowhere."""
    return f"198.{18 + number // 65536 % 2}.{number // 256 % 256}.{number % 256}"


class Flips(threading.Thread):
    """Replaces one instance of a random service each 10 ms: the new one comes, the old one goes."""

    def __init__(self, session, protocol, services, instances, current, numbers):
        super().__init__(daemon=True)
        self.session, self.protocol, self.services, self.instances = session, protocol, services, instances
        # What stands in the place of a service's first instance by now, and numbers that were not used yet.
        self.current, self.numbers = current, numbers
        self.count, self.behind, self._ended = 0, 0.0, threading.Event()

    def run(self):
        chosen, begun = random.Random(1), time.monotonic()
        while not self._ended.is_set():
            service = chosen.randrange(self.services)
            old = self.current.get(service, (address(service * self.instances), 20880))
            new = self.current[service] = address(next(self.numbers)), 20881
            self.session.many([("create", provider_node(self.protocol, *new, name(service))),
                               ("delete", provider_node(self.protocol, *old, name(service)))])
            self.count += 1
            ahead = begun + self.count * FLIP_EVERY - time.monotonic()
            self.behind = max(self.behind, -ahead)
            if ahead > 0:
                time.sleep(ahead)

    def end(self):
        self._ended.set()
        self.join(10)


def measure(run, echo, protocol, services, instances, seconds, rounds):
    """Figures of one Remora whose application follows `services` services with `instances` instances each."""
    root = SERVICES[protocol][0]
    with Site(run, f"catalog-{protocol}", protocol) as site:
        remora = site.remora("consumer", BARE_HOST)
        site.provide_bare(echo.host, echo.port)
        site.follow_at(remora)
        path = Path("remora-1", "Remora, egress", 1, protocol, ("127.0.0.1", remora.egress), [remora])
        path.answers(run)
        application = site.sessions[-1]
        pid = remora.proc.pid
        first_kib = rss_kib(pid)

        folders = [f"{root}/{name(number)}/providers" for number in range(services)]
        maker = Session(site.registry.port)
        site.sessions.append(maker)
        maker.many([("create_kept", folder.rsplit("/", 1)[0]) for folder in folders] + [("create_kept", folder) for folder in folders])

        def register(which):
            nodes = [provider_node(protocol, address(service * instances + number), 20880, name(service))
                     for service in range(services) for number in which]
            for start in range(0, len(nodes), PER_SESSION):
                session = maker if start == 0 else Session(site.registry.port)
                if session is not maker:
                    site.sessions.append(session)
                session.many([("create", node) for node in nodes[start:start + PER_SESSION]])

        def settled(what):
            """Memory, once the CPU of Remora has come to rest."""
            def rests():
                before = cpu_seconds(pid)
                time.sleep(1.0)
                return cpu_seconds(pid) - before < 0.02
            wait_for(what, 300, rests)
            return rss_kib(pid)

        begun = time.monotonic()
        register(range(1))
        application.many([("children", folder) for folder in folders])
        one_kib = settled("every service is known")
        register(range(1, instances))
        all_kib = settled("every instance is known")
        took = time.monotonic() - begun

        session = Session(site.registry.port)
        site.sessions.append(session)
        rows, current, numbers = [], {}, itertools.count(1)
        for _ in range(rounds):
            alone = run.calls(path, warmup=0.5, seconds=seconds, **CALLS)
            flips = Flips(session, protocol, services, instances, current, numbers)
            cpu = cpu_seconds(pid)
            started = time.monotonic()
            flips.start()
            beside = run.calls(path, warmup=0.5, seconds=seconds, **CALLS)
            flips.end()
            spent = cpu_seconds(pid) - cpu
            idle = alone["watched"][path.key]["cpu"] * (time.monotonic() - started)
            rows.append({"alone_p99": alone["latency_us"]["p99"], "p99": beside["latency_us"]["p99"], "flips": flips.count,
                         "behind_s": flips.behind, "ms_per_flip": max(0.0, spent - idle) / max(flips.count, 1) * 1e3,
                         "errors": alone["error_count"] + beside["error_count"]})
        last_kib = settled("the last change is known")
    found = {
        "services": services, "instances": instances, "first_kib": first_kib, "one_kib": one_kib, "all_kib": all_kib,
        "last_kib": last_kib, "registered_s": took,
        "bytes_per_service": (one_kib - first_kib) * 1024 / services,
        "bytes_per_instance": (all_kib - one_kib) * 1024 / max(1, services * (instances - 1)),
        **{key: statistics.median(row[key] for row in rows) for key in ("alone_p99", "p99", "ms_per_flip", "behind_s")},
        "flips": sum(row["flips"] for row in rows), "errors": sum(row["errors"] for row in rows),
    }
    print(f"  {services} services x {instances} instances: {all_kib / 1024:.0f} MiB, {found['bytes_per_service']:.0f} B per service with one "
          f"instance, {found['bytes_per_instance']:.0f} B per further instance; {found['flips']} changes at {found['ms_per_flip']:.2f} ms of CPU, "
          f"p99 of calls {found['alone_p99']:.0f} -> {found['p99']:.0f} us, {found['errors']} errors", flush=True)
    return found
