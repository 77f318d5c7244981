# SPDX-License-Identifier: Apache-2.0
"""Runs a program and writes the names of its functions in the order of their first call: `python3 -m driver.trace FILE PROGRAM WORDS...`

A breakpoint stands at the start of each function until it is called. x86-64 Linux, a program with its symbols (`nm`).
The program keeps the process that was started, so that whoever started it can watch and stop it; this is its child.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys

SEIZE, CONT, GETREGS, SETREGS = 0x4206, 7, 12, 13
FOLLOW_CLONE, FOLLOW_EXEC = 1 << 3, 1 << 4
EVENT_CLONE, EVENT_EXEC = 3, 4
WAIT_ALL_THREADS = 0x40000000
# `user_regs_struct` is 27 words; the instruction pointer is one of them.
REGISTERS, POINTER = 27, 16
BREAKPOINT = b"\xcc"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread, address=0, data=0):
    if _libc.ptrace(request, thread, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def functions(program):
    """{address: name} of what `nm` knows in the program's code."""
    found = {}
    for row in subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout.splitlines():
        words = row.split()
        if len(words) == 3 and words[1] in "tTwW":
            found.setdefault(int(words[0], 16), words[2])
    return found


class Breakpoints:
    """At the start of each function of a process that has just become `program`."""

    def __init__(self, process, program, names):
        self._memory = os.open(f"/proc/{process}/mem", os.O_RDWR)
        maps = pathlib.Path(f"/proc/{process}/maps").read_text().splitlines()
        base = min(int(row.split("-")[0], 16) for row in maps if row.endswith(str(program)))
        self._names = {base + address: name for address, name in names.items()}
        self._bytes = {address: os.pread(self._memory, 1, address) for address in self._names}
        for address in self._bytes:
            os.pwrite(self._memory, BREAKPOINT, address)

    def hit(self, thread):
        """Lets a thread that stopped at a function go on there. The name at its first call, else None; False: no function."""
        registers = (ctypes.c_ulonglong * REGISTERS)()
        ptrace(GETREGS, thread, 0, ctypes.addressof(registers))
        address = registers[POINTER] - 1
        if address not in self._bytes:
            return False
        # Another thread may have come first.
        is_first = os.pread(self._memory, 1, address) == BREAKPOINT
        if is_first:
            os.pwrite(self._memory, self._bytes[address], address)
        registers[POINTER] = address
        ptrace(SETREGS, thread, 0, ctypes.addressof(registers))
        return self._names[address] if is_first else None


def trace(process, program, names, out):
    """Until the process has ended."""
    points = None
    while True:
        try:
            thread, status = os.waitpid(-1, WAIT_ALL_THREADS)
        except ChildProcessError:
            return
        if not os.WIFSTOPPED(status):
            continue
        number, event = os.WSTOPSIG(status), status >> 16
        if event == EVENT_EXEC:
            points = Breakpoints(process, program, names)
        elif not event and number == signal.SIGTRAP and points:
            name = points.hit(thread)
            if name:
                print(name, file=out, flush=True)
            if name is not False:
                number = 0
        try:
            ptrace(CONT, thread, 0, 0 if event else number)
        except ProcessLookupError:
            pass  # killed meanwhile


def main():
    file, program, *words = sys.argv[1:]
    program = pathlib.Path(program).resolve()
    process, (is_traced, told) = os.getpid(), os.pipe()
    if os.fork() == 0:
        names = functions(program)
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, signal.SIG_IGN)
        with open(file, "w") as out:
            ptrace(SEIZE, process, 0, FOLLOW_CLONE | FOLLOW_EXEC)
            os.write(told, b"\0")
            trace(process, program, names, out)
        os._exit(0)
    os.read(is_traced, 1)
    os.execv(program, [str(program), *words])


if __name__ == "__main__":
    main()
