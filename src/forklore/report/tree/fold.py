"""Which siblings look the same, so that a thousand of them take one line."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from msgspec import Struct, field

from forklore.abi.patterns import regex
from forklore.abi.units import TaskId, Unavailable
from forklore.model.sharing import object_answers
from forklore.model.tasks import FailedExec, Failure, MadeCall, Task, Trace
from forklore.model.vfork_holds import Holding
from forklore.report.tree.commands import NOTHING, CommandLine, Telling, apart, command_line, pattern
from forklore.report.tree.edges import Edge, Edges, own_name
from forklore.report.tree.extras import Extras
from forklore.report.words.descriptors import given
from forklore.report.words.reaping import kind_of
from forklore.report.words.vfork_holds import vfork_words

_SITES: Final = 6
"""Of tasks that look the same, those from rarer sites take one line where there are more of them than that, or where
more sites than that made several."""
_NUMBER: Final = regex(
    r"\b(?:(?=\w*\d\w*[a-z]\w*\d)\w{8,}|(?=[a-z]*\d+[a-z])[a-z0-9]{11,})\b|\d+"
)
"""A number in a name, or a hash: letters and digits mixed; one that the kernel cut off can have a single digit."""

Leaf = Failure | FailedExec | MadeCall
"""Something that a task did and that made no task."""


class TreeRow(Struct):
    """A line of the tree: tasks that look the same, or the same thing done several times, and what hangs below."""

    tasks: list[Task] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    each: int = 0
    """How many of ``tasks`` there are below each task of the row above."""
    telling: Telling = NOTHING
    """What tells its command line from those of its siblings that run the same program."""
    below: int = 0
    """How many tasks hang below one of ``tasks``, at any depth."""
    edges: tuple[Edge, ...] = ()
    """Who made them: one edge for all, or several where the sites are folded together; none where it is not known."""
    usual: bool = False
    """Their calls have the flags that the C library always passes for what was asked of it."""
    held: str = ""
    """Whom its vfork held, in words."""
    extras: tuple[str, ...] = ()
    """What is to say of its pages and borrowed memory."""
    descriptors: str = ""
    """What is to say of those that it holds."""


class Folded:
    """The tree of a trace with equal siblings together. ``least``: how many equal ones make a fold.

    ``stacks``: only those with one call stack are equal.
    """

    def __init__(self, trace: Trace, least: int = 3, *, stacks: bool = False) -> None:
        self._trace = trace
        self._least = least
        self._stacks = stacks
        self._edges = Edges(trace)
        self._extras = Extras(trace, given(trace))
        self._holding = Holding(trace)
        self._made: dict[TaskId, Edge | None] = {}
        self._shapes: dict[object, int] = {}
        self._shape: dict[TaskId, int] = {}
        """What a task and all below it look like, but for who made the task itself."""
        self._below: dict[TaskId, int] = {}
        self._rows: dict[TaskId, list[TreeRow]] = {}
        # A creator is always seen before what it creates, so backwards every child comes before its creator.
        for task in reversed(trace.tasks.values()):
            self._measure(task)

    def _measure(self, task: Task) -> None:
        self._made[task.id] = self._edges.of(task)
        below, shapes, done = 0, (), ()  # type: tuple[int, tuple[int, ...], tuple[object, ...]]
        if task.children:
            children = [self._trace.tasks[child] for child in task.children]
            below = len(children) + sum(self._below[child.id] for child in children)
            shapes = tuple(sorted([self._whole(child) for child in children]))
        if task.failures or task.failed_execs or task.calls:
            done = tuple(sorted(map(self._leaf_key, leaves(task)), key=repr))
        extras = self._extras.look(task) if task.cow or task.borrowed or task.descriptors else None
        self._below[task.id] = below
        self._shape[task.id] = self._number((look(task), extras, shapes, done))

    def _number(self, key: object) -> int:
        return self._shapes.setdefault(key, len(self._shapes))

    def _whole(self, task: Task) -> int:
        # With who made it: what hangs below one task of a row is shown for all of them, edges included.
        return self._number((self._shape[task.id], self._site(task)))

    def _site(self, made: Task | Failure) -> object:
        edge = self._made[made.id] if isinstance(made, Task) else self._edges.of(made)
        if not self._stacks:
            return edge
        stack, script = made.stack, made.script
        return (edge, None if stack is None else stack.number, None if script is None else script.script)

    def below(self, task: Task) -> int:
        """How many tasks hang below a task, at any depth."""
        return self._below[task.id]

    def rows(self, tasks: list[Task]) -> list[TreeRow]:
        """What hangs directly below tasks that look the same: in the order of time below the first of them, equal ones
        together; each row has what all of ``tasks`` have there."""
        first = tasks[0]
        if first.id not in self._rows:
            self._rows[first.id] = self._rows_below(first)
        rows = self._rows[first.id]
        return rows if len(tasks) == 1 else self._of_all(rows, tasks)

    def _of_all(self, rows: list[TreeRow], tasks: list[Task]) -> list[TreeRow]:
        # What looks the same has the same below it, so each row of the first is there below the others, too.
        alike: list[dict[int, deque[Task]]] = []
        for task in tasks:
            children: dict[int, deque[Task]] = {}
            for child in task.children:
                children.setdefault(self._whole(self._trace.tasks[child]), deque()).append(self._trace.tasks[child])
            alike.append(children)
        merged = []
        for row in rows:
            keys = [self._whole(task) for task in row.tasks]
            found = [children[key].popleft() for children in alike for key in keys]
            merged.append(self.row(found, each=row.each, telling=row.telling) if found else row)
        return merged

    def _rows_below(self, task: Task) -> list[TreeRow]:
        tasks: dict[int, list[Task]] = {}
        calls: dict[object, TreeRow] = {}
        order: dict[int, int] = {}
        for index, item in enumerate(in_order(task, self._trace)):
            if isinstance(item, Task):
                tasks.setdefault(self._shape[item.id], []).append(item)
                order[id(item)] = index
            else:
                row = calls.setdefault(self._leaf_key(item), TreeRow(edges=self._leaf_edges(item)))
                row.leaves.append(item)
                order.setdefault(id(row.leaves[0]), index)
        rows = [row for alike in tasks.values() for row in self._by_site(alike)] + list(calls.values())
        _tell_apart(rows)
        return sorted(rows, key=lambda row: order[id(row.tasks[0] if row.tasks else row.leaves[0])])

    def _by_site(self, alike: list[Task]) -> list[TreeRow]:
        sites: dict[object, list[Task]] = {}
        for task in alike:
            sites.setdefault(self._site(task), []).append(task)
        often = [found for found in sites.values() if len(found) >= self._least]
        if len(often) > _SITES and not self._stacks:
            often = sorted(often, key=len, reverse=True)[: _SITES - 1]
        rows = [self.row(found) for found in often]
        shown = {task.id for found in often for task in found}
        rest = [task for task in alike if task.id not in shown]
        if not self._stacks:
            known = [task for task in rest if self._made[task.id] is not None]
            if len(known) >= max(self._least, _SITES + 1):
                rows.append(self.row(known))
                rest = [task for task in rest if self._made[task.id] is None]
        return [*rows, *(self.row([task]) for task in rest)]

    def row(self, tasks: list[Task], *, each: int = 0, telling: Telling = NOTHING) -> TreeRow:
        """The row of tasks that look the same."""
        edges = dict.fromkeys(edge for task in tasks if (edge := self._made[task.id]) is not None)
        held = self._holding.of(tasks[0]) if len(tasks) == 1 else None
        return TreeRow(
            tasks, [], each or len(tasks), telling, self._below[tasks[0].id], tuple(edges),
            all(map(self._edges.usual, tasks)),
            "" if held is None else vfork_words(held, self._trace), tuple(self._extras.texts(tasks)),
            self._extras.held(tasks),
        )  # fmt: skip

    def _leaf_edges(self, leaf: Leaf) -> tuple[Edge, ...]:
        edge = self._edges.of(leaf) if isinstance(leaf, Failure) else None
        return () if edge is None else (edge,)

    def _leaf_key(self, leaf: Leaf) -> tuple[object, ...]:
        if isinstance(leaf, Failure):
            reasons = tuple(reason.text for reason in leaf.reasons)
            return ("refused", leaf.creation.text(), leaf.errno, reasons, self._site(leaf))
        if isinstance(leaf, FailedExec):
            return ("exec", *leaf.paths, *leaf.errnos)
        return ("call", leaf.call.text(), leaf.result)


def _tell_apart(rows: list[TreeRow]) -> None:
    programs: dict[str, list[tuple[TreeRow, CommandLine]]] = {}
    for row in rows:
        line = command_line(row.tasks[0]) if row.tasks else None
        if line is not None:
            programs.setdefault(line.words[0], []).append((row, line))
    for alike in programs.values():
        if len(alike) > 1:
            for (row, _line), telling in zip(alike, apart([line for _row, line in alike]), strict=True):
                row.telling = telling


def look(task: Task) -> tuple[object, ...]:
    """All that a task's line says but its numbers and times."""
    form = task.form
    return (
        task.kind,
        # Names that differ in a number are those of one pool.
        _numberless(own) if (own := own_name(task)) else task.name,
        bool(own),
        form,
        None if task.record is None else task.record.library,
        tuple(image.file for image in task.images),
        pattern(task),
        None if task.death is None else (task.death.code, task.death.signal, task.death.core),
        task.gone,
        task.traced,
        task.untraced_cleared,
        bool(task.reapers),
        kind_of(task) if task.reaped else "",
        bool(task.ns_tids),
        task.heir is not None,
        bool(task.stops),
        None if form is None else _observed(form.flags, task.kcmp),
    )


@lru_cache(maxsize=4096)
def _observed(flags: int | None, kcmp: tuple[int, ...] | Unavailable | None) -> tuple[str, ...]:
    return tuple(each.observed for each in object_answers(flags, kcmp))


def _numberless(name: str) -> str:
    return _NUMBER.sub("#", name)


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
    """Children and other doings of a task by time; where a log has none, in the order of the log."""
    children: list[Task | Leaf] = [trace.tasks[child] for child in task.children]
    others: list[Task | Leaf] = list(leaves(task))
    if not others:
        return children
    return sorted([*children, *others], key=lambda item: _when(item) or item.order)


def _when(item: Task | Leaf) -> int | None:
    return item.created if isinstance(item, Task) else item.t
