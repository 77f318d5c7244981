# SPDX-License-Identifier: Apache-2.0
"""This machine: where processes run, free ports, what it is."""

import os
import pathlib
import platform
import resource
import socket

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPO = ROOT.parent
# Load and echo on one core, every proxy of the path on the other.
LOAD_CORE, PROXY_CORE = 0, 1


def first():
    """Words before a command by which it goes before what else runs on this machine; root may say them."""
    return ["nice", "-n", "-20"] if os.geteuid() == 0 else []


class Core:
    """A place where `harness.procs.Proc` starts processes: one core of this machine."""

    namespace = None

    def __init__(self, number):
        self.number = number

    def __str__(self):
        return f"core {self.number}"

    def command(self, argv):
        return ["taskset", "-c", str(self.number), *first(), *map(str, argv)]

    def connect(self, address, port, timeout=2.0):
        return socket.create_connection((address, port), timeout)


LOAD, PROXY = Core(LOAD_CORE), Core(PROXY_CORE)


def leave_proxies_alone():
    """The driver runs where load and providers do."""
    os.sched_setaffinity(0, {LOAD_CORE})


def free_port(*addresses):
    """A port that is free on every one of these addresses."""
    for _ in range(100):
        with socket.socket() as first:
            first.bind((addresses[0], 0))
            port = first.getsockname()[1]
            try:
                for address in addresses[1:]:
                    with socket.socket() as other:
                        other.bind((address, port))
            except OSError:
                continue
            return port
    raise OSError("no port is free on all of " + ", ".join(addresses))


def is_open(address, port):
    try:
        socket.create_connection((address, port), 0.5).close()
        return True
    except OSError:
        return False


def open_files():
    """How many files a process may have open, 45,000 at most; those that are started from now on may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 45000 if hard == resource.RLIM_INFINITY else min(hard, 45000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def busy_seconds(core):
    """Time that a core was not idle so far."""
    for row in open("/proc/stat"):
        words = row.split()
        if words[0] == f"cpu{core}":
            times = [int(word) for word in words[1:9]]
            # user nice system idle iowait irq softirq steal
            return (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")
    raise OSError(f"no core {core} in /proc/stat")


def describe():
    """Rows of (what, value) for the head of the results."""
    model = "unknown"
    for row in open("/proc/cpuinfo"):
        if row.startswith("model name"):
            model = row.split(":", 1)[1].strip()
            break
    system = "Linux"
    release = pathlib.Path("/etc/os-release")
    if release.exists():
        fields = dict(row.split("=", 1) for row in release.read_text().splitlines() if "=" in row)
        system = fields.get("PRETTY_NAME", system).strip('"')
    virtual = any("hypervisor" in row for row in open("/proc/cpuinfo") if row.startswith("flags"))
    return [
        ("CPU", f"{model}, {os.cpu_count()} cores{', virtual machine' if virtual else ''}"),
        ("system", f"{system}, Linux {platform.release()}"),
        ("cores", f"load and echo on {LOAD_CORE}, proxies on {PROXY_CORE}; all connections over loopback"),
    ]
