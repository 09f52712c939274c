"""Trees of tasks without their numbers and times, to compare two runs or two records of one program."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from forklore.model.tasks import Task, Trace
from forklore.report.styled_lines import Line, plain

Shape = tuple[Any, ...]
_BRANCH = re.compile("[├└]")


def without_starts(lines: Iterable[Line]) -> list[str]:
    """The text of a tree's lines without the column of the times at which tasks began."""
    texts = [plain(line).rstrip() for line in lines]
    margin = min((found.start() for text in texts if (found := _BRANCH.search(text))), default=0)
    return [text if text[:margin].strip(" .0123456789") else text[margin:] for text in texts]


def made_and_ended(task: Task) -> Any:
    """What a task is: how it was made, what it executed, how it ended."""
    made = task.creation
    death = task.death
    return (
        task.kind,
        None if made is None else (made.call, made.flags.raw, made.exit_signal),
        [image.file for image in task.images],
        None if death is None else (death.code, death.signal),
    )


def outline(task: Task) -> Any:
    """For a log that knows less: thread or process, what it executed, how it ended."""
    death = task.death
    names = [(image.file or b"").rpartition(b"/")[2] for image in task.images]
    return (task.kind, names, None if death is None else (death.code, death.signal))


def shape(trace: Trace, about: Callable[[Task], Any] = made_and_ended) -> Shape:
    """What each task is, as ``about`` says it, and its children, sorted: those side by side come in any order."""
    found: dict[int, Shape] = {}
    for number in sorted(trace.tasks, reverse=True):  # children have higher numbers than their creators
        task = trace.tasks[number]
        found[number] = (about(task), tuple(sorted((found[child] for child in task.children), key=repr)))
    return tuple(found[root.id] for root in trace.roots)
