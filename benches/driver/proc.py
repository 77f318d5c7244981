# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory of a process, for what the load program does not watch."""

import pathlib


def cpu_seconds(pid):
    """User and system time of all its threads that live now."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue
    return total / 1e9


def rss_kib(pid):
    for row in open(f"/proc/{pid}/status"):
        if row.startswith("VmRSS:"):
            return int(row.split()[1])
    raise OSError(f"no VmRSS of {pid}")
