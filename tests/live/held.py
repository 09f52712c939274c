"""A small tracer for tests of measuring code: it stops a program where the real one would, and calls the test.

Each hook is called with its tasks held by ptrace. Nothing of ``forklore.sources`` is used.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from forklore.abi import ptrace as pt
from forklore.abi import syscalls
from forklore.abi.units import Tid
from forklore.linux import proc
from forklore.linux.libc import prctl
from forklore.linux.tracing import ptrace
from forklore.linux.tracing.wait import Kind, WaitStatus, wait_any

OPTIONS = int(
    pt.Option.EXITKILL | pt.Option.TRACESYSGOOD | pt.Option.TRACEFORK | pt.Option.TRACEVFORK | pt.Option.TRACECLONE
    | pt.Option.TRACEVFORKDONE | pt.Option.TRACEEXEC | pt.Option.TRACEEXIT
)  # fmt: skip
_CREATIONS = (Kind.FORK, Kind.VFORK, Kind.CLONE)
_PR_SET_DUMPABLE = 4


class Held:
    """Runs a program; subclasses override the hooks."""

    def __init__(self) -> None:
        self.out = b""
        self._announced: dict[Tid, tuple[Tid, Kind]] = {}
        self._early: set[Tid] = set()
        arch = proc.machine()
        assert arch is not None
        self._execve = syscalls.number(arch, "execve")

    def created(self, creator: Tid, child: Tid, how: Kind) -> None:
        """Both are held, and the child has not run."""

    def executing(self, tid: Tid) -> None:
        """At the entry of execve."""

    def executed(self, tid: Tid) -> None:
        """At the event of an execve that succeeded."""

    def exiting(self, tid: Tid) -> None:
        """At PTRACE_EVENT_EXIT."""

    def vfork_done(self, tid: Tid) -> None:
        """The parent is about to go on."""

    def run(self, *command: str | Path) -> int:
        """The exit status; the program's output is in ``out``."""
        gate_read, gate_write = os.pipe()
        self._read_end, write_end = os.pipe()
        root = os.fork()
        if root == 0:
            os.dup2(write_end, 1)
            for fd in (gate_write, self._read_end, write_end):
                os.close(fd)
            os.read(gate_read, 1)
            os.close(gate_read)
            os.execv(command[0], [os.fspath(word) for word in command])
        os.close(gate_read)
        os.close(write_end)
        os.set_blocking(self._read_end, False)
        ptrace.seize(Tid(root), OPTIONS)
        os.write(gate_write, b".")
        os.close(gate_write)
        try:
            status = self._loop(Tid(root))
        except BaseException:
            self._reap({Tid(root), *self._early, *self._announced})
            raise
        self.said()
        os.close(self._read_end)
        return status

    @staticmethod
    def _reap(tids: set[Tid]) -> None:
        for tid in tids:
            with suppress(ProcessLookupError):
                os.kill(tid, signal.SIGKILL)
            with suppress(ProcessLookupError):  # SIGKILL takes no task out of PTRACE_EVENT_EXIT
                ptrace.cont(tid)
        while True:
            try:
                tid, word = wait_any()
            except ChildProcessError:
                return
            if not WaitStatus.decode(word).ended:
                with suppress(ProcessLookupError):
                    ptrace.cont(tid)

    def said(self) -> str:
        """What the program has said by now."""
        try:
            while chunk := os.read(self._read_end, 65536):
                self.out += chunk
        except BlockingIOError:
            pass
        return self.out.decode()

    def _loop(self, root: Tid) -> int:
        exit_status = -1
        while True:
            try:
                tid, word = wait_any()
            except ChildProcessError:
                return exit_status
            status = WaitStatus.decode(word)
            if status.ended:
                if tid == root:
                    exit_status = status.code if status.kind is Kind.EXITED else -status.signal
                continue
            self._stop(tid, status)

    def _stop(self, tid: Tid, status: WaitStatus) -> None:
        kind = status.kind
        if kind in _CREATIONS:
            child = Tid(ptrace.event_message(tid))
            self._announced[child] = (tid, kind)
            if child in self._early:
                self._together(child)
            return
        if kind is Kind.TRAP:
            self._early.add(tid)
            if tid in self._announced:
                self._together(tid)
            return
        if kind is Kind.SYSCALL:
            op, _audit, nr, _words = ptrace.syscall_info(tid)
            if op == pt.SyscallInfoOp.ENTRY and nr == self._execve:
                self.executing(tid)
        elif kind is Kind.EXIT:
            self.exiting(tid)
        elif kind is Kind.EXEC:
            self.executed(tid)
        elif kind is Kind.VFORK_DONE:
            self.vfork_done(tid)
        self._go(tid, status.signal if kind is Kind.SIGNAL else 0)

    def _together(self, child: Tid) -> None:
        creator, how = self._announced[child]
        self.created(creator, child, how)
        self._go(child)
        self._go(creator)

    @staticmethod
    def _go(tid: Tid, number: int = 0) -> None:
        try:
            ptrace.cont_to_syscall(tid, number)
        except ProcessLookupError:
            return  # killed: its status comes


def in_child(work: Callable[[], None], *, uid: int | None = None) -> None:
    """Run ``work`` in a child of this process, as another user if told to. AssertionError: what went wrong there."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read_end)
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - told to the parent
            os.write(write_end, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as problems:
        problem = problems.read().decode()
    _, status = os.waitpid(pid, 0)
    assert (problem, status) == ("", 0), problem


@contextmanager
def forked() -> Iterator[Tid]:
    """A child of this process that stands still, with all that this process holds, until the block ends."""
    ready_read, ready_write = os.pipe()
    hold_read, hold_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(hold_write)
            os.write(ready_write, b".")
            os.read(hold_read, 1)
        finally:
            os._exit(0)
    os.close(hold_read)
    os.close(ready_write)
    try:
        os.read(ready_read, 1)
        yield Tid(pid)
    finally:
        os.close(ready_read)
        os.close(hold_write)
        os.waitpid(pid, 0)
