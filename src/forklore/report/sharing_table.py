"""``show --view sharing``: tasks by resources, one letter for all that hold one object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from forklore.abi.resources import NAMESPACES, OBJECTS
from forklore.abi.units import TaskId
from forklore.decode.object_groups import letter
from forklore.model.holds import RESOURCES, Hold
from forklore.model.sharing import Answer, Sharing
from forklore.model.tasks import Trace
from forklore.report.styled_lines import Line, Piece, Role, fit, width_of, wrapped
from forklore.report.words import words

_NONE: Final = "·"
_UNKNOWN: Final = "?"
_LINES: Final = 400
_TASKS: Final = 5
"""Of those that one surprise is about."""
_NO_ANSWERS: Final = (None,) * len(RESOURCES)


class Letters:
    """Names for groups: per resource A, B, … Z, AA, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self._given: dict[str, dict[int, str]] = {}

    def __call__(self, resource: str, group: int) -> str:
        """The letter of a group."""
        given = self._given.setdefault(resource, {})
        return given.setdefault(group, letter(len(given)))


def table_lines(trace: Trace, columns: int | None, lines: int | None = _LINES) -> list[Line]:
    """The table, then what its signs mean. The trace must have been read with its sharing."""
    sharing = trace.sharing
    if sharing is None:
        raise ValueError("the trace was read without its sharing")
    same = sharing.holdings.of_one_group()
    shown = [*OBJECTS, *(name for name in NAMESPACES if name not in same)]
    folded = _fold(_rows(trace, sharing, shown), lines)
    hidden = len(trace.tasks) - sum(count for _, count in folded)
    head = ("task", *shown)
    cells = [head, *((_counted(row, count)) for row, count in folded)]
    widths = [max(width_of(row[i]) for row in cells) for i in range(len(head))]
    out = [_printed(row, widths, header=number == 0) for number, row in enumerate(cells)]
    if hidden:
        out.append((Piece(f"… {words.count(hidden, 'task')} more", "quiet"),))
    out.append(())
    for text in legend(shown, sharing, trace):
        out += [(Piece(part, "quiet"),) for part in (wrapped(text, columns) if columns else [text])]
    return [fit(line, columns) for line in out]


Row = tuple[str, ...]


def _rows(trace: Trace, sharing: Sharing, shown: list[str]) -> Iterator[Row]:
    letters = Letters()
    places = [(RESOURCES.index(name), name) for name in shown]
    for task in trace.tasks.values():
        kind = "" if task.kind == "process" else f"{task.kind} "
        name = f"{kind}{words.tid(task.tid)} {words.task_name(task)}".rstrip()
        groups, answers = sharing.holdings.groups(task.id), sharing.answers.get(task.id, _NO_ANSWERS)
        yield (name, *(_cell(groups[place], answers[place], letters, resource) for place, resource in places))


def _cell(groups: Sequence[int], answer: Answer | None, letters: Letters, resource: str) -> str:
    if not groups:
        return _UNKNOWN
    if answer is not None and answer.observed == "both-unset" and len(groups) == 1:
        return _NONE
    text = "→".join(letters(resource, group) for group in groups)
    unsure = answer is not None and answer.observed == "unknown"
    return text + (_UNKNOWN if unsure else "") + ("!" if answer is not None and answer.differs else "")


def _fold(rows: Iterable[Row], most: int | None) -> list[tuple[Row, int]]:
    # Neighbours of one name and one set of letters are one line. Rows behind the last line are not made.
    folded: list[tuple[Row, int]] = []
    for row in rows:
        if folded:
            last, count = folded[-1]
            if last[1:] == row[1:] and _what(last[0]) == _what(row[0]):
                folded[-1] = (last, count + 1)
                continue
        if len(folded) == most:
            break
        folded.append((row, 1))
    return folded


def _what(name: str) -> str:
    return " ".join(word for word in name.split() if not word.isdecimal())


def _counted(row: Row, count: int) -> Row:
    return row if count == 1 else (f"{row[0]} … {count:,} alike", *row[1:])


def _printed(row: Row, widths: list[int], *, header: bool) -> Line:
    pieces: list[Piece] = []
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        padded = cell + " " * (width - width_of(cell) + 2)
        role: Role = "name" if header else "tid" if index == 0 else "loud" if "→" in cell or "!" in cell else "plain"
        pieces.append(Piece(padded, role))
    return tuple(pieces)


def legend(shown: list[str], sharing: Sharing, trace: Trace) -> Iterator[str]:
    """What the signs of the table mean, and each answer that is not what was asked for."""
    yield "Tasks with one letter in a column hold one object, seen by kcmp(2) or in /proc at the creation."
    yield f"A→B: first A, then B (exec, unshare, setns, close_range). {_NONE}: neither it nor its creator had one."
    same = [name for name in NAMESPACES if name not in shown]
    if same:
        yield f"One namespace for all tasks: {' '.join(same)}."
    # Many tasks that were made alike have one tuple of answers.
    kinds: dict[int, tuple[tuple[Answer, ...], list[TaskId]]] = {}
    for task, answers in sharing.answers.items():
        kinds.setdefault(id(answers), (answers, []))[1].append(task)
    unknown = {answer.reason for answers, _ in kinds.values() for answer in answers if answer.observed == "unknown"}
    if unknown - {None}:
        reasons = "; ".join(sorted(filter(None, unknown)))
        yield f"{_UNKNOWN}: by the call's flags, for it could not be observed: {reasons}."
    surprises: dict[tuple[str, str], list[TaskId]] = {}
    for answers, tasks in kinds.values():
        for answer in answers:
            if answer.sentence is not None:
                surprises.setdefault((answer.resource, answer.sentence), []).extend(tasks)
    for (resource, sentence), tasks in surprises.items():
        few = " ".join(words.tid(trace.tasks[task].tid) for task in sorted(tasks)[:_TASKS])
        more = f" and {words.count(len(tasks) - _TASKS, 'more task')}" if len(tasks) > _TASKS else ""
        yield f"! {resource} of {few}{more}: {sentence}."


def changes(task: TaskId, sharing: Sharing) -> Iterator[tuple[str, Hold, Hold]]:
    """Each later change of what a task holds: the resource, before and after."""
    for resource, holds in sharing.holdings.holds(task).items():
        for before, after in pairwise(holds):
            yield resource, before, after
