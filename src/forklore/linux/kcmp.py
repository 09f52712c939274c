"""kcmp(2): whether two tasks hold one and the same kernel object, and in which order their objects sort.

The kernel compares pointers, scrambled so that they tell nothing but their order (kernel/kcmp.c: kcmp_ptr). It
compares them even where both are NULL, so EQUAL of SYSVSEM or IO can mean that neither task has such an object:
:class:`Unset` tells. Everything of a zombie but its thread group is NULL: two zombies compare as EQUAL in all, so
callers never compare them (:func:`is_zombie`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Final

from forklore.abi.errors import errno_name
from forklore.abi.kcmp import KcmpType
from forklore.abi.kcmp import Order as Order
from forklore.abi.syscalls import number
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.linux.libc import CLIB
from forklore.linux.proc import machine, read_file

_get_errno: Final = ctypes.get_errno




def _prepare() -> Callable[[int, int, int], int]:
    arch = machine()
    nr = None if arch is None else number(arch, "kcmp")
    if nr is None:
        return lambda _a, _b, _what: -errno.ENOSYS
    # A prototype would have ctypes make an object of every argument, at twice the price of the whole call. Without
    # one it passes small ints as C ints, which is what the kernel takes: pids and a type.
    call = CLIB["syscall"]
    call.restype = ctypes.c_long

    def compared(a: int, b: int, what: int) -> int:
        result: int = call(nr, a, b, what, 0, 0)
        return result if result >= 0 else -_get_errno()

    return compared


raw: Final = _prepare()
"""``raw(tid, tid, type)``: kcmp(2)'s answer (an :class:`Order` as a plain int), or ``-errno``. For hot loops."""


def refused(a: Tid, b: Tid, number: int) -> Unavailable:
    """The value of a kcmp(2) that failed, with the kernel's rule. Costs a few system calls of its own."""
    if number == errno.ESRCH:
        gone = [tid for tid in (a, b) if raw(tid, tid, KcmpType.VM) == -errno.ESRCH]
        who = " and ".join(map(str, gone)) or f"{a} or {b}"
        return Unavailable(number, f"ESRCH: {who} ended, or is in no pid namespace of ours")
    if number == errno.EPERM:
        me = Tid(os.getpid())
        if raw(me, me, KcmpType.VM) == -errno.EPERM:
            return Unavailable(number, "EPERM: a seccomp filter of this sandbox forbids kcmp(2) altogether")
        closed = [tid for tid in (a, b) if raw(tid, tid, KcmpType.VM) == -errno.EPERM]
        return Unavailable(number, f"EPERM: {access_rule(closed[0] if closed else a)}")
    if number == errno.ENOSYS:
        return Unavailable(number, "ENOSYS: a kernel without CONFIG_KCMP, or a sandbox that hides kcmp(2)")
    return Unavailable(number, f"{errno_name(number)}: kcmp(2) of {a} and {b}")


_IDS: Final = (b"Uid:", b"Gid:")


def access_rule(tid: Tid) -> str:
    """Which rule keeps this process from looking into a task (kernel/ptrace.c: __ptrace_may_access), as a phrase.

    Yama has no say in it: it restricts attaching, not reading.
    """
    ids, own = (_ids(task) for task in (tid, os.getpid()))
    if not ids:
        return "it cannot be read, and this process lacks CAP_SYS_PTRACE"
    user, group = own[0][0], own[1][0]
    lacking = "and this process lacks CAP_SYS_PTRACE over it"
    if any(set(found) - {caller} for found, caller in zip((ids[0][:3], ids[1][:3]), (user, group), strict=True)):
        return f"it runs as another user (uid {ids[0][0]}), {lacking}"
    if _owned_by_root(tid) and ids[0][1] != 0:
        return f"it is not dumpable (set-id, changed ids, PR_SET_DUMPABLE), {lacking}"
    return "it has other capabilities or another user namespace, is not dumpable, or a security module protects it"


def _ids(tid: int) -> list[list[int]]:
    # Real, effective, saved and file-system ids, of users and of groups.
    found = read_file(f"/proc/{tid}/status")
    if isinstance(found, Unavailable):
        return []
    return [[int(word) for word in line.split()[1:]] for line in found.splitlines() if line.startswith(_IDS)]


def _owned_by_root(tid: int) -> bool:
    # The files below /proc/PID go to root when the task is not dumpable (fs/proc/base.c: task_dump_owner).
    try:
        return os.stat(f"/proc/{tid}/stat").st_uid == 0
    except OSError:
        return False


def is_zombie(tid: Tid) -> bool:
    """Whether a task has ended and has no objects any more; also of one that is gone."""
    if raw(tid, tid, KcmpType.FILE) == Order.EQUAL:
        return False  # it has its descriptor 0, as most have, and so a table
    # Not /proc/TID/stat, whose price grows with the number of threads.
    stat = read_file(f"/proc/{tid}/task/{tid}/stat", 512)
    if isinstance(stat, Unavailable):
        return True
    return stat[stat.rindex(b")") + 2 :][:1] in b"ZX"


class Unset:
    """Tells tasks without a SEM_UNDO list or an I/O context from tasks that share one.

    A task equals another in these without sharing when both have none. So it is compared with a task that has none
    for certain: a zombie, whose list and context the kernel has dropped (kernel/exit.c: do_exit). It is made when
    first needed, and is a child of this process: between then and :meth:`close` nothing may wait for any child.
    Where this process has none itself, which is usual, equality with it tells as much, and no zombie is made.
    """

    def __init__(self) -> None:
        self._me = os.getpid()
        self._control: Pid | None = None

    def __enter__(self) -> Unset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_null(self, tid: Tid, what: KcmpType) -> bool | Unavailable:
        """Whether a task, alive, has no object of the type SYSVSEM or IO.

        It may be a thread of this process, but no other task that was made to share one with it.
        """
        mine = raw(tid, self._me, what)
        if mine < 0:
            return refused(tid, Tid(self._me), -mine)
        if mine == Order.EQUAL and not os.path.lexists(f"/proc/self/task/{tid}"):
            return True
        try:
            control = self.control()
        except OSError as problem:
            return Unavailable(problem.errno or 0, f"{errno_name(problem.errno or 0)}: no task to compare with")
        answer = raw(tid, control, what)
        return answer == Order.EQUAL if answer >= 0 else refused(tid, control, -answer)

    def control(self) -> Tid:
        """The task that has none. OSError if it cannot be made."""
        if self._control is None:
            self._control = _zombie()
            self._settle(self._control)
        return Tid(self._control)

    @staticmethod
    def _settle(control: Pid) -> None:
        # A child becomes waitable a moment before it drops its I/O context, if it began with one: a process that
        # has an I/O priority gives each child a context of its own. Two children are equal only once both have none.
        other = _zombie()
        try:
            while raw(control, other, KcmpType.IO) > Order.EQUAL or raw(control, other, KcmpType.SYSVSEM) > Order.EQUAL:
                os.sched_yield()
        finally:
            os.waitpid(other, 0)

    def close(self) -> None:
        """Let the control go, if there is one."""
        if self._control is not None:
            os.waitpid(self._control, 0)
            self._control = None


def _zombie() -> Pid:
    with warnings.catch_warnings():
        # It warns of other threads; but only os.fork sets the interpreter's lock right in the child, which would else
        # wait for a thread that it does not have.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return Pid(pid)
