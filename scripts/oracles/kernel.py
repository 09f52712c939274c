"""What the kernel's own tracepoints say was created: the text of a tracefs ``trace`` file, read into tasks.

Four events are enough. ``task:task_newtask`` comes from copy_process with the flags that the kernel acts on.
``sched:sched_process_fork`` comes from kernel_clone, and so only for a task that a system call made: one that
the kernel made for itself, such as an io_uring worker, has the first and not the second.
``sched:sched_process_exec`` tells of each successful execve, with the tid before it;
``sched:sched_process_exit`` comes once for each task.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from .errors import OracleError
from .tree import CLONE_THREAD, Exec

EVENTS: Final = (
    "task/task_newtask",
    "sched/sched_process_fork",
    "sched/sched_process_exec",
    "sched/sched_process_exit",
)

# The name is the program's to choose, line feeds included, but is printed in a field of 16: the dash after it
# has a fixed place.
_HEAD: Final = re.compile(rb"^.{16}-(\d+) +\[\d+\] \S+ +(\d+)\.(\d{6}): (\w+): ", re.DOTALL | re.MULTILINE)
_NEWTASK: Final = re.compile(rb"^pid=(\d+) comm=.* clone_flags=([0-9a-f]+) oom_score_adj=-?\d+$", re.DOTALL)
_FORK: Final = re.compile(rb"^comm=.* pid=(\d+) child_comm=.* child_pid=(\d+)$", re.DOTALL)
_EXEC: Final = re.compile(rb"^filename=(.*) pid=(\d+) old_pid=(\d+)$", re.DOTALL)
_EXIT: Final = re.compile(rb"^comm=.* pid=(\d+) prio=-?\d+(?: group_dead=\w+)?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NewTask:
    """``tid`` was made by ``by`` with ``flags`` (the exit signal is not among them)."""

    t: int
    by: int
    tid: int
    flags: int


@dataclass(frozen=True, slots=True)
class Forked:
    """A system call of ``by`` made ``tid``."""

    t: int
    by: int
    tid: int


@dataclass(frozen=True, slots=True)
class Executed:
    """``tid``, called ``old_tid`` until now, runs ``filename``."""

    t: int
    tid: int
    old_tid: int
    filename: str


@dataclass(frozen=True, slots=True)
class Exited:
    """``tid`` is in do_exit."""

    t: int
    tid: int


KernelEvent = NewTask | Forked | Executed | Exited


@dataclass(eq=False, slots=True)
class KernelTask:
    """One life of a tid. ``flags`` is None for a task that was there before the recording."""

    tid: int
    creator: KernelTask | None
    flags: int | None
    made: int
    by_call: bool = False
    execs: list[Exec] = field(default_factory=list)
    exits: int = 0

    @property
    def thread(self) -> bool:
        return bool(self.flags is not None and self.flags & CLONE_THREAD)


def parse(text: bytes) -> list[KernelEvent]:
    """Events in the order of the ``trace`` file, which is the order of their time stamps.

    Raises :class:`OracleError` on anything that is not one of the events this module asks for.
    """
    heads = list(_HEAD.finditer(text))
    before = text[: heads[0].start()] if heads else text
    if strange := [line for line in before.splitlines() if line.strip() and not line.startswith(b"#")]:
        raise OracleError(f"the kernel's trace starts with a line that is no event: {strange[0]!r}")
    events: list[KernelEvent] = []
    for head, after in zip_longest(heads, heads[1:]):
        # A path may hold a line feed, so an event ends where the next one begins.
        body = text[head.end() : after.start() if after else None].removesuffix(b"\n")
        name, t = head[4], (int(head[2]) * 1_000_000 + int(head[3])) * 1000
        event = _event(name, body, int(head[1]), t)
        if event is None:
            raise OracleError(f"the kernel's trace has a {os.fsdecode(name)} of another form than expected: {body!r}")
        events.append(event)
    return events


def _event(name: bytes, body: bytes, by: int, t: int) -> KernelEvent | None:
    if name == b"task_newtask" and (found := _NEWTASK.match(body)):
        return NewTask(t, by, int(found[1]), int(found[2], 16))
    if name == b"sched_process_fork" and (found := _FORK.match(body)):
        return Forked(t, int(found[1]), int(found[2]))
    if name == b"sched_process_exec" and (found := _EXEC.match(body)):
        return Executed(t, int(found[2]), int(found[3]), os.fsdecode(found[1]))
    if name == b"sched_process_exit" and (found := _EXIT.match(body)):
        return Exited(t, int(found[1]))
    return None


def tasks_of(events: Iterable[KernelEvent]) -> list[KernelTask]:
    """Every life of every tid that the events speak of, in the order of creation."""
    tasks: list[KernelTask] = []
    live: dict[int, KernelTask] = {}

    def task(tid: int, t: int) -> KernelTask:
        if tid not in live:
            live[tid] = KernelTask(tid, None, None, t)
            tasks.append(live[tid])
        return live[tid]

    for event in events:
        match event:
            case NewTask(t, by, tid, flags):
                live[tid] = KernelTask(tid, task(by, t), flags, t)
                tasks.append(live[tid])
            case Forked(t, _, tid):
                task(tid, t).by_call = True
            case Executed(t, tid, old_tid, filename):
                caller = task(old_tid, t)
                caller.execs.append(Exec(filename, old_tid if old_tid != tid else None))
                # A thread that was not the leader takes the leader's tid; the leader has exited by now.
                live[tid] = live.pop(old_tid)
            case Exited(t, tid):
                task(tid, t).exits += 1
                del live[tid]
    return tasks


def below(tasks: Iterable[KernelTask], root: KernelTask) -> list[KernelTask]:
    """``root`` and all that descend from it, by creator; the tasks in the order of creation."""
    inside = {root}
    found = [root]
    for task in tasks:
        if task.creator in inside:
            inside.add(task)
            found.append(task)
    return found


def program_in(tasks: Iterable[KernelTask], tracer: int, tid: int) -> list[KernelTask]:
    """The traced program's tasks: below the child ``tid`` of the tracer, without the tracer's own helpers."""
    tasks = list(tasks)
    for task in tasks:
        if task.tid == tid and task.creator is not None and task.creator.tid == tracer:
            return below(tasks, task)
    raise OracleError(
        f"the kernel did not see the tracer (pid {tracer}) make task {tid}, which the trace names as its root"
    )
