"""What the loop asks of the kernel, as one interface: the real one here, and scripted ones in tests.

Wait statuses, ptrace requests, memory and /proc of tracees, and the clock. What an observer reads beyond that
(stacks, descriptors, pages) is its own matter. Everything that the loop does can so be run on a kernel that answers
from a script, in any order of statuses that is legal, and in no time.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

from forklore.abi.units import Address, Fd, Pid, Tid, Unavailable
from forklore.linux import caller, limits, memory, observe, proc
from forklore.linux.files import reader_process
from forklore.linux.namespaces import Namespaces, namespaces
from forklore.linux.ours import this_process
from forklore.linux.set_ids import SetIds, set_ids
from forklore.linux.tracing import ptrace
from forklore.linux.tracing.ptrace import Entry, Registers, SignalInfo
from forklore.linux.tracing.wait import kill, last_usage, reap, status_since, wait_any


class Kernel(Protocol):
    """Requests raise ProcessLookupError for a tracee that is gone, which SIGKILL makes possible at any moment."""

    def clock(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""

    def worked(self) -> int:
        """Nanoseconds of processor time that this thread has used."""

    def wait(self) -> tuple[Tid, int]:
        """The next wait status of any child or tracee (:func:`forklore.linux.tracing.wait.wait_any`)."""

    def status_since(self) -> int:
        """A moment before which that status was not there (:func:`forklore.linux.tracing.wait.status_since`)."""

    def usage(self) -> tuple[int, int]:
        """What the task that :meth:`wait` gave last, and which ended, took."""

    def kill(self, pid: Pid, signal: int) -> None:
        """kill(2)."""

    def adopts_orphans(self) -> bool:
        """Whether tasks whose parent ended become this process's own children."""

    def children(self) -> set[Pid]:
        """The children that this process has by now."""

    def ended_child(self) -> Pid:
        """Make a child that ends at once: its status is one that :meth:`wait` gives. OSError if that cannot be."""

    def reap(self, pid: Pid) -> None:
        """Take the status of such a child, unless it was taken."""

    def reads_for_us(self, tid: Tid) -> bool:
        """Whether it is a process of ours that reads files (:mod:`forklore.linux.files.reader_process`)."""

    def end_reader(self) -> None:
        """End that process: as the child of a reaper it would be waited for."""

    # ptrace(2), as in forklore.linux.tracing.ptrace

    def seize(self, tid: Tid, options: int) -> None:
        """PTRACE_SEIZE."""

    def set_options(self, tid: Tid, options: int) -> None:
        """PTRACE_SETOPTIONS."""

    def cont(self, tid: Tid, signal: int = 0) -> None:
        """PTRACE_CONT."""

    def cont_to_syscall(self, tid: Tid, signal: int = 0) -> None:
        """PTRACE_SYSCALL."""

    def listen(self, tid: Tid) -> None:
        """PTRACE_LISTEN."""

    def interrupt(self, tid: Tid) -> None:
        """PTRACE_INTERRUPT."""

    def detach(self, tid: Tid, signal: int = 0) -> None:
        """PTRACE_DETACH."""

    def in_exit_stop(self, tid: Tid) -> bool:
        """Whether it stands in its last stop, whatever its status told."""

    def event_message(self, tid: Tid) -> int:
        """PTRACE_GETEVENTMSG."""

    def syscall_info(self, tid: Tid) -> tuple[int, int, int, Entry | int]:
        """PTRACE_GET_SYSCALL_INFO."""

    def seccomp_data(self) -> int:
        """SECCOMP_RET_DATA of the stop that was last asked about."""

    def skip_call(self, tid: Tid) -> None:
        """Have the call fail with ENOSYS."""

    def registers(self, tid: Tid) -> Registers:
        """PTRACE_GETREGSET."""

    def set_registers(self, tid: Tid, changed: Registers) -> None:
        """PTRACE_SETREGSET."""

    def user_word(self, tid: Tid, offset: int) -> int:
        """PTRACE_PEEKUSER."""

    def signal_info(self, tid: Tid) -> SignalInfo:
        """PTRACE_GETSIGINFO."""

    def ended_child_told(self, tid: Tid) -> Pid | None:
        """Whose end the SIGCHLD tells of that it is about to take."""

    def set_signal_origin(self, tid: Tid, code: int, sender: int, user: int) -> None:
        """PTRACE_SETSIGINFO."""

    # Memory, as in forklore.linux.memory

    def read(self, tid: Tid, address: Address, size: int) -> bytes | Unavailable:
        """Bytes of a tracee's memory."""

    def read_some(self, tid: Tid, address: Address, size: int) -> bytes | Unavailable:
        """The same, fewer where unmapped memory follows."""

    def write(self, tid: Tid, address: Address, data: bytes) -> None:
        """Change bytes of a tracee's memory."""

    # /proc, as in forklore.linux.proc

    def file(self, path: str) -> bytes | Unavailable:
        """The text of a file of /proc."""

    def link(self, path: str) -> bytes | Unavailable:
        """Where a link of /proc points."""

    def status(self, tid: int) -> proc.Status | Unavailable:
        """/proc/TID/status."""

    def parent_of(self, pid: Pid) -> Pid | None:
        """Who waits for a process now."""

    def exists(self, pid: Pid) -> bool:
        """Whether there is a process with that pid, be it a zombie."""

    def zombie_of(self, pid: Pid) -> Pid | None:
        """Whose zombie a process is; None if it is none, or gone."""

    def call(self, tid: Tid) -> tuple[int, Entry] | None:
        """The call that a task is in."""

    def dies_of(self, tid: Tid, signal: int) -> bool:
        """Whether an init would fault for ever."""

    def ns_tids(self, tid: Tid) -> list[int] | None:
        """NSpid."""

    def comm(self, tid: Tid) -> bytes | Unavailable:
        """A task's name."""

    def executable(self, tid: Tid) -> bytes | Unavailable:
        """The file that a task executes."""

    def set_ids(self, tid: Tid) -> SetIds | None:
        """What a set-id program was to get: :func:`forklore.linux.set_ids.set_ids`."""

    def arguments(self, tid: Tid) -> list[bytes] | Unavailable:
        """Its arguments."""

    def environment(self, tid: Tid) -> list[bytes] | Unavailable:
        """Its environment."""

    def descriptor(self, tid: Tid, fd: int) -> bytes | Unavailable:
        """What a descriptor refers to."""

    # What is asked of tasks that are held

    def pair(self, creator: Tid, child: Tid, flags: int | None) -> observe.Pair:
        """What they share: :func:`forklore.linux.observe.pair`."""

    def state(self, tid: Tid) -> observe.TaskState | Unavailable:
        """How the kernel has a task: :func:`forklore.linux.observe.state`."""

    def namespaces(self, tid: Tid) -> Namespaces:
        """The inode of each of its namespaces."""

    def deciding(self, tid: Tid, refused: int, flags: int, fd: Fd | None = None) -> dict[str, int]:
        """The numbers that may have decided a refusal: :func:`forklore.linux.caller.deciding`."""

    # What is asked while everybody runs

    def tasks_of(self, uid: int) -> int:
        """How many tasks a user has: :func:`forklore.linux.limits.tasks_of`."""


class Linux:
    """The kernel that we run on: each method is the function itself, so that nothing comes between."""

    clock = staticmethod(time.monotonic_ns)
    worked = staticmethod(time.thread_time_ns)
    wait = staticmethod(wait_any)
    status_since = staticmethod(status_since)
    usage = staticmethod(last_usage)
    kill = staticmethod(kill)
    adopts_orphans = staticmethod(this_process.adopts_orphans)
    children = staticmethod(this_process.children)
    reap = staticmethod(reap)
    reads_for_us = staticmethod(reader_process.is_ours)
    end_reader = staticmethod(reader_process.end)
    seize = staticmethod(ptrace.seize)
    set_options = staticmethod(ptrace.set_options)
    cont = staticmethod(ptrace.cont)
    cont_to_syscall = staticmethod(ptrace.cont_to_syscall)
    listen = staticmethod(ptrace.listen)
    interrupt = staticmethod(ptrace.interrupt)
    detach = staticmethod(ptrace.detach)
    in_exit_stop = staticmethod(ptrace.in_exit_stop)
    event_message = staticmethod(ptrace.event_message)
    syscall_info = staticmethod(ptrace.syscall_info)
    seccomp_data = staticmethod(ptrace.seccomp_data)
    skip_call = staticmethod(ptrace.skip_call)
    registers = staticmethod(ptrace.registers)
    set_registers = staticmethod(ptrace.set_registers)
    user_word = staticmethod(ptrace.user_word)
    signal_info = staticmethod(ptrace.signal_info)
    ended_child_told = staticmethod(ptrace.ended_child_told)
    set_signal_origin = staticmethod(ptrace.set_signal_origin)
    read = staticmethod(memory.read)
    read_some = staticmethod(memory.read_some)
    write = staticmethod(memory.write)
    file = staticmethod(proc.read_file)
    link = staticmethod(proc.read_link)
    status = staticmethod(proc.status)
    parent_of = staticmethod(proc.parent_of)
    exists = staticmethod(proc.exists)
    zombie_of = staticmethod(proc.zombie_of)
    call = staticmethod(proc.call)
    dies_of = staticmethod(proc.dies_of)
    ns_tids = staticmethod(proc.ns_tids)
    comm = staticmethod(proc.comm)
    executable = staticmethod(proc.executable)
    set_ids = staticmethod(set_ids)
    arguments = staticmethod(proc.arguments)
    environment = staticmethod(proc.environment)
    descriptor = staticmethod(proc.descriptor)
    pair = staticmethod(observe.pair)
    state = staticmethod(observe.state)
    namespaces = staticmethod(namespaces)
    deciding = staticmethod(caller.deciding)
    tasks_of = staticmethod(limits.tasks_of)

    @staticmethod
    def ended_child() -> Pid:
        """Loaded when it is needed, which is when a trace is left."""
        from forklore.linux.ours.ended_child import ended_child

        return ended_child()


LINUX: Final[Kernel] = Linux()
