"""Before a wait is told as certain to last: what the claim rests on is read a second time, and the whole machine asked.

What is looked for is whatever could end a wait and was not seen: other processes that share the memory of a futex,
holders of a pipe that came meanwhile or may not be read, descriptors in messages that nobody has taken yet, threads
with descriptor tables of their own, io_uring, tracees that a wait would be for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Final

from forklore.abi.kcmp import KcmpType, Order
from forklore.abi.text import printable
from forklore.abi.units import Fd, Pid, Tid, Unavailable
from forklore.features.why.graph import LOCKS, Graph, PipeEnd, Role, Task, WaitKind
from forklore.features.why.observe.machine import Machine
from forklore.features.why.observe.open_files import (
    Opened,
    besides,
    end_besides,
    open_files,
    pipe_device,
    users_besides,
)
from forklore.linux import kcmp, tasks
from forklore.linux.waits import tables
from forklore.linux.waits.look import PF_FORKNOEXEC, look
from forklore.linux.waits.tables import Holding, Tables

_MEMORY: Final = frozenset({
    WaitKind.MUTEX, WaitKind.RWLOCK, WaitKind.JOIN, WaitKind.SEMAPHORE, WaitKind.CONDITION, WaitKind.FUTEX,
})  # fmt: skip
_RING: Final = b"anon_inode:[io_uring]"
_ENDS: Final = frozenset({Role.WRITER, Role.READER, Role.PEER, Role.LISTENER})


class Proof:
    """Looks for what would make a claim of certainty wrong."""

    def __init__(self, machine: Machine, graph: Graph) -> None:
        self._machine = machine
        self._graph = graph
        self._sharers: dict[Pid, str] = {}
        self._fresh: Tables | None = None
        self._candidates: list[Tid] = []

    def doubts(self, candidates: Iterable[Tid]) -> dict[Tid, str]:
        """By task, why its wait may end after all."""
        found = {}
        self._candidates = sorted(candidates)
        for tid in self._candidates:
            why = self._doubt(self._graph.tasks[tid])
            if why:
                found[tid] = why
        return found

    def _doubt(self, task: Task) -> str:
        wait = task.wait
        if wait.kind in LOCKS and any(ender.able for ender in wait.enders):
            return ""  # whoever else shares the memory, only the owner unlocks it
        if wait.kind in _MEMORY:
            return self._memory(task.pid)
        if wait.kind is WaitKind.CHILD:
            return self._children(task)
        if wait.kind is WaitKind.FILE_LOCK:
            return self._file_lock(task)
        if any(ender.role in _ENDS for ender in wait.enders):
            return self._descriptors(task)
        return ""

    def _memory(self, pid: Pid) -> str:
        if pid not in self._sharers:
            self._sharers[pid] = self._sharing(pid)
        return self._sharers[pid]

    def _sharing(self, pid: Pid) -> str:
        threads = {task.tid for task in self._graph.threads(pid)}
        new = set(_threads(pid)) - threads
        if new:
            return f"thread {min(new)} was made while {pid} was looked at"
        found = self._machine.sharers(pid)
        if isinstance(found, Unavailable):
            return f"whether another process shares its memory is not known: {found.why}"
        if found:
            return f"{found[0]}, another process, shares its memory"
        if self._uring(pid):
            return "it has an io_uring, by which the kernel can wake a futex"
        if not self._all_seen and self._came_from_outside(pid):
            return (
                "it has executed nothing since it was made, and a process outside of this pid namespace may share its"
                " memory"
            )
        return ""

    @staticmethod
    def _came_from_outside(pid: Pid) -> bool:
        # Whoever has executed a program has a memory of its own, which only those share that it made: they are in its
        # pid namespace, or below it. Another's may be that of who came in from outside (clone(2) with CLONE_VM).
        found = look(Tid(int(pid)))
        return isinstance(found, Unavailable) or bool(found.flags & PF_FORKNOEXEC)

    @cached_property
    def _all_seen(self) -> bool:
        """Whether no process is out of sight: /proc is of the initial pid namespace, and hides none."""
        return tasks.sees_all()

    def _uring(self, pid: Pid) -> bool:
        return self._machine.tables.has(pid, _RING)

    def _children(self, task: Task) -> str:
        # The children that were seen are all: another can only come from one of the process's own threads, or be
        # handed to it when one of its descendants ends.
        known = {ender.pid for ender in task.wait.enders}
        new = [child for child, parent in tasks.parents() if parent == task.pid and child not in known]
        if new and task.wait.object is None:
            return f"{new[0]} has become its child while it was looked at"
        for pid in tasks.all_pids():
            if pid in known or pid == task.pid:
                continue
            tracer = tasks.tracer_of(Tid(int(pid)))
            if tracer is not None and int(tracer) == int(task.pid):
                return f"it traces {pid}, whose stops end its wait"
        return ""

    # Descriptors

    def _descriptors(self, task: Task) -> str:
        for end in task.wait.ends:
            why = self._held_elsewhere(task, end)
            if why:
                return why
        for pid in {ender.pid for ender in task.wait.enders if ender.role in _ENDS}:
            if self._uring(pid):
                return f"{pid} has an io_uring, by which the kernel can use the other end"
            apart = self._apart(pid)
            if apart:
                return apart
        return ""

    def _held_elsewhere(self, task: Task, end: PipeEnd) -> str:
        """Who holds an end of a pipe besides those that are told."""
        known = {(ender.pid, held.fd) for ender in task.wait.enders for held in ender.held}
        opened = self._opened
        if isinstance(opened, Unavailable):
            return self._by_tables(end, known)
        pipes = {each.inode for each in opened if each.pid == task.pid and each.number == end.inode} & {
            each.inode for each in opened if each.device == self._pipes
        }
        for pipe in pipes:  # two, where the numbers of inodes have come round
            there = [each for each in opened if each.inode == pipe and (each.writes if end.write else each.reads)]
            strangers = [each for each in there if (each.pid, each.fd) not in known]
            if strangers:
                return self._stranger(strangers[0].pid)
            why = end_besides(there, write=end.write) or besides(there, self._alive)
            if why:
                return why
        return "" if pipes else f"{end.name} was closed while it was looked at"

    def _stranger(self, pid: Pid) -> str:
        if pid in self._machine.tables.unread:
            found = look(Tid(int(pid)))
            name = "" if isinstance(found, Unavailable) else f" {printable(found.name)}"
            return f"{pid}{name}, whose descriptors /proc does not let be read, holds its other end as well"
        return f"{pid} has come to hold its other end while it was looked at"

    def _by_tables(self, end: PipeEnd, known: set[tuple[Pid, Fd]]) -> str:
        # The kernel does not count for us: the tables of all processes are read once more.
        fresh = self._again()
        unseen = self._unseen(fresh)
        if unseen:
            return unseen
        now = {
            (each.pid, each.fd) for each in fresh.holders(end.name.encode())
            if (access := tables.access(each.tid, each.fd)) is not None and access[end.write]
        }  # fmt: skip
        if now - known:
            return self._stranger(min(now - known)[0])
        return self._out_of_tables(fresh)

    @cached_property
    def _opened(self) -> list[Opened] | Unavailable:
        """Who has the files open by which the candidates' waits could end."""
        waits = [self._graph.tasks[tid].wait for tid in self._candidates]
        locked = {wait.locked for wait in waits if wait.locked is not None}
        return open_files(locked | {end.inode for wait in waits for end in wait.ends})

    @cached_property
    def _pipes(self) -> tuple[int, int]:
        return pipe_device()

    @cached_property
    def _alive(self) -> dict[Pid, int]:
        return {pid: len(self._machine.alive(pid)) for pid in {task.pid for task in self._graph.tasks.values()}}

    def _unseen(self, fresh: Tables) -> str:
        """Who could hold a descriptor and is not seen."""
        if fresh.unread:
            pid, why = next(iter(fresh.unread.items()))
            found = f"the descriptors of {_processes(len(fresh.unread))} may not be read ({pid}: {why.why})"
        elif fresh.cut:
            found = "the descriptors of all processes are too many to be read"
        elif not self._all_seen:
            found = "processes outside of this pid namespace are not seen, and one could hold it"
        else:
            return ""
        asked = self._opened
        return found + (f"; nor does the kernel tell how many have it: {asked.why}" if isinstance(asked, Unavailable)
                        else "")  # fmt: skip

    def _file_lock(self, task: Task) -> str:
        # A lock of a description ends when anybody unlocks it who has the description; one of a process when any
        # process unlocks it that shares its table (fcntl(2)), or closes any descriptor of the file.
        for ender in task.wait.enders:
            if self._uring(ender.pid):
                return f"{ender.pid} has an io_uring, by which the kernel can close a file"
            apart = self._apart(ender.pid)
            if apart:
                return apart
        found = self._lock_shared(task)
        return self._lock_by_tables(task) if found is None else found

    def _lock_shared(self, task: Task) -> str | None:
        """Who else could unlock it, by the kernel's own count; None: that cannot be told."""
        opened = self._opened
        if isinstance(opened, Unavailable):
            return None
        opened = [each for each in opened if each.number == task.wait.locked]
        known = {(ender.pid, held.fd) for ender in task.wait.enders for held in ender.held}
        files = {each.file for each in opened if (each.pid, each.fd) in known}
        descriptions = [each for each in opened if each.file in files]
        there = {(each.pid, each.fd) for each in descriptions}
        tables = [each for each in opened if any(each.pid == ender.pid for ender in task.wait.enders)]
        if not known <= there or not {ender.pid for ender in task.wait.enders} <= {each.pid for each in tables}:
            return None
        if there - known:
            return self._stranger(min(there - known)[0])
        return besides(descriptions, self._alive) or users_besides(tables, self._alive)

    def _lock_by_tables(self, task: Task) -> str:
        fresh = self._again()
        unseen = self._unseen(fresh)
        if unseen:
            return unseen
        for ender in task.wait.enders:
            shared = self._shared_table(ender.pid)
            if shared:
                return shared
            for held in ender.held:
                same = Holding(ender.pid, self._machine.reader(ender.pid), held.fd, b"")
                target = tables.target(same.tid, held.fd)
                others = [] if isinstance(target, Unavailable) else list(fresh.holders(target))
                known = {(each.pid, fd.fd) for each in task.wait.enders for fd in each.held}
                for other in others:
                    if (other.pid, other.fd) not in known and tables.same_file(same, other):
                        return f"{other.pid} has come to hold it while it was looked at"
        return self._out_of_tables(fresh)

    def _shared_table(self, pid: Pid) -> str:
        reader = self._machine.reader(pid)
        for other in tasks.all_pids():
            if other != pid and kcmp.raw(reader, other, KcmpType.FILES) == Order.EQUAL:
                return f"{other} shares the descriptor table of {pid}"
        return ""

    def _again(self) -> Tables:
        if self._fresh is None:
            self._fresh = self._machine.tables.fresh()
            self._fresh.read_all()
        return self._fresh

    def _apart(self, pid: Pid) -> str:
        reader = self._machine.reader(pid)
        for tid in _threads(pid):
            found = look(tid)
            if tid != reader and not isinstance(found, Unavailable) and not found.ended:
                answer = kcmp.raw(reader, tid, KcmpType.FILES)
                if answer != Order.EQUAL:
                    return f"thread {tid} has a descriptor table of its own, which was not read"
        return ""

    def _out_of_tables(self, fresh: Tables) -> str:
        """Whether a descriptor may be kept where no table has it."""
        for each in fresh.holders(_RING):
            return f"{each.pid} has an io_uring, in which the other end may be kept (IORING_REGISTER_FILES)"
        # A descriptor in a message that nobody has taken is in no table (unix(7), SCM_RIGHTS).
        for holders in fresh.sockets():
            infos = ((held, tables.info(held.tid, held.fd)) for held in holders)
            told = next(((held, info) for held, info in infos if not isinstance(info, Unavailable)), None)
            if told is not None and told[1].number(b"scm_fds"):
                return f"descriptors are on their way in a message to {told[0].pid}, and which they are is not told"
        return ""


def _processes(number: int) -> str:
    return "one process" if number == 1 else f"{number} processes"


def _threads(pid: Pid) -> list[Tid]:
    found = tasks.thread_ids(pid)
    return [] if isinstance(found, Unavailable) else found
