"""Time over a whole trace: how many tasks there were side by side, and what programs took together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from forklore.abi.units import Nanoseconds, TaskId
from forklore.model.tasks import Task, Trace

FINE: Final = 1_000_000
"""In nanoseconds: coarser times do not tell who lived together."""


def cpu_of(tasks: Iterable[Task]) -> int | None:
    """The CPU time in µs of all processes together; None where it was not told.

    What a parent has waited for is in its own sum. An orphan is not: somebody else waited for it.
    """
    told = [task.cpu for task in tasks if task.cpu is not None and (task.creator is None or task.reapers)]
    return sum(told) if told else None


def own_cpu(trace: Trace) -> dict[TaskId, int]:
    """The CPU time in µs of each process without its children's; none of those for which it is not known.

    What a parent waited for is in its own sum. Where nobody looked at the zombies, a child that ended before its
    parent, and that nobody else inherited, counts as waited for. A parent that ignores SIGCHLD waits for none
    (kernel/signal.c: do_notify_parent): where the children's sum is more than its own, what is its own is not known.
    """
    waited: dict[TaskId, int] = {}
    for task in trace.tasks.values():
        if task.cpu is not None and task.parent is not None and not task.reapers and _waited_for(task, trace):
            waited[task.parent] = waited.get(task.parent, 0) + task.cpu
    own: dict[TaskId, int] = {}
    for task in trace.tasks.values():
        if task.cpu is not None and (left := task.cpu - waited.get(task.id, 0)) >= 0:
            own[task.id] = left
    return own


def _waited_for(task: Task, trace: Trace) -> bool:
    if task.reaped and task.reaped[0].how in ("ignored", "left", "stands"):
        return False
    parent = trace.tasks[task.parent] if task.parent is not None else None
    if parent is None or task.death is None or task.ended is None:
        return False
    return parent.ended is None or task.ended <= parent.ended


def changes_at_once(tasks: Iterable[Task], *, every: bool = False) -> list[tuple[Nanoseconds, int]] | None:
    """When the number of living processes changed, and to how many; None where times do not tell.

    One whose end was not seen counts to the end; a zombie does not count. ``every``: of tasks, threads included.
    """
    changes: list[tuple[int, int]] = []
    for task in tasks:
        if not every and task.kind != "process":
            continue
        if task.created is None or task.coarse > FINE:
            return None
        changes.append((task.created, 1))
        if task.ended is not None:
            changes.append((task.ended, -1))
    alive = 0
    found: list[tuple[Nanoseconds, int]] = []
    for t, change in sorted(changes):
        alive += change
        if found and found[-1][0] == t:
            found.pop()
        found.append((Nanoseconds(t), alive))
    return found


def most_at_once(tasks: Iterable[Task]) -> int | None:
    """How many processes were alive at the same time at most, as :func:`changes_at_once` counts them."""
    found = changes_at_once(tasks)
    return None if found is None else max((alive for _, alive in found), default=0)


class Bin(Struct, frozen=True, gc=False):
    """A stretch of time."""

    since: Nanoseconds
    until: Nanoseconds
    most: int
    """Processes alive in it at the same time at most."""
    mean: float
    """And on average over it."""


def at_once(trace: Trace, number: int) -> list[Bin] | None:
    """How many processes lived side by side, over so many equal stretches from the first to the end of the last.

    Fewer where a stretch would be shorter than a nanosecond; None where times do not tell, or there is no process.
    """
    found = changes_at_once(trace.tasks.values())
    if not found:
        return None
    first, last = found[0][0], found[-1][0]
    if found[-1][1]:  # some outlived the trace
        last = Nanoseconds(max(last, trace.ended or 0))
    length = last - first
    number = max(min(number, length), 1)
    edges = [Nanoseconds(first + length * index // number) for index in range(number + 1)]
    most, area = [0] * number, [0] * number
    index, alive, t = 0, 0, first
    for until, then in [*found, (last, 0)]:
        # What was alive up to here, spread over the stretches that this spans.
        while t < until:
            upto = min(until, edges[index + 1])
            area[index] += alive * (upto - t)
            most[index] = max(most[index], alive)
            t = upto
            if t >= edges[index + 1] and index + 1 < number:
                index += 1
        alive = then
        most[index] = max(most[index], alive)
    return [
        Bin(edges[i], edges[i + 1], most[i], area[i] / max(edges[i + 1] - edges[i], 1)) for i in range(number)
    ]  # fmt: skip


class Stretch(Struct, frozen=True, gc=False):
    """A task while it ran one program."""

    task: TaskId
    program: bytes | None
    """The name of its file; of a task that executed nothing its own. None: not known."""
    since: Nanoseconds
    until: Nanoseconds
    """When the next one began, or it ended; the end of the trace where that was not seen."""
    last: bool
    """It executed no other after it."""


def stretches(task: Task, ended: Nanoseconds | None) -> Iterator[Stretch]:
    """The programs of a task, one after the other. Up to its first exec it counts to what it executed then.

    ``ended``: of the trace. Nothing where the times of the task are not known.
    """
    end = task.ended if task.ended is not None else ended
    if task.created is None or end is None:
        return
    since = task.created
    images = task.images
    for index, image in enumerate(images):
        following = images[index + 1].t if index + 1 < len(images) else end
        if following is None:
            return
        until = max(following, since)
        file = image.file
        name = None if file is None else file.rstrip(b"/").rpartition(b"/")[2] or file
        yield Stretch(task.id, name or image.comm, since, until, index + 1 == len(images))
        since = until
    if not images:
        yield Stretch(task.id, task.comm, since, max(end, since), last=True)


def alone(trace: Trace) -> dict[TaskId, int]:
    """For how many nanoseconds of its life each process had no child of its own alive.

    Those whose times are not known are left out. Children of any of its threads count, orphans of others do not.
    """
    below: dict[TaskId, list[tuple[int, int]]] = {}
    for task in trace.tasks.values():
        ended = task.ended if task.ended is not None else trace.ended
        creator = trace.tasks[task.creator] if task.creator is not None else None
        if creator is None or task.kind == "thread" or task.created is None or ended is None:
            continue
        process = creator.leader if creator.leader is not None else creator.id
        below.setdefault(process, []).append((task.created, ended))
    found: dict[TaskId, int] = {}
    for task in trace.tasks.values():
        ended = task.ended if task.ended is not None else trace.ended
        if task.kind == "thread" or task.created is None or ended is None:
            continue
        left, t = 0, int(task.created)
        for since, until in sorted(below.get(task.id, ())):
            left += max(min(since, ended) - t, 0)
            t = max(t, until)
        found[task.id] = left + max(ended - t, 0)
    return found


class Program(Struct):
    """What all processes took together that ran one program."""

    name: bytes | None
    count: int = 0
    """How often it was run; a process that goes on in it after fork, without exec, counts too."""
    wall: int = 0
    """In nanoseconds, each run from its beginning to its end."""
    cpu: int | None = None
    """In µs, of those that ended in it, without their children; None: told of none."""
    peak: int | None = None
    """The most memory in KiB that one of them had; with children that one waited for."""
    longest: Stretch | None = None


def programs(trace: Trace) -> list[Program]:
    """Every program of a trace, those first that took longest together. Threads are part of their process."""
    own = own_cpu(trace)
    found: dict[bytes | None, Program] = {}
    for task in trace.tasks.values():
        if task.kind == "thread" and not task.images:
            continue
        for stretch in stretches(task, trace.ended):
            program = found.get(stretch.program)
            if program is None:
                program = found[stretch.program] = Program(stretch.program)
            length = stretch.until - stretch.since
            program.count += 1
            program.wall += length
            if program.longest is None or length > program.longest.until - program.longest.since:
                program.longest = stretch
            if stretch.last:
                if (cpu := own.get(task.id)) is not None:
                    program.cpu = (program.cpu or 0) + cpu
                if task.peak is not None:
                    program.peak = max(program.peak or 0, task.peak)
    return sorted(found.values(), key=lambda program: -program.wall)
