# SPDX-License-Identifier: Apache-2.0
"""Security checks: what strangers, other users and poisoned registries must not get. `testbed/security/run`, threat model in
`docs/security.md`. Nothing of Java is needed; hosts are network namespaces, so root is."""
