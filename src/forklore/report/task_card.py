"""``show --view task ID``: all that is known of one child, each claim with its source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from forklore.abi.text import printable
from forklore.abi.units import TaskId
from forklore.events.records import UNKNOWN_TID
from forklore.model.sharing import Sharing
from forklore.model.tasks import Task, Trace
from forklore.model.vfork_holds import Holding
from forklore.report.stacks import ShownStacks
from forklore.report.styled_lines import Line, Piece, fit, plain, width_of, wrapped
from forklore.report.task_facts import (
    Companions,
    Section,
    command_text,
    later,
    made_texts,
    no_creation,
    outcomes,
    resources,
)
from forklore.report.tree import label
from forklore.report.tree.edges import Edges
from forklore.report.tree.fold import TreeRow
from forklore.report.tree.label import Detail
from forklore.report.words import words
from forklore.report.words.reaping import reaped_words

_IN_SHORT: Final = ("shared", "copied", "new")
"""What is told without ``verbose``, by its names alone: the rest is so for every task that is made in that way."""
_TITLE: Final = 26
_ROOM: Final = 24
"""Columns beside a title below which it stands on a line of its own."""
_WORDS: Final = 2000
"""Characters of a command line that are shown without ``verbose``."""


class NoSuchTaskError(Exception):
    """No task, or several, go by that number; the text says which there are."""


def find(trace: Trace, wanted: str) -> Task:
    """The task ``#3`` (forklore's own number) or ``4711`` (a tid). Raises NoSuchTaskError."""
    number = wanted.removeprefix("#")
    if not number.isdecimal():
        raise NoSuchTaskError(f"{wanted!r} is no task: give a tid (4711), or forklore's own number (#3)")
    if wanted.startswith("#"):
        task = trace.tasks.get(TaskId(int(number)))
        if task is None:
            raise NoSuchTaskError(f"there is no task #{number}: this trace has #1 to #{max(trace.tasks, default=0)}")
        return task
    found = [task for task in trace.tasks.values() if task.tid == int(number) != UNKNOWN_TID]
    if not found:
        raise NoSuchTaskError(f"no task of this trace has the tid {number}")
    if len(found) > 1:
        which = ", ".join(f"#{task.id} {words.task_name(task)}" for task in found)
        raise NoSuchTaskError(f"{len(found)} tasks had the tid {number}, one after the other: {which}; give its #")
    return found[0]


def card_lines(trace: Trace, task: Task, columns: int, *, verbose: bool = False) -> list[Line]:
    """The card, wrapped to ``columns``. The trace must have been read with its sharing.

    ``verbose``: with the rule or observation behind each resource, what the kernel had of the task, and all frames.
    """
    sharing = trace.sharing
    if sharing is None:
        raise ValueError("the trace was read without its sharing")
    lines = list(_head(trace, task, columns, verbose=verbose))
    if task.creation is None:
        lines += _wrapped("", no_creation(task), columns)
    else:
        lines += _sections(resources(task, sharing), columns) if verbose else _in_short(task, sharing, columns)
    companions = Companions(trace, sharing)
    lines += _sections(later(trace, task, Holding(trace), companions, verbose=verbose), columns)
    lines += _stack(task, columns, verbose=verbose)
    return [fit(line, columns) for line in lines]


def _head(trace: Trace, task: Task, columns: int, *, verbose: bool) -> Iterator[Line]:
    edges = Edges(trace)
    edge = edges.of(task)
    row = TreeRow([task], each=1, edges=() if edge is None else (edge,))
    behind = (Piece(f"  #{task.id}", "quiet"), Piece("   "), *label.task_end(row))
    room = columns - sum(width_of(piece.text) for piece in behind)
    yield (*label.task_head(row, room, runs=True), *behind)
    yield from _command_lines(task, columns, None if verbose else _WORDS)
    for part in label.task_parts(row, trace, Detail.FULL):
        yield from _wrapped("  ", plain(part), columns)
    creation = task.creation
    if creation is not None:
        creator = trace.tasks[task.creator] if task.creator is not None else None
        if creator is not None:
            yield from _wrapped("  ", f"made by {words.tid(creator.tid)} {words.task_name(creator)}".rstrip(), columns)
        for text in made_texts(task, edges, verbose=verbose):
            yield from _wrapped("  ", text, columns)
        for name, text in creation.details():
            yield from _wrapped("  ", f"{name} {text}", columns)
        for problem in creation.problems:
            yield from _wrapped("  ", f"in its call: {problem}", columns)
    for reaping in task.reaped:
        yield from _wrapped("  ", f"{reaped_words(task, reaping)} [/proc]", columns)


def _command_lines(task: Task, columns: int, most: int | None) -> Iterator[Line]:
    for image in task.images:
        if text := command_text(image, most):
            yield from ((Piece("  "), Piece(part, "exec")) for part in wrapped(printable(text), columns - 2, "  "))


def _stack(task: Task, columns: int, *, verbose: bool) -> Iterator[Line]:
    texts = ShownStacks(verbose=verbose).texts(task)
    if texts:
        yield ()
        yield (Piece("Its creator's call stack then, innermost first", "name"),)
    for text, role in texts:
        for part in wrapped(text, max(columns - 2, 24), "   "):
            yield (Piece("  "), Piece(part, role))


def _in_short(task: Task, sharing: Sharing, columns: int) -> Iterator[Line]:
    found = outcomes(task, sharing)
    yield ()
    yield (Piece("What it has of its creator (-v says why, and what else there is)", "name"),)
    for outcome in _IN_SHORT:
        if titles := "; ".join(fate.title for fate, _ in found.get(outcome, ())):
            for number, part in enumerate(wrapped(titles, columns - 10)):
                yield (Piece(f"  {outcome if number == 0 else '':<8}", "tid"), Piece(part))
    for fate, answer in (pair for each in found.values() for pair in each):
        if answer is not None and answer.sentence:
            yield from _wrapped("  ", f"! {fate.title}: {answer.sentence}", columns)


def _sections(found: Iterable[Section], columns: int) -> Iterator[Line]:
    for section in found:
        yield ()
        yield (Piece(section.title, "name"),)
        for term, text in section.lines:
            yield from _entry(term, text, columns)


def _entry(title: str, text: str, columns: int) -> Iterator[Line]:
    beside = columns - _TITLE - 2 >= _ROOM and width_of(title) < _TITLE
    if not beside and title:
        yield (Piece(f"  {title}", "tid"),)
    left = _TITLE if beside else 2
    for number, part in enumerate(wrapped(printable(text), columns - left - 2) or [""]):
        yield (Piece(f"  {title if number == 0 and beside else '':<{left}}", "tid"), Piece(part))


def _wrapped(indent: str, text: str, columns: int) -> Iterator[Line]:
    for part in wrapped(printable(text), max(columns - len(indent), 24)):
        yield (Piece(indent + part),)
