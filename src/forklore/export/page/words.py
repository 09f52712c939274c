"""What a search looks at: of each task its names, arguments, flags, errors, files and source lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from forklore.abi.errors import errno_name
from forklore.abi.units import Unavailable
from forklore.events.records import raw_bytes
from forklore.export.page.strings import Strings
from forklore.model.tasks import Failure, Task, Trace
from forklore.report.stacks import ShownStacks
from forklore.report.tree.edges import Edges, own_name
from forklore.report.words import words
from forklore.report.words.deaths import death_words


class Words:
    """The texts of a trace's tasks, each of them once."""

    def __init__(self, trace: Trace, edges: Edges) -> None:
        self._edges = edges
        self._strings = Strings()
        self._stacks: dict[tuple[int, int], list[int]] = {}
        self._of = [self._task(task) for task in trace.tasks.values()]

    def object(self) -> dict[str, Any]:
        """As front-end/src/data.ts has it."""
        return {"words": self._strings.all(), "of": self._of}

    def _task(self, task: Task) -> list[int]:
        texts = self._places(_of_task(task, self._edges))
        found = [*texts, *self._stack(task)]
        for failure in task.failures:
            found += self._stack(failure)
        return list(dict.fromkeys(found))

    def _places(self, texts: Iterable[str]) -> list[int]:
        return [self._strings.place(text) for text in texts if text]

    def _stack(self, made: Task | Failure) -> list[int]:
        key = (made.stack.number if made.stack else 0, made.script.script if made.script else 0)
        known = self._stacks.get(key)
        if known is None:
            known = self._stacks[key] = self._places(text for text, _ in ShownStacks(verbose=True).texts(made))
        return known


def _of_task(task: Task, edges: Edges) -> Iterator[str]:
    yield words.task_name(task)
    yield own_name(task)
    for image in task.images:
        yield words.path(image.path)
        if isinstance(image.exe, bytes):
            yield words.path(image.exe)
        if not isinstance(image.argv, Unavailable):
            yield words.command(image.argv)
    for naming in task.names:
        yield words.base_name(naming.comm)
    if task.creation is not None:
        yield task.creation.call
        yield from task.creation.flags.names
    if (edge := edges.of(task)) is not None:
        yield edge.text()
    for failure in task.failures:
        yield from failure.creation.flags.names
        yield words.error(failure.errno)
    for failed in task.failed_execs:
        yield from map(words.path, failed.paths)
        yield from map(errno_name, failed.errnos)
    for call in task.calls:
        yield call.call.text()
        if call.result is not None and call.result < 0:
            yield errno_name(-call.result)
    if task.death is not None:
        yield death_words(task.death)
    for record in task.descriptors[-1:]:
        if not isinstance(record.table, Unavailable):
            for held in record.table:
                yield words.path(raw_bytes(held.target))
