# SPDX-License-Identifier: Apache-2.0
"""The security checks as cells of the quick run; `testbed/security/run` runs them alone."""

from security.checks import CHECKS

from .procs import Failed


def _checked(settings, name, network):
    result = CHECKS[name](settings, network, name)
    if result["problems"]:
        raise Failed("; ".join(result["problems"]))
    return [f"{row['case']}: {row['calls']} attempts, {sum(row['failed'].values())} let through" for row in result["runs"]]


def cells(settings):
    """None without a proxy: there is nothing to be attacked."""
    names = [] if settings.bare else CHECKS
    return [(f"security/{name}", lambda network, name=name: _checked(settings, name, network)) for name in names]
