# SPDX-License-Identifier: Apache-2.0
"""The mesh API: what must hold although SOFARPC's client asks once and never again."""

import os
import signal
import time

from . import web
from .cells_faults import Load, told
from .parts import now_ms
from .procs import Failed, wait_for
from .sofa import APP_PORT, UPSTREAMS, SofaWorld

MESH = 13330
PLAIN = ("--services", "plain")


def publish(service, **more):
    """A request as SOFARPC 5.13 writes it."""
    meta = {"protocol": "bolt", "version": "4.0", "serializeType": "hessian2", "appName": "by-hand", "properties": {}}
    return {"serviceName": service, "protocolType": "bolt", "providerMetaInfo": meta, "onlyPublishInCloud": False, "group": None, **more}


def wait_published(world, count, limit=15):
    begin = time.time()
    wait_for(f"{count} publications in the registry", limit, lambda: len(world.published()) == count, 0.1)
    return time.time() - begin


def check_calls(world, line, calls=20, **where):
    """A new consumer finds the provider and calls it."""
    proc = world.consumer(line, "--mix", "echo", "--calls", calls, door="mesh", **where)
    proc.event("ready", 60)
    world.finish(proc)


def app_first(settings, network, name, line, upstream):
    """The application starts when its Remora, which knew it before, is down: the registration is back once Remora is."""
    with SofaWorld(settings, network, name, upstream) as world:
        app = world.provider(line, *PLAIN, door="mesh")
        wait_published(world, 1)
        world.remoras["provider"].kill()
        app.kill()
        app = world.provider(line, *PLAIN, door="mesh")
        time.sleep(2)
        world.remoras["provider"].start()
        took = wait_published(world, 1)
        world.notes.append(f"published {took:.1f} s after Remora was ready")
        check_calls(world, line)
        if not app.is_alive():
            raise Failed(f"the provider ended: {app.last_words()}")
        return world.notes


def remora_killed(settings, network, name, line, upstream, side):
    """kill -9 and restart of a Remora while the applications run, which never register again."""
    with SofaWorld(settings, network, name, upstream, session_ms=settings.session_ms) as world:
        world.provider(line, *PLAIN, door="mesh")
        load = Load(world, line, timeout=3000, door="mesh")
        before = world.published()
        killed = now_ms()
        world.remoras[side].kill()
        time.sleep(1)
        world.remoras[side].start()
        restarted = now_ms()
        wait_published(world, 1)
        published = now_ms()
        time.sleep(settings.session_ms / 1000 + 4)
        after = world.published()
        report = load.end()
        world.notes.append(told(report, killed))
        last = max((r["last_ms"] for r in report["ranges"]), default=killed)
        world.notes.append(f"Remora was back after {(restarted - killed) / 1000:.1f} s, published at {(published - killed) / 1000:.1f} s, "
                           f"the last call failed at {(last - killed) / 1000:.1f} s")
        if before != after:
            raise Failed(f"published before {before}, after {after}; " + "; ".join(world.notes))
        # SOFARPC 5.x: a call after the loss of its only connection may be refused until its reconnect period (10 s) is over.
        if last > restarted + 11000:
            raise Failed("no recovery; " + "; ".join(world.notes))
        check_calls(world, line)
        return world.notes


def unpublish_twice(settings, network, name, line, upstream):
    """SOFARPC says goodbye twice at its end; by hand once more: each is answered as done, and the service is gone."""
    with SofaWorld(settings, network, name, upstream) as world:
        app = world.provider(line, *PLAIN, door="mesh")
        wait_published(world, 1)
        host = network.host("provider")
        for turn in ("first", "second"):
            status, answer = web.post(host, MESH, "/services/unpublish", {"serviceName": "demo.EchoService:1.0", "protocolType": None})
            if status != 200 or answer.get("success") is not True:
                raise Failed(f"the {turn} unpublish was answered {status} {answer}")
        wait_published(world, 0, 3)
        status, answer = web.post(host, MESH, "/services/publish", publish("demo.EchoService:1.0"))
        if status != 200 or answer.get("success") is not True:
            raise Failed(f"publishing again was answered {status} {answer}")
        wait_published(world, 1)
        begin = time.time()
        app.stop()
        wait_published(world, 0, 5)
        world.notes.append(f"gone {time.time() - begin:.1f} s after SIGTERM was sent, which the application took two unpublish calls for")
        return world.notes


def many(settings, network, name, line, upstream, count=100):
    """A hundred services published at once when an application starts, by SOFARPC's twenty threads."""
    with SofaWorld(settings, network, name, upstream) as world:
        services = ",".join(["plain"] + [f"many{n}" for n in range(count - 1)])
        begin = time.time()
        world.provider(line, "--services", services, door="mesh")
        ready = time.time()
        if upstream == "sofaregistry":
            from .sofa import DATA_IDS
            ids = [DATA_IDS[0], *(f"demo.EchoService:1.0:many{n}@DEFAULT" for n in range(count - 1))]
            wait_for(f"{count} publications", 20, lambda: sum(len(world.sofa_lines(i)) for i in ids) == count, 0.5)
        else:
            wait_published(world, count, 20)
        world.notes.append(f"{count} services published {time.time() - begin:.1f} s after the start, {max(0, time.time() - ready):.1f} s after ready")
        check_calls(world, line)
        world.check_quiet()
        world.notes += world.figures()
        return world.notes


def upstream_down(settings, network, name, line, upstream):
    """Publish and subscribe while the registry is away: accepted at once, in force when it is back."""
    with SofaWorld(settings, network, name, upstream, shared=False) as world:
        world.remora("provider")
        world.remora("consumer")
        world.stop_registry()
        time.sleep(1)
        world.provider(line, *PLAIN, door="mesh")
        late = world.consumer(line, "--mix", "echo", "--calls", settings.calls, "--check", "false", "--wait", 90, door="mesh")
        late.event("ready", 60)
        time.sleep(3)
        world.start_registry()
        back = time.time()
        took = wait_published(world, 1, 30)
        first = late.event("first_answer", 60)
        world.notes.append(f"published {took:.1f} s, first answer {first['seen'] - back:.1f} s after the registry was back")
        world.finish(late)
        return world.notes


def provider_killed(settings, network, name, line, upstream):
    """kill -9 of the application: its port tells, within 5 s."""
    with SofaWorld(settings, network, name, upstream) as world:
        app = world.provider(line, *PLAIN, door="mesh")
        wait_published(world, 1)
        # Long enough for a look at the port that found it open.
        time.sleep(2)
        killed = time.time()
        app.kill()
        wait_published(world, 0, 5)
        world.notes.append(f"withdrawn {time.time() - killed:.1f} s after kill -9")
        world.provider(line, *PLAIN, door="mesh")
        wait_published(world, 1)
        check_calls(world, line)
        return world.notes


def provider_paused(settings, network, name, line, upstream):
    """SIGSTOP for 3 s: the kernel still takes its connections, and it stays published."""
    with SofaWorld(settings, network, name, upstream) as world:
        app = world.provider(line, *PLAIN, door="mesh")
        wait_published(world, 1)
        check_calls(world, line)
        os.kill(app.pid, signal.SIGSTOP)
        begin, least = time.time(), 1
        while time.time() < begin + 6:
            if time.time() > begin + 3:
                os.kill(app.pid, signal.SIGCONT)
            least = min(least, len(world.published()))
            time.sleep(0.1)
        if least != 1:
            raise Failed("a paused provider was withdrawn")
        check_calls(world, line, host="consumer")
        return world.notes


def strangers(settings, network, name):
    """What a web page in a browser on this host could send is refused, and requests that nobody can understand."""
    with SofaWorld(settings, network, name) as world:
        world.remora("provider")
        host = network.host("provider")
        body = publish("demo.EchoService:1.0")
        for told_by, headers in {"a foreign name as Host": {"Host": "evil.example"}, "a page of another site": {"Origin": "http://evil.example"},
                                 "a page of another site, sandboxed": {"Origin": "null"}}.items():
            status, answer = web.post(host, MESH, "/services/publish", body, **headers)
            if status == 200 and isinstance(answer, dict) and answer.get("success"):
                raise Failed(f"{told_by} was let in")
            world.notes.append(f"{told_by}: {status}")
        wrong = {"no JSON": ("{", None), "an array": ("[]", None), "no name": ({"protocolType": "bolt"}, "serviceName"),
                 "a number as name": ({"serviceName": 7}, "serviceName"), "properties of a wrong type": (publish("demo.A:1.0", providerMetaInfo={"properties": 7}), "properties")}
        for what, (body, key) in wrong.items():
            status, answer = web.post(host, MESH, "/services/publish", body)
            message = answer.get("errorMessage") if isinstance(answer, dict) else None
            if not isinstance(answer, dict) or answer.get("success") is not False or not message or (key and key not in message):
                raise Failed(f"{what} was answered {status} {answer}")
        status, answer = web.post(host, MESH, "/services/publish", publish("demo.A:1.0", protocolType="rest"))
        if answer.get("success") is not False or "port" not in answer.get("errorMessage", ""):
            raise Failed(f"a publish without a known port was answered {status} {answer}")
        world.notes.append(f"without a known port: {answer['errorMessage']}")
        time.sleep(2)
        if world.published():
            raise Failed(f"published: {world.published()}")
        return world.notes


def one_host(settings, network, name, line, upstream):
    """Two applications with the same service on one host, each with an address of its own for its Remora."""
    with SofaWorld(settings, network, name, upstream) as world:
        doors = {"mesh": {"applications": [{"address": "127.0.0.2", "name": "second", "app_ports": {"bolt": APP_PORT + 10}}]}}
        world.remora("provider", facades=doors)
        world.provider(line, "--app", "first", door="mesh", name="p1")
        world.provider(line, "--app", "second", door="mesh", at="127.0.0.2", ports=(APP_PORT + 10,), name="p2")
        wait_published(world, 6)
        ports = {a.rsplit(":", 1)[1] for a in world.published()}
        if len(ports) != 2:
            raise Failed(f"two applications became {world.published()}")
        # A third, which only calls, by the second's address; and one elsewhere.
        for host, at in (("provider", "127.0.0.2"), ("consumer", "127.0.0.1")):
            load = world.consumer(line, "--loop", 3, "--rate", 100, door="mesh", host=host, at=at)
            report = load.event("loop_end", 60)
            who = {w.split("/")[0] for w in report["answered_by"]}
            world.notes.append(f"from {host}: {report['calls']} calls, {report['failed']} failed, by {', '.join(sorted(who))}")
            if report["failed"] or who != {"p1", "p2"}:
                raise Failed("; ".join(world.notes))
        world.remoras["provider"].kill()
        world.remoras["provider"].start()
        wait_published(world, 6)
        if ports != {a.rsplit(":", 1)[1] for a in world.published()}:
            raise Failed(f"other ports after a restart: {world.published()}")
        check_calls(world, line)
        return world.notes


def cells(settings):
    """(name, function) of all cells here."""
    found = []

    def add(name, function, *args):
        found.append((f"mesh/{name}", lambda network, n=f"mesh/{name}": function(settings, network, n, *args)))

    if settings.bare:
        return found
    lines = ("s5.6", "s5.13") if settings.full else ("s5.13",)
    upstreams = UPSTREAMS if settings.full else ("zookeeper",)
    for upstream in upstreams:
        for line in lines:
            add(f"{line}-app-first-{upstream}", app_first, line, upstream)
            for side in ("provider", "consumer"):
                add(f"{line}-kill-remora-of-{side}-{upstream}", remora_killed, line, upstream, side)
            add(f"{line}-upstream-down-{upstream}", upstream_down, line, upstream)
        add(f"unpublish-twice-{upstream}", unpublish_twice, "s5.6", upstream)
        add(f"hundred-at-once-{upstream}", many, "s5.13", upstream)
        add(f"kill-provider-{upstream}", provider_killed, "s5.6", upstream)
        add(f"pause-provider-{upstream}", provider_paused, "s5.13", upstream)
        add(f"one-host-{upstream}", one_host, "s5.13", upstream)
    add("strangers", strangers)
    return found
