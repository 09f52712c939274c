"""Which siblings look the same, so that a thousand of them take one line."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from forklore.abi.units import TaskId
from forklore.model.sharing import object_answers
from forklore.model.tasks import FailedExec, Failure, MadeCall, Task, Trace

Leaf = Failure | FailedExec | MadeCall
"""Something that a task did and that made no task."""


class Row(Struct):
    """A line of the tree: tasks that look the same, or the same thing done several times, and what hangs below."""

    tasks: list[Task] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    below: int = 0
    """How many tasks hang below one of ``tasks``, at any depth."""


class Folded:
    """The tree of a trace with equal siblings together. ``least``: how many equal ones make a fold."""

    def __init__(self, trace: Trace, least: int = 3) -> None:
        self._trace = trace
        self._least = least
        self._shapes: dict[object, int] = {}
        self._shape: dict[TaskId, int] = {}
        self._below: dict[TaskId, int] = {}
        # A creator is always seen before what it creates, so backwards every child comes before its creator.
        for task in reversed(trace.tasks.values()):
            self._measure(task)

    def _measure(self, task: Task) -> None:
        children = [self._trace.tasks[child] for child in task.children]
        self._below[task.id] = sum(1 + self._below[child.id] for child in children)
        shapes = tuple(sorted(self._shape[child.id] for child in children))
        key = (look(task), shapes, tuple(sorted(map(_leaf_key, leaves(task)), key=repr)))
        self._shape[task.id] = self._shapes.setdefault(key, len(self._shapes))

    def below(self, task: Task) -> int:
        """How many tasks hang below a task, at any depth."""
        return self._below[task.id]

    def rows(self, task: Task) -> list[Row]:
        """What hangs directly below a task, in the order of time, equal ones together."""
        rows: dict[object, Row] = {}
        for item in in_order(task, self._trace):
            if isinstance(item, Task):
                key: object = ("task", self._shape[item.id])
                row = rows.setdefault(key, Row(below=self._below[item.id]))
                row.tasks.append(item)
            else:
                rows.setdefault(_leaf_key(item), Row()).leaves.append(item)
        return [part for row in rows.values() for part in self._split(row)]

    def _split(self, row: Row) -> list[Row]:
        if len(row.tasks) < self._least:
            return [Row([task], [], row.below) for task in row.tasks] or [row]
        return [row]


def look(task: Task) -> tuple[object, ...]:
    """All that a task's line says but its numbers and times."""
    creation = task.creation
    return (
        task.kind,
        task.name,
        None if creation is None else (creation.call, creation.flags.raw, creation.exit_signal),
        tuple(image.file for image in task.images),
        None if task.death is None else (task.death.code, task.death.signal, task.death.core),
        task.gone,
        task.traced,
        task.untraced_cleared,
        bool(task.reapers),
        bool(task.ns_tids),
        task.heir is not None,
        bool(task.stops),
        None if creation is None else tuple(a.observed for a in object_answers(creation.flags.raw, task.kcmp)),
    )


def leaves(task: Task) -> Iterable[Leaf]:
    """What a task's lines below it are about, besides its children."""
    searched = {image.file.rpartition(b"/")[2] for image in task.images if image.file}
    yield from task.failures
    for failed in task.failed_execs:
        last = failed.paths[-1]
        # A search through PATH that succeeded is told in the exec itself.
        if not (isinstance(last, bytes) and last.rpartition(b"/")[2] in searched):
            yield failed
    yield from task.calls


def in_order(task: Task, trace: Trace) -> list[Task | Leaf]:
    """Children and other doings of a task by time; where a log has no times, children first."""
    children: list[Task | Leaf] = [trace.tasks[child] for child in task.children]
    others: list[Task | Leaf] = list(leaves(task))
    if not others:
        return children
    return sorted([*children, *others], key=lambda item: _when(item) or 0)


def _when(item: Task | Leaf) -> int | None:
    return item.created if isinstance(item, Task) else item.t


def _leaf_key(leaf: Leaf) -> tuple[object, ...]:
    if isinstance(leaf, Failure):
        return ("refused", leaf.creation.text(), leaf.errno, tuple(reason.text for reason in leaf.reasons))
    if isinstance(leaf, FailedExec):
        return ("exec", leaf.paths, leaf.errnos)
    return ("call", leaf.call.text(), leaf.result)
