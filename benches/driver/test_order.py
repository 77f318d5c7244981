# SPDX-License-Identifier: Apache-2.0
"""Patterns of the linker script: `cd benches && PYTHONPATH=../testbed python3 -m unittest driver.test_order`."""

import unittest

from . import order

ONE, OTHER = "17h0123456789abcdefE", "17hfedcba9876543210E"


def patterns(used, size):
    """Of the lines, what follows the section's name."""
    found = []
    for line in order.script(used, size):
        usual, unlikely = line.strip().removeprefix("*(").removesuffix(")").split(" ")
        assert unlikely.removeprefix(".text.unlikely.") == usual.removeprefix(".text.")
        found.append(usual.removeprefix(".text."))
    return found


class Script(unittest.TestCase):
    def test_digits_are_left_out_where_all_functions_of_a_name_are_used(self):
        self.assertEqual(patterns([f"_ZN1a1f{ONE}"], {f"_ZN1a1f{ONE}": 100}), ["_ZN1a1f17h*"])

    def test_one_of_several_is_named_whole_and_the_others_come_last(self):
        size = {f"_ZN1a1f{ONE}.llvm.77": 100, f"_ZN1a1f{OTHER}": 4000, f"_ZN1a1g{ONE}": 8}
        self.assertEqual(patterns([f"_ZN1a1f{ONE}.llvm.77", f"_ZN1a1g{ONE}"], size), [f"_ZN1a1f{ONE}*", "_ZN1a1g17h*", "_ZN1a1f17h*"])

    def test_a_name_comes_once_and_in_the_order_of_its_first_call(self):
        used = [f"_ZN1a1g{ONE}", f"_ZN1a1f{ONE}", f"_ZN1a1g{OTHER}", "_RNvCsjrHSEGnQ3l9_3std4main"]
        self.assertEqual(patterns(used, {name: 8 for name in used}), ["_ZN1a1g17h*", "_ZN1a1f17h*", "_RNvCs*_3std4main"])


if __name__ == "__main__":
    unittest.main()
