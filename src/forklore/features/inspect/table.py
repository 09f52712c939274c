"""The table of what running tasks share: a line a process, a column a resource, a letter an object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.text import printable
from forklore.abi.units import Tid
from forklore.decode.object_groups import Grouping
from forklore.features.inspect.inspection import InspectedThread, Inspection
from forklore.report.styled_lines import Line, Piece, Role, fit, width_of

_OWN, _UNSET, _SAME, _UNKNOWN = ".", "-", "=", "?"
_LEGEND: Final = (
    (_OWN, "its own"),
    (_UNSET, "has none"),
    (_SAME, "as the process's first line"),
    (_UNKNOWN, "not known, see below"),
)
_TITLES: Final = {
    "mm": "mm",
    "files": "files",
    "fs": "fs",
    "sighand": "sighd",
    "sysvsem": "sem",
    "io": "io",
    "namespaces": "ns",
    "cgroups": "cg",
}
_FOLD: Final = 3
"""So many lines that look the same become one."""
_NAME: Final = 44
_NUMBER: Final = 8

Cells = tuple[str, ...]


class _Row(Struct):
    """A line: tasks that look the same, the first one's number, and the cells of its columns."""

    tids: list[Tid]
    name: str
    cells: Cells
    below: tuple[tuple[str, Cells, int], ...] = ()
    """For a process, how its threads' lines look: processes fold only where these are equal."""
    threads: int = 0
    """Threads that share all with the first."""
    indent: bool = False


def table(inspection: Inspection, width: int, *, each: bool) -> list[Line]:
    """Heading, lines and the legend of the marks in use."""
    rows = list(_rows(inspection, each=each))
    if not each:
        rows = _folded(rows)
    sizes = [max(len(title), *(len(row.cells[i]) for row in rows)) + 1 for i, title in enumerate(_TITLES.values())]
    names = min(_NAME, max(width - _NUMBER - 2 - sum(sizes), 12))
    head = f"{'task':>{_NUMBER}}  {'name':<{names}}"
    head += "".join(f"{title:<{size}}" for title, size in zip(_TITLES.values(), sizes, strict=True))
    lines: list[Line] = [(Piece(head.rstrip(), "quiet"),)]
    lines += [_line(row, names, sizes) for row in rows]
    return [*lines, *_legend(rows, width)]


def _line(row: _Row, names: int, sizes: Sequence[int]) -> Line:
    name = f"{'  ' if row.indent else ''}{row.name}"
    if row.threads:
        name += f" +{row.threads:,} thread{'s' if row.threads > 1 else ''}"
    if len(row.tids) > 1:
        name = f"{'  ' if row.indent else ''}{len(row.tids):,} × {name.strip()}"
    shown = fit((Piece(name),), names - 1)[0].text
    pieces = [Piece(f"{row.tids[0]:>{_NUMBER}}", "tid"), Piece("  "), Piece(shown)]
    pieces.append(Piece(" " * (names - width_of(shown))))
    for cell, size in zip(row.cells, sizes, strict=True):
        pieces.append(Piece(f"{cell:<{size}}", _role(cell)))
    return tuple(pieces)


def _role(cell: str) -> Role:
    if cell == _UNKNOWN:
        return "loud"
    return "quiet" if cell in (_OWN, _UNSET, _SAME) else "flags"


def _legend(rows: Sequence[_Row], width: int) -> Iterator[Line]:
    used = {cell for row in rows for cell in row.cells}
    marks = [f"{mark} {text}" for mark, text in _LEGEND if mark in used]
    if any(cell.isalpha() for row in rows for cell in row.cells):
        marks.insert(0, "A, B, …  one object, in all lines with that letter in its column")
    line = ""
    for mark in marks:
        if line and width_of(line) + 3 + width_of(mark) > width:
            yield (Piece(line, "quiet"),)
            line = ""
        line += ("   " if line else "") + mark
    yield (Piece(line, "quiet"),)


class _Column:
    """The marks of one column: a letter for what reaches beyond a line, and signs for the rest."""

    def __init__(self, grouping: Grouping, inspection: Inspection, *, always: bool) -> None:
        self._letters = grouping.letters()
        self._unknown = grouping.unknown
        self._pid = {task.tid: task.pid for task in inspection.tasks}
        first = {pid: _speaker(tasks).tid for pid, tasks in inspection.processes().items()}
        self._shown: dict[str, str] = {}
        for each in grouping.groups:
            pids = {self._pid[tid] for tid in each.members}
            # What one process has for itself needs no letter, unless several threads hold it and not the first.
            beside = len(each.members) > 1 and first[next(iter(pids))] not in each.members
            self._shown[each.letter] = each.letter if always or len(pids) > 1 or beside else _OWN

    def mark(self, tid: Tid) -> str:
        letter = self._letters.get(tid)
        if letter is not None:
            return self._shown[letter]
        return _UNKNOWN if tid in self._unknown else _UNSET

    def same(self, tid: Tid, first: Tid) -> bool:
        return self._letters.get(tid) == self._letters.get(first) and (tid in self._unknown) == (first in self._unknown)


def _rows(inspection: Inspection, *, each: bool) -> Iterator[_Row]:
    columns = [_Column(grouping, inspection, always=False) for grouping in inspection.objects.values()]
    columns += [_Column(grouping, inspection, always=True) for grouping in (inspection.namespaces, inspection.cgroups)]
    for tasks in inspection.processes().values():
        yield from _of_process(tasks, columns, each=each)


def _of_process(tasks: Sequence[InspectedThread], columns: Sequence[_Column], *, each: bool) -> Iterator[_Row]:
    live = _speaker(tasks)
    first = _Row([tasks[0].tid], _name(tasks[0]), tuple(column.mark(tasks[0].tid) for column in columns))
    if tasks[0].ended:
        first.cells = (_UNSET,) * len(columns)
    threads: dict[object, _Row] = {}
    for task in tasks[1:]:
        cells = tuple(
            _SAME if task is not live and column.same(task.tid, live.tid) else column.mark(task.tid)
            for column in columns
        )
        plain = set(cells) == {_SAME} and task.made_by is None
        if plain and not each and live is tasks[0]:
            first.threads += 1
            continue
        key: object = task.tid if each else (_name(task), cells)
        threads.setdefault(key, _Row([], _name(task), cells, indent=True)).tids.append(task.tid)
    first.below = tuple((row.name, row.cells, len(row.tids)) for row in threads.values())
    yield first
    yield from threads.values()


def _speaker(tasks: Sequence[InspectedThread]) -> InspectedThread:
    # The leader, whose objects the threads' are measured by; one of them where it has ended before the others.
    return next((task for task in tasks if not task.ended), tasks[0])


def _name(task: InspectedThread) -> str:
    name = printable(task.name)
    if task.made_by is not None:
        return f"{name} (by the kernel)"
    return f"{name} (ended)" if task.ended else name


def _folded(rows: Sequence[_Row]) -> list[_Row]:
    # Processes that look the same, with all their threads, become the first of them.
    counts: dict[object, int] = {}
    for row in rows:
        if not row.indent:
            counts[_key(row)] = counts.get(_key(row), 0) + 1
    kept: list[_Row] = []
    grown: dict[object, _Row] = {}
    hidden = False
    for row in rows:
        key = _key(row)
        if not row.indent:
            hidden = key in grown
        if not hidden:
            kept.append(row)
            if not row.indent and counts[key] >= _FOLD:
                grown[key] = row
        elif not row.indent:
            grown[key].tids += row.tids
    for row in grown.values():
        if len(row.tids) > 1 and _closed(row):
            row.name = "processes"  # of many kinds, and nothing is known of any
    return kept


def _key(row: _Row) -> object:
    return (None if _closed(row) else row.name, row.cells, row.threads, row.below)


def _closed(row: _Row) -> bool:
    return all(cell == _UNKNOWN for cell in row.cells[:-1])
