# SPDX-License-Identifier: Apache-2.0
"""Cells in which the disk with the last known lists fails: E24, E25."""

import errno
import json
import os
import random
import subprocess
import time
import zlib

from .cells_faults import Load
from .outage import Run, timed
from .parts import now_ms
from .procs import Failed, wait_for
from .world import World


def fill(path):
    """Writes until the disk is full."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(file)


def inside(remora, *command):
    """A command about its data directory, among the mounts that it sees itself."""
    subprocess.run(["nsenter", "-t", str(remora.serving), "-m", *command, str(remora.data / "data")], check=True)


def snapshot_refused(settings, network, name, line, how):
    """E24: the disk with the last known lists is full, or can only be read."""
    run = Run(f"{line}, {how}")
    if os.geteuid() != 0:
        raise Failed("needs root, to mount a small file system")
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        world.registry_for("consumer")
        remora = world.remoras["consumer"]
        remora.stop()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(remora.data / "data")], check=True)
        over = False
        try:
            remora.start()
            load = Load(world, line, seconds=120)
            begin = now_ms()
            lists = remora.data / "data" / "lists-default.jsonl"
            wait_for("the lists are kept", 15, lambda: lists.exists() and b"EchoService" in lists.read_bytes(), 0.2)
            kept = lists.read_bytes()
            if how == "disk full":
                filler = remora.data / "data" / "filler"
                fill(filler)
            else:
                # Over the other one: that cannot be made read-only while the lock's file is open.
                inside(remora, "mount", "-t", "tmpfs", "-o", "ro", "tmpfs")
                over = True
            world.provider(line, host="provider2", name="p2")
            wait_for("the failure is counted", 20, lambda: 'remora_discovery_snapshot_kept{registry="default"} 0' in remora.http("/metrics"), 0.2)
            if over:
                inside(remora, "umount")
                over = False
            if lists.read_bytes() != kept:
                raise Failed("the last good lists were touched")
            if how == "disk full":
                filler.unlink()
            took = timed("the lists are kept again", 60, lambda: 'remora_discovery_snapshot_kept{registry="default"} 1' in remora.http("/metrics"), 0.2)
            run.recovery("kept again", took)
            wait_for("both providers are in the file", 10, lambda: lists.read_bytes() != kept, 0.2)
            run.load(load.end(), begin)
            run.no_failures()
            load.proc.kill()
        finally:
            remora.stop()
            subprocess.run(["umount", str(remora.data / "data")], check=False)
    return run


def damages(whole, rng):
    """Ways to damage a file, without end: (what, bytes)."""
    while True:
        cut = rng.randrange(len(whole))
        yield f"cut at {cut}", whole[:cut]
        flipped, bit = bytearray(whole), rng.randrange(HEAD * 8, len(whole) * 8)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)
        yield "of an old version", whole.replace(b"remora-lists 1 ", b"remora-lists 0 ", 1)
        yield "noise", rng.randbytes(rng.randrange(len(whole)))


def of_another_registry(whole):
    """The same lists, well sealed, of a registry at another address."""
    content = whole[HEAD:].replace(b"zookeeper://", b"zookeeper://10.99.", 1)
    return f"remora-lists 1 {zlib.crc32(content):08x}".ljust(HEAD - 1).encode() + b"\n" + content


def snapshot_damaged(settings, network, name, line, times):
    """E25: the last known lists are damaged, and Remora starts while the registry is away."""
    run = Run(f"{line}, {times} starts with damaged lists")
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        world.finish(world.consumer(line, "--mix", "echo", "--calls", 20, "--wait", 20))
        remora = world.remoras["consumer"]
        lists = remora.data / "data" / "lists-default.jsonl"
        former = lists.with_name(lists.name + ".old")
        kept = lambda path: sum(path.exists() and network.host(h).address.encode() in path.read_bytes() for h in ("provider", "provider2"))
        wait_for("one provider is kept", 20, lambda: kept(lists) == 1, 0.2)
        # Lists go to disk once a second; a provider offers several services.
        time.sleep(2.5)
        before = lists.read_bytes()
        world.provider(line, host="provider2", name="p2")
        wait_for("two providers are kept", 20, lambda: kept(lists) == 2, 0.2)
        time.sleep(2.5)
        whole = lists.read_bytes()
        remora.stop()
        world.keeper.stop()

        def shows(current, old):
            lists.write_bytes(current)
            former.write_bytes(old)
            # Without any list it is not ready before the registry has answered.
            remora.launch()
            wait_for("Remora answers", 30, lambda: remora.http("/livez").startswith("HTTP/1.1 200"))
            catalog = json.loads(remora.http("/catalog").split("\r\n\r\n", 1)[1])
            remora.stop()
            found = [one["providers"] for one in catalog["lists"] if "EchoService" in one["name"]]
            return max(found, default=0)

        # Each of the two stands there as often as it offers the service in another group or version.
        both, one = shows(whole, before), shows(before, before)
        if not 0 < one < both:
            raise Failed(f"undamaged lists show {both} providers, those before {one}")
        for number, (what, damaged) in zip(range(times), damages(whole, random.Random(settings.seed if hasattr(settings, "seed") else 25))):
            if (found := shows(damaged, before)) != one:
                raise Failed(f"{what}: {found} providers are shown, in the state before there are {one}")
            if number % 4 == 0 and (found := shows(damaged, damaged)) != 0:
                raise Failed(f"both states {what}: {found} providers are shown")
        for current, old in ((of_another_registry(whole), before), (of_another_registry(whole), of_another_registry(before))):
            if (found := shows(current, old)) != 0:
                raise Failed(f"lists of another registry: {found} providers are shown")
        run.notes.append(f"{times} times the state before was used, {(times + 3) // 4} times, with both damaged, none; another registry's never")
        lists.write_bytes(whole[:-1])
        former.write_bytes(before)
        remora.start()
        consumer = world.consumer(line, "--mix", "echo", "--calls", 100, "--wait", 20)
        calls = world.finish(consumer)[0]
        run.figures["calls"] += calls
        run.no_failures()
        world.keeper.start()
        wait_for("both providers are kept again", 30, lambda: kept(lists) == 2, 0.2)
        run.notes.append(f"{calls} calls with the state before; whole again with the registry")
    return run


# Length of the first line: kind, version, checksum.
HEAD = 48
