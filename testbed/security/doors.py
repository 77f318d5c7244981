# SPDX-License-Identifier: Apache-2.0
"""S1: strangers at the doors. S2: changes over the admin port. S9: ZooKeeper's four-letter words."""

import json
import re
import socket
import statistics
import struct
import threading
import time

from harness.net import inside
from harness.procs import wait_for
from harness.zk import Client, ZkError

from .place import ADMIN, PATIENCE, Place, as_user, dial, exchange, heard, pause

DOORS = {"zookeeper": 2181, "mesh": 13330, "dubbod": 22222, "sofaregistry": 9603, "sofaregistry session": 9600}
OURS, THEIRS = 41000, 41001
OWN = "demo.Ours"
# A ZooKeeper client's first frame, a request of the HTTP doors, a heartbeat of bolt.
HELLO = {
    2181: struct.pack(">iiqiqi16s?", 45, 0, 0, 10000, 0, 16, bytes(16), False),
    9600: struct.pack(">BBHBIBIHHI", 1, 1, 0, 1, 7, 1, 3000, 0, 0, 0),
}


def doors_at(address):
    return {"facades": {
        "zookeeper": {"listen": f"{address}:2181"}, "mesh": {"listen": f"{address}:13330"}, "dubbod": {"listen": f"{address}:22222"},
        "sofaregistry": {"listen": f"{address}:9603", "session": f"{address}:9600"}}}


def hello(port):
    get = f"GET /heartbeat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    return HELLO.get(port, get.replace(b"/heartbeat", b"/api/servers/query") if port == 9603 else get)


def knock(connect, times):
    """How many of `times` connections to each door got an answer, refused ones included as none."""
    answered = {}
    for name, port in DOORS.items():
        count = 0
        for _ in range(times):
            try:
                answer, _ = heard(connect(port), hello(port))
                count += bool(answer)
            except OSError:
                pass
        answered[name] = count
    return answered


def row(case, calls, accepted, note):
    return {"case": case, "calls": calls, "failed": {"let_through": accepted} if accepted else {}, "note": note}


def audit_lines(log, words):
    """Refusals that the log tells of: lines, and what they say of earlier ones without a line."""
    lines = [line for line in log.splitlines() if words in line]
    return sum(1 + int(found.group(1)) for line in lines if (found := re.search(r"unwritten=(\d+)", line)))


def strangers(settings, network, name):
    times = 200 if settings.full else 20
    total = times * len(DOORS)
    rows, problems = [], []
    with Place(settings, network, name) as place:
        here, there = place.here, place.there
        place.remora("default", doors_at("127.0.0.1"))
        place.ready()
        answered = knock(lambda port: there.connect(here.address, port, 2), times)
        rows.append(row("another machine, doors as they are by default", total, sum(answered.values()), "nobody listens there"))
        control = knock(lambda port: here.connect("127.0.0.1", port), 1)
        problems += [f"{door} does not answer its own machine" for door, count in control.items() if count != 1]
        rows += _of_others(place, times, problems)
        place.procs.pop("default").stop()

        place.remora("open", doors_at("0.0.0.0"))
        place.ready()
        answered = knock(lambda port: there.connect(here.address, port, 2), times)
        told = audit_lines(place.log("open"), "refused at the door")
        rows.append(row("another machine, doors at 0.0.0.0", total, sum(answered.values()), f"{told} refusals in the log"))
        if told < total:
            # The last ones of a second are told by the next line.
            pause(1.1)
            knock(lambda port: there.connect(here.address, port, 2), 1)
            told = audit_lines(place.log("open"), "refused at the door")
        if told < total:
            problems.append(f"only {told} of {total} refusals are in the log")
        control = knock(lambda port: here.connect(here.address, port), 1)
        problems += [f"{door} does not answer its own machine at {here.address}" for door, count in control.items() if count != 1]
        place.procs.pop("open").stop()

        place.remora("named", {**doors_at("127.0.0.1"), "access": {"users": [OURS]}})
        place.ready()
        answered = as_user(THEIRS, here, lambda: knock(lambda port: dial("127.0.0.1", port), times))
        pause(1.1)
        as_user(THEIRS, here, lambda: knock(lambda port: dial("127.0.0.1", port), 1))
        told = audit_lines(place.log("named"), "refused at the door")
        rows.append(row("a user that access.users does not name", total, sum(answered.values()), f"{told} refusals in the log"))
        if told < total:
            problems.append(f"only {told} of {total} refusals are in the log")
        control = as_user(OURS, here, lambda: knock(lambda port: dial("127.0.0.1", port), 1))
        problems += [f"{door} does not answer the user that is named" for door, count in control.items() if count != 1]
    problems += [f"{r['case']}: {sum(r['failed'].values())} answered" for r in rows if r["failed"]]
    return {"id": "S1", "title": "strangers at the doors: other machines, other users", "bar": "refused in 100 %, a line in the log", "runs": rows,
            "problems": problems}


def _of_others(place, times, problems):
    """By default users share a door, but not their registrations and ports."""
    marks = place.folder / "users"
    marks.mkdir()
    marks.chmod(0o777)
    ready, done = marks / "ready", marks / "done"
    owner = threading.Thread(target=lambda: problems.extend(as_user(OURS, place.here, lambda: _own(ready, done))))
    owner.start()
    port = int(wait_for("a user's registrations", PATIENCE, lambda: ready.exists() and ready.read_text()))
    tried = as_user(THEIRS, place.here, lambda: _meddle(port, times))
    as_user(THEIRS, place.here, lambda: done.touch())
    owner.join()
    return [row("another user's registrations and ports, by default settings", tried["attempts"], tried["accepted"], "mesh and dubbod")]


def _own(ready, done):
    """Publishes what it listens on, and stays until the others have tried."""
    app = socket.create_server(("127.0.0.1", 0))
    port = app.getsockname()[1]
    refused = [f"{path} of its own user was refused" for path, door, body in _publish(OWN, port) if not _accepted(door, path, body)]
    ready.write_text(str(port))
    wait_for("the others", 120, done.exists)
    return refused + [f"{path} of its own user was refused later" for path, door, body in _withdraw(OWN, port) if not _accepted(door, path, body)]


def _meddle(port, times):
    requests = _publish(OWN, port, "1") + _publish("demo.Theirs", port) + _withdraw(OWN, port)
    accepted = sum(_accepted(door, path, body) for _ in range(times) for path, door, body in requests)
    return {"attempts": times * len(requests), "accepted": accepted}


def _accepted(door, path, body):
    data = json.dumps(body).encode()
    status, text = exchange(dial("127.0.0.1", door), "POST", path, "127.0.0.1", door, {"Content-Type": "application/json"}, data)
    answer = json.loads(text) if status == 200 else {}
    return answer.get("success") is True or answer.get("err_no") == 0


def _bodies(service, port, weight):
    mesh = {"serviceName": f"{service}:1.0", "protocolType": "bolt", "providerMetaInfo": {"appName": "a", "properties": {"port": str(port), "weight": weight}}}
    dubbod = {"service": {"interface": service, "methods": ["echo"], "version": "1.0.0", "port": port, "params": {"weight": weight}}}
    return mesh, dubbod


def _publish(service, port, weight="100"):
    mesh, dubbod = _bodies(service, port, weight)
    return [("/services/publish", 13330, mesh), ("/pub", 22222, dubbod)]


def _withdraw(service, port):
    mesh, dubbod = _bodies(service, port, "100")
    return [("/services/unpublish", 13330, mesh), ("/unpub", 22222, dubbod)]


# What other programs call such things, besides the verbs that the admin page names.
VERBS = ["/drain", "/reload", "/upgrade", "/withdraw", "/stop", "/shutdown", "/quitquitquit", "/exit", "/restart", "/config", "/catalog", "/logging",
         "/rollback", "/abort", "/healthcheck/fail"]
FORGED = [
    ("as it is", {}),
    ("X-Forwarded-For", {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1"}),
    ("a name in Host", {"Host": "remora.example"}),
    ("localhost in Host", {"Host": "localhost"}),
    ("Origin of itself", {"Origin": "http://127.0.0.1:15020"}),
    ("Origin null", {"Origin": "null"}),
    ("Referer", {"Referer": "http://127.0.0.1:15020/"}),
    ("Sec-Fetch", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}),
    ("a form", {"Content-Type": "application/x-www-form-urlencoded"}),
    ("another method in a header", {"X-HTTP-Method-Override": "POST"}),
    ("credentials", {"Authorization": "Basic cm9vdDpyb290", "Cookie": "user=root"}),
]


def _attempts(connect, address, verbs, methods, only_browsers=False):
    """(attempts, those answered with success) of every verb with every forged header."""
    made = accepted = 0
    browsers = ("Origin of itself", "Origin null", "Referer", "Sec-Fetch", "a name in Host")
    for verb in verbs:
        for method in methods:
            for label, headers in FORGED:
                if only_browsers and label not in browsers:
                    continue
                made += 1
                try:
                    status, _ = exchange(connect(), method, verb, address, ADMIN, headers)
                except OSError:
                    continue
                accepted += 200 <= status < 300
    return [made, accepted]


def admin_verbs(settings, network, name):
    rows, problems = [], []
    with Place(settings, network, name) as place:
        here, there = place.here, place.there
        place.remora("remora", {"admin": {"listen": "0.0.0.0:15020"}, "lifecycle": {"drain_timeout": "1s"}})
        place.ready()
        named = re.findall(r"POST ((?:/\w+[ ,]*)+)", place.admin("GET", "/")[1])
        named = [verb for group in named for verb in re.findall(r"/\w+", group)]
        if "/drain" not in named:
            problems.append(f"the page names no verbs: {named}")
        verbs = sorted(set(VERBS + named))
        methods = ["POST", "PUT", "DELETE", "PATCH"]
        writes = lambda connect, address, **more: _attempts(connect, address, verbs, methods, **more)
        for case, (made, accepted) in [
            ("another user of this machine", as_user(THEIRS, here, lambda: writes(lambda: dial("127.0.0.1", ADMIN), "127.0.0.1"))),
            ("another machine", writes(lambda: there.connect(here.address, ADMIN), here.address)),
            ("a browser of root", writes(lambda: here.connect("127.0.0.1", ADMIN), "127.0.0.1", only_browsers=True)),
            ("GET, as by a link, of root", _attempts(lambda: here.connect("127.0.0.1", ADMIN), "127.0.0.1", named, ["GET"])),
        ]:
            rows.append(row(case, made, accepted, f"{len(verbs)} paths, {len(named)} of them verbs of Remora"))
        if place.admin("GET", "/readyz")[0] != 200 or not place.procs["remora"].is_alive():
            problems.append("Remora is not ready any more")
        told = audit_lines(place.log("remora"), "refused at the admin port")
        if not told:
            problems.append("no line in the log")
        status = place.admin("POST", "/drain")[0]
        if status != 202:
            problems.append(f"root without a browser may not drain: {status}")
        rows.append(row("root, to see that the verb works", 1, 0, f"status {status}; {told} refusals in the log before"))
    problems += [f"{r['case']}: {sum(r['failed'].values())} accepted" for r in rows if r["failed"]]
    return {"id": "S2", "title": "changes over the admin port", "bar": "0 write verbs accepted of those who may not", "runs": rows, "problems": problems}


class Tap:
    """A relay in front of a server that keeps the first four bytes of each connection."""

    def __init__(self, host, port):
        self.host, self.target, self.first = host, port, []
        with inside(host.namespace):
            self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._socket.accept()
                far = self.host.connect("127.0.0.1", self.target)
                far.settimeout(None)
            except OSError:
                return
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source, sink, keeps):
        try:
            while part := source.recv(65536):
                if keeps:
                    self.first.append(part[:4])
                    keeps = False
                sink.sendall(part)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self._socket.close()


WORDS = [b"wchp", b"dump", b"kill"]


def _ask(times):
    """Latencies in µs of each word, and connections that were left open."""
    taken, open_still = {word.decode(): [] for word in WORDS}, 0
    for number in range(times):
        for word in WORDS:
            stream = dial("127.0.0.1", 2181)
            begin = time.perf_counter()
            _, closed = heard(stream, word, 2)
            taken[word.decode()].append((time.perf_counter() - begin) * 1e6)
            open_still += closed is None
    return {"p50": {w: statistics.median(t) for w, t in taken.items()}, "max": max(max(t) for t in taken.values()), "open": open_still}


def four_letters(settings, network, name):
    times = 10000 if settings.full else 700
    rows, problems = [], []
    with Place(settings, network, name) as place:
        here = place.here
        place.remora("registry", {}, argv=["registry", "--listen", "127.0.0.1:2281", "--data-dir", str(place.folder / "registry-data")])
        place.zookeeper(2281)
        tap = place.serve(Tap(here, 2281))
        place.remora("remora", {"registry": f"zookeeper://127.0.0.1:{tap.port}", "facades": {"zookeeper": {"listen": "127.0.0.1:2181"}}}, log="warn")
        place.ready()
        figures = []
        for case, sessions in (("an empty door", 0), ("300 sessions with 10 watches each", 300)):
            _watchers(place, sessions)
            connections = len(tap.first)
            measured = as_user(0, here, lambda: _ask(times))
            figures.append(measured)
            words = {part for part in tap.first if part.isalpha()}
            new = len(tap.first) - connections
            p50 = ", ".join(f"{word} {micros:.0f}" for word, micros in measured["p50"].items())
            rows.append(row(case, times * len(WORDS), len(words), f"median µs: {p50}; slowest {measured['max'] / 1000:.0f} ms; the registry got {new} connections"))
            if words or new > 1:
                problems.append(f"{case}: the registry was asked {words}, {new} connections")
            if measured["open"]:
                problems.append(f"{case}: {measured['open']} connections stay open")
        for word, micros in figures[1]["p50"].items():
            if micros > 2 * figures[0]["p50"][word] + 50:
                problems.append(f"{word} takes {micros:.0f} µs with sessions, {figures[0]['p50'][word]:.0f} without")
    return {"id": "S9", "title": "four-letter words at the ZooKeeper door", "bar": "answered in constant time, the registry sees none", "runs": rows,
            "problems": problems}


def _watchers(place, count):
    for _ in range(count):
        # It is not kept alive, so it cannot be closed in good order later.
        session = Client(place.here, "127.0.0.1", 2181)
        place.serve(session._socket)
        for node in range(10):
            path = f"/nobody-{node}".encode()
            try:
                session._call(3, struct.pack(">i", len(path)) + path + b"\1", path)
            except ZkError:
                # It is not there; the watch is.
                pass
