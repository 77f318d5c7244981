# SPDX-License-Identifier: Apache-2.0
"""The real parts of a run: ZooKeeper, Dubbo applications, Remora; and how each is started."""

import glob
import itertools
import json
import os
import pathlib
import signal
import subprocess
import time

from .procs import Failed, Proc, wait_for

ROOT = pathlib.Path(__file__).resolve().parent.parent
REPO = ROOT.parent
JAVA = ROOT / "java"
LINES = {"2.6": "dubbo26", "2.7": "dubbo27", "3.1": "dubbo31", "3.3": "dubbo33"}
SOFA_LINES = {"s5.6": "sofa56", "s5.13": "sofa513"}
MODULES = {**LINES, **SOFA_LINES}
# Small heaps, quick start; without the add-opens Dubbo 2.6 to 3.1 do not start on a JDK of 17 or newer.
JVM = ["-Xms32m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
       "--add-opens", "java.base/java.lang=ALL-UNNAMED"]
DEBIAN_ZOOKEEPER = ["zookeeper", "zookeeper-jute", "commons-cli", "metrics-core", "netty-all", "slf4j-api", "slf4j-simple", "snappy-java"]


class Parts:
    """Starts things in `folder` and remembers them; a context which ends them all."""

    def __init__(self, folder, binary=None):
        self.folder, self.binary, self.java = folder, binary, JAVA
        self.procs = []
        # In front of every application's own class path.
        self.classes = []
        self._numbers = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Applications need no farewell here; Remoras are asked to end, the registry goes last.
        for proc in reversed(self.procs):
            proc.stop(5) if "remora" in proc.name else proc.kill()
        self.procs = []

    def _start(self, name, host, argv, env=None):
        proc = Proc(f"{next(self._numbers):02}-{name}", host, argv, self.folder, env)
        self.procs.append(proc)
        return proc

    def zookeeper(self, host, max_session_ms=40000, data=None):
        return ZooKeeper(self, host, max_session_ms, data or self.folder / f"zookeeper-{next(self._numbers)}")

    def app(self, line, role, host, registry, *args, env=None):
        """An application of a Dubbo or SOFARPC line: role is provider, consumer or both; see `demo.app.Main`."""
        classes = ":".join(map(str, [*self.classes, self.java / MODULES[line] / "target/classes"]))
        jars = JAVA / MODULES[line] / "target/lib"
        number = next(self._numbers)
        flags = [f"-Duser.home={self.folder}/home-{number}", "-Ddubbo.application.logger=slf4j",
                 "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
                 f"-Dorg.slf4j.simpleLogger.defaultLogLevel={os.environ.get('DEMO_LOG', 'info')}"]
        if os.environ.get("DEMO_NO_DNS") or host.namespace is None:
            names = self.folder / "hosts"
            names.write_text(f"127.0.0.1 localhost\n{host.address} {os.uname().nodename}\n")
            flags.append(f"-Djdk.net.hosts.file={names}")
        if role == "both":
            flags.append("-Ddubbo.service.shutdown.wait=1000")
        argv = ["java", *JVM, *flags, "-cp", f"{classes}:{jars}/*", "demo.app.Main", role, "--registry", registry, *map(str, args)]
        return self._start(f"{role}-{line}", host, argv, env)

    def remora(self, host, registry, **settings):
        return Remora(self, host, registry, settings)


class ZooKeeper:
    """A real server with its own configuration and data; `stop` and `start` keep the data."""

    def __init__(self, parts, host, max_session_ms, data):
        self.parts, self.host, self.data = parts, host, data
        self.port = host.port(2181)
        self.address = host.address if host.namespace else "127.0.0.1"
        data.mkdir(parents=True, exist_ok=True)
        self.config = data / "zoo.cfg"
        self.config.write_text(
            f"dataDir={data}\nclientPort={self.port}\nclientPortAddress={self.address}\ntickTime=1000\n"
            f"minSessionTimeout=2000\nmaxSessionTimeout={max_session_ms}\nmaxClientCnxns=0\nadmin.enableServer=false\n"
            f"4lw.commands.whitelist=*\n")
        self.start()

    @property
    def url(self):
        return f"zookeeper://{self.address}:{self.port}"

    def start(self):
        argv = ["java", "-Xms32m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.admin.enableServer=false",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-cp", zookeeper_classpath(), "org.apache.zookeeper.server.ZooKeeperServerMain", str(self.config)]
        self.proc = self.parts._start("zookeeper", self.host, argv)
        wait_for("ZooKeeper answers", 30, self._answers)

    def _answers(self):
        if not self.proc.is_alive():
            raise Failed(f"ZooKeeper ended: {self.proc.last_words()}")
        try:
            with self.host.connect(self.address, self.port) as socket:
                socket.sendall(b"srvr")
                return socket.recv(4096).startswith(b"Zookeeper version")
        except OSError:
            return False

    def stop(self):
        self.proc.stop()


def zookeeper_classpath():
    """ZooKeeper from the Maven build, else Debian's."""
    jars = glob.glob(f"{JAVA}/zookeeper/target/lib/*.jar")
    if not jars:
        jars = [f"/usr/share/java/{name}.jar" for name in DEBIAN_ZOOKEEPER if os.path.exists(f"/usr/share/java/{name}.jar")]
    if not jars:
        raise Failed("no ZooKeeper: neither testbed/java/zookeeper/target/lib nor Debian's package 'zookeeper'")
    return ":".join(sorted(jars))


class Remora:
    """The proxy beside an application, on the application's host. `kill` and `start` again use the same data directory."""

    def __init__(self, parts, host, registry, settings):
        self.parts, self.host, self.settings = parts, host, settings
        self.data = parts.folder / f"remora-{host.name}-{next(parts._numbers)}"
        self.data.mkdir(parents=True)
        self.facade, self.admin = host.port(2181), host.port(15020)
        config = {
            "registry": registry,
            "data_dir": str(self.data / "data"),
            "facades": {"zookeeper": {"listen": f"127.0.0.1:{self.facade}"}},
            "protocols": {"dubbo": {"egress": f"127.0.0.1:{host.port(20882)}", "ingress": f"0.0.0.0:{host.port(20881)}"}},
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
        }
        for key, value in settings.items():
            config[key] = value
        # JSON is YAML.
        self.config = self.data / "remora.yaml"
        self.config.write_text(json.dumps(config, indent=2) + "\n")
        self.start()

    @property
    def url(self):
        return f"zookeeper://127.0.0.1:{self.facade}"

    def launch(self):
        """Starts it, without waiting until it is ready."""
        self.proc = self.parts._start(f"remora-{self.host.name}", self.host, [str(self.parts.binary), "run", "--config", str(self.config)])

    def start(self, timeout=30):
        self.launch()
        wait_for(f"Remora on {self.host} is ready", timeout, self._ready)

    def _ready(self):
        if not self.proc.is_alive():
            raise Failed(f"Remora on {self.host} ended with {self.proc.popen.returncode}: {self.proc.last_words()}")
        return self.http("/readyz").startswith("HTTP/1.1 200")

    def http(self, path):
        """The whole answer of the admin port, or '' when it does not answer."""
        try:
            with self.host.connect("127.0.0.1", self.admin) as socket:
                socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                parts = []
                while part := socket.recv(65536):
                    parts.append(part)
                return b"".join(parts).decode(errors="replace")
        except OSError:
            return ""

    @property
    def serving(self):
        """The process that serves: after an upgrade a child of the one that was started."""
        try:
            children = pathlib.Path(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children").read_text().split()
        except OSError:
            children = []
        return int(children[-1]) if children else self.proc.pid

    def kill(self):
        if self.proc.is_alive() and self.serving != self.proc.pid:
            os.kill(self.serving, signal.SIGKILL)
        self.proc.kill()

    def stop(self):
        return self.proc.stop()

    def command(self, *words):
        """One of the program's own commands, about this Remora: what it printed, and its exit code."""
        argv = self.host.command([str(self.parts.binary), *words, "--admin", f"127.0.0.1:{self.admin}"])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        return (done.stdout + done.stderr).strip(), done.returncode

    def log(self):
        """Lines of the running process's log."""
        return [row for end in ("err", "out") for row in (self.parts.folder / f"{self.proc.name}.{end}").read_text(errors="replace").splitlines()]

    def complaints(self):
        """Warnings and errors in its log."""
        return [row for row in self.log() if any(f" {level} " in row[:60] for level in ("WARN", "ERROR"))]

    def figures(self):
        """CPU time, memory, connections, lines of log, in words."""
        stat = pathlib.Path(f"/proc/{self.serving}/stat").read_text().rsplit(")", 1)[1].split()
        cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        memory = int(stat[21]) * os.sysconf("SC_PAGE_SIZE") >> 20
        return f"{cpu:.2f} s CPU, {memory} MiB, {len(self.host.sockets(self.serving))} connections, {len(self.log())} lines of log"


def now_ms():
    return int(time.time() * 1000)
