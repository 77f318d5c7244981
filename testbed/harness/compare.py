# SPDX-License-Identifier: Apache-2.0
"""Does a registry filled through Remora differ from a bare one in port and marker only?

Rows come from `zk.dump`. What changes from run to run (pid, timestamps) is blanked in both. In the nodes which takeover
owns, the ingress ports are put back to the application's and parameters that begin with `remora.` are dropped; all other
differences are reported.
"""

import json
import re
import time

from . import zk

# pid=1, "pid":"1", pid%3D1 and the like, also inside JSON inside JSON.
_CHANGING = re.compile(r'((?:pid|timestamp|registrationTimeUTC|register-time|startTime)\\*"?(?:=|: ?|%3D)\\*"?)\d+')
_OWNED = re.compile(r"^E (/dubbo/[^/]+/providers/|/services/|/(?:sofa-rpc|sofaregistry)/[^/]+/providers/)")
_JSON_MARKER = re.compile(r'\\*"remora\.[^"\\]*\\*":\\*"[^"\\]*\\*",?|,\\*"remora\.[^"\\]*\\*":\\*"[^"\\]*\\*"')
_INGRESS = {
    20880: re.compile(r"(?<![\d.])(2088[1-9]|209\d\d)(?!\d)"),
    # Of bolt only the address: times and pids have such numbers in them, too.
    12200: re.compile(r"(?<=\d:)(12201|123\d\d)(?=[/?])"),
}


def _sorted(value):
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value) if key != "types"}
    if isinstance(value, list):
        return sorted((_sorted(v) for v in value), key=json.dumps)
    return value


def blanked(row):
    """The row without what changes from run to run. Definitions list methods as the JVM happens to
    give them, and their types refer to that order: sorted here, without the types."""
    path, equals, data = row.partition(" = ")
    if path.startswith("P /dubbo/metadata/") and data.startswith("{"):
        try:
            row = path + equals + json.dumps(_sorted(json.loads(data)))
        except ValueError:
            pass
    return _CHANGING.sub(r"\1*", row)


def without_takeover(row, app_port):
    """An owned row as it would stand without Remora."""
    if not _OWNED.match(row):
        return row
    row = _JSON_MARKER.sub("", row)
    head, mark, query = row.partition("?")
    if mark:
        query, equals, data = query.partition(" = ")
        kept = [p for p in query.split("&") if not p.startswith("remora.")]
        row = head + mark + "&".join(kept) + equals + data
    return _INGRESS[app_port].sub(str(app_port), row)


def differences(bare, taken, app_port=20880):
    """Rows only in one of the two, `-` bare and `+` taken over, after takeover's own marks are undone."""
    want = {blanked(row) for row in bare}
    got = {blanked(without_takeover(row, app_port)) for row in taken}
    return [f"- {row}" for row in sorted(want - got)] + [f"+ {row}" for row in sorted(got - want)]


def told(found):
    """A few differences in words: of two rows with the same path, the place where they part."""
    paths = {}
    for row in found:
        paths.setdefault(row[2:].split(" = ")[0].split("?")[0], []).append(row)
    words = []
    for rows in list(paths.values())[:4]:
        at = 0
        if len(rows) == 2:
            at = next((i for i, (a, b) in enumerate(zip(rows[0][2:], rows[1][2:])) if a != b), 0)
        words += [f"{row[0]} {row[2:140]} ..{row[max(2, at - 20):at + 160]}" if at else row[:300] for row in rows]
    return f"{len(found)} rows: " + " | ".join(words)


def untouched(taken, app_port=20880):
    """Provider rows that still carry the application's own port as their address, or no marker."""
    wrong = []
    for row in taken:
        if _OWNED.match(row) and "/providers/" in row:
            address = row.split("/providers/", 1)[1].split("?")[0] + "/"
            if f":{app_port}/" in address or "remora." not in row:
                wrong.append(row)
        elif _OWNED.match(row) and f":{app_port} =" in row:
            wrong.append(row)
    return wrong


def settled(host, address, port, quiet=0.7, timeout=15):
    """The dump once it has not changed for `quiet` seconds: 3.x writes its metadata a little later."""
    last, since, until = None, time.time(), time.time() + timeout
    while time.time() < until:
        rows = zk.dump(host, address, port)
        if rows != last:
            last, since = rows, time.time()
        elif time.time() - since >= quiet:
            return rows
        time.sleep(0.2)
    return last


def stats(host, address, port):
    """{path: (czxid, ephemeralOwner)} of the ephemeral nodes: who owns what, and since when."""
    with zk.Client(host, address, port) as client:
        return {path: (stat.czxid, stat.ephemeral_owner) for path, (_data, stat) in client.tree().items() if stat.ephemeral_owner}
