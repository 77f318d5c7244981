# SPDX-License-Identifier: Apache-2.0
"""The way in and out: applications that run on while `mode`, `takeover` and `remora rollback` change under them."""

import json
import os
import threading
import time

from . import compare
from .procs import Failed, wait_for
from .world import World

PORT = {"dubbo": 20880, "bolt": 12200}
INGRESS = {"dubbo": 20881, "bolt": 12201}
EGRESS = {"dubbo": 20882, "bolt": 12220}
# Of a call: what is asked for is that none is lost, on a machine that may stand still for seconds. The slowest one is told.
TIMEOUT_MS = 10000
WARM_S = 4


class Way(World):
    """Two providers, consumers on a host with a Remora and on one without; every Remora begins with `begin`."""

    def __init__(self, settings, network, name, line, begin, rate=300, extra=()):
        super().__init__(settings, network, name, taken=["p1", "p2", "consumer"], session_ms=10000)
        self.line, self.begin, self.rate, self.extra = line, begin, rate, list(extra)
        self.protocol = "bolt" if line.startswith("s") else "dubbo"
        self.ports = (PORT[self.protocol],)
        self.loops = {}
        self.apps = {}
        self.apart = None

    def registry_for(self, name):
        if self.is_taken(name) and name not in self.remoras:
            self.remoras[name] = self.parts.remora(self.network.host(name), self.url, **self.begin)
        return super().registry_for(name)

    def provide(self, host):
        # As many threads as Dubbo has by itself.
        self.apps[host] = self.provider(self.line, "--threads", 200, *self.extra, host=host, name=host, ports=self.ports)
        return self.apps[host]

    def consume(self, host, seconds=900):
        stop = self.parts.folder / f"stop-{host}"
        for file in (stop, self.begin_file()):
            file.unlink(missing_ok=True)
        proc = self.consumer(self.line, *self.extra, "--loop", seconds, "--rate", self.rate, "--timeout", TIMEOUT_MS, "--wait", 60, "--stop-file", stop,
                             "--begin-file", self.begin_file(), host=host)
        proc.event("ready", 90)
        proc.event("first_answer", 90)
        self.loops[host] = (proc, stop)

    def applications(self, consumers=("consumer", "bare")):
        for host in ("p1", "p2"):
            self.provide(host)
        for host in consumers:
            self.consume(host)
        # JVMs run hot for the first seconds: what counts begins behind them.
        time.sleep(WARM_S)
        self.begin_file().touch()

    def begin_file(self):
        return self.parts.folder / "begin"

    def rows(self):
        """The registry as text; what a consumer writes of itself is of no interest here."""
        return compare.settled(self.registry_host, self.address, self.port, quiet=0.5)

    def reload(self, **settings):
        """Every Remora takes these settings over, at the same time."""
        for remora in self.remoras.values():
            config = {**json.loads(remora.config.read_text()), **settings}
            draft = remora.config.with_suffix(".new")
            draft.write_text(json.dumps(config))
            os.replace(draft, remora.config)
        self._all("reload")

    def roll_back(self, *flags):
        self._all("rollback", *flags)

    def _all(self, *words):
        answers = {}

        def ask(host, remora):
            answers[host] = remora.command(*words)

        threads = [threading.Thread(target=ask, args=item) for item in self.remoras.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wrong = {host: answer for host, answer in answers.items() if answer[1] != 0}
        if wrong:
            raise Failed(f"{' '.join(words)}: {wrong}")
        return answers

    def takeover(self, host):
        """What `/takeover` says."""
        remora = self.remoras[host]
        with remora.host.connect("127.0.0.1", remora.admin) as stream:
            stream.settimeout(20)
            stream.sendall(f"GET /takeover HTTP/1.1\r\nHost: 127.0.0.1:{remora.admin}\r\nConnection: close\r\n\r\n".encode())
            parts = []
            while part := stream.recv(65536):
                parts.append(part)
        return json.loads(b"".join(parts).split(b"\r\n\r\n", 1)[1])

    def peers(self, host):
        proc, _ = self.loops[host]
        return {peer for _local, peer, _ in proc.host.sockets(proc.pid)}

    def dials(self, host, port):
        """Whether a consumer has a connection to both providers at this port."""
        peers = self.peers(host)
        return all(f"{self.network.host(p).address}:{port}" in peers for p in ("p1", "p2"))

    def is_direct(self, host):
        return self.dials(host, PORT[self.protocol])

    def is_taken_over(self, host):
        """The consumer beside a Remora dials its egress, the bare one the ingress of each provider; of Dubbo 3.1 it takes the
        provider's own port from its metadata service (README, limits)."""
        if host == "bare":
            return self.line == "3.1" or self.dials(host, INGRESS[self.protocol])
        return any(peer.endswith(f":{EGRESS[self.protocol]}") for peer in self.peers(host))

    def end(self, *hosts):
        """The reports of the consumers' loops."""
        reports = {}
        for host in hosts or list(self.loops):
            proc, stop = self.loops.pop(host)
            stop.touch()
            reports[host] = proc.event("loop_end", 30)
            proc.wait(30)
        return reports

    def judged(self, problems, *hosts, apart=None):
        """(calls, failed) of all loops; failures are problems, but for those of the host `apart`, which are in `apart`: failed, calls, words.
        `slowest_ms` is then that of all of them."""
        reports = self.end(*hosts)
        self.slowest_ms = max(report["slowest_ms"] for report in reports.values())
        calls, failed = (sum(r[key] for r in reports.values()) for key in ("calls", "failed"))
        for host, report in reports.items():
            if report["failed"]:
                ranges = [f"{r['first_ms'] % 1000000}..{r['last_ms'] % 1000000} ({r['failed']}: {r['error'].rsplit(' <- ', 1)[-1][:200]})" for r in report["ranges"][:3]]
                words = f"{host}: {report['failed']} of {report['calls']} failed: {'; '.join(ranges)}"
                if host == apart:
                    self.apart = (report["failed"], report["calls"], words)
                else:
                    problems.append(words)
            if report["calls"] < 100:
                problems.append(f"{host}: only {report['calls']} calls were made, this shows nothing")
        return calls, failed


def differences(before, after):
    """Rows of one and not the other, in words; none if both are the same to the byte."""
    return [f"- {row}" for row in sorted(set(before) - set(after))] + [f"+ {row}" for row in sorted(set(after) - set(before))]
