# SPDX-License-Identifier: Apache-2.0
"""Keeps both cores from sleeping: a virtual CPU that halts takes its host 30 to 90 us to wake, more than a proxy adds."""

import os
import subprocess
import sys

from .machine import LOAD_CORE, PROXY_CORE
from .proc import cpu_seconds

# It runs only while nothing else wants the core, and gives way at once.
SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
print("spins", flush=True)
while os.getppid() == int(sys.argv[2]):
    for _ in range(1_000_000):
        pass
"""


class Awake:
    """A context in which nobody sleeps."""

    def __init__(self, is_wanted=True):
        self.is_wanted = is_wanted
        self.spinners = {}

    def __enter__(self):
        for core in (LOAD_CORE, PROXY_CORE) if self.is_wanted else ():
            argv = [sys.executable, "-c", SPIN, str(core), str(os.getpid())]
            self.spinners[core] = subprocess.Popen(argv, stdout=subprocess.PIPE, preexec_fn=os.setsid)
            self.spinners[core].stdout.readline()
        return self

    def __exit__(self, *_):
        for spinner in self.spinners.values():
            spinner.kill()
            spinner.wait()

    def seconds(self, core):
        """CPU time that was nobody else's."""
        return cpu_seconds(self.spinners[core].pid) if core in self.spinners else 0.0
