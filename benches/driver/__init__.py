# SPDX-License-Identifier: Apache-2.0
"""The driver of the benchmark: starts paths, runs the load on them in turns, writes tables and a plot."""
