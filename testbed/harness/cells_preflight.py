# SPDX-License-Identifier: Apache-2.0
"""`remora preflight` at real registries: a tree with every trouble, real applications, credentials, 2,000 services.

In each cell the registry is the same before and after, and a relay between sees reads only.
"""

import base64
import hashlib
import json
import re
import resource
import struct
import subprocess
import time
import urllib.parse

from . import zk
from .parts import REPO
from .procs import Failed, wait_for
from .recorder import Recorder
from .sofa import SofaWorld
from .world import World

TREE = REPO / "tests/preflight/tree.txt"
GOLDEN = REPO / "tests/preflight/golden.txt"
OPEN = [(31, "world", "anyone")]
SERVICES = 2000
# Takeover of a host must not wait for it; the embedded registry and ZooKeeper answer some 20,000 reads a second.
LARGE_LIMIT_S = 15


class Writer(zk.Client):
    """A client that makes nodes with access lists of their own, and shows credentials."""

    def show(self, user, password):
        """Shows credentials; what is made for their owner can be read then."""
        body = struct.pack(">i", 0) + self._text("digest") + self._text(f"{user}:{password}")
        self._send(struct.pack(">ii", -4, 100) + body)
        while struct.unpack_from(">i", answer := self._receive())[0] != -4:
            pass
        if struct.unpack_from(">i", answer, 12)[0]:
            raise Failed("ZooKeeper refused the credentials")

    def rows(self):
        """Everything that stands there, with its data and owner."""
        return sorted((path, data, stat.ephemeral_owner, stat.version) for path, (data, stat) in self.tree().items())

    def put(self, path, data=b"", ephemeral=False, acl=None):
        """Makes a node, and those above it that are missing."""
        parts = path.split("/")[1:]
        for depth in range(1, len(parts)):
            above = "/" + "/".join(parts[:depth])
            try:
                self.make(above)
            except zk.ZkError as error:
                if error.code != -110:
                    raise
        try:
            self.make(path, data, ephemeral, acl)
        except zk.ZkError as error:
            if error.code != -110:
                raise

    def make(self, path, data=b"", ephemeral=False, acl=None):
        rows = acl or OPEN
        packed = struct.pack(">i", len(rows)) + b"".join(
            struct.pack(">i", perms) + self._text(scheme) + self._text(name) for perms, scheme, name in rows)
        self._call(1, self._text(path) + struct.pack(">i", len(data)) + data + packed + struct.pack(">i", 1 if ephemeral else 0), path)


def owner(user, password):
    """An access list for one user, as ZooKeeper's digest scheme has it."""
    digest = base64.b64encode(hashlib.sha1(f"{user}:{password}".encode()).digest()).decode()
    return [(31, "digest", f"{user}:{digest}")]


def build(writer, text):
    """Makes every node of a text like tests/preflight/tree.txt."""
    now = int(time.time() * 1000)
    text = text.replace("$NOW", str(now)).replace("$LATER", str(now + 3_600_000))
    for row in text.splitlines():
        if not row or row.startswith("#"):
            continue
        kind, rest = row.split(" ", 1)
        place, _, data = rest.partition(" = ")
        directory, plus, child = place.partition(" + ")
        # As Java's URLEncoder.
        path = f"{directory}/{urllib.parse.quote_plus(child, safe='*')}" if plus else place
        data = data.replace("\\n", "\n").replace("\\x01", "\x01").encode()
        writer.put(path, data, kind == "E", owner("other", "secret") if kind == "S" else None)


def preflight(world, address, *words):
    """(page, exit code, seconds) of the command on the registry's own host."""
    argv = world.registry_host.command([str(world.settings.binary), "preflight", "--registry", address, "--no-host", *words])
    begin = time.time()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr, done.returncode, time.time() - begin


def steady(page, address):
    """The page without what differs from run to run, and from the embedded registry of the golden file."""
    rows, skips = [], False
    for row in page.replace(address, "REGISTRY").splitlines():
        if row.endswith("nothing was written"):
            row = "  N reads, N KiB, N ms; nothing was written"
        elif row.startswith("  REGISTRY  ZooKeeper"):
            row = "  REGISTRY  ZooKeeper"
        row = re.sub(r"(provider\.invalid: ).*(; )", r"\1WHY\2", row)
        row = re.sub(r"\d+ s ahead of the registry's", "S s ahead of the registry's", row)
        row = re.sub(r"\d+ notes; docs", "N notes; docs", row)
        # A real server tells its limit.
        skips = row.startswith("  P308 ") or (skips and row.startswith("    "))
        if not skips:
            rows.append(row)
    return rows


def check_reads(recorder, notes):
    if recorder.not_reads():
        raise Failed(f"not only reads: {recorder.not_reads()}")
    reads = sum(recorder.seen[what] for what in ("exists", "getData", "getChildren"))
    notes.append(f"{reads} reads and {recorder.seen['greeting']} session recorded, nothing else")


def tree(settings, network, name):
    """The tree of the golden file in a real ZooKeeper."""
    with World(settings, network, name, taken=()) as world:
        with Writer(world.registry_host, world.address, world.port) as writer:
            writer.show("other", "secret")
            build(writer, TREE.read_text())
            before = writer.rows()
            with Recorder(world.registry_host, world.address, world.port) as recorder:
                address = f"127.0.0.1:{recorder.port}"
                page, code, seconds = preflight(world, f"zookeeper://{address}", "--all")
                check_reads(recorder, world.notes)
            if writer.rows() != before:
                raise Failed("the registry is not as before")
        if code != 4:
            raise Failed(f"exit code {code}: {page[-300:]}")
        found, expected = steady(page, address), steady(GOLDEN.read_text(), address)
        for at, (one, other) in enumerate(zip(found, expected)):
            if one != other:
                raise Failed(f"line {at + 1} is {one!r}, the golden file has {other!r}")
        if len(found) != len(expected):
            raise Failed(f"{len(found)} lines, the golden file has {len(expected)}")
        world.notes.append(f"{len(found)} lines as in the golden file, {seconds:.1f} s")
        return world.notes


def credentials(settings, network, name):
    """Lists that only their owner may read; addresses that are no ZooKeeper."""
    with World(settings, network, name, taken=()) as world:
        with Writer(world.registry_host, world.address, world.port) as writer:
            dubbo = "dubbo%3A%2F%2F10.0.0.5%3A20880%2Fdemo.A%3Fapplication%3Da%26interface%3Ddemo.A%26release%3D2.7.23"
            writer.put("/dubbo/demo.A/providers", acl=OPEN)
            writer.put(f"/dubbo/demo.A/providers/{dubbo}", ephemeral=True)
            writer.put("/dubbo/demo.B/providers", acl=owner("dubbo", "s3cret"))
            for who, expected in (("", 4), ("dubbo:wrong@", 4), ("dubbo:s3cret@", 0)):
                page, code, _ = preflight(world, f"zookeeper://{who}{world.address}:{world.port}")
                if code != expected or (code == 4) != ("P104 forbidden" in page) or "s3cret" in page.replace(who, ""):
                    raise Failed(f"as {who or 'nobody'}: exit code {code}, {page[-400:]}")
        refused = []
        for address, words in ((f"zookeeper://{world.address}:1", "no session"),
                               (f"zookeeper://{world.address}:{world.port}/nowhere", "has no node /nowhere"),
                               (f"zookeeper://{world.address}:{world.port}", "no service is called demo.Z")):
            page, code, _ = preflight(world, address, *(["--only", "demo.Z"] if "demo.Z" in words else []))
            if code != 1 or words not in page:
                raise Failed(f"{address}: exit code {code}, {page}")
            refused.append(words)
        world.notes.append(f"lists of a user are told of without the right credentials, read with them; {len(refused)} refusals say why")
        return world.notes


def applications(settings, network, name):
    """Real Dubbo 2.6, 2.7 and 3.3, and SOFARPC, all in one ZooKeeper."""
    with World(settings, network, name, taken=()) as world:
        lines = {"2.6": "dubbo 2.6", "2.7": "dubbo 2.7.23", "3.3": "dubbo 3.3.6"}
        for line in lines:
            world.provider(line, host=f"provider-{line}")
        world.consumer("2.7", "--loop", "60", "--check", "false").event("ready", 60)
        sofa = network.isolated
        if sofa:
            where = network.host("sofa-provider")
            world.parts.app("s5.13", "provider", where, world.url, "--ports", "12200", "--name", "p1").event("ready", 60)
        before = zk.dump(world.registry_host, world.address, world.port)
        with Recorder(world.registry_host, world.address, world.port) as recorder:
            page, code, seconds = preflight(world, f"zookeeper://127.0.0.1:{recorder.port}", "--json")
            check_reads(recorder, world.notes)
        if zk.dump(world.registry_host, world.address, world.port) != before:
            raise Failed("the registry is not as before")
        report = json.loads(page)
        frameworks = {f for application in report["applications"] for f in application["frameworks"]}
        wanted = set(lines.values()) | ({"sofarpc 5.13.2"} if sofa else set())
        if not wanted <= frameworks:
            raise Failed(f"frameworks found: {sorted(frameworks)}, there are {sorted(wanted)}")
        echo = next(s for s in report["services"] if s["name"] == "demo.EchoService" and s["namespace"] == "/dubbo")
        left = [p for p in echo["providers"] if p.get("left") or p["after"] == p["before"]]
        if left or len(echo["providers"]) < len(lines):
            raise Failed(f"providers of demo.EchoService: {echo['providers']}")
        handed = {(h["protocol"], h["address"]) for h in echo["handed"]}
        if handed != {("dubbo", "2130706433:20882")}:
            raise Failed(f"handed out: {handed}")
        codes = sorted(finding["code"] for finding in report["findings"])
        if "P303" not in codes:
            raise Failed(f"the callback parameter of demo.CallbackService is not among {codes}")
        world.notes.append(f"{len(report['applications'])} applications, {len(report['services'])} lists, {report['verdict']} "
                           f"({' '.join(codes)}), exit code {code}, {seconds:.1f} s")
        return world.notes


def large(settings, network, name):
    """2,000 services with three providers and two consumers each, in seconds."""
    with World(settings, network, name, taken=()) as world:
        with Writer(world.registry_host, world.address, world.port) as writer:
            for number in range(SERVICES):
                service = f"demo.big.Service{number:04}"
                if number == 0:
                    writer.make("/dubbo")
                writer.make(f"/dubbo/{service}")
                for category in ("providers", "consumers", "configurators", "routers"):
                    writer.make(f"/dubbo/{service}/{category}")
                for at in range(3):
                    url = (f"dubbo://10.{at}.{number // 250}.{number % 250 + 1}:20880/{service}?anyhost=true&application=app{number % 500}&dubbo=2.0.2"
                           f"&interface={service}&methods=a,b,c&pid={at}&release=2.7.23&side=provider&timestamp=1795000000000&timeout={1000 + at}")
                    writer.make(f"/dubbo/{service}/providers/{urllib.parse.quote_plus(url, safe='*')}", ephemeral=True)
                for at in range(2):
                    url = f"consumer://10.9.{at}.{number % 250 + 1}/{service}?application=web{number % 300}&interface={service}&pid={at}&release=2.7.23&side=consumer"
                    writer.make(f"/dubbo/{service}/consumers/{urllib.parse.quote_plus(url, safe='*')}", ephemeral=True)
            page, code, seconds = preflight(world, world.url)
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
        if code != 3 or f"lists: {SERVICES}, with {3 * SERVICES} providers, of which {3 * SERVICES} would be taken over" not in page:
            raise Failed(f"exit code {code}: {page[:600]}")
        reads = next(row.strip() for row in page.splitlines() if row.endswith("nothing was written"))
        world.notes.append(f"{seconds:.1f} s, at most {memory} MiB; {reads}")
        if seconds > LARGE_LIMIT_S:
            raise Failed(f"{seconds:.1f} s for {SERVICES} services, allowed are {LARGE_LIMIT_S} s")
        return world.notes


def sofaregistry(settings, network, name):
    """A SOFARPC provider and consumer at a real SOFARegistry."""
    with SofaWorld(settings, network, name, upstream="sofaregistry") as world:
        world.provider("s5.13", door="bare")
        world.consumer("s5.13", "--loop", "60", door="bare").event("ready", 60)
        before = wait_for("all is published", 30, lambda: len(rows := world.dump()) > 2 and rows)
        page, code, seconds = preflight(world, world.url, "--json")
        if world.dump() != before:
            raise Failed("what is published is not as before")
        try:
            report = json.loads(page)
        except ValueError:
            raise Failed(f"exit code {code}: {page}") from None
        services = {s["name"]: s for s in report["services"]}
        echo = services.get("demo.EchoService:1.0")
        if echo is None or [p["after"].rsplit(":", 1)[1] for p in echo["providers"]] != ["12201"] or not echo["consumers"]:
            raise Failed(f"demo.EchoService:1.0 is told as {echo}, among {sorted(services)}")
        if [h["address"] for h in echo["handed"]] != ["127.0.0.1:12220"]:
            raise Failed(f"handed out: {echo['handed']}")
        world.notes.append(f"{len(services)} services, {len(report['applications'])} applications, {report['verdict']}, exit code {code}, {seconds:.1f} s; publications as before")
        return world.notes


def cells(settings):
    if settings.bare:
        return []
    all_cells = [("preflight/tree", tree), ("preflight/credentials", credentials), ("preflight/applications", applications),
                 ("preflight/sofaregistry", sofaregistry)]
    if settings.full:
        all_cells.append(("preflight/large", large))
    return [(name, lambda network, name=name, cell=cell: cell(settings, network, name)) for name, cell in all_cells]
