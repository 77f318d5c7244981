# SPDX-License-Identifier: Apache-2.0
"""E35: random faults one after the other under load, from a seed; what must hold at the end of all of them, and meanwhile.

```
 callers -> Remora of consumer, consumer2 -> relay on wire1, wire2 -> Remora of p1, p2 -> providers
                                          -----------------------> Remora of p3      -> providers
 each Remora -> relay on wirezk, one route for each -> ZooKeeper
```
"""

import heapq
import itertools
import os
import random
import shutil
import signal
import time

from . import zk
from .parts import now_ms
from .procs import Failed, wait_for
from .rel_parts import EGRESS, INGRESS, Relay, Site, failures

PROVIDERS = ("p1", "p2", "p3")
CONSUMERS = ("consumer", "consumer2")
EVERY = 5.0
# Of a fault's end: heal everything, and this long later all must be as at the beginning.
QUIESCE = 40


class Shop(Site):
    """The topology above."""

    def open(self):
        wire = self.network.host("wirezk").address
        hosts = PROVIDERS + CONSUMERS
        self.zk_wire = Relay(self, "wirezk", {h: (f"{wire}:{2200 + at}", f"{self.address}:{self.port}") for at, h in enumerate(hosts)})
        self.registries = {h: f"zookeeper://{wire}:{2200 + at}" for at, h in enumerate(hosts)}
        self.call_wires = {}
        for number, host in ((1, "p1"), (2, "p2")):
            near, far = self.network.host(f"wire{number}").address, self.network.host(host).address
            self.advertise[host] = near
            self.call_wires[host] = Relay(self, f"wire{number}", {p: (f"{near}:{port}", f"{far}:{port}") for p, port in INGRESS.items()})
        self.apps = {(host, protocol): self.provide(protocol, host) for host in PROVIDERS for protocol in INGRESS}
        self.call("dubbo", host="consumer", rate=700)
        self.call("bolt", host="consumer", rate=200)
        self.call("dubbo", host="consumer2", rate=400)

    def address_of(self, host):
        return self.advertise.get(host) or self.network.host(host).address

    def entries(self):
        """(host, protocol) of what stands in the registry; None when it does not answer."""
        try:
            with zk.Client(self.registry_host, self.address, self.port, 1.0) as client:
                names = [(p, name) for p, root in (("dubbo", "/dubbo"), ("bolt", "/sofa-rpc")) for name in client.children(f"{root}/demo.EchoService/providers")]
        except (OSError, EOFError, zk.ZkError):
            return None
        return [(host, protocol) for protocol, name in names for host in PROVIDERS if f"%3A%2F%2F{self.address_of(host)}%3A" in name]


class Driver:
    """Faults, their ends, and what is watched meanwhile."""

    def __init__(self, shop, seed, seconds):
        self.shop, self.seconds = shop, seconds
        self.random = random.Random(seed)
        self.ends, self.order = [], itertools.count()
        self.busy = set()
        self.counts = {}
        self.down = {}
        self.registry_since = time.time()
        self.is_registry_up = True
        self.problems = []
        self.log = open(shop.parts.folder / "faults.log", "w")

    def note(self, text):
        self.log.write(f"{now_ms()} {text}".replace("\n", " ") + "\n")
        self.log.flush()

    def later(self, seconds, what, target, action):
        heapq.heappush(self.ends, (time.time() + seconds, next(self.order), what, target, action))

    def run(self):
        begun = time.time()
        following = begun + 2
        while time.time() < begun + self.seconds:
            if time.time() >= following:
                following += EVERY
                self.fault()
            self.end_due()
            self.watch()
            time.sleep(0.2)
        while self.ends:
            self.end_due(is_all=True)
        for relay in (self.shop.zk_wire, *self.shop.call_wires.values()):
            relay.tell("* heal")

    def end_due(self, is_all=False):
        while self.ends and (is_all or self.ends[0][0] <= time.time()):
            _, _, what, target, action = heapq.heappop(self.ends)
            self.note(f"end {what} {target}")
            action()
            self.busy.discard(target)

    def fault(self):
        """One at random, on something that has none."""
        for _ in range(20):
            what, targets = self.random.choice(KINDS)
            target = self.random.choice(targets)
            key = f"{what.area}{target}"
            if key not in self.busy:
                break
        else:
            return
        self.counts[what.__name__] = self.counts.get(what.__name__, 0) + 1
        seconds, action, words = what(self, target)
        self.note(f"begin {what.__name__} {target} for {seconds:.1f} s {words}")
        if action:
            self.busy.add(key)
            self.later(seconds, what.__name__, key, action)

    def watch(self):
        """Ghosts: what stands in the registry although nobody has been there for the session timeout and 5 s."""
        for host, remora in self.shop.remoras.items():
            if f"remora{host}" not in self.busy and not remora.proc.is_alive():
                raise Failed(f"the Remora of {host} ended with {remora.proc.popen.returncode}: {remora.proc.last_words()}")
        now = time.time()
        for key, app in self.shop.apps.items():
            is_there = app.is_alive() and self.shop.remoras[key[0]].proc.is_alive()
            if is_there:
                self.down.pop(key, None)
            else:
                self.down.setdefault(key, now)
        limit = self.shop.session_ms / 1000 + 5
        late = [key for key, since in self.down.items() if now > max(since, self.registry_since) + limit]
        if late and self.is_registry_up:
            ghosts = set(self.shop.entries() or []) & set(late)
            for key in ghosts:
                problem = f"a ghost of {key}: down for {now - self.down[key]:.0f} s"
                if not any(p.startswith(f"a ghost of {key}") for p in self.problems):
                    self.problems.append(problem)
                    self.note(problem)


def _area(name):
    """What of a host a fault occupies: two of one area are not made at once."""
    def set_area(function):
        function.area = name
        return function
    return set_area


@_area("remora")
def kill_remora(driver, host):
    """E1, E2, E3: killed, and started again soon or after the sessions are over."""
    seconds = driver.random.choice((0.5, 1.0, 1.0, 13.0 if host in PROVIDERS else 1.5))
    remora = driver.shop.remoras[host]
    remora.kill()
    return seconds, remora.launch, ""


@_area("remora")
def end_remora(driver, host):
    """E21: an orderly end, and a new beginning."""
    remora = driver.shop.remoras[host]
    remora.proc.popen.terminate()

    def again():
        remora.proc.wait(20)
        remora.launch()

    return 5, again, ""


@_area("remora")
def upgrade_remora(driver, host):
    """E19: to the same binary, in place."""
    words, code = driver.shop.remoras[host].command("upgrade")
    if code:
        driver.counts["upgrades refused"] = driver.counts.get("upgrades refused", 0) + 1
    return 1, None, f"{code} {words[-160:]}"


@_area("remora")
def stop_remora(driver, host):
    """E13: frozen, for longer than a session now and then."""
    seconds = driver.random.choice((2.0, 4.0, 13.0))
    pid = driver.shop.remoras[host].serving
    os.kill(pid, signal.SIGSTOP)
    return seconds, lambda: os.kill(pid, signal.SIGCONT), ""


@_area("app")
def kill_app(driver, host):
    """E4."""
    protocol = driver.random.choice(tuple(INGRESS))
    driver.shop.apps[host, protocol].kill()

    def again():
        driver.shop.apps[host, protocol] = driver.shop.provide(protocol, host, is_awaited=False)

    return driver.random.uniform(1, 12), again, protocol


@_area("app")
def freeze_app(driver, host):
    """E5."""
    protocol = driver.random.choice(tuple(INGRESS))
    pid = driver.shop.apps[host, protocol].pid
    os.kill(pid, signal.SIGSTOP)
    return driver.random.uniform(2, 9), lambda: os.kill(pid, signal.SIGCONT), protocol


@_area("app")
def end_app(driver, host):
    """A provider says goodbye and comes back."""
    protocol = driver.random.choice(tuple(INGRESS))
    app = driver.shop.apps[host, protocol]
    app.popen.terminate()

    def again():
        app.wait(20)
        driver.shop.apps[host, protocol] = driver.shop.provide(protocol, host, is_awaited=False)

    return 4, again, protocol


@_area("registry")
def stop_registry(driver, _):
    """E6."""
    driver.is_registry_up = False
    driver.shop.keeper.stop()

    def again():
        driver.shop.keeper.start()
        driver.registry_since, driver.is_registry_up = time.time(), True

    return driver.random.uniform(3, 14), again, ""


@_area("registry")
def empty_registry(driver, _):
    """E7: it comes back without its data."""
    driver.is_registry_up = False
    driver.shop.keeper.stop()

    def again():
        shutil.rmtree(driver.shop.keeper.data / "version-2")
        driver.shop.keeper.start()
        driver.registry_since, driver.is_registry_up = time.time(), True

    return driver.random.uniform(2, 8), again, ""


@_area("zk")
def cut_off_registry(driver, host):
    """E8, one way or both."""
    way = driver.random.choice(("up", "down", "both"))
    driver.shop.zk_wire.tell(f"{host} hold {way}")
    return driver.random.uniform(1, 13), lambda: driver.shop.zk_wire.tell(f"{host} heal"), way


@_area("zk")
def shake_registry(driver, host):
    """E8: connections to the registry break."""
    how = driver.random.choice(("reset", "close", "end up", "end down", f"cut {driver.random.randrange(2000)}"))
    driver.shop.zk_wire.tell(f"{host} {how}")
    return 0, None, how


@_area("wire")
def break_calls(driver, host):
    """E2, E11: connections between two Remoras break, in any place."""
    protocol = driver.random.choice(tuple(INGRESS))
    how = driver.random.choice(("reset", "close", "end up", "end down", f"cut {driver.random.randrange(20000)}"))
    driver.shop.call_wires[host].tell(f"{protocol} {how}")
    return 0, None, f"{protocol} {how}"


@_area("wire")
def slow_calls(driver, host):
    """E10, E11: they are slow, or silent in one direction or both."""
    protocol = driver.random.choice(tuple(INGRESS))
    way = driver.random.choice(("up", "down", "both"))
    how = driver.random.choice((f"delay {driver.random.randrange(20, 400)} {way}", f"rate {driver.random.randrange(2000, 60000)} {way}",
                                f"hold {way}", f"swallow {way}"))
    wire = driver.shop.call_wires[host]
    wire.tell(f"{protocol} {how}")

    return driver.random.uniform(1, 8), lambda: wire.tell(f"{protocol} heal"), f"{protocol} {how}"


@_area("crowd")
def send_crowd(driver, host):
    """E10, E12, E18: badly behaved clients at the doors of a Remora."""
    shop = driver.shop
    at = {"dubbo": f"127.0.0.1:{EGRESS['dubbo']}", "bolt": f"127.0.0.1:{EGRESS['bolt']}"} if host in CONSUMERS else \
        {p: f"{shop.network.host(host).address}:{port}" for p, port in INGRESS.items()}
    # An ingress takes connections of other hosts.
    source = host if host in CONSUMERS else "crowd"
    speech = driver.random.choice(("dubbo", "bolt"))
    manner = driver.random.choice(("drip", "slow", "churn", "hold"))
    client = 0x10000 + next(driver.order) * 64
    options = {"drip": {"connections": 100, "interval_ms": 1000}, "slow": {"connections": 2, "rate": 4096, "client": client},
               "churn": {"connections": 200, "rate": 100, "client": client}, "hold": {"connections": 200, "calls": True, "client": client}}[manner]
    proc = shop.crowd(manner, speech, at[speech], host=source, seconds=8, **options)

    def ended():
        proc.kill()

    return 9, ended, f"{manner} {speech}"


KINDS = [(kill_remora, PROVIDERS), (kill_remora, CONSUMERS), (stop_remora, PROVIDERS + CONSUMERS), (end_remora, PROVIDERS),
         (upgrade_remora, PROVIDERS + CONSUMERS), (kill_app, PROVIDERS), (freeze_app, PROVIDERS),
         (end_app, PROVIDERS), (stop_registry, ("zookeeper",)), (empty_registry, ("zookeeper",)), (cut_off_registry, PROVIDERS + CONSUMERS), (shake_registry, PROVIDERS + CONSUMERS),
         (break_calls, ("p1", "p2")), (slow_calls, ("p1", "p2")), (send_crowd, PROVIDERS + CONSUMERS)]


def driven(settings, network, name):
    seconds = settings.seconds or 60
    with Shop(settings, network, name) as shop:
        shop.open()
        time.sleep(2)
        before = {host: shop.sample(host) for host in shop.remoras}
        driver = Driver(shop, settings.seed, seconds)
        driver.run()
        problems = driver.problems
        driver.note("quiet")
        healed = now_ms()
        want = sorted(shop.apps)
        try:
            wait_for("all providers stand in the registry, and nothing else", QUIESCE, lambda: sorted(shop.entries() or []) == want, 0.5)
        except Failed:
            problems.append(f"{QUIESCE} s after the last fault the registry has {sorted(shop.entries() or [])}")
        published = now_ms()
        quiet = _quiet(shop, healed)
        if quiet is None:
            problems.append(f"calls still fail {QUIESCE} s after the last fault")
        time.sleep(3)
        after = {host: shop.sample(host) for host in shop.remoras}
        row = shop.judged(f"seed {settings.seed}: {sum(driver.counts.values())} faults in {seconds} s", rss_kib=[max(s["rss_kib"] for s in before.values()), max(s["rss_kib"] for s in after.values())],
                          fds=[max(s["fds"] for s in before.values()), max(s["fds"] for s in after.values())])
        if quiet is not None:
            row["recovery_ms"] = max(0, quiet - healed)
        row["note"] = (f"{', '.join(f'{count} {what}' for what, count in sorted(driver.counts.items()))}; all published "
                       f"{(published - healed) / 1000:.1f} s after the last one; {100 * failures(row) / row['calls']:.2f} % failed; RSS and fds: the largest of 5")
        if row["wrong"] or row["duplicates"]:
            problems.append(f"{row['wrong']} wrong answers, {row['duplicates']} calls executed twice; {shop.words}")
        grown = {host: after[host]["fds"] - before[host]["fds"] for host in after if after[host]["fds"] > before[host]["fds"] + 24}
        if grown:
            problems.append(f"descriptors grew: {grown}")
        return {"id": "E35", "title": "a random fault each 5 s", "bar": "0 wrong, 0 duplicates, no ghost, all providers published and no failure at the end",
                "runs": [row], "problems": problems, "is_piece": True}


def _quiet(shop, since_ms):
    """When the last call failed before 5 s without failure by all callers; None if there was no such time."""
    until = time.time() + QUIESCE
    while time.time() < until:
        bad = [s["ms"] for caller in shop.callers for s in caller.proc.all("second") if s["failed"] and s["ms"] >= since_ms]
        last = max(bad, default=since_ms)
        if now_ms() > last + 5000 and all(caller.seconds(now_ms() - 2500, now_ms()) for caller in shop.callers):
            return last
        time.sleep(0.3)
    return None


def cells(settings):
    return [("E35", lambda network: driven(settings, network, "E35"))]
