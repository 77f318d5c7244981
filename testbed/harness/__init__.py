# SPDX-License-Identifier: Apache-2.0
"""The harness of the interop tier. Python standard library only; `testbed/run` starts it."""
