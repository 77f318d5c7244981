# SPDX-License-Identifier: Apache-2.0
"""Figures of several runs of the driver, by unit: a protocol's case, or a part. What is measured anew replaces what was there.

A unit holds the rows of its rounds, which paths there were, what was left out and why, and which run of the driver made it.
"""

import json

SEPARATOR = "/"


class Kept:
    def __init__(self, file=None):
        self.file, self.units = file, {}
        if file and file.exists():
            self.units = json.loads(file.read_text())["units"]

    def put(self, key, about, figures, is_appended=False):
        """`figures` is a dict; its `rows` have a round each. `key` is (part, protocol, case), as far as they go."""
        name = SEPARATOR.join(key)
        old = self.units.get(name)
        if is_appended and old and "rows" in figures:
            first = 1 + max((row["round"] for row in old["rows"]), default=-1)
            rows = [{**row, "round": row["round"] + first} for row in figures["rows"]]
            figures = {**old, **figures, "rows": old["rows"] + rows}
            if "paths" in figures:
                had = [tuple(path) for path in old["paths"]]
                figures["paths"] = had + [path for path in map(tuple, figures["paths"]) if path not in had]
            abouts = [one for one in old["about"] if one != about] + [about]
        else:
            abouts = [about]
        self.units[name] = {**figures, "about": abouts}

    def save(self):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"units": self.units}))
        part.replace(self.file)

    def of(self, *key):
        """Units whose key begins so, by the rest of their keys."""
        found = {}
        for name, unit in self.units.items():
            words = tuple(name.split(SEPARATOR))
            if words[:len(key)] == key:
                found[words[len(key):]] = unit
        return found

    def one(self, *key):
        return self.units.get(SEPARATOR.join(key))

    def rows(self, protocol):
        """All rows of calls of a protocol."""
        return [row for unit in self.of("calls", protocol).values() for row in unit["rows"]]

    def skipped(self):
        """{what: why}."""
        return {what: why for unit in self.units.values() for what, why in unit.get("skipped", {}).items()}
