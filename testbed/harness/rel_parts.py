# SPDX-License-Identifier: Apache-2.0
"""What the reliability experiments play in: oracle callers and providers, the fault relay, samples of processes.

The oracle knows of each call how it ended and how often it was executed; see `testbed/faults`. Hosts are network namespaces.
"""

import json
import os
import pathlib
import statistics
import subprocess
import time

from .parts import REPO, now_ms
from .procs import Failed, wait_for
from .world import World

APP_PORTS = {"dubbo": 20880, "bolt": 12200}
INGRESS = {"dubbo": 20881, "bolt": 12201}
EGRESS = {"dubbo": 20882, "bolt": 12220}
# Load L: closed loops, calls a second at most.
LOAD = {"dubbo": {"connections": 8, "rate": 1600}, "bolt": {"connections": 2, "rate": 400}}


def binary(name):
    """`oracle` or `relay`; built when it is not there. REMORA_FAULTS_BIN names a folder with both."""
    folders = [pathlib.Path(os.environ["REMORA_FAULTS_BIN"])] if "REMORA_FAULTS_BIN" in os.environ else \
        [pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / profile for profile in ("release", "debug")]
    for folder in folders:
        if (folder / name).exists():
            return str((folder / name).resolve())
    print("building the oracle and the relay", flush=True)
    subprocess.run(["cargo", "build", "-q", "--release", "--locked", "-p", "remora-faults"], cwd=REPO, check=True)
    return str((folders[0] / name).resolve())


def commit():
    """What the binary under test was built from: REMORA_COMMIT, else this tree's commit."""
    named = os.environ.get("REMORA_COMMIT")
    if named:
        return named
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPO, capture_output=True, text=True).stdout.strip()


def sample(pid):
    """Resident memory in KiB, open descriptors, threads."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    row = lambda name: int(status.split(name + ":", 1)[1].split()[0])
    return {"rss_kib": row("VmRSS"), "fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": row("Threads")}


class Caller:
    """An oracle caller."""

    def __init__(self, site, protocol, host, options):
        self.site, self.protocol = site, protocol
        self.journal = site.journal("caller")
        options = {**LOAD[protocol], "timeout_ms": 1000, "errors_every": 50, **options}
        if "to" not in options:
            options["registry"] = site.registry_for(host)
        argv = [binary("oracle"), "call", "--protocol", protocol, "--journal", str(self.journal), "--client", str(next(site.numbers)),
                "--seed", str(site.seed)]
        for key, value in options.items():
            argv += ["--" + key.replace("_", "-"), str(value)]
        self.proc = site.parts._start(f"caller-{protocol}", site.network.host(host), argv)
        self.proc.event("ready", 40)

    def seconds(self, begin_ms, end_ms):
        """What was said of the seconds in between."""
        return [s for s in self.proc.all("second") if begin_ms <= s["ms"] <= end_ms and s["ok"]]

    def quantile(self, name, begin_ms, end_ms):
        """Median of a quantile of the seconds in between, in milliseconds."""
        values = [s["latency_us"][name] / 1000 for s in self.seconds(begin_ms, end_ms)]
        return round(statistics.median(values), 2) if values else None

    def p99(self, begin_ms, end_ms):
        """Median of the 99th percentiles of the seconds in between, in milliseconds."""
        return self.quantile("p99", begin_ms, end_ms)

    def sessions(self):
        """Ids of the sessions it had at its registry."""
        return sorted({s["id"] for s in self.proc.all("session")})

    def end(self):
        """Its report."""
        self.proc.popen.terminate()
        report = self.proc.event("result", 30)
        self.proc.wait(15)
        return report


class Relay:
    """The fault relay on a host. `routes` is {name: (listen, target)}, both host:port."""

    def __init__(self, site, host, routes):
        self.host = site.network.host(host)
        argv = [binary("relay"), "--control", f"{self.host.address}:7999"]
        for name, (listen, target) in routes.items():
            argv += ["--route", f"{name}={listen},{target}"]
        self.proc = site.parts._start(f"relay-{host}", self.host, argv)
        self.proc.event("ready", 10)

    def tell(self, line):
        """One line of its language; the figures of the routes meant."""
        with self.host.connect(self.host.address, 7999) as stream:
            stream.sendall(line.encode() + b"\n")
            answer = json.loads(stream.makefile().readline())
        if not answer["ok"]:
            raise Failed(f"the relay on {self.host}: {answer['error']}")
        return answer["routes"]


class Site(World):
    """Providers, callers, and a Remora on each host that has either; a judgement at the end."""

    def __init__(self, settings, network, name, session_ms=10000, advertise=None, **kwargs):
        if not network.isolated:
            raise Failed(f"needs network namespaces ({network.why})")
        super().__init__(settings, network, name, session_ms=session_ms, **kwargs)
        self.seed = settings.seed
        self.numbers = iter(range(1, 1 << 20))
        self.callers, self.providers = [], []
        self.advertise = advertise or {}
        self.registries, self.extra = {}, {}

    def journal(self, name):
        return self.parts.folder / f"journal-{name}-{next(self.numbers)}"

    def registry_for(self, name):
        if self.is_taken(name) and name not in self.remoras:
            settings = dict(self.extra.get(name, {}))
            if name in self.advertise:
                settings["advertise"] = self.advertise[name]
            self.remoras[name] = self.parts.remora(self.network.host(name), self.registries.get(name, self.url), **settings)
        return super().registry_for(name)

    def provide(self, protocol, host="p1", is_awaited=True, **options):
        """An oracle provider, that is published when it is waited for."""
        address = self.network.host(host).address
        options = {"listen": f"0.0.0.0:{APP_PORTS[protocol]}", "publish": f"{address}:{APP_PORTS[protocol]}", "registry": self.registry_for(host), "session_ms": self.session_ms, **options}
        argv = [binary("oracle"), "provide", "--protocol", protocol, "--journal", str(self.journal("provider"))]
        for key, value in options.items():
            argv += ["--" + key.replace("_", "-"), str(value)]
        proc = self.parts._start(f"provider-{protocol}-{host}", self.network.host(host), argv)
        if is_awaited:
            proc.event("published", 30)
        self.providers.append(proc)
        return proc

    def call(self, protocol, host="consumer", **options):
        """An oracle caller that is calling."""
        caller = Caller(self, protocol, host, options)
        self.callers.append(caller)
        try:
            wait_for("the first calls went well", 20, lambda: sum(s["ok"] for s in caller.proc.all("second")) > 0)
        except Failed as error:
            raise Failed(f"{error}; {caller.end()['words']}") from None
        return caller

    def standard(self, hosts=("p1", "p2"), protocols=("dubbo", "bolt"), **options):
        """Providers of both protocols on each host, callers of both on the host `consumer`."""
        for host in hosts:
            for protocol in protocols:
                self.provide(protocol, host)
        return [self.call(protocol, **options) for protocol in protocols]

    def crowd(self, manner, speech, to, host="consumer", **options):
        """A crowd of badly behaved clients; not waited for."""
        argv = [binary("oracle"), "crowd", "--manner", manner, "--speech", speech, "--to", to, "--seed", str(self.seed)]
        for key, value in options.items():
            argv += ["--" + key.replace("_", "-")] + ([] if value is True else [str(value)])
        return self.parts._start(f"crowd-{manner}-{speech}", self.network.host(host), argv)

    def link(self, host, state):
        """Pulls a host's plug, or puts it back: no packet in or out, and nobody is told."""
        namespace = self.network.host(host).namespace
        subprocess.run(["ip", "-n", namespace, "link", "set", "eth0", state], check=True)

    def sample(self, host):
        return sample(self.remoras[host].serving)

    def published(self, host):
        """Provider nodes of a host, whoever owns them."""
        address = self.network.host(host).address
        return [path for path in self.owners() if "/providers/" in path and f"%2F%2F{address}%3A" in path]

    def judged(self, case, note="", **figures):
        """A result row: ends the callers, holds the journals against each other."""
        reports = [caller.end() for caller in self.callers]
        self.callers = []
        journals = sorted(str(path) for path in self.parts.folder.glob("journal-*"))
        done = subprocess.run([binary("oracle"), "judge", *journals], capture_output=True, text=True, check=True)
        judgement = json.loads(done.stdout)
        failed = {}
        for report in reports:
            for kind, count in report["faults"].items():
                failed[kind] = failed.get(kind, 0) + count
        row = {"case": case, "calls": sum(r["calls"] for r in reports), "failed": failed, "app_errors": sum(r["app_errors"] for r in reports),
               "wrong": sum(r["wrong"] for r in reports), "duplicates": judgement["duplicates"], **figures}
        row["note"] = note
        self.words = {words: count for report in reports for words, count in report["words"].items()}
        self.ranges = sorted((r for report in reports for r in report["ranges"]), key=lambda r: r["first_ms"])
        if judgement["ok_not_executed"]:
            raise Failed(f"{judgement['ok_not_executed']} calls went well and were never executed")
        if row["calls"] < 1000:
            raise Failed(f"only {row['calls']} calls were made: this shows nothing")
        return row


def failures(row):
    """Calls that failed."""
    return sum(row["failed"].values())


def pause_until(ms):
    time.sleep(max(0.0, (ms - now_ms()) / 1000))


def last_failure(ranges, since_ms, until_ms=float("inf")):
    """When the last call failed that failed in between; `since_ms` if none did."""
    return max((min(r["last_ms"], until_ms) for r in ranges if r["last_ms"] >= since_ms and r["first_ms"] <= until_ms), default=since_ms)


