# SPDX-License-Identifier: Apache-2.0
"""One run of the driver: its folder, its processes, and the load programs."""

import itertools

from harness.procs import Failed, Proc

from .awake import Awake
from .machine import LOAD, LOAD_CORE, PROXY_CORE, busy_seconds, free_port
from .proc import cpu_seconds

# The host on which providers stand; Remora's own hosts are in `paths.py`.
PROVIDER_HOST = "127.0.0.22"


class Echo:
    """A provider, on the load's core."""

    def __init__(self, run, protocol):
        self.host = PROVIDER_HOST
        self.port = free_port("127.0.0.1", self.host)
        listen = [word for host in ("127.0.0.1", self.host) for word in ("--listen", f"{host}:{self.port}")]
        self.proc = run.start(f"echo-{protocol}", LOAD, [run.programs / "echo", "--protocol", protocol, *listen])
        self.proc.event("ready", 10)

    @property
    def address(self):
        return "127.0.0.1", self.port


class Run:
    """Starts things in `folder` and remembers them; a context which ends them all."""

    def __init__(self, folder, programs, binary):
        self.folder, self.programs, self.binary = folder, programs, binary
        self._procs = []
        self._numbers = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for proc in reversed(self._procs):
            proc.stop(5)
        self._procs = []

    def start(self, name, core, argv, env=None):
        proc = Proc(f"{next(self._numbers):03}-{name}", core, [str(word) for word in argv], self.folder, env)
        self._procs.append(proc)
        return proc

    def stop(self, proc):
        """Asks it to end, and makes it; frees what is kept of it."""
        if proc in self._procs:
            self._procs.remove(proc)
        proc.stop(15)

    def kill(self, proc):
        self._procs.remove(proc)
        proc.kill()

    def begin_load(self, what, to, protocol, watch=(), **options):
        """Starts the load program; `watch` is (name, process ids)."""
        argv = [self.programs / "load", what, "--protocol", protocol, "--to", f"{to[0]}:{to[1]}"]
        for key, value in options.items():
            argv += [f"--{key.replace('_', '-')}", value]
        for name, pids in watch:
            argv += ["--watch", f"{name}={'+'.join(map(str, pids))}"]
        return self.start(f"load-{what}", LOAD, argv)

    def end_load(self, proc, timeout):
        """What it found."""
        result = proc.event("result", timeout)
        self.stop(proc)
        return result

    def load(self, what, to, protocol, watch=(), timeout=120, **options):
        return self.end_load(self.begin_load(what, to, protocol, watch, **options), timeout)

    def calls(self, path, awake=False, **options):
        """Measured calls on a path, with the share of either core that others took meanwhile. `awake`: no core sleeps."""
        with Awake(awake) as spinners:
            return self._calls(path, spinners, options)

    def _calls(self, path, spinners, options):
        watch = [(path.key, path.pids)] if path.pids else []
        proc = self.begin_load("calls", path.target, path.protocol, watch, **options)
        try:
            proc.event("begin", 60)
            before = self._core_times(proc, spinners)
            proc.event("end", 60 + float(options.get("seconds", 3)))
            load, proxies = (now - then for now, then in zip(self._core_times(proc, spinners), before))
            result = self.end_load(proc, 60)
        except Failed:
            self.stop(proc)
            raise
        own = sum(one["cpu"] for one in result["watched"].values())
        result["foreign"] = max(0.0, proxies / result["seconds"] - own)
        result["foreign_load"] = max(0.0, load / result["seconds"] - result["own_cpu"])
        return result

    def _core_times(self, load, spinners):
        """Seconds that were taken of the load's core, but by what stands there besides this load, and of the proxies'."""
        beside = [proc for proc in self._procs if proc.host is LOAD and proc is not load and proc.is_alive()]
        known = sum(cpu_seconds(proc.pid) for proc in beside) + spinners.seconds(LOAD_CORE)
        return busy_seconds(LOAD_CORE) - known, busy_seconds(PROXY_CORE) - spinners.seconds(PROXY_CORE)
