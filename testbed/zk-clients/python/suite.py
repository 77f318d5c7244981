# SPDX-License-Identifier: Apache-2.0
"""suite.py HOST:PORT: what kazoo, an independent client, expects of a ZooKeeper."""

import sys
import threading
import time
import traceback

from kazoo.client import KazooClient
from kazoo.exceptions import (BadVersionError, InvalidACLError, NoAuthError, NoChildrenForEphemeralsError, NodeExistsError,
                              NoNodeError, NotEmptyError, RolledBackError)
from kazoo.protocol.states import EventType, KazooState
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.security import make_digest_acl

HOSTS = sys.argv[1]
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def client(**options):
    c = KazooClient(hosts=HOSTS, timeout=10, **options)
    c.start(timeout=10)
    return c


def wait(fact, seconds=15):
    until = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.02)


def root(c, name):
    path = f"/kazoo-{name}-{c.client_id[0]:x}"
    c.create(path)
    return path


@test
def data_and_versions(c):
    r = root(c, "data")
    c.set(r, b"1", version=0)
    try:
        c.set(r, b"2", version=0)
        raise AssertionError("old version taken")
    except BadVersionError:
        pass
    data, stat = c.get(r)
    assert (data, stat.version) == (b"1", 1)
    big = bytes(1_000_000)
    c.set(r, big)
    assert c.get(r)[0] == big
    c.delete(r)


@test
def errors(c):
    r = root(c, "errors")
    c.create(r + "/e", ephemeral=True)
    for wanted, call in [
            (NodeExistsError, lambda: c.create(r)), (NoNodeError, lambda: c.get(r + "/none")),
            (NotEmptyError, lambda: c.delete(r)), (NoNodeError, lambda: c.create(r + "/a/b")),
            (NoChildrenForEphemeralsError, lambda: c.create(r + "/e/x"))]:
        try:
            call()
        except wanted:
            continue
        raise AssertionError(f"no {wanted.__name__}")
    c.delete(r, recursive=True)


@test
def sequences(c):
    r = root(c, "seq")
    names = [c.create(r + "/s-", sequence=True, ephemeral=i % 2 == 0).rsplit("-", 1)[1] for i in range(12)]
    assert names == [f"{i:010d}" for i in range(12)]
    assert len(c.get_children(r)) == 12
    assert c.get_children(r, include_data=True)[1].numChildren == 12
    c.delete(r, recursive=True)


@test
def one_shot_watches(c):
    r, seen = root(c, "watch"), []
    c.exists(r + "/x", watch=lambda e: seen.append(e.type))
    c.get_children(r, watch=lambda e: seen.append(e.type))
    c.create(r + "/x")
    wait(lambda: len(seen) == 2)
    assert seen == [EventType.CREATED, EventType.CHILD], seen
    c.get(r + "/x", watch=lambda e: seen.append(e.type))
    c.set(r + "/x", b"1")
    c.set(r + "/x", b"2")
    c.get(r + "/x", watch=lambda e: seen.append(e.type))
    c.delete(r + "/x")
    wait(lambda: len(seen) == 4)
    assert seen[2:] == [EventType.CHANGED, EventType.DELETED], seen
    c.delete(r)


@test
def watch_recipes(c):
    r, lists = root(c, "recipes"), []
    c.ChildrenWatch(r, lambda children: lists.append(sorted(children)))
    other = client()
    for i in range(5):
        other.create(f"{r}/{i}", ephemeral=True)
    wait(lambda: lists[-1] == ["0", "1", "2", "3", "4"])
    other.stop()
    wait(lambda: lists[-1] == [])
    c.delete(r)


@test
def tree_cache(c):
    r, added = root(c, "cache"), []
    cache = TreeCache(c, r)
    cache.listen(lambda event: added.append(event.event_type))
    cache.start()
    wait(lambda: TreeEvent.INITIALIZED in added)
    c.create(r + "/a/b", b"x", makepath=True)
    wait(lambda: cache.get_data(r + "/a/b") is not None and cache.get_data(r + "/a/b").data == b"x")
    c.delete(r + "/a", recursive=True)
    wait(lambda: cache.get_data(r + "/a") is None)
    cache.close()
    c.delete(r)


@test
def transactions(c):
    r = root(c, "multi")
    t = c.transaction()
    t.create(r + "/a", b"1")
    t.set_data(r + "/a", b"2")
    t.check(r + "/a", 1)
    t.delete(r + "/a", 1)
    t.create(r + "/b")
    results = t.commit()
    assert not any(isinstance(x, Exception) for x in results), results
    t = c.transaction()
    t.delete(r + "/b")
    t.create(r + "/none/x")
    t.create(r + "/c")
    kinds = [type(x).__name__ for x in t.commit()]
    assert kinds == ["RolledBackError", "NoNodeError", "RuntimeInconsistency"], kinds
    assert c.get_children(r) == ["b"]
    c.delete(r, recursive=True)


@test
def access_lists(c):
    owner = client(auth_data=[("digest", "me:secret")])
    r = root(owner, "acl")
    owner.create(r + "/p", b"x", acl=[make_digest_acl("me", "secret", all=True)])
    for call in (lambda: c.get(r + "/p"), lambda: c.set(r + "/p", b""), lambda: c.create(r + "/p/x")):
        try:
            call()
        except NoAuthError:
            continue
        raise AssertionError("allowed")
    assert owner.get(r + "/p")[0] == b"x"
    late = client()
    late.add_auth("digest", "me:secret")
    assert late.get(r + "/p")[0] == b"x"
    acls, _ = owner.get_acls(r + "/p")
    assert acls[0].id.scheme == "digest"
    try:
        c.create(r + "/q", acl=[make_digest_acl("me", "secret", all=True)._replace(id=acls[0].id._replace(scheme="none"))])
        raise AssertionError("unknown scheme taken")
    except InvalidACLError:
        pass
    owner.delete(r, recursive=True)
    owner.stop()
    late.stop()


@test
def session_survives_a_lost_connection(c):
    other = client()
    r = root(other, "lost")
    other.create(r + "/e", ephemeral=True)
    session, states, reconnected = other.client_id[0], [], threading.Event()
    other.add_listener(lambda s: (states.append(s), s == KazooState.CONNECTED and reconnected.set()) and None)
    other._connection._socket.shutdown(2)
    assert reconnected.wait(15), states
    assert KazooState.LOST not in states, states
    assert other.client_id[0] == session
    assert c.exists(r + "/e").ephemeralOwner == session
    other.delete(r, recursive=True)
    other.stop()


@test
def locks_exclude(c):
    r, inside, most, order = root(c, "lock"), [0], [0], []

    def work(n):
        mine = client()
        with mine.Lock(r + "/lock", str(n)):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            order.append(n)
            mine.sync(r)
            inside[0] -= 1
        mine.stop()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    [t.start() for t in threads]
    [t.join(30) for t in threads]
    assert most[0] == 1 and len(order) == 6, (most, order)
    c.delete(r, recursive=True)


@test
def election_queue_barrier_counter(c):
    r = root(c, "recipes2")
    counter = c.Counter(r + "/counter")
    counter += 3
    counter -= 1
    assert counter.value == 2
    queue = c.Queue(r + "/queue")
    queue.put(b"a")
    queue.put(b"b")
    assert [queue.get(), queue.get()] == [b"a", b"b"]
    barrier = c.Barrier(r + "/barrier")
    barrier.create()
    threading.Timer(0.2, barrier.remove).start()
    assert barrier.wait(10)
    led = []
    c.Election(r + "/election", "me").run(lambda: led.append(1))
    assert led == [1]
    c.delete(r, recursive=True)


@test
def pipelines(c):
    r = root(c, "pipe")
    results = [c.create_async(f"{r}/{i:04d}", b"x" * 100) for i in range(2000)]
    assert [x.get(30) for x in results] == [f"{r}/{i:04d}" for i in range(2000)]
    assert len(c.get_children(r)) == 2000
    [x.get(30) for x in [c.delete_async(f"{r}/{i:04d}") for i in range(2000)]]
    c.delete(r)


@test
def four_letter_words(c):
    assert c.command(b"ruok") == "imok"
    assert "Mode: standalone" in c.command(b"srvr")
    assert "zk_znode_count" in c.command(b"mntr")


def main():
    failed = 0
    for function in TESTS:
        c = client()
        try:
            function(c)
        except Exception:
            failed += 1
            print("FAILED", function.__name__)
            traceback.print_exc(limit=3, file=sys.stdout)
        finally:
            c.stop()
            c.close()
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
