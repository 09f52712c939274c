"""The graphs that a trace has: who made whom, who shares what, and who writes to whom through a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from forklore.abi.resources import NAMESPACES
from forklore.abi.text import as_text, printable
from forklore.abi.units import TaskId
from forklore.events.records import raw_bytes
from forklore.export.table import ExportOptions
from forklore.model.pipes import pipes
from forklore.model.tasks import Task, Trace
from forklore.report.styled_lines import cut_text
from forklore.report.words import words
from forklore.report.words.deaths import death_words

Shape = Literal["process", "thread", "task", "object", "pipe"]

_ROOM: Final = 60
"""Columns of a command."""
_BYTES: Final = 400
"""Of its arguments, that are looked at."""


class Node(Struct, frozen=True, gc=False):
    """A task, or what tasks have in common."""

    name: str
    """A word of ASCII letters and digits, its own in the graph."""
    lines: tuple[str, ...]
    """Nothing in them is unprintable."""
    shape: Shape


class Arrow(Struct, frozen=True, gc=False):
    """From one node to another."""

    start: str
    end: str
    text: str


def graph(trace: Trace, options: ExportOptions) -> Iterator[Node | Arrow]:
    """Nodes, each before the first arrow that it is part of. The view ``sharing`` needs a trace with
    :attr:`Trace.sharing`."""
    match options.view:
        case "sharing":
            return _sharing(trace)
        case "descriptors":
            return _pipes(trace)
        case _:
            return _tree(trace, options.depth)


def _tree(trace: Trace, depth: int | None) -> Iterator[Node | Arrow]:
    levels: dict[TaskId, int] = {}
    for task in trace.tasks.values():
        above = task.creator if task.creator is not None else task.found_under
        if depth is not None:
            level = levels[task.id] = 0 if above is None else levels.get(above, 0) + 1
            if level > depth:
                continue
        yield task_node(task)
        if above is not None:
            creation = task.creation
            yield Arrow(_name(above), _name(task.id), "" if creation is None else creation.call)


def _name(number: TaskId) -> str:
    return f"t{number}"


def task_node(task: Task) -> Node:
    """The node of a task: its tid and command, and how it ended where that was no success."""
    text = cut_text(_command(task), _ROOM)
    ended = task.death is not None and (task.death.signal is not None or task.death.code)
    end = (death_words(task.death),) if ended and task.death is not None else ()
    return Node(_name(task.id), (f"{words.tid(task.tid)} {text}".rstrip(), *end), task.kind)


def _command(task: Task) -> str:
    if not task.images:
        return printable(as_text(b" ".join(task.title)[:_BYTES])) or words.task_name(task)
    image = task.images[-1]
    argv = (task.title or image.argv) if isinstance(image.argv, tuple) else ()
    shown = printable(as_text(b" ".join(argv[1:])[:_BYTES]))
    return f"{words.base_name(image.named)} {shown}".rstrip()


def _sharing(trace: Trace) -> Iterator[Node | Arrow]:
    assert trace.sharing is not None
    members: dict[tuple[str, int], dict[TaskId, str]] = {}
    for task in trace.tasks.values():
        for resource, holds in trace.sharing.holdings.holds(task.id).items():
            for hold in holds:
                until = "" if hold.ended_by in (None, "exit") else f"until {hold.ended_by}"
                members.setdefault((resource, hold.group), {})[task.id] = until
    # What one task has alone is no sharing, and a namespace that all are in tells nobody apart.
    everybody = len(trace.tasks)
    shared = {
        key: who
        for key, who in members.items()
        if len(who) > 1 and not (key[0] in NAMESPACES and len(who) == everybody)
    }
    named: set[TaskId] = set()
    for (resource, group), who in shared.items():
        node = f"{resource}{group}"
        yield Node(node, (f"{resource} {group}",), "object")
        for number, until in who.items():
            if number not in named:
                named.add(number)
                yield task_node(trace.tasks[number])
            yield Arrow(_name(number), node, until)


def _pipes(trace: Trace) -> Iterator[Node | Arrow]:
    named: set[TaskId] = set()
    for index, pipe in enumerate(pipes(trace)):
        node = f"p{index}"
        yield Node(node, (printable(raw_bytes(pipe.name)),), "pipe")
        for holder in (*pipe.writers, *pipe.readers):
            if holder.task not in named:
                named.add(holder.task)
                yield task_node(trace.tasks[holder.task])
        for holder in pipe.writers:
            yield Arrow(_name(holder.task), node, str(holder.fd))
        for holder in pipe.readers:
            yield Arrow(node, _name(holder.task), str(holder.fd))
