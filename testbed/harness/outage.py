# SPDX-License-Identifier: Apache-2.0
"""What an experiment with a failing registry found, and what stands in the registry."""

import time

from .cells_faults import told
from .procs import Failed, wait_for


class Run:
    """What one experiment found; the text goes to the screen, the figures to whoever keeps them."""

    def __init__(self, case):
        self.figures = {"case": case, "calls": 0, "failed": {}}
        self.notes = []

    def load(self, report, begin_ms):
        """Takes in the report of a loop of calls."""
        self.figures["calls"] += report["calls"]
        for kind, number in report.get("kinds", {}).items():
            self.figures["failed"][kind] = self.figures["failed"].get(kind, 0) + number
        self.notes.append(told(report, begin_ms))

    def recovery(self, what, seconds):
        self.figures["recovery_ms"] = max(self.figures.get("recovery_ms", 0), int(seconds * 1000))
        self.notes.append(f"{what} after {seconds:.1f} s")

    def no_failures(self, at_least=0):
        if self.figures["failed"]:
            raise Failed("calls failed: " + "; ".join(self.notes))
        if self.figures["calls"] < at_least:
            raise Failed(f"only {self.figures['calls']} calls of {at_least}: " + "; ".join(self.notes))

    def within(self, what, seconds, limit):
        self.recovery(what, seconds)
        if seconds > limit:
            raise Failed(f"{what} after {seconds:.1f} s, allowed are {limit} s; " + "; ".join(self.notes))


def timed(what, limit, condition, pause=0.1):
    """Seconds until the condition holds."""
    begin = time.time()
    wait_for(what, limit, condition, pause)
    return time.time() - begin


def provider_addresses(world):
    """Addresses under which providers stand in the registry, each with how often."""
    found = {}
    for path in world.provider_nodes():
        name = path.rsplit("/", 1)[1]
        address = name.split("%2F%2F")[1].split("%2F")[0].split("%3F")[0] if "%2F%2F" in name else name
        found[address] = found.get(address, 0) + 1
    return found
