# SPDX-License-Identifier: Apache-2.0
"""S1, S2, S4, S5, S7, S9, S14: the security checks, whose code is in `testbed/security`."""

from security.checks import cells

__all__ = ["cells"]
