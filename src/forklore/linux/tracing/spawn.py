"""Starting the program to be traced: a forked child that waits to be seized, installs the filter and executes.

The child undoes what the Python interpreter did to the process (SIGPIPE and SIGXFSZ ignored), so that the program
starts with the signals, environment, descriptors and limits that forklore was started with.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
from collections.abc import Sequence
from typing import Final, NoReturn

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.units import Fd, Pid
from forklore.linux.libc import execve, string_array
from forklore.linux.tracing import seccomp

# Python ignores these at start-up and cannot tell any more whether they were ignored before.
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_READY: Final = b"."


class NotFoundError(Exception):
    """The command does not exist: exit status 127, as env(1) has it."""


class NotExecutableError(Exception):
    """The command exists and cannot be executed: exit status 126."""


class Filter(Struct, frozen=True):
    """The seccomp program to install, and whether no_new_privs has to be set for it."""

    program: bytes
    no_new_privs: bool
    machine: Arch


def find(command: str, search: Sequence[str] | None = None) -> bytes:
    """The path that execvp(3) would execute for ``command``."""
    if not command:
        raise NotFoundError("cannot run '': the name of the program is empty")
    if "/" in command:
        candidates = [command]
    else:
        candidates = [os.path.join(folder or ".", command) for folder in search or os.get_exec_path()]
    refused: str | None = None
    for path in candidates:
        if not os.path.exists(path):
            continue
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.fsencode(path)
        refused = refused or path
    if refused is not None:
        reason = "is a directory" if os.path.isdir(refused) else "is not executable (chmod +x makes it so)"
        raise NotExecutableError(f"cannot run {command!r}: {refused} {reason}")
    where = "no such file" if "/" in command else "not found in PATH"
    raise NotFoundError(f"cannot run {command!r}: {where}")


class Launched(Struct):
    """A child that waits for :meth:`go`; it is this process's child and has not yet executed anything."""

    pid: Pid
    _gate: Fd
    _report: Fd

    def limit_stack(self, size: int) -> None:
        """Set the soft limit of its stack, in bytes, where the hard one allows it."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_STACK)
        if hard == resource.RLIM_INFINITY or hard >= size:
            resource.prlimit(self.pid, resource.RLIMIT_STACK, (size, hard))

    def go(self) -> None:
        """Let it install its filter and execute."""
        with contextlib.suppress(BrokenPipeError):  # it was killed: its exit status will say so
            os.write(self._gate, _READY)
        os.close(self._gate)

    def abandon(self) -> None:
        """End it before it has executed anything."""
        os.close(self._gate)
        os.close(self._report)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def handle(self) -> Fd:
        """A descriptor that can be read when it has ended, and is the caller's to close. Raises OSError."""
        return Fd(os.pidfd_open(self.pid))

    def wait(self) -> int:
        """Wait for its end: the status word. Not of one that is traced."""
        return os.waitpid(self.pid, 0)[1]

    def failure(self) -> tuple[str, int] | None:
        """Once the child has executed or ended: what it could not do and errno, or None if it executes."""
        raw = os.read(self._report, 256)
        os.close(self._report)
        if not raw:
            return None
        number, _, what = raw.decode().partition(" ")
        return what, int(number)


def launch(path: bytes, argv: Sequence[bytes], environment: Sequence[bytes], filter_: Filter | None) -> Launched:
    """Fork the child that will become the program. OSError if it cannot be forked."""
    arguments, entries = string_array(list(argv)), string_array(list(environment))
    shell = string_array([b"/bin/sh", path, *argv[1:]])
    gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
    report_read, report_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(gate_write)
        _become(path, arguments, shell, entries, filter_, gate_read, report_write)
    os.close(gate_read)
    os.close(report_write)
    return Launched(Pid(pid), Fd(gate_write), Fd(report_read))


def _become(
    path: bytes, arguments: object, shell: object, entries: object, filter_: Filter | None, gate: int, report: int
) -> NoReturn:
    what = "fork"
    try:
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # execve may wait for a file system, where no handler helps
        if os.read(gate, 1) != _READY:
            os._exit(125)  # the tracer is gone
        if filter_ is not None:
            what = "seccomp"
            if filter_.no_new_privs:
                seccomp.set_no_new_privs()
            seccomp.install(filter_.program, filter_.machine)
        what = "execve"
        execve(path, arguments, entries)
        problem = ctypes.get_errno()
        if problem == errno.ENOEXEC:  # as execvp(3): a script without an interpreter line
            execve(b"/bin/sh", shell, entries)
            problem = ctypes.get_errno()
    except OSError as failed:
        problem = failed.errno or 0
    os.write(report, f"{problem} {what}".encode())
    os._exit(127 if problem == errno.ENOENT else 126)

