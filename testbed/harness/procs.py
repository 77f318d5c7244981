# SPDX-License-Identifier: Apache-2.0
"""Processes of a run: started on a host, watched by their JSON lines, ended by us and nobody else."""

import ctypes
import json
import os
import signal
import subprocess
import threading
import time

_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Failed(Exception):
    """A cell's expectation that did not hold; the text says what was seen."""


class Proc:
    """One process. JSON objects on its standard output are events; everything goes to `folder/name.{out,err}`."""

    def __init__(self, name, host, argv, folder, env=None):
        self.name, self.host, self.folder = name, host, folder
        self.events = []
        self._more = threading.Condition()
        self._out = open(folder / f"{name}.out", "a")
        self._err = open(folder / f"{name}.err", "a")
        environ = {**os.environ, **(env or {})}
        self.popen = subprocess.Popen(
            host.command(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._err, text=True,
            env=environ, cwd=folder, start_new_session=True, preexec_fn=_die_with_parent)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.popen.pid

    def _read(self):
        for row in self.popen.stdout:
            self._out.write(row)
            self._out.flush()
            if row.startswith("{"):
                try:
                    event = json.loads(row)
                except ValueError:
                    continue
                event["seen"] = time.time()
                with self._more:
                    self.events.append(event)
                    self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def event(self, kind, timeout, begin=0):
        """The first event of a kind (from index `begin` on); raises when the process ends or time runs out first."""
        until = time.time() + timeout
        with self._more:
            while True:
                for event in self.events[begin:]:
                    if event.get("event") == kind:
                        return event
                left = until - time.time()
                if left <= 0:
                    raise Failed(f"{self.name}: no '{kind}' within {timeout} s; see {self.folder}/{self.name}.err")
                if self.popen.poll() is not None and not self._reader.is_alive():
                    raise Failed(f"{self.name} ended with {self.popen.returncode} before '{kind}': {self.last_words()}")
                self._more.wait(min(left, 0.2))

    def all(self, kind):
        with self._more:
            return [e for e in self.events if e.get("event") == kind]

    def last_words(self):
        for event in reversed(self.events):
            if event.get("event") == "broken":
                return event["error"]
        with open(self.folder / f"{self.name}.err", errors="replace") as file:
            rows = [r.strip() for r in file.read()[-4000:].splitlines() if r.strip()]
        return rows[-1][:300] if rows else "(no output)"

    def is_alive(self):
        return self.popen.poll() is None

    def wait(self, timeout):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {timeout} s") from None

    def kill(self):
        """SIGKILL, at once."""
        if self.is_alive():
            self.popen.kill()
        self.popen.wait()

    def stop(self, timeout=15):
        """SIGTERM, and SIGKILL when that is not heard; true when it was heard."""
        heard = True
        if self.is_alive():
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                heard = False
                self.kill()
        self._reader.join(2)
        return heard


def wait_for(what, timeout, condition, pause=0.05):
    """Waits until `condition()` gives something true, and gives that back."""
    until = time.time() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.time() > until:
            raise Failed(f"not within {timeout} s: {what}")
        time.sleep(pause)
