"""``show --view sharing``: tasks by resources, one letter for all that hold one object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from forklore.abi.resources import NAMESPACES, OBJECTS
from forklore.abi.units import TaskId
from forklore.decode.object_groups import letter
from forklore.model.sharing import Hold, Sharing
from forklore.model.tasks import Task, Trace
from forklore.report.styled_lines import Line, Piece, Role, fit, width_of, wrapped
from forklore.report.words import words

_NONE: Final = "·"
_UNKNOWN: Final = "?"
_LINES: Final = 400


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
    letters = Letters()
    shown = [*OBJECTS, *(name for name in NAMESPACES if _differs(sharing, trace.tasks, name))]
    folded = _fold((_row(task, sharing, shown, letters) for task in trace.tasks.values()), lines)
    hidden = len(trace.tasks) - sum(count for _, count in folded)
    head = ("task", *shown)
    cells = [head, *((_counted(row, count)) for row, count in folded)]
    widths = [max(width_of(row[i]) for row in cells) for i in range(len(head))]
    out = [_printed(row, widths, header=number == 0) for number, row in enumerate(cells)]
    if hidden:
        out.append((Piece(f"… {words.count(hidden, 'task')} more", "quiet"),))
    out.append(())
    for text in _legend(shown, sharing, trace):
        out += [(Piece(part, "quiet"),) for part in (wrapped(text, columns) if columns else [text])]
    return [fit(line, columns) for line in out]


def _differs(sharing: Sharing, tasks: Iterable[TaskId], name: str) -> bool:
    groups = (hold.group for task in tasks for hold in sharing.holds[task].get(name, ()))
    first = next(groups, None)
    return any(group != first for group in groups)


Row = tuple[str, ...]


def _row(task: Task, sharing: Sharing, shown: list[str], letters: Letters) -> Row:
    kind = "" if task.kind == "process" else f"{task.kind} "
    name = f"{kind}{words.tid(task.tid)} {words.task_name(task)}".rstrip()
    return (name, *(_cell(task.id, name_, sharing, letters) for name_ in shown))


def _cell(task: TaskId, resource: str, sharing: Sharing, letters: Letters) -> str:
    answer = next((a for a in sharing.answers.get(task, ()) if a.resource == resource), None)
    holds = sharing.holds[task].get(resource, [])
    if not holds:
        return _UNKNOWN
    if answer is not None and answer.observed == "both-unset" and len(holds) == 1:
        return _NONE
    text = "→".join(letters(resource, hold.group) for hold in holds)
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


def _legend(shown: list[str], sharing: Sharing, trace: Trace) -> Iterator[str]:
    yield "Tasks with one letter in a column hold one object, seen by kcmp(2) or in /proc at the creation."
    yield f"A→B: first A, then B (exec, unshare, setns, close_range). {_NONE}: neither it nor its creator had one."
    same = [name for name in NAMESPACES if name not in shown]
    if same:
        yield f"One namespace for all tasks: {' '.join(same)}."
    kinds = {id(answers): answers for answers in sharing.answers.values()}.values()
    unknown = {answer.reason for answers in kinds for answer in answers if answer.observed == "unknown"}
    if unknown - {None}:
        reasons = "; ".join(sorted(filter(None, unknown)))
        yield f"{_UNKNOWN}: by the call's flags, for it could not be observed: {reasons}."
    for task, answers in sharing.answers.items():
        for answer in answers:
            if answer.differs:
                yield f"! {words.tid(trace.tasks[task].tid)} {answer.resource}: {answer.sentence}."


def changes(task: TaskId, sharing: Sharing) -> Iterator[tuple[str, Hold, Hold]]:
    """Each later change of what a task holds: the resource, before and after."""
    for resource, holds in sharing.holds[task].items():
        for before, after in pairwise(holds):
            yield resource, before, after
