# SPDX-License-Identifier: Apache-2.0
"""Tables, plot and bars from made-up figures: `cd benches && PYTHONPATH=../testbed python3 -m unittest driver.test_table`."""

import pathlib
import tempfile
import unittest
import xml.etree.ElementTree

from . import churn, neighbours, plot, table
from .bars import all_bars, wrong_count
from .kept import Kept
from .rounds import Table, cost

ABOUT = {"command": "benches/run", "date": "2026-01-01", "commit": "abc", "profile": "dist", "remora": "0", "warmup": 0.4, "seconds": 1.5,
         "machine": [("CPU", "any")]}
PATHS = [("direct", "no proxy"), ("remora-1", "Remora, egress"), ("haproxy-1", "HAProxy, TCP")]


def row(number, path, cpu_us, p50=100.0, case="pp-128"):
    latency = {"p50": p50, "p90": p50, "p99": p50 * 2, "p999": p50 * 3, "mean": p50, "max": p50 * 4}
    return {"round": number, "case": case, "path": path, "protocol": "dubbo", "calls": 1000, "rate": 1000.0 / cpu_us if cpu_us else 2000.0,
            "latency_us": latency, "late_us": latency, "cpu_us_per_call": cpu_us, "cpu": 0.5, "rss_kib": 10240, "noise": 0.0,
            "error_count": 0, "errors": {}}


def one_round(number, ours, theirs):
    return [row(number, "direct", None, 50.0), row(number, "remora-1", ours, 80.0), row(number, "haproxy-1", theirs, 90.0)]


def figures(rows):
    return {"rows": rows, "paths": PATHS, "skipped": {}, "versions": {}}


def kept():
    made = Kept()
    rows = one_round(0, 6.0, 12.0) + one_round(1, 9.0, 10.0) + one_round(2, 7.0, 14.0)
    made.put(("calls", "dubbo", "pp-128"), ABOUT, figures(rows))
    return made


class Tables(unittest.TestCase):
    def test_ratios_are_medians_of_the_ratios_within_a_round(self):
        found = Table(kept().rows("dubbo"))
        self.assertEqual(found.ratio("pp-128", "remora-1", "haproxy-1", cost), 0.5)
        self.assertEqual(found.median("pp-128", "haproxy-1", cost), 12.0)
        self.assertEqual(found.added("pp-128", "remora-1", "p50"), 30.0)
        self.assertIsNone(found.ratio("mux-128", "remora-1", "haproxy-1", cost))

    def test_a_bar_says_whether_it_is_met_and_what_was_not_measured(self):
        bars = all_bars(kept(), "dubbo")
        self.assertEqual(bars[0].cells()[2:], ["<= 0.7", "0.50", "met"])
        self.assertEqual(bars[1].cells()[2:], ["<= 0.45", "", "not measured"])
        self.assertEqual({bar.row for bar in bars}, set(range(1, 12)))

    def test_the_page_has_every_path_and_the_plot_is_xml(self):
        page = table.page(kept(), "results.svg")
        for _, title in PATHS:
            self.assertIn(f"| {title} |", page)
        xml.etree.ElementTree.fromstring(plot.svg(kept(), "dubbo"))

    def test_a_page_of_nothing_is_a_page(self):
        self.assertIn("not measured", table.page(Kept(), None))
        self.assertIsNone(plot.svg(Kept(), "dubbo"))


class Keeping(unittest.TestCase):
    def test_what_is_measured_anew_replaces_and_the_rest_stays(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "kept.json"
            first = kept()
            first.file = file
            first.put(("churn", "dubbo"), ABOUT, {"calls": 1, "other_count": 2})
            first.save()
            second = Kept(file)
            second.put(("calls", "dubbo", "pp-128"), ABOUT, figures(one_round(0, 5.0, 50.0)))
            self.assertEqual(Table(second.rows("dubbo")).ratio("pp-128", "remora-1", "haproxy-1", cost), 0.1)
            self.assertEqual(second.one("churn", "dubbo")["other_count"], 2)
            self.assertEqual(wrong_count(second), 2)

    def test_appended_rounds_get_numbers_of_their_own(self):
        made = kept()
        anew = {**figures(one_round(0, 5.0, 50.0)), "paths": [*PATHS[:2], ("mosn-1", "MOSN")]}
        made.put(("calls", "dubbo", "pp-128"), {**ABOUT, "commit": "def"}, anew, is_appended=True)
        self.assertEqual(made.one("calls", "dubbo", "pp-128")["paths"], [*PATHS, ("mosn-1", "MOSN")])
        self.assertEqual(Table(made.rows("dubbo")).values("pp-128", "remora-1", cost), {0: 6.0, 1: 9.0, 2: 7.0, 3: 5.0})
        self.assertEqual([about["commit"] for about in made.one("calls", "dubbo", "pp-128")["about"]], ["abc", "def"])


class Churn(unittest.TestCase):
    def errors(self, *at_ms, words="remora: upstream_closed"):
        count = sum(count for _, count in at_ms)
        return {"status_70": {"count": count, "words": {words: {"count": count, "at_ms": at_ms}}}}

    def test_calls_that_fail_right_after_a_kill_were_in_flight(self):
        self.assertEqual(churn.judge("dubbo", self.errors((10_000, 3), (20_500, 4)), [10_050, 20_050]), (7, {}))

    def test_calls_that_fail_at_another_time_or_with_other_words_are_errors(self):
        self.assertEqual(churn.judge("dubbo", self.errors((15_000, 3)), [10_050]), (0, {"status_70": 3}))
        self.assertEqual(churn.judge("dubbo", self.errors((10_000, 3), words="overloaded"), [10_050]), (0, {"status_70": 3}))

    def test_no_more_can_fail_than_were_in_flight(self):
        most = churn.CONNECTIONS * churn.OUTSTANDING
        self.assertEqual(churn.judge("dubbo", self.errors((10_000, most + 1)), [10_050]), (most + 1, {"more than were in flight": 1}))


class Neighbours(unittest.TestCase):
    def test_ratios_are_within_a_round(self):
        def one(number, alone, long):
            return {"round": number, "path": "remora-1", "errors": 0, "said": [],
                    **{kind: {"p50": 1.0, "p99": p99} for kind, p99 in (("alone", alone), ("long", long), ("slow", alone))}}
        found = neighbours.summary([one(0, 1.0, 2.0), one(1, 10.0, 30.0), one(2, 2.0, 20.0)], "remora-1")
        self.assertEqual((found["ratio_long"], found["ratio_slow"]), (3.0, 1.0))
        self.assertEqual(neighbours.summary([], "remora-1"), {})


if __name__ == "__main__":
    unittest.main()
