# SPDX-License-Identifier: Apache-2.0
"""Remora's SOFARegistry adapter, alone, against a real SOFARegistry 6.3.0 and its real clients: `python3 -m
harness.adapter_sofaregistry` in `testbed`, as root, after `mvn -f java package` and `cargo build -p remora-sofaregistry
--examples`. REMORA_EXAMPLE names the example's binary if it is not in `target/debug/examples`. Ends with `N passed, N failed`.
"""

import os
import pathlib
import signal
import sys
import tempfile
import time

from .net import Network, ip
from .parts import REPO, Parts
from .procs import Failed, wait_for
from .sofaregistry import Driver, SofaRegistry

EXAMPLE = pathlib.Path(os.environ.get("REMORA_EXAMPLE", REPO / "target/debug/examples/registry"))
SERVICE = "demo.EchoService:1.0"
DATA_ID = f"{SERVICE}@DEFAULT"
INFO_ID = f"{DATA_ID}#@#DEFAULT_INSTANCE_ID#@#SOFA"
LINE = "10.77.0.99:12201?rpcVer=51302&serialization=hessian2&weight=100&appName=shop&p=1&v=4.0&name=größe-鯨-🐋&remora.app.port=12200"


class Adapter:
    """The example `registry` of the crate, on commands."""

    def __init__(self, parts, host, endpoint):
        self.pipe = pathlib.Path(tempfile.mkdtemp()) / "commands"
        os.mkfifo(self.pipe)
        self.proc = parts._start("adapter", host, [str(EXAMPLE), endpoint, str(self.pipe)])
        self._out = open(self.pipe, "w", encoding="utf-8")

    def tell(self, *words):
        self._out.write("\t".join(map(str, words)) + "\n")
        self._out.flush()

    def seen(self, what, timeout=20, begin=0, test=lambda event: True, **fields):
        """The newest event of a kind, once it has these fields."""
        def find():
            for event in reversed(self.proc.events[begin:]):
                if event["event"] == what and all(event.get(k) == v for k, v in fields.items()) and test(event):
                    return event
            return None
        return wait_for(f"{what} {fields} of {self.proc.name}", timeout, find)

    def mark(self):
        return len(self.proc.events)


def published_is_seen_by_java(bed):
    bed.java.tell("sub", "s1", DATA_ID, "SOFA", "global")
    bed.java.seen("data", key="s1", count=0)
    bed.adapter.tell("publish", SERVICE, LINE)
    bed.adapter.seen("publish", name=SERVICE, done="ok")
    seen = bed.java.seen("data", key="s1", count=1)
    expect(seen["zones"]["DEFAULT_ZONE"], [LINE])
    record = bed.server.publishers(INFO_ID)
    expect([r["appName"] for r in record], ["shop"])


def withdrawn_goes_from_java(bed):
    bed.adapter.tell("withdraw", SERVICE, LINE)
    bed.adapter.seen("withdraw", done="ok")
    bed.java.seen("data", key="s1", count=0)
    expect(bed.server.publishers(INFO_ID), [])


def java_is_followed(bed):
    bed.adapter.tell("follow", SERVICE)
    bed.adapter.seen("list", name=SERVICE, count=0)
    bed.java.tell("pub", "p1", DATA_ID, "SOFA", LINE)
    expect(bed.adapter.seen("list", name=SERVICE, count=1)["lines"], [LINE])
    bed.java.tell("republish", "p1", LINE, LINE.replace("12201", "12202"), "?nonsense")
    seen = bed.adapter.seen("list", name=SERVICE, count=2)
    expect(seen["malformed"], ["?nonsense"])
    bed.java.tell("drop", "p1")
    bed.adapter.seen("list", name=SERVICE, count=0, begin=bed.adapter.proc.events.index(seen))


def an_interface_has_all_its_services_that_are_followed(bed):
    other = "demo.EchoService:2.0.0:blue"
    bed.java.tell("pub", "i1", DATA_ID, "SOFA", LINE)
    bed.java.tell("pub", "i2", f"{other}@DEFAULT", "SOFA", LINE)
    bed.adapter.tell("follow", "demo.EchoService")
    bed.adapter.seen("list", name="demo.EchoService", count=1)
    bed.adapter.tell("follow", other)
    bed.adapter.seen("list", name="demo.EchoService", count=2)
    bed.java.tell("drop", "i1")
    bed.java.tell("drop", "i2")
    bed.adapter.seen("list", name="demo.EchoService", count=0)


def many_lines_in_one_push(bed):
    bed.adapter.tell("follow", "demo.Many:1.0")
    bed.java.tell("many", "m1", "demo.Many:1.0@DEFAULT", "SOFA", "5000")
    seen = bed.adapter.seen("list", name="demo.Many:1.0", count=5000, timeout=30)
    size = sum(len(line) for line in seen["lines"])
    print(f"      5,000 lines, {size} bytes")
    bed.java.tell("drop", "m1")


def other_data_is_relayed(bed):
    bed.java.tell("sub", "o1", "shop.prices", "DEFAULT_GROUP", "zone")
    bed.adapter.tell("subscribe", "shop.prices", "DEFAULT_GROUP", "zone")
    bed.adapter.tell("relay", "r1", "shop.prices", "DEFAULT_GROUP", "1", "zwei")
    expect(bed.java.seen("data", key="o1", count=2)["zones"]["DEFAULT_ZONE"], ["1", "zwei"])
    expect(bed.adapter.seen("received", data_id="shop.prices", test=lambda e: e["zones"])["zones"], [["DEFAULT_ZONE", ["1", "zwei"]]])
    bed.adapter.tell("relay", "r1", "shop.prices", "DEFAULT_GROUP", "drei")
    expect(bed.java.seen("data", key="o1", count=1)["zones"]["DEFAULT_ZONE"], ["drei"])
    bed.adapter.tell("unrelay", "r1")
    bed.java.seen("data", key="o1", count=0)
    bed.adapter.tell("configure", DATA_ID, "SOFA.CONFIG")
    bed.adapter.seen("configuration", data_id=DATA_ID, data=None)


def everything_comes_back_after_the_server(bed):
    bed.adapter.tell("publish", SERVICE, LINE)
    bed.java.seen("data", key="s1", count=1)
    bed.java.tell("pub", "k1", "demo.Kept:1.0@DEFAULT", "SOFA", LINE)
    bed.adapter.tell("follow", "demo.Kept:1.0")
    bed.adapter.seen("list", name="demo.Kept:1.0", count=1)
    begin = bed.adapter.mark()
    bed.server.kill()
    bed.adapter.seen("state", up=False, begin=begin)
    bed.server.start()
    started = time.time()
    bed.adapter.seen("state", up=True, begin=begin, timeout=30)
    wait_for("the publication is back", 30, lambda: bed.server.publishers(INFO_ID))
    print(f"      publication back {time.time() - started:.1f} s after the server was ready")
    # The server came back without anything; then the Java client registered again. The list may have been empty between.
    wait_for("the Java client is back", 60, lambda: bed.server.publishers(INFO_ID.replace("EchoService", "Kept")))
    time.sleep(3)
    lists = [e["count"] for e in bed.adapter.proc.events if e["event"] == "list" and e["name"] == "demo.Kept:1.0"]
    print(f"      lists: {lists}")
    expect(lists[-1], 1)


def outage(bed, begin, end, what):
    """Silence in both directions; then the publication and the list must be there, and stay while the server buries the old connection."""
    other = LINE.replace("12201", "12203")
    mark = bed.adapter.mark()
    begin()
    began = time.time()
    bed.adapter.seen("state", up=False, begin=mark, timeout=40)
    print(f"      {what}: seen after {time.time() - began:.1f} s")
    time.sleep(15)
    mark = bed.adapter.mark()
    end()
    ended = time.time()
    bed.adapter.seen("state", up=True, begin=mark, timeout=40)
    wait_for("the publication is back", 40, lambda: bed.server.publishers(INFO_ID))
    print(f"      {what}: publication there {time.time() - ended:.1f} s after its end")
    lost = 0
    until = time.time() + 60
    while time.time() < until:
        lost += not bed.server.publishers(INFO_ID)
        time.sleep(1)
    expect(lost, 0)
    mark = bed.adapter.mark()
    bed.java.tell("pub", f"o{mark}", "demo.Kept:1.0@DEFAULT", "SOFA", other)
    bed.adapter.seen("list", name="demo.Kept:1.0", count=2, begin=mark, timeout=40)
    bed.java.tell("drop", f"o{mark}")
    bed.adapter.seen("list", name="demo.Kept:1.0", count=1, begin=mark, timeout=40)


def a_paused_server(bed):
    proc = bed.server.proc.popen
    outage(bed, lambda: proc.send_signal(signal.SIGSTOP), lambda: proc.send_signal(signal.SIGCONT), "server paused")


def a_cut_link(bed):
    link = lambda state: ip("-n", bed.adapter.proc.host.namespace, "link", "set", "eth0", state)
    outage(bed, lambda: link("down"), lambda: link("up"), "link cut")


def a_killed_adapter_is_withdrawn(bed):
    bed.adapter.proc.kill()
    killed = time.time()
    wait_for("its publication is gone", 30, lambda: not bed.server.publishers(INFO_ID))
    print(f"      gone {time.time() - killed:.1f} s after the kill")


CELLS = [published_is_seen_by_java, withdrawn_goes_from_java, java_is_followed, an_interface_has_all_its_services_that_are_followed,
         many_lines_in_one_push, other_data_is_relayed, everything_comes_back_after_the_server, a_paused_server,
         a_cut_link, a_killed_adapter_is_withdrawn]


class Bed:
    pass


def expect(found, wanted):
    if found != wanted:
        raise Failed(f"found {str(found)[:500]}, not {str(wanted)[:500]}")


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sofaregistry-adapter-"))
    print(f"files in {folder}", flush=True)
    passed = failed = 0
    bed = Bed()
    with Network() as network, Parts(folder) as parts:
        bed.server = SofaRegistry(parts, network.host("registry"))
        bed.java = Driver(parts, network.host("java"), "v65", bed.server.endpoint)
        bed.adapter = Adapter(parts, network.host("remora"), bed.server.endpoint)
        bed.adapter.seen("state", up=True)
        for cell in CELLS:
            started = time.time()
            try:
                cell(bed)
                passed += 1
                print(f"ok    {cell.__name__} {time.time() - started:.1f} s", flush=True)
            except (Failed, KeyError) as error:
                failed += 1
                print(f"FAIL  {cell.__name__}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
