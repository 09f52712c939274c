"""Pipes by both ends, as they were seen when tasks executed: who reads, who writes."""

from __future__ import annotations

import os
from typing import Final

from msgspec import Struct

from forklore.abi.units import Nanoseconds, TaskId, Unavailable
from forklore.events.records import Held, Text
from forklore.model.tasks import Trace

_O_PATH: Final = 0o10000000
_PIPES: Final = ("pipe", "fifo")


def reads(held: Held) -> bool:
    """Open for reading."""
    return held.flags is not None and not held.flags & _O_PATH and held.flags & os.O_ACCMODE != os.O_WRONLY


def writes(held: Held) -> bool:
    """Open for writing."""
    return held.flags is not None and not held.flags & _O_PATH and held.flags & os.O_ACCMODE != os.O_RDONLY


class PipeHolder(Struct, frozen=True, gc=False):
    """Who was seen to hold an end, by which descriptor, and when."""

    task: TaskId
    fd: int
    t: Nanoseconds | None
    executed: bool
    """Seen right after its own exec; False: when a child of its executed, and it may have closed the end since."""


class Pipe(Struct):
    """A pipe or FIFO. Its reader sees the end of the data when nobody holds a write end any more."""

    name: Text
    readers: list[PipeHolder]
    writers: list[PipeHolder]


def pipes(trace: Trace) -> list[Pipe]:
    """Every pipe that a task held after its last exec, or its creator then, in the order in which they were seen.

    Of each task only what was seen last counts. Where the tables of a task that executes nothing (a shell's subshell)
    end up, nobody has looked.
    """
    seen: dict[TaskId, tuple[list[Held], Nanoseconds | None, bool]] = {}
    order = sorted(
        (record for task in trace.tasks.values() for record in task.descriptors), key=lambda record: record.t or 0
    )
    for record in order:
        t = None if record.t is None else Nanoseconds(record.t)
        if record.creator is not None and record.creators_pipes:
            seen[TaskId(record.creator)] = (record.creators_pipes, t, False)
        if not isinstance(record.table, Unavailable):
            seen[TaskId(record.task)] = (record.table, t, True)
    found: dict[tuple[int, int], Pipe] = {}
    for task, (table, t, executed) in seen.items():
        for held in table:
            if held.kind not in _PIPES or held.inode is None:
                continue
            pipe = found.setdefault((held.device, held.inode), Pipe(held.target, [], []))
            holder = PipeHolder(task, held.fd, t, executed)
            if reads(held):
                pipe.readers.append(holder)
            if writes(held):
                pipe.writers.append(holder)
    return list(found.values())
