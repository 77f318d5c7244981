# SPDX-License-Identifier: Apache-2.0
"""Cells in which the registry fails its applications: away while they start, back without its data, flapping, without a leader.

Each is one experiment of the reliability list; `run` says which and how its outcome is kept.
"""

import os
import random
import shutil
import signal
import threading
import time

from . import zk
from .cells_faults import Load, told
from .parts import LINES, SOFA_LINES, ZooKeeper, now_ms
from .procs import Failed, wait_for
from .sofa import SofaWorld
from .world import World

# The door's way of naming an application's own port; consumers never see it.
URL = "dubbo%3A%2F%2F{host}%3A{port}%2F{service}%3Fapplication%3Dtestbed%26interface%3D{service}"


class Run:
    """What one experiment found; the text goes to the screen, the figures to whoever keeps them."""

    def __init__(self, case):
        self.figures = {"case": case, "calls": 0, "failed": {}}
        self.notes = []

    def load(self, report, begin_ms):
        """Takes in the report of a loop of calls."""
        self.figures["calls"] += report["calls"]
        for kind, number in report.get("kinds", {}).items():
            self.figures["failed"][kind] = self.figures["failed"].get(kind, 0) + number
        self.notes.append(told(report, begin_ms))

    def recovery(self, what, seconds):
        self.figures["recovery_ms"] = max(self.figures.get("recovery_ms", 0), int(seconds * 1000))
        self.notes.append(f"{what} after {seconds:.1f} s")

    def no_failures(self):
        if self.figures["failed"]:
            raise Failed("calls failed: " + "; ".join(self.notes))

    def within(self, what, seconds, limit):
        self.recovery(what, seconds)
        if seconds > limit:
            raise Failed(f"{what} after {seconds:.1f} s, allowed are {limit} s; " + "; ".join(self.notes))


def timed(what, limit, condition, pause=0.1):
    """Seconds until the condition holds."""
    begin = time.time()
    wait_for(what, limit, condition, pause)
    return time.time() - begin


def provider_addresses(world):
    """Addresses under which providers stand in the registry, each with how often."""
    found = {}
    for path in world.provider_nodes():
        name = path.rsplit("/", 1)[1]
        address = name.split("%2F%2F")[1].split("%2F")[0].split("%3F")[0] if "%2F%2F" in name else name
        found[address] = found.get(address, 0) + 1
    return found


def starts_meanwhile(settings, network, name, line, restarts=False, applications=False):
    """E6: applications start while the registry is away, also beside a Remora that restarted meanwhile.

    With `applications` discovery is by applications only: nobody finds a provider without its mapping and metadata.
    """
    is_sofa = line in SOFA_LINES
    world = SofaWorld(settings, network, name, session_ms=settings.session_ms) if is_sofa else \
        World(settings, network, name, session_ms=settings.session_ms)
    extra = ("--services", "plain") if is_sofa else ("--register-mode", "instance") if applications else ()
    forced = ("--migration", "FORCE_APPLICATION") if applications else ()
    run = Run(f"applications of {line} start meanwhile" + (", found by application" if applications else "") +
              (", after a restart of Remora" if restarts else ""))
    with world:
        world.provider(line, *extra)
        load = Load(world, line, *forced, seconds=200, timeout=3000)
        # Its Remora is there before the outage, the application is not.
        world.registry_for("provider2")
        usual = world.consumer(line, "--mix", "echo", "--calls", 20, "--wait", 20, *forced)
        normal = usual.event("ready", 60)["start_ms"] + usual.event("first_answer", 30)["after_ms"]
        world.finish(usual)
        stopped = now_ms()
        world.keeper.stop()
        wait_for("Remora notices", 10, lambda: "remora_registry_up{registry=\"default\"} 0" in world.remoras["consumer"].http("/metrics"), 0.1)
        time.sleep(1.5)
        if restarts:
            world.remoras["consumer"].stop()
            world.remoras["consumer"].start()
            restarted = now_ms()
        late = world.consumer(line, "--app", "late-consumer", "--mix", "echo", "--calls", 200, "--wait", 20, *forced)
        took = late.event("ready", 60)["start_ms"] + late.event("first_answer", 30)["after_ms"]
        world.finish(late)
        run.notes.append(f"starts and calls in {took / 1000:.1f} s, with the registry there in {normal / 1000:.1f} s")
        # Another application's name: it must get into the mapping.
        named = ("--app", "late-provider") if applications else ()
        second = world.provider(line, *extra, *named, host="provider2", name="p2")
        run.notes.append(f"a provider starts in {second.event('ready', 1)['start_ms'] / 1000:.1f} s")
        time.sleep(max(0, settings.outage_s - (now_ms() - stopped) / 1000))
        where = network.host("provider2").address
        world.keeper.start()
        run.within("its publications stand in the registry", timed("p2 is published", 30, lambda: any(where in a for a in provider_addresses(world))), 10)
        # Sessions from before the outage run out meanwhile, with what they held.
        time.sleep(settings.session_ms / 1000 + 3)
        found = provider_addresses(world)
        if not any(where in a for a in found) or len(found) < 2:
            raise Failed(f"published in the end: {found}")
        report = load.end()
        run.load(report, stopped)
        if not restarts:
            run.no_failures()
        else:
            # Calls while nobody listens, and until the consumer has dialled again, are its lifecycle's matter, not the outage's.
            if any(r["last_ms"] > restarted + 3000 for r in report["ranges"]):
                raise Failed("calls failed long after the restart: " + "; ".join(run.notes))
        if not any(k.startswith("p2/") for k in report["answered_by"]):
            raise Failed(f"no call reached the provider that started meanwhile: {report['answered_by']}")
        if took > max(5000, normal + 2000):
            raise Failed("; ".join(run.notes))
    return run


def comes_back_empty(settings, network, name, line, embedded=False):
    """E7: the registry loses its data; its zxids begin anew."""
    run = Run(f"{line}, {'embedded registry' if embedded else 'ZooKeeper'} comes back empty")
    with World(settings, network, name, session_ms=settings.session_ms, embedded=embedded) as world:
        world.provider(line)
        world.provider(line, host="provider2", name="p2")
        load = Load(world, line, seconds=200)
        before = sorted(provider_addresses(world))
        stopped = now_ms()
        if embedded:
            world.embedded_proc.stop()
            shutil.rmtree(world.parts.folder / "registry")
            time.sleep(3)
            world._embedded_registry()
        else:
            world.keeper.stop()
            shutil.rmtree(world.keeper.data / "version-2")
            time.sleep(settings.outage_s)
            world.keeper.start()
        run.within("all providers are back", timed("all providers are back", 40, lambda: sorted(provider_addresses(world)) == before), 10)
        world.finish(world.consumer(line, "--mix", "echo", "--calls", 50, "--wait", 20))
        time.sleep(settings.session_ms / 1000 + 3)
        if sorted(provider_addresses(world)) != before:
            raise Failed(f"published before {before}, in the end {provider_addresses(world)}")
        run.load(load.end(), stopped)
        run.no_failures()
    return run


def flaps(settings, network, name, line, times):
    """E8: the registry hangs for a second, answers for a second, and so on; sockets stay."""
    run = Run(f"{line}, {times} times 1 s without an answer")
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line, seconds=2 * times + 90)
        before = world.owners()
        begin = now_ms()
        for _ in range(times):
            world.keeper.proc.popen.send_signal(signal.SIGSTOP)
            time.sleep(1)
            world.keeper.proc.popen.send_signal(signal.SIGCONT)
            time.sleep(1)
        time.sleep(3)
        after = world.owners()
        run.load(load.end(), begin)
        run.no_failures()
        anew = [path for path in before if "/providers/" in path and after.get(path) != before[path]]
        if anew:
            raise Failed(f"{len(anew)} nodes were made anew, as {anew[0][:160]}")
        run.notes.append(f"{len(before)} ephemeral nodes, the same in the end")
    return run


class Ensemble:
    """Three real servers, on one host, at three ports."""

    def __init__(self, parts, host, session_ms):
        self.parts, self.host, self.servers = parts, host, []
        address = host.address if host.namespace else "127.0.0.1"
        ports = [[host.port(p + n) for p in (2181, 2888, 3888)] for n in range(3)]
        members = "".join(f"server.{n + 1}={address}:{quorum}:{election}\n" for n, (_client, quorum, election) in enumerate(ports))
        for number, (client, _quorum, _election) in enumerate(ports, 1):
            server = Member.__new__(Member)
            server.parts, server.host, server.port, server.address = parts, host, client, address
            server.data = parts.folder / f"member-{number}"
            server.data.mkdir(parents=True)
            (server.data / "myid").write_text(f"{number}\n")
            server.config = server.data / "zoo.cfg"
            server.config.write_text(
                f"dataDir={server.data}\nclientPort={client}\nclientPortAddress={address}\ntickTime=1000\ninitLimit=10\nsyncLimit=5\n"
                f"minSessionTimeout=2000\nmaxSessionTimeout={session_ms}\nmaxClientCnxns=0\nadmin.enableServer=false\n"
                f"4lw.commands.whitelist=*\nstandaloneEnabled=false\n" + members)
            self.servers.append(server)
        for server in self.servers:
            server.start()
        wait_for("a leader is elected", 30, self.leader, 0.2)

    @property
    def url(self):
        return "zookeeper://" + ",".join(f"{s.address}:{s.port}" for s in self.servers)

    def leader(self):
        return next((s for s in self.servers if s.mode() == "leader"), None)

    def any(self):
        """A server that serves."""
        return wait_for("a server answers", 30, lambda: next((s for s in self.servers if s.mode()), None), 0.2)


class Member(ZooKeeper):
    """One of three."""

    def start(self):
        argv = ["java", "-Xms32m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.admin.enableServer=false",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-cp", classpath(), "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self.config)]
        self.proc = self.parts._start("zookeeper", self.host, argv)

    def mode(self):
        """leader, follower, or None while it does not serve."""
        try:
            with self.host.connect(self.address, self.port, 1.0) as socket:
                socket.sendall(b"srvr")
                answer = b""
                while part := socket.recv(4096):
                    answer += part
        except OSError:
            return None
        rows = [row for row in answer.decode(errors="replace").splitlines() if row.startswith("Mode: ")]
        return rows[0].split()[1] if rows else None


def classpath():
    from .parts import zookeeper_classpath
    return zookeeper_classpath()


class EnsembleWorld(World):
    """A World whose registry is an ensemble."""

    def _registry(self):
        self.registry_host = self.network.host("registry")
        self.ensemble = Ensemble(self.parts, self.registry_host, self.session_ms)

    @property
    def url(self):
        return self.ensemble.url

    def _where(self):
        server = self.ensemble.any()
        self.address, self.port = server.address, server.port

    def owners(self):
        self._where()
        return super().owners()


def leader_killed(settings, network, name, line, times):
    """E9: kill -9 of the leader of three servers, again and again."""
    run = Run(f"{line}, the leader of 3 is killed {times} times")
    with EnsembleWorld(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line, seconds=20 * times + 90)
        before = {p: o for p, o in world.owners().items() if "/providers/" in p or p.startswith("/services/")}
        begin, gaps = now_ms(), []
        for _ in range(times):
            leader = world.ensemble.leader()
            leader.proc.kill()
            gaps.append(timed("another leader", 30, world.ensemble.leader, 0.1))
            time.sleep(1)
            leader.start()
            wait_for("three serve again", 30, lambda: all(s.mode() for s in world.ensemble.servers), 0.2)
            time.sleep(1)
        after = {p: o for p, o in world.owners().items() if "/providers/" in p or p.startswith("/services/")}
        run.load(load.end(), begin)
        run.notes.append(f"another leader after {max(gaps):.1f} s at most")
        run.no_failures()
        owners = {p: o[1] for p, o in before.items()}
        if {p: o[1] for p, o in after.items()} != owners:
            raise Failed(f"sessions changed: {owners} -> {after}; " + "; ".join(run.notes))
        run.notes.append("the same sessions own the same nodes")
    return run


def frozen(settings, network, name, line):
    """E13: the provider's Remora is stopped for longer than the session's time-out."""
    run = Run(f"{line}, Remora frozen for longer than the session")
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        world.provider(line, host="provider2", name="p2")
        load = Load(world, line, seconds=settings.session_ms // 1000 + 90)
        where = network.host("provider").address
        mine = lambda: sorted(p for p in world.provider_nodes() if where in p)
        before = mine()
        remora = world.remoras["provider"].proc.popen
        begin = now_ms()
        remora.send_signal(signal.SIGSTOP)
        try:
            gone = timed("the session runs out", settings.session_ms / 1000 + 10, lambda: not mine(), 0.2)
            run.notes.append(f"its nodes were gone after {gone:.1f} s")
            time.sleep(max(0, settings.session_ms / 1000 + 5 - gone))
        finally:
            remora.send_signal(signal.SIGCONT)
        run.within("the provider is back", timed("the provider is back", 30, lambda: mine() == before), 5)
        time.sleep(settings.session_ms / 1000 + 3)
        if mine() != before:
            raise Failed(f"published before {before}, in the end {mine()}")
        woken = now_ms()
        report = load.end()
        run.load(report, begin)
        if any(r["last_ms"] > woken for r in report["ranges"]):
            raise Failed("calls fail to the end: " + "; ".join(run.notes))
    return run


def ephemerals(client, service, count, port):
    """Publishes `count` services through a door as an application would."""
    for number in range(count):
        one = f"{service}{number}"
        for path in ("/dubbo", f"/dubbo/{one}", f"/dubbo/{one}/providers"):
            try:
                client.create(path)
            except zk.ZkError:
                pass
        client.create(f"/dubbo/{one}/providers/" + URL.format(host="10.77.0.9", port=port, service=one), ephemeral=True)


def in_registry(client, service, count):
    """Names of the services whose provider stands in the registry, each with its session."""
    found = {}
    for number in range(count):
        directory = f"/dubbo/{service}{number}/providers"
        for child in client.children(directory):
            try:
                found[f"{service}{number}"] = client.get(f"{directory}/{child}")[1].ephemeral_owner
            except zk.ZkError:
                pass
    return found


def created_at(client, service, count):
    """When the provider of each service was made, in seconds since the epoch."""
    found = {}
    for number in range(count):
        directory = f"/dubbo/{service}{number}/providers"
        for child in client.children(directory):
            found[f"{service}{number}"] = client.get(f"{directory}/{child}")[1].ctime / 1000
    return found


class Pinging(threading.Thread):
    """Keeps a client's session alive from a thread of its own."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.ended = client, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(1.0):
            try:
                self.client.get("/")
            except (OSError, EOFError, zk.ZkError):
                return


def deleted_by_hand(settings, network, name, line, nodes):
    """E15: nodes are deleted by hand, of a real application and of one with very many."""
    run = Run(f"{nodes} nodes deleted by hand, and those of {line}")
    with World(settings, network, name, session_ms=settings.session_ms) as world:
        world.provider(line)
        load = Load(world, line, seconds=120)
        begin = now_ms()
        before = sorted(provider_addresses(world))
        with zk.Client(world.registry_host, world.address, world.port) as registry:
            for path in world.provider_nodes():
                registry.delete(path)
        run.within(f"{line} is back", timed(f"{line} is back", 30, lambda: sorted(provider_addresses(world)) == before), 5)
        host, remora = network.host("provider"), world.remoras["provider"]
        with zk.Client(host, "127.0.0.1", remora.facade, timeout=30) as application:
            ephemerals(application, "hand.S", nodes, 31000)
            pinging = Pinging(application)
            with zk.Client(world.registry_host, world.address, world.port) as registry:
                owners = in_registry(registry, "hand.S", nodes)
                if len(owners) != nodes:
                    raise Failed(f"only {len(owners)} of {nodes} nodes stand in the registry")
                order = list(range(nodes))
                random.Random(15).shuffle(order)
                deleted = {}
                for number in order:
                    directory = f"/dubbo/hand.S{number}/providers"
                    for child in registry.children(directory):
                        deleted[f"hand.S{number}"] = time.time()
                        registry.delete(f"{directory}/{child}")
                last = time.time()
                while in_registry(registry, "hand.S", nodes) != owners:
                    if time.time() > last + 30:
                        raise Failed(f"{len(in_registry(registry, 'hand.S', nodes))} of {nodes} are back after 30 s")
                    time.sleep(0.1)
                # By the server's clock, which is this machine's: to look at all of them takes seconds.
                made = created_at(registry, "hand.S", nodes)
                run.within(f"each of {nodes} stands again, in the application's own session,", max(made[name] - deleted[name] for name in deleted), 5)
                pinging.ended.set()
                pinging.join()
        run.load(load.end(), begin)
        run.no_failures()
    return run


def dying_session(settings, network, name, tries):
    """E14: a node still stands, but its session dies: the application publishes again before that."""
    run = Run(f"{tries} nodes owned by dying sessions")
    with World(settings, network, name, session_ms=4000) as world:
        world.registry_for("provider")
        host, remora = network.host("provider"), world.remoras["provider"]
        old = []
        for number in range(tries):
            client = zk.Client(host, "127.0.0.1", remora.facade, timeout=20)
            ephemerals(client, f"dying.T{number}x", 1, 32000)
            old.append(client)
        # Cut without a word: the sessions live on for their time-out.
        for client in old:
            client._socket.close()
        cut, rng, new = time.time(), random.Random(14), []
        for number in sorted(range(tries), key=lambda _: rng.random()):
            client = zk.Client(host, "127.0.0.1", remora.facade, timeout=20)
            try:
                ephemerals(client, f"dying.T{number}x", 1, 32000)
            except zk.ZkError as error:
                if error.code != -110:
                    raise
            new.append((client, Pinging(client)))
            # Spread over the time in which they die.
            time.sleep(max(0.0, cut + 8.0 * (len(new) / tries) - time.time()))
        time.sleep(6)
        with zk.Client(world.registry_host, world.address, world.port) as registry:
            left = sum(len(in_registry(registry, f"dying.T{number}x", 1)) for number in range(tries))
        for client, pinging in new:
            pinging.ended.set()
            pinging.join()
            client._socket.close()
        run.notes.append(f"{left} of {tries} stand in the end")
        if left != tries:
            raise Failed(run.notes[-1])
    return run


def mass_drop(settings, network, name, line):
    """E26: providers that nobody restores vanish from the registry while they live; then most of them really end."""
    run = Run(f"{line}, lists emptied by hand, then a true end of most")
    taken = ("consumer",)
    with World(settings, network, name, session_ms=settings.session_ms, taken=taken) as world:
        hosts = ["provider", "provider2", "provider3", "provider4"]
        procs = [world.provider(line, host=host, name=f"p{n}") for n, host in enumerate(hosts)]
        load = Load(world, line, seconds=120)
        begin = now_ms()
        with zk.Client(world.registry_host, world.address, world.port) as registry:
            for path in world.provider_nodes():
                registry.delete(path)
        time.sleep(12)
        emptied = now_ms()
        for proc in procs[1:]:
            proc.kill()
        ended = now_ms()
        time.sleep(12)
        report = load.end()
        run.load(report, begin)
        if any(r["first_ms"] < emptied for r in report["ranges"]):
            raise Failed("calls failed though all providers lived: " + "; ".join(run.notes))
        last = max((r["last_ms"] for r in report["ranges"]), default=ended)
        run.within("calls went to the one that was left only", (last - ended) / 1000, 8)
    return run


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
        import subprocess
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(remora.data / "data")], check=True)
        try:
            remora.start()
            load = Load(world, line, seconds=120)
            begin = now_ms()
            lists = remora.data / "data" / "lists-default.jsonl"
            wait_for("the lists are kept", 15, lambda: lists.exists() and b"EchoService" in lists.read_bytes(), 0.2)
            kept = lists.read_bytes()
            if how == "disk full":
                filler = remora.data / "data" / "filler"
                with open(filler, "wb") as file:
                    try:
                        while True:
                            file.write(bytes(4096))
                            file.flush()
                    except OSError:
                        pass
            else:
                subprocess.run(["mount", "-o", "remount,ro", str(remora.data / "data")], check=True)
            world.provider(line, host="provider2", name="p2")
            wait_for("the failure is counted", 20, lambda: 'remora_discovery_snapshot_kept{registry="default"} 0' in remora.http("/metrics"), 0.2)
            if lists.read_bytes() != kept:
                raise Failed("the last good lists were touched")
            if how == "disk full":
                filler.unlink()
            else:
                subprocess.run(["mount", "-o", "remount,rw", str(remora.data / "data")], check=True)
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


def shown(function, settings, *args, **keywords):
    """A cell of the interop tier."""
    return lambda network, name: function(settings, network, name, *args, **keywords).notes


def experiments(settings):
    """(id, name, function of a network that gives a Run) of all experiments here."""
    found = []

    def add(number, name, function, *args, **keywords):
        found.append((number, name, lambda network, n=name: function(settings, network, n, *args, **keywords)))

    lines = list(LINES)
    some = lines if settings.full else ["2.7", "3.3"]
    for line in lines:
        add("E6", f"outage-start/{line}", starts_meanwhile, line)
    add("E6", "outage-start/s5.13", starts_meanwhile, "s5.13")
    for line in ("3.1", "3.3"):
        add("E6", f"outage-start/{line}-application", starts_meanwhile, line, applications=True)
    for line in some:
        add("E6", f"outage-restart/{line}", starts_meanwhile, line, restarts=True)
    for line in lines:
        add("E7", f"registry-emptied/{line}", comes_back_empty, line)
    for line in some:
        add("E7", f"registry-emptied/{line}-embedded", comes_back_empty, line, embedded=True)
    for line in some:
        add("E8", f"registry-flaps/{line}", flaps, line, 100 if settings.full else 20)
        add("E9", f"leader-killed/{line}", leader_killed, line, 50 if settings.full else 5)
        add("E13", f"remora-frozen/{line}", frozen, line)
    add("E14", "dying-session/200", dying_session, 200)
    for line in some:
        add("E15", f"deleted-by-hand/{line}", deleted_by_hand, line, 1000)
        add("E26", f"mass-drop/{line}", mass_drop, line)
    for how in ("disk full", "read-only disk"):
        add("E24", f"snapshot-refused/{how.replace(' ', '-')}", snapshot_refused, "2.7", how)
    return found


def cells(settings):
    """(name, function) of all cells here."""
    if settings.bare:
        return []
    return [(name, lambda network, f=function: f(network).notes) for _id, name, function in experiments(settings)]
