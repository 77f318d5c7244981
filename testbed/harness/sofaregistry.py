# SPDX-License-Identifier: Apache-2.0
"""A real SOFARegistry 6.3.0: meta, data and session server in one JVM, its database (H2) in memory; and its clients.

It binds 0.0.0.0 on 9600-9630, an open database console among them, so it runs in a namespace or not at all. It is ready
about 20 s after its start, takes about 420 MB, and forgets everything when it ends.
"""

import base64
import glob
import json
import os
import pathlib
import tempfile

from .parts import JAVA
from .procs import Failed, wait_for

HTTP, SESSION = 9603, 9600
# Spring 5.2 and Hessian 3.3 reach into the JDK; without these it does not start on a JDK of 17 or newer.
OPENS = ["java.lang", "java.lang.reflect", "java.lang.invoke", "java.util", "java.util.concurrent", "java.util.concurrent.atomic",
         "java.net", "java.math", "java.text", "java.io", "java.nio", "java.time", "sun.nio.ch", "sun.net.util"]
JVM = ["-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true"]


class SofaRegistry:
    """A running server on `host`; `stop` and `start` begin with an empty registry. `settings` are its properties."""

    def __init__(self, parts, host, start=True, **settings):
        if host.namespace is None:
            raise Failed("SOFARegistry listens on every address of its host: it needs a network namespace (root)")
        self.parts, self.host, self.address = parts, host, host.address
        self.settings = settings
        self.home = parts.folder / "sofaregistry"
        self.home.mkdir(parents=True, exist_ok=True)
        if start:
            self.start()

    @property
    def url(self):
        """As Remora's `registry` key says it."""
        return f"sofaregistry://{self.address}:{HTTP}"

    @property
    def endpoint(self):
        """As applications are told: the port that lists the session servers."""
        return f"{self.address}:{HTTP}"

    def start(self, timeout=120):
        opens = [word for package in OPENS for word in ("--add-opens", f"java.base/{package}=ALL-UNNAMED")]
        argv = ["java", *JVM, *opens, f"-Duser.home={self.home}", "-Dspring.profiles.active=dev",
                *(f"-D{key}={value}" for key, value in self.settings.items()), "-cp", classpath(),
                "com.alipay.sofa.registry.server.integration.RegistryApplication"]
        self.proc = self.parts._start("sofaregistry", self.host, argv)
        wait_for("SOFARegistry's session server is ready", timeout, self._ready, 0.2)

    def _ready(self):
        if not self.proc.is_alive():
            raise Failed(f"SOFARegistry ended with {self.proc.popen.returncode}: {self.proc.last_words()}")
        # The session port opens before the slot table is there; registrations would be refused until then.
        return '"success":true' in self.http("/health/check") and self.http("/api/servers/query")

    def http(self, path, port=HTTP):
        """Body of a GET of one of its HTTP ports (9603 session, 9615 meta, 9622 data); '' when it does not answer 200."""
        try:
            with self.host.connect(self.address, port) as socket:
                socket.sendall(f"GET {path} HTTP/1.0\r\nHost: {self.address}\r\n\r\n".encode())
                parts = []
                while part := socket.recv(65536):
                    parts.append(part)
        except OSError:
            return ""
        head, _, body = b"".join(parts).partition(b"\r\n\r\n")
        return body.decode(errors="replace") if b" 200 " in head.split(b"\r\n", 1)[0] else ""

    def publishers(self, data_info_id):
        """What its clients publish under `dataId#@#instanceId#@#group`: a list of records with registerId, processId, appName, version, ..."""
        return json.loads(self.http(f"/digest/pub/data/query?dataInfoId={data_info_id.replace('#', '%23')}") or "{}").get("PUB", [])

    def data_info_ids(self):
        """Every `dataId#@#instanceId#@#group` that is published or subscribed."""
        return json.loads(self.http("/digest/getDataInfoIdList") or "[]")

    def lines(self, data_info_id):
        """The texts published there: Java-serialised strings, here without that wrapping."""
        datas = [base64.b64decode(box["bytes"]) for publisher in self.publishers(data_info_id) for box in publisher["dataList"]]
        # 0xaced0005, 0x74, two bytes of length, then the text; 0x7c and eight bytes when it is long.
        return [data[15 if data[4] == 0x7c else 7:].decode() if data.startswith(b"\xac\xed") else repr(data) for data in datas]

    def stop(self):
        self.proc.stop()

    def kill(self):
        self.proc.kill()


class Driver:
    """SOFARegistry's client library of one version (`v52`, `v63`, `v65`), told what to do; see `demo.registry.Driver`."""

    def __init__(self, parts, host, module, endpoint):
        self.pipe = pathlib.Path(tempfile.mkdtemp()) / "commands"
        os.mkfifo(self.pipe)
        base = JAVA / "sofaregistry-client" / module / "target"
        home = parts.folder / f"home-{module}"
        argv = ["java", "-Xms32m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
                "--add-opens", "java.base/java.lang=ALL-UNNAMED", f"-Duser.home={home}", "-Ddemo.app=demo-app",
                "-cp", f"{base}/classes:{base}/lib/*", "demo.registry.Driver", endpoint, str(self.pipe)]
        self.proc = parts._start(f"client-{module}", host, argv)
        self._out, self._taken = None, 0
        self.proc.event("ready", 30)

    def tell(self, *words):
        if self._out is None:
            self._out = open(self.pipe, "w", encoding="utf-8")
        self._out.write("\t".join(map(str, words)) + "\n")
        self._out.flush()

    def seen(self, what, timeout=20, **fields):
        """Waits for an event with these fields, after those that earlier waits took."""
        def find():
            for number, event in enumerate(self.proc.events):
                if number >= self._taken and event.get("event") == what and all(event.get(k) == v for k, v in fields.items()):
                    self._taken = number + 1
                    return event
            return None
        return wait_for(f"{what} {fields} of {self.proc.name}", timeout, find)

    def done(self, key, **fields):
        return self.seen("change", key=key, done=True, **fields)


def classpath():
    jars = glob.glob(f"{JAVA}/sofaregistry/target/lib/*.jar")
    if not jars:
        raise Failed("no SOFARegistry: testbed/java/sofaregistry/target/lib is empty; run `mvn package` in testbed/java")
    return ":".join(sorted(jars))
