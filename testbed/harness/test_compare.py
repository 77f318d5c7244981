# SPDX-License-Identifier: Apache-2.0
"""`python3 -m unittest discover -s testbed -t testbed`: the comparison must see what it is there to see."""

import unittest

from . import compare

BARE = [
    "E /dubbo/demo.S/providers/dubbo://10.77.0.3:20880/demo.S?anyhost=true&pid=7&timestamp=1700000000001 = 10.77.0.3",
    'E /services/app/10.77.0.3:20880 = {"port":20880,"metadata":{"dubbo.endpoints":"[{\\"port\\":20880}]","timestamp":"17"}}',
    "P /dubbo/demo.S/providers = 10.77.0.3",
]
TAKEN = [
    "E /dubbo/demo.S/providers/dubbo://10.77.0.3:20881/demo.S?anyhost=true&pid=8&timestamp=1700000000002&remora.port=20880 = 10.77.0.3",
    'E /services/app/10.77.0.3:20881 = {"port":20881,"metadata":{"dubbo.endpoints":"[{\\"port\\":20881}]","timestamp":"18","remora.port":"20880"}}',
    "P /dubbo/demo.S/providers = 10.77.0.3",
]


class Differences(unittest.TestCase):
    def test_port_and_marker_are_no_difference(self):
        self.assertEqual(compare.differences(BARE, TAKEN), [])
        self.assertEqual(compare.untouched(TAKEN), [])

    def test_a_lost_parameter_is_seen(self):
        self.assertEqual(len(compare.differences(BARE, [TAKEN[0].replace("anyhost=true&", ""), *TAKEN[1:]])), 2)

    def test_changed_order_of_parameters_is_seen(self):
        self.assertEqual(len(compare.differences(BARE, [TAKEN[0].replace("anyhost=true&pid=8", "pid=8&anyhost=true"), *TAKEN[1:]])), 2)

    def test_a_changed_host_or_another_node_is_seen(self):
        self.assertEqual(len(compare.differences(BARE, [TAKEN[0].replace("10.77.0.3:", "10.77.0.4:"), *TAKEN[1:]])), 2)
        self.assertEqual(len(compare.differences(BARE, [*TAKEN, "P /remora = "])), 1)

    def test_sofarpc_rows_are_compared_alike(self):
        bare = ["E /sofa-rpc/demo.S/providers/bolt://10.77.0.3:12200?version=1.0&pid=12312&startTime=1700012345&uniqueId= = \x01"]
        taken = [bare[0].replace(":12200", ":12301").replace("startTime=1700012345", "startTime=1800012345").replace(" = ", "&remora.app.port=12200 = ")]
        self.assertEqual(compare.differences(bare, taken, 12200), [])
        self.assertEqual(compare.untouched(taken, 12200), [])
        self.assertEqual(len(compare.untouched(bare, 12200)), 1)
        self.assertEqual(len(compare.differences(bare, [taken[0].replace("version=1.0&", "")], 12200)), 2)

    def test_a_bare_publication_is_untouched(self):
        self.assertEqual(len(compare.untouched(BARE)), 2)


if __name__ == "__main__":
    unittest.main()
