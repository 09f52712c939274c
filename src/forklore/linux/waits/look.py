"""How a task stands at one moment: its state, the call it is in, since when it sleeps, and what tells it from later.

A task that has not been switched in between two looks has not run: it was asleep in the same call all the time, so
what was read in between was true of it at once (proc_pid_status(5), voluntary_ctxt_switches).
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Final

from msgspec import Struct

from forklore.abi.kcmp import KcmpType, Order
from forklore.abi.units import Nanoseconds, Pid, Tid, Unavailable
from forklore.linux import kcmp, proc
from forklore.linux.observe import read_stat, refused

_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PF_KTHREAD: Final = 0x200000
PF_FORKNOEXEC: Final = 0x40
"""Forked, and has executed nothing since (include/linux/sched.h)."""
_32_BITS: Final = 1 << 32


class RawCall(Struct, frozen=True, gc=False):
    """A line of /proc/TID/syscall: the call that a task sleeps in."""

    number: int
    """-1: it sleeps outside a system call (a page fault, or on its way to a signal)."""
    words: tuple[int, ...]
    sp: int
    pc: int

    @property
    def narrow(self) -> bool:
        """Whether the program's stack lies below 4 GiB: a 32-bit program."""
        return self.sp < _32_BITS


class Look(Struct, frozen=True, gc=False):
    """A task as it was read."""

    tid: Tid
    pid: Pid
    ppid: Pid
    name: bytes
    state: str
    """The letter of proc_pid_stat(5)."""
    pgrp: int
    session: int
    terminal: int
    """Device number of its controlling terminal; 0: none."""
    foreground: int
    """Process group in the foreground of that terminal."""
    flags: int
    nice: int
    threads: int
    start: int
    """Ticks since boot: with the tid, its identity."""
    exit_code: int
    """Of a zombie, as wait4 would give it."""
    call: RawCall | Unavailable | None
    """None: it runs."""
    switches: int | None
    """How often it has been switched out."""
    cpu: Nanoseconds | None
    """Processor time that it has used."""
    tracer: Tid
    """0: none."""
    ns_tids: tuple[int, ...]
    blocked: int
    caught: int
    pending: int
    """Masks of signals, bit 0 is signal 1; ``pending`` of the thread and its process."""
    locked: bool
    """Pages locked in memory (VmLck)."""

    @property
    def kernel(self) -> bool:
        """A thread of the kernel."""
        return bool(self.flags & PF_KTHREAD)

    @property
    def ended(self) -> bool:
        """A zombie, or about to be gone."""
        return self.state in "ZX"

    @property
    def number(self) -> int:
        """Its tid as its own pid namespace has it, which is what its memory holds."""
        return self.ns_tids[-1] if self.ns_tids else int(self.tid)

    def same(self, later: Look) -> bool:
        """Whether it has not run between the two looks: still the same task, asleep in the same call."""
        return (
            self.start == later.start
            and self.state == later.state
            and self.call == later.call
            and self.call is not None
            and self.switches is not None
            and self.switches == later.switches
        )

    def letters(self) -> str:
        """The state as ps(1) shows it in STAT: the letter and ``< N L s l +``."""
        marks = "<" if self.nice < 0 else "N" if self.nice > 0 else ""
        marks += "L" if self.locked else ""
        marks += "s" if self.session == self.pid else ""
        marks += "l" if self.threads > 1 else ""
        return self.state + marks + ("+" if self.foreground == self.pgrp and self.terminal else "")


def look(tid: Tid) -> Look | Unavailable:
    """Read a task: three files of /proc, none of which another task's answer can get into."""
    stat = read_stat(tid)
    if isinstance(stat, Unavailable):
        return refused(tid, stat.errno)
    call = raw_call(tid)
    fields = proc.status(tid)
    if isinstance(fields, Unavailable):
        return refused(tid, fields.errno)
    try:
        found = _parsed(tid, stat, call, fields)
    except (ValueError, IndexError):
        return Unavailable(0, f"/proc/{tid}/stat and status are not as proc_pid_stat(5) has them")
    if started(tid) != found.start:
        return Unavailable(3, f"ESRCH: {tid} ended while it was read")
    return found


def started(tid: Tid) -> int | None:
    """When the task of that tid was started, in ticks since boot; None: there is none."""
    stat = read_stat(tid)
    if isinstance(stat, Unavailable):
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def _parsed(tid: Tid, stat: bytes, call: RawCall | Unavailable | None, fields: proc.Status) -> Look:
    name, after = stat.index(b"("), stat.rindex(b")")
    words = stat[after + 2 :].split()  # field N of proc_pid_stat(5) is words[N - 3]

    def mask(field: bytes) -> int:
        return int(fields.get(field, b"0"), 16)

    switches = [proc.number(fields, word + b"voluntary_ctxt_switches") for word in (b"", b"non")]
    return Look(
        tid=tid, pid=Pid(proc.number(fields, b"Tgid") or tid), ppid=Pid(int(words[1])),
        name=stat[name + 1 : after], state=words[0].decode("ascii"), pgrp=int(words[2]), session=int(words[3]),
        terminal=int(words[4]), foreground=int(words[5]), flags=int(words[6]), nice=int(words[16]),
        threads=int(words[17]), start=int(words[19]), exit_code=int(words[49]) if len(words) > 49 else 0,
        call=call, switches=None if None in switches else sum(each or 0 for each in switches),
        cpu=Nanoseconds((int(words[11]) + int(words[12])) * _TICK),
        tracer=Tid(proc.number(fields, b"TracerPid") or 0),
        ns_tids=tuple(map(int, fields.get(b"NSpid", b"").split())),
        blocked=mask(b"SigBlk"), caught=mask(b"SigCgt"), pending=mask(b"SigPnd") | mask(b"ShdPnd"),
        locked=bool(proc.number(fields, b"VmLck")),
    )  # fmt: skip


def raw_call(tid: Tid) -> RawCall | Unavailable | None:
    """The call that a task sleeps in; None where it runs."""
    raw = proc.read_file(f"/proc/{tid}/syscall", 512)  # fs/proc/base.c: proc_pid_syscall
    if isinstance(raw, Unavailable):
        if raw.errno in (1, 13):
            return Unavailable(raw.errno, f"the call it is in may not be read: {_attach_rule(tid)}")
        return raw
    fields = raw.split()
    if not fields or fields[0] == b"running":
        return None
    words = tuple(int(word, 16) for word in fields[1:])
    if len(words) < 2:
        return Unavailable(0, f"/proc/{tid}/syscall has {raw[:40]!r}")
    return RawCall(int(fields[0]), words[:-2], words[-2], words[-1])


def _attach_rule(tid: Tid) -> str:
    # This file, unlike most, takes the right to attach (PTRACE_MODE_ATTACH_FSCREDS), in which Yama has a say.
    scope = proc.setting("/proc/sys/kernel/yama/ptrace_scope")
    if scope and kcmp.raw(tid, tid, KcmpType.VM) == Order.EQUAL:
        return f"kernel.yama.ptrace_scope is {scope}, so that it takes root (CAP_SYS_PTRACE), or scope 0"
    return kcmp.access_rule(tid)


def stopped_by(pid: Pid) -> int | None:
    """The signal of job control that has stopped a process; None: not told.

    The kernel forgets it when the parent waits for the stop (kernel/exit.c: wait_task_stopped), and tells it to those
    who may trace the process, of the process as a whole (fs/proc/array.c: do_task_stat).
    """
    raw = proc.read_file(f"/proc/{pid}/stat", 4096)
    if isinstance(raw, Unavailable):
        return None
    words = raw[raw.rindex(b")") + 2 :].split()
    return int(words[49]) & 0x7F or None if words[0] == b"T" and len(words) > 49 else None


def where(tid: Tid) -> str | None:
    """The function of the kernel that a task sleeps in (/proc/TID/wchan); None: none, or not told."""
    raw = proc.read_file(f"/proc/{tid}/wchan", 256)
    return None if isinstance(raw, Unavailable) or raw in (b"0", b"") else raw.decode("ascii", "replace")


def kernel_stack(tid: Tid) -> list[str] | Unavailable:
    """The functions of the kernel that a task sleeps in, innermost first; root may read them."""
    raw = proc.read_file(f"/proc/{tid}/stack")
    if isinstance(raw, Unavailable):
        return raw
    return [line.split()[1].decode("ascii", "replace").partition("+")[0] for line in raw.splitlines() if b" " in line]


def asleep_since(tid: Tid) -> Nanoseconds | None:
    """For how long a task has not run, by the scheduler's clock; None where it does not tell.

    ``se.exec_start`` of /proc/TID/sched is when its time on a processor was last accounted (kernel/sched/fair.c:
    update_curr). The clock is that of each processor: a few ms off.
    """
    then, ahead = _accounted(f"/proc/{tid}/sched"), _scheduler_ahead()
    if not then or ahead is None:
        return None
    return Nanoseconds(max(0, time.monotonic_ns() + ahead - int(then * 1e6)))


@cache
def _scheduler_ahead() -> int | None:
    """Nanoseconds that the scheduler's clock is ahead of the monotonic one: for this task, which runs, it is now."""
    now = _accounted("/proc/thread-self/sched")
    return None if now is None else int(now * 1e6) - time.monotonic_ns()


def _accounted(path: str) -> float | None:
    raw = proc.read_file(path, 4096)
    if isinstance(raw, Unavailable):
        return None
    at = raw.find(b"se.exec_start")
    if at < 0:
        return None
    try:
        return float(raw[at:].split(b"\n", 1)[0].rpartition(b":")[2])
    except ValueError:
        return None


def age(start: int) -> Nanoseconds:
    """For how long a task that was started at that tick is there."""
    return Nanoseconds(max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - start * _TICK))


def timers(pid: Pid) -> int | None:
    """How many POSIX timers a process has (/proc/PID/timers); None where that is not told."""
    raw = proc.read_file(f"/proc/{pid}/timers")
    return None if isinstance(raw, Unavailable) else raw.count(b"ID:")
