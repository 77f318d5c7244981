# SPDX-License-Identifier: Apache-2.0
"""The checks by name. Each gives what an experiment of `harness/reliability.py` gives; `failed` counts what was let through."""

from . import calls, crowds, dials, doors

CHECKS = {
    "S1": doors.strangers,
    "S2": doors.admin_verbs,
    "S4": calls.smuggling,
    "S5": calls.telnet,
    "S7": dials.poisoned,
    "S9": doors.four_letters,
    "S14": crowds.crowds,
}


def cells(settings):
    """For `testbed/run --reliability`."""
    return [(name, lambda network, name=name, check=check: check(settings, network, name)) for name, check in CHECKS.items()]
