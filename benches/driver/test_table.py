# SPDX-License-Identifier: Apache-2.0
"""Tables and plot from made-up figures: `cd benches && python3 -m unittest driver.test_table`."""

import unittest
import xml.etree.ElementTree

from . import plot, table
from .bars import all_bars
from .rounds import Table, cost


def row(number, path, cpu_us, p50=100.0, case="pp-128"):
    latency = {"p50": p50, "p90": p50, "p99": p50 * 2, "p999": p50 * 3, "mean": p50, "max": p50 * 4}
    return {"round": number, "case": case, "path": path, "protocol": "dubbo", "calls": 1000, "rate": 1000.0 / cpu_us if cpu_us else 2000.0,
            "latency_us": latency, "late_us": latency, "cpu_us_per_call": cpu_us, "cpu": 0.5, "rss_kib": 10240, "foreign": 0.0,
            "error_count": 0, "errors": {}}


def results():
    rows = []
    for number, (ours, theirs) in enumerate([(6.0, 12.0), (9.0, 10.0), (7.0, 14.0)]):
        rows += [row(number, "direct", None, 50.0), row(number, "remora-1", ours, 80.0), row(number, "haproxy-1", theirs, 90.0)]
    paths = [("direct", "no proxy"), ("remora-1", "Remora, egress"), ("haproxy-1", "HAProxy, TCP")]
    return {"rows": rows, "paths": {"dubbo": paths}, "cases": ["pp-128"], "protocols": ["dubbo"], "skipped": {}, "about": []}


class Tables(unittest.TestCase):
    def test_ratios_are_medians_of_the_ratios_within_a_round(self):
        found = Table(results()["rows"], "dubbo")
        self.assertEqual(found.ratio("pp-128", "remora-1", "haproxy-1", cost), 0.5)
        self.assertEqual(found.median("pp-128", "haproxy-1", cost), 12.0)
        self.assertEqual(found.added("pp-128", "remora-1", "p50"), 30.0)
        self.assertIsNone(found.ratio("mux-128", "remora-1", "haproxy-1", cost))

    def test_a_bar_says_whether_it_is_met_and_what_was_not_measured(self):
        bars = all_bars(results(), Table(results()["rows"], "dubbo"))
        first, second = bars[0].cells(), bars[1].cells()
        self.assertEqual(first[2:], ["<= 0.7", "0.50", "yes"])
        self.assertEqual(second[2:], ["<= 0.45", "", "not measured"])

    def test_the_page_has_every_path_and_the_plot_is_xml(self):
        page = table.page(results(), "results.svg")
        for _, title in results()["paths"]["dubbo"]:
            self.assertIn(f"| {title} |", page)
        xml.etree.ElementTree.fromstring(plot.svg(results()))


if __name__ == "__main__":
    unittest.main()
