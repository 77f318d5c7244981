# SPDX-License-Identifier: Apache-2.0
"""Hosts of a run: one network namespace each, joined by a bridge which lives in a namespace of its own.

Nothing here touches the machine's own network: the bridge has no way out. Names carry the id of this process, so that
several runs do not meet, and what a killed run left behind is removed by the next one.
Where namespaces cannot be made (not root), all hosts are this machine; `Network.isolated` says which.
"""

import contextlib
import ctypes
import os
import pathlib
import shutil
import socket
import subprocess

PREFIX = "remtb"
SUBNET = "10.77.0"
ETC = pathlib.Path("/etc/netns")
NETNS = pathlib.Path("/run/netns")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*args):
    """Runs iproute2's `ip`; raises with its words when it fails."""
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def inside(namespace):
    """Sockets made in the body belong to the namespace and stay there. One thread at a time."""
    if namespace is None:
        yield
        return
    with open("/proc/self/ns/net") as home, open(NETNS / namespace) as there:
        if _libc.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter namespace {namespace}")
        try:
            yield
        finally:
            _libc.setns(home.fileno(), CLONE_NEWNET)


class Host:
    """A place where processes run: an address, and a namespace or None for this machine."""

    def __init__(self, name, namespace, address):
        self.name, self.namespace, self.address = name, namespace, address
        self._free = {}

    def __str__(self):
        return f"{self.name}({self.address})"

    def command(self, argv):
        return ["ip", "netns", "exec", self.namespace, *argv] if self.namespace else list(argv)

    def port(self, number):
        """The port that stands for `number` here: itself in a namespace, else a free one which stays the same."""
        if self.namespace:
            return number
        if number not in self._free:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._free[number] = probe.getsockname()[1]
        return self._free[number]

    def connect(self, address, port, timeout=2.0):
        """A TCP connection made from this host."""
        with inside(self.namespace):
            return socket.create_connection((address, port), timeout)

    def listening(self, port, address="127.0.0.1"):
        try:
            self.connect(address, port, 0.5).close()
            return True
        except OSError:
            return False

    def sockets(self, pid=None):
        """Established TCP sockets as (local, peer, pid); addresses as `ss` prints them, without the v4-mapped prefix."""
        text = subprocess.run(self.command(["ss", "-Htnp", "state", "established"]), capture_output=True, text=True).stdout
        found = []
        for row in text.splitlines():
            words = row.split()
            owner = row.split("pid=")[1].split(",")[0] if "pid=" in row else "0"
            if pid is None or int(owner) == pid:
                clean = [w.replace("[::ffff:", "").replace("]", "") for w in words[2:4]]
                found.append((clean[0], clean[1], int(owner)))
        return found


class Network:
    """The hosts of one run. Use as a context; all is removed at its end."""

    def __init__(self):
        self.isolated = False
        self.why = ""
        self.hosts = {}
        self._made = []
        self._id = f"{PREFIX}{os.getpid()}"

    def __enter__(self):
        try:
            if os.geteuid() != 0:
                raise RuntimeError("not root")
            sweep()
            self._namespace("sw")
            ip("-n", self._name("sw"), "link", "add", "br0", "type", "bridge")
            ip("-n", self._name("sw"), "link", "set", "br0", "up")
            self.isolated = True
        except (RuntimeError, OSError) as error:
            self.why = str(error)
            self.__exit__()
        return self

    def __exit__(self, *_):
        for name in reversed(self._made):
            remove(name)
        self._made = []

    def host(self, name):
        """The host of that name, made when first asked for."""
        if name not in self.hosts:
            if not self.isolated:
                self.hosts[name] = Host(name, None, own_address())
            else:
                number = len(self.hosts) + 2
                self.hosts[name] = self._isolated_host(name, number)
        return self.hosts[name]

    def _name(self, host):
        return f"{self._id}-{host}"

    def _namespace(self, host):
        name = self._name(host)
        ip("netns", "add", name)
        self._made.append(name)
        ip("-n", name, "link", "set", "lo", "up")
        return name

    def _isolated_host(self, host, number):
        address, switch = f"{SUBNET}.{number}", self._name("sw")
        name = self._namespace(host)
        # Without names of its own a JVM asks a DNS server that is not there, 15 to 35 s each time.
        (ETC / name).mkdir(parents=True, exist_ok=True)
        names = [f"127.0.0.1 localhost", f"{address} {socket.gethostname()} {host}"]
        names += [f"{SUBNET}.{n} host-{n}" for n in range(2, 60) if n != number]
        (ETC / name / "hosts").write_text("\n".join(names) + "\n")
        (ETC / name / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        ip("-n", switch, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", switch, "link", "set", f"p{number}", "master", "br0", "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        return Host(host, name, address)


def remove(namespace):
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True)
    shutil.rmtree(ETC / namespace, ignore_errors=True)


def sweep():
    """Removes namespaces of runs that are no more."""
    left = [p.name for d in (NETNS, ETC) if d.exists() for p in d.iterdir()]
    for name in set(left):
        owner = name.removeprefix(PREFIX).split("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not pathlib.Path(f"/proc/{owner}").exists():
            remove(name)


def own_address():
    """The address under which this machine's applications publish themselves; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
