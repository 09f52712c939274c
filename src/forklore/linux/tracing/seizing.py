"""Taking running programs under ptrace, all their threads, without stopping any of them.

PTRACE_SEIZE takes the target's cred_guard_mutex, which an execve holds while it waits for the other threads of its
process to be gone; and a thread that is traced is gone only when its tracer has waited for it. So a seize can wait for
an execve that waits for us (ptrace(2), BUGS). It is made by the tracing thread, which must stay the tracer, while
another thread takes the ends of tracees that come meanwhile. It cannot leave their stops: wait calls tell a tracer of
them whatever it asks for (kernel/exit.c: wait_task_stopped).
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from forklore.abi.capabilities import NAMES
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.abi.wait import WaitOption
from forklore.linux import proc
from forklore.linux.libc import function
from forklore.linux.observe import state
from forklore.linux.ours import this_process
from forklore.linux.tasks import PF_KTHREAD, thread_ids
from forklore.linux.tracing import ptrace

_PATIENCE: Final = 0.05
"""Seconds after which a seize is taken to be stuck: it takes a few microseconds."""
_STUCK: Final = 5
"""So many times that, and it may stay so."""
_PASSES: Final = 100
"""How often a list of threads that seems too short is read again."""
_ENOUGH: Final = 5.0
"""Seconds for which a task that is ending is asked for again: a moment later its tid may be that of the thread that
executes; and again, in a program that does nothing but execute. Under load the two states alternate with our looking at
them, on and on."""
_PAUSE: Final = 0.001
"""Seconds between two of these. The kernel tells nobody of the change."""
_BUSY: Final = 0.1
"""Seconds for which a running thread may be in the middle of making another, before it is asked to stop."""
_WEXITED: Final = 4
_P_ALL: Final = 0
_SIGINFO_SIZE: Final = 128
_SI_CODE, _SI_PID, _SI_STATUS = 8, 16, 24
_CLD_EXITED, _CLD_DUMPED, _CLD_TRAPPED = 1, 3, 4
_STOPPED: Final = 0x7F

_waitid: Final = function(
    "waitid", ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int
)  # fmt: skip


class Seizing:
    """Seizes the threads of processes.

    :attr:`statuses` are the wait statuses that came while a seize was stuck, ends and the stops between them,
    :attr:`executed` the tids that were seized and are no more, because their thread has executed and has its leader's.
    """

    def __init__(self, options: int) -> None:
        self.options = options
        self._seized = 0
        self.stuck = False
        """Whether a seize has waited so long that nobody should wait for it: its execve may wait for a file system that
        does not answer. No signal ends the seize (kernel/ptrace.c: ptrace_attach), but the end of its thread does."""
        self.statuses: list[tuple[Tid, int]] = []
        self.executed: list[Tid] = []

    def process(self, pid: Pid, known: Callable[[Tid], bool]) -> Iterator[Tid | Unavailable]:
        """Seize every thread of ``pid``: its tid, or why it could not be.

        Threads are listed again until a whole list has none that is new: one that a seized thread makes is seized by
        the kernel, and one that another makes is in the next list. ``known``: whether a tid is ours already. A tid
        comes twice if a thread that was not seized yet has executed meanwhile: it is another task then.
        """
        over = self._over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,), daemon=True)
        ours: set[Tid] = set()
        watch.start()
        try:
            yield from self._all(pid, known, ours)
        finally:
            over.set()
            watch.join()
        # A seize waits for an execve to be over, and the thread that it is of has its leader's tid then.
        listed = thread_ids(pid)
        there = {Tid(pid)} if isinstance(listed, Unavailable) else {*listed}
        executed = ours - there - {tid for tid, word in self.statuses if word & _STOPPED != _STOPPED}
        self.executed += executed
        if executed and Tid(pid) not in ours:
            yield Tid(pid)

    def _all(self, pid: Pid, known: Callable[[Tid], bool], ours: set[Tid]) -> Iterator[Tid | Unavailable]:
        tried: set[Tid] = set()
        refused: set[Tid] = set()
        unsettled: set[Tid] = set()
        short = 0
        while True:
            listed = thread_ids(pid)
            if isinstance(listed, Unavailable):
                if not tried:
                    yield listed
                return
            new = [tid for tid in listed if tid not in tried]
            if not new:
                if Tid(pid) not in refused and _is_let_go(Tid(pid)):
                    tried.discard(Tid(pid))
                elif len(listed) < _number_of_threads(pid) and short < _PASSES:
                    short += 1
                elif unsettled:
                    _settle(unsettled, self._over)
                    unsettled.clear()
                else:
                    return
            for tid in new:
                tried.add(tid)
                taken = None if known(tid) and tid != Tid(pid) else self._seize(tid)
                if taken is None:
                    continue
                if isinstance(taken, Unavailable):
                    refused.add(tid)
                else:
                    ours.add(tid)
                    unsettled.add(tid)
                yield taken

    def _seize(self, tid: Tid) -> Tid | Unavailable | None:
        until = time.monotonic() + _ENOUGH
        while True:
            try:
                ptrace.seize(tid, self.options)
            except ProcessLookupError:
                return None  # it ended in between
            except OSError as problem:
                refusal = _refusal(tid, problem)
                if refusal is not _ENDING or time.monotonic() > until:
                    return refusal
            else:
                return tid
            finally:
                self._seized += 1
            self._over.wait(_PAUSE)

    def _watch(self, over: threading.Event) -> None:
        before, rounds = -1, 0
        while not over.wait(_PATIENCE):
            # All there are: an execve may wait for thousands of threads.
            while self._seized == before and (taken := _status()) is not None:
                self.statuses.append(taken)
                rounds = 0
            rounds = rounds + 1 if self._seized == before else 0
            self.stuck = rounds > _STUCK
            before = self._seized
        self.stuck = False


def _settle(tids: Iterable[Tid], over: threading.Event) -> None:
    """Wait until none of these is in a clone that began before it was seized, and whose thread would not be ours.

    A thread that sleeps is in none, and one that runs has left it when it stops or sleeps: running ones get a moment
    for that, then they are asked to stop. What they make from then on is theirs and ours.
    """
    left = _waited(tids, "RD", over)
    for tid in left:
        try:
            ptrace.interrupt(tid)
        except ProcessLookupError:
            continue
    _waited(left, "RSD", over)


def _waited(tids: Iterable[Tid], letters: str, over: threading.Event) -> list[Tid]:
    # Those that are still in one of these states when the time is over. The kernel tells nobody of a change.
    left, until = [tid for tid in tids if _is_in(tid, letters)], time.monotonic() + _BUSY
    while left and time.monotonic() < until:
        over.wait(_PAUSE)
        left = [tid for tid in left if _is_in(tid, letters)]
    return left


def _is_in(tid: Tid, letters: str) -> bool:
    fields = proc.status(tid)
    return not isinstance(fields, Unavailable) and fields.get(b"State", b" ")[:1].decode() in letters


def _is_let_go(tid: Tid) -> bool:
    # A leader, seized or a zombie, whose tid goes to a thread that was not seized when it executes: the kernel lets go
    # of the one without a word (fs/exec.c: de_thread), and nobody traces the other.
    fields = proc.status(tid)
    if isinstance(fields, Unavailable) or fields.get(b"State", b"").startswith((b"Z", b"X")):
        return False
    return proc.number(fields, b"TracerPid") == 0


def _number_of_threads(pid: Pid) -> int:
    # A list ends early when the thread that it has come to ends meanwhile (fs/proc/base.c: next_tid).
    fields = proc.status(pid)
    return 0 if isinstance(fields, Unavailable) else proc.number(fields, b"Threads") or 0


def _status() -> tuple[Tid, int] | None:
    """The end of any child or tracee, or the stop of a tracee, as waitpid(2) would tell it; None: nothing to tell."""
    info = ctypes.create_string_buffer(_SIGINFO_SIZE)
    if _waitid(_P_ALL, 0, info, _WEXITED | int(WaitOption.WALL) | os.WNOHANG) == -1:
        return None
    tid = int.from_bytes(info.raw[_SI_PID : _SI_PID + 4], "little")
    if tid == 0:
        return None
    code = int.from_bytes(info.raw[_SI_CODE : _SI_CODE + 4], "little")
    status = int.from_bytes(info.raw[_SI_STATUS : _SI_STATUS + 4], "little")
    if code == _CLD_EXITED:
        return Tid(tid), (status & 0xFF) << 8
    if code == _CLD_TRAPPED:
        return Tid(tid), status << 8 | _STOPPED
    return Tid(tid), status | (0x80 if code == _CLD_DUMPED else 0)


def _refusal(tid: Tid, problem: OSError) -> Unavailable | None:
    # EPERM has four causes (ptrace(2)): each has its own remedy.
    if problem.errno != errno.EPERM:
        return Unavailable(problem.errno or 0, f"{tid}: {problem.strerror}")
    fields = proc.status(tid)
    if isinstance(fields, Unavailable):
        return None  # it ended in between
    if fields.get(b"State", b"").startswith((b"Z", b"X")):
        return None
    tracer = proc.number(fields, b"TracerPid")
    if tracer == _thread.get_native_id():
        return None  # one that a seized thread has made: its event will tell
    if tracer:
        return Unavailable(errno.EPERM, f"{tid} is traced by {tracer} already")
    seen = state(tid)
    if not isinstance(seen, Unavailable) and seen.flags & PF_KTHREAD:
        return Unavailable(errno.EPERM, f"{tid} is a thread of the kernel")
    if Tid(tid) == _thread.get_native_id() or proc.number(fields, b"Tgid") == os.getpid():
        return Unavailable(errno.EPERM, f"{tid} is forklore itself")
    if not _is_closed(tid):
        return _ENDING
    return Unavailable(errno.EPERM, f"the kernel does not let us trace {tid}: {_why_closed(fields)}")


_CAP_SYS_PTRACE: Final = NAMES.index("CAP_SYS_PTRACE")
_ADMIN_ONLY, _NOBODY = 2, 3
"""Yama's ptrace_scope "admin-only attach" and "no attach" (Documentation/admin-guide/LSM/Yama.rst)."""
_ENDING: Final = Unavailable(
    errno.EPERM, "the kernel does not let us trace a task that ends, and it was ending whenever it was asked for"
)


_UNTIL_BOOT: Final = (
    "kernel.yama.ptrace_scope is 3, which forbids everybody to trace until the next boot; --engine bpf traces without"
    " ptrace, for whoever has CAP_BPF and CAP_PERFMON"
)


def why_no_child() -> str | None:
    """Why Yama does not even let us trace our own children; None where it does, or is not there."""
    scope = proc.setting("/proc/sys/kernel/yama/ptrace_scope") or 0
    if scope == _NOBODY:
        return _UNTIL_BOOT
    if scope == _ADMIN_ONLY and not this_process.effective_capabilities() >> _CAP_SYS_PTRACE & 1:
        return (
            "kernel.yama.ptrace_scope is 2, which lets nobody trace without CAP_SYS_PTRACE: run as root, or: sysctl"
            " kernel.yama.ptrace_scope=1"
        )
    return None


def _why_closed(fields: dict[bytes, bytes]) -> str:
    """Which part of kernel/ptrace.c: __ptrace_may_access refuses, in its order; the security modules come last."""
    ours = this_process.effective_capabilities()
    scope = proc.setting("/proc/sys/kernel/yama/ptrace_scope") or 0
    if scope == _NOBODY:
        return _UNTIL_BOOT
    if ours >> _CAP_SYS_PTRACE & 1:
        return (
            "not even with CAP_SYS_PTRACE, which we have: it is of a user namespace outside of ours, or a security"
            " module or sandbox (Landlock, SELinux, AppArmor) keeps it from us"
        )
    for name, own in ((b"Uid", os.getuid()), (b"Gid", os.getgid())):
        if others := set(map(int, fields.get(name, b"").split()[:3])) - {own}:
            return f"it has the {name.decode().lower()} {min(others)}, we have {own}: run as that user, or as root"
    if scope:
        started = "; what `forklore run` starts may be traced" if scope < _ADMIN_ONLY else ""
        return f"kernel.yama.ptrace_scope is {scope}: run as root, or: sysctl kernel.yama.ptrace_scope=0{started}"
    if int(fields.get(b"CapPrm", b"0"), 16) & ~ours:
        return "it has capabilities that we lack: run as root"
    return "it is set-id, or made itself not dumpable (prctl(2): PR_SET_DUMPABLE): run as root"


def _is_closed(tid: Tid) -> bool:
    # Its memory is open to who may trace it, by the same rule, whether it is ending or not (fs/proc/base.c:
    # proc_mem_open, kernel/ptrace.c: ptrace_may_access).
    try:
        os.close(os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        return True
    except OSError:
        return False  # it ended
    return False
