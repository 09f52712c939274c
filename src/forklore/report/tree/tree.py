"""The tree that a trace made, by creator, readable at three tasks and at three thousand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from forklore.abi.text import printable
from forklore.model.tasks import Failure, Task, Trace
from forklore.model.without_gc import uncollected
from forklore.report.stacks import ShownStacks
from forklore.report.styled_lines import Line, Piece, fit, width_of
from forklore.report.tree import label
from forklore.report.tree.fold import Folded, TreeRow
from forklore.report.tree.label import Detail
from forklore.report.words import words

_INDENT: Final = 3
_ROOM: Final = 44
"""Columns that a line keeps for itself however deep it stands."""
_WIDEST: Final = 132
_NOTES: Final = 3
"""So many of the notes that have one reason are shown."""
_ROOMY: Final = 60
"""A tree of no more lines than that may take several for a task; a longer one keeps to one and says less."""


class Limits(Struct, frozen=True):
    """What of a large tree is shown. None: no limit.

    ``depth`` None lets the tree choose the deepest that keeps within ``lines``.
    """

    columns: int | None = 80
    depth: int | None = None
    siblings: int | None = 40
    lines: int | None = 400
    fold: int = 3
    stacks: bool = False
    """Whole call stacks, below what they made."""

    @property
    def deepest(self) -> int | None:
        """The depth at which the indent leaves no room for the text."""
        return None if self.columns is None else max(3, (self.columns - _ROOM) // _INDENT)


DEFAULTS: Final = Limits()
UNLIMITED: Final = Limits(columns=None, depth=None, siblings=None, lines=None)


def tree_lines(trace: Trace, limits: Limits = DEFAULTS) -> list[Line]:
    """The whole view: a tree for each root, then what the trace could not see."""
    with uncollected():
        return _all(trace, limits)


def _all(trace: Trace, limits: Limits) -> list[Line]:
    folded = Folded(trace, limits.fold, stacks=limits.stacks)
    stacks = ShownStacks() if limits.stacks else None
    lines: list[Line] = []
    for root in trace.roots:
        lines += _one(root, trace, folded, limits, stacks)
    lines += list(_below(trace, limits))
    return [fit(line, limits.columns) for line in lines]


def _one(root: Task, trace: Trace, folded: Folded, limits: Limits, stacks: ShownStacks | None) -> list[Line]:
    depth, rows = _affordable(root, folded, limits)
    if limits.depth is not None:
        depth = limits.depth
    roomy = rows <= _ROOMY
    lines: list[Line] = _root_lines(root, trace, folded, limits)
    # An explicit stack: a tree can be deeper than Python may recurse.
    stack = [_Level(iter(_shown(folded.rows(root), limits)), "")]
    while stack:
        level = stack[-1]
        item = level.next()
        if item is None:
            stack.pop()
            continue
        row, last = item
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        if isinstance(row, str):
            lines.append((Piece(_narrowed(level.prefix, len(stack), limits) + branch, "frame"), Piece(row, "quiet")))
            continue
        cut = len(stack) >= depth if depth is not None else False
        prefix = _narrowed(level.prefix, len(stack), limits)
        frame = _Frame(prefix + branch, prefix + below, limits.columns, roomy)
        lines += _row_lines(row, trace, frame, cut=cut)
        if stacks is not None:
            lines += _stack_lines(row, stacks, frame)
        if row.tasks and not cut:
            stack.append(_Level(iter(_shown(folded.rows(row.tasks[0]), limits)), level.prefix + below))
    return lines


def _narrowed(prefix: str, depth: int, limits: Limits) -> str:
    # Deep down the indent would leave no room: the level stands in its place.
    if limits.columns is None or len(prefix) <= max(limits.columns - _ROOM, 3 * _INDENT):
        return prefix
    return f"… level {depth} … "


class _Level:
    """The rows below one task that are still to be printed."""

    def __init__(self, rows: Iterator[TreeRow | str], prefix: str) -> None:
        self.prefix = prefix
        self._rows = rows
        self._ahead = next(rows, None)

    def next(self) -> tuple[TreeRow | str, bool] | None:
        """The next row, and whether it is the last."""
        row = self._ahead
        if row is None:
            return None
        self._ahead = next(self._rows, None)
        return row, self._ahead is None


def _shown(rows: list[TreeRow], limits: Limits) -> list[TreeRow | str]:
    limit = limits.siblings
    if limit is None or len(rows) <= limit:
        return list(rows)
    hidden = rows[limit - 1 :]
    tasks = sum(len(row.tasks) * (1 + row.below) for row in hidden)
    others = sum(len(row.leaves) for row in hidden)
    parts = [words.count(tasks, "task")] if tasks else []
    parts += [words.count(others, "refused or unsharing call")] if others else []
    return [*rows[: limit - 1], f"… {' and '.join(parts)} more here (--siblings {len(rows)} shows them)"]


def _affordable(root: Task, folded: Folded, limits: Limits) -> tuple[int | None, int]:
    # The depth to show and the lines that it takes. Level by level, until the lines are spent: every level is
    # shown whole or not at all.
    if limits.lines is None:
        return limits.deepest, _ROOMY + 1
    spent, depth = 1, 0
    level = [root]
    while level and (limits.deepest is None or depth < limits.deepest):
        following: list[Task] = []
        more = 0
        for task in level:
            rows = _shown(folded.rows(task), limits)
            more += len(rows)
            following += [row.tasks[0] for row in rows if isinstance(row, TreeRow) and row.tasks]
        if spent + more > limits.lines and depth > 0:
            break
        spent += more
        depth += 1
        level = following
    return depth, spent


def _root_lines(root: Task, trace: Trace, folded: Folded, limits: Limits) -> list[Line]:
    command = [printable(raw) for raw in _command(trace)]
    ran = words.base_name(command[0].encode()) if command and root.how == "root" else words.task_name(root)
    pieces = [Piece(ran or "?", "name"), Piece(f" {root.tid}", "tid")]
    name = words.task_name(root)
    runs = root.images[-1] if root.images else None
    if runs is not None and isinstance(runs.exe, bytes) and words.base_name(runs.exe) != ran:
        pieces.append(Piece(f"  {words.base_name(runs.exe)}"))
    elif name and name != ran:
        pieces.append(Piece(f"  {name}"))
    end: Line = label.task_end(TreeRow([_last_of(root, trace)]))
    inside = list(_descendants(root, trace)) if len(trace.roots) > 1 else list(trace.tasks.values())
    processes = sum(task.kind == "process" for task in inside)
    threads = sum(task.kind == "thread" for task in inside)
    counted = words.count(processes, "process", "processes")
    if threads:
        counted += f", {words.count(threads, 'thread')}"
    unknown = len(inside) - processes - threads
    if unknown:
        counted += f", {words.count(unknown, 'task')} of unknown kind"
    refused = sum(len(task.failures) for task in inside)
    parts: list[Line] = [(*pieces, Piece(" → "), *end), (Piece(counted),)]
    if refused:
        parts.append((Piece(words.count(refused, "creation") + " refused", "bad"),))
    parts += label.task_parts(folded.row([root]), trace, Detail.SHORT)
    frame = _Frame("", "│  " if root.children else "   ", limits.columns, roomy=True)
    return _filled((), parts, (), frame)


def _last_of(task: Task, trace: Trace) -> Task:
    # The process goes on in the thread whose exec took over.
    while task.heir is not None:
        task = trace.tasks[task.heir]
    return task


def _command(trace: Trace) -> list[bytes]:
    from forklore.events.records import raw_bytes

    return [raw_bytes(word) for word in trace.header.command]


def _descendants(root: Task, trace: Trace) -> Iterator[Task]:
    stack = [root]
    while stack:
        task = stack.pop()
        yield task
        stack += [trace.tasks[child] for child in task.children]


class _Frame(Struct, frozen=True):
    """What stands to the left of a task's first line and of its further ones, and the width."""

    first: str
    rest: str
    columns: int | None
    roomy: bool

    @property
    def width(self) -> int:
        return _WIDEST if self.columns is None else min(self.columns, _WIDEST)


def _row_lines(row: TreeRow, trace: Trace, frame: _Frame, *, cut: bool) -> list[Line]:
    if row.leaves:
        return _leaf_lines(row, frame)
    end = label.task_end(row)
    head: list[Piece] = [Piece(frame.first, "frame"), *label.task_head(row)]
    if cut and row.below:
        each = " each" if len(row.tasks) > 1 else ""
        head.append(Piece(f" (+{words.count(row.below, 'task')} below{each})", "loud"))
    elif len(row.tasks) > 1 and row.below:
        head.append(Piece(" each", "quiet"))
    for detail in Detail:
        parts = label.task_parts(row, trace, detail)
        line = (*head, Piece("  "), *label.joined(parts)) if parts else tuple(head)
        if frame.columns is None or _size(line) + 2 + _size(end) <= frame.width:
            return [_with_end(line, end, frame)]
        if frame.roomy and detail is Detail.SHORT:
            return _filled(tuple(head), parts, end, frame)
    return [_with_end(line, end, frame)]


def _stack_lines(row: TreeRow, stacks: ShownStacks, frame: _Frame) -> list[Line]:
    made = row.tasks[0] if row.tasks else row.leaves[0]
    if not isinstance(made, Task | Failure):
        return []
    import textwrap

    rest = Piece(frame.rest + "   ", "frame")
    room = max(frame.width - width_of(rest.text), _ROOM // 2)
    return [
        (rest, Piece(part, role))
        for text, role in stacks.texts(made)
        for part in textwrap.wrap(text, room, subsequent_indent="   ")
    ]


def _filled(head: Line, parts: list[Line], end: Line, frame: _Frame) -> list[Line]:
    # As many parts as fit beside the head, the others on lines of their own.
    width = frame.width
    lines: list[Line] = []
    current, room = list(head), width - _size(head) - (_size(end) + 2 if end else 0)
    rest = Piece(frame.rest + "   " if head else frame.rest, "frame")
    fresh = bool(head)
    for part in parts:
        separator = Piece("  ") if fresh else label.SEPARATOR
        if current and _size(part) + width_of(separator.text) > room:
            lines.append(tuple(current))
            current, room, fresh = [rest], width - width_of(rest.text), True
            for piece in _broken(part, room):
                if _size(piece) > room:
                    lines.append(tuple(current))
                    current, room = [rest], width - width_of(rest.text)
                current += piece
                room -= _size(piece)
            fresh = False
            continue
        if current:
            current.append(separator)
            room -= width_of(separator.text)
        current += part
        room -= _size(part)
        fresh = False
    lines.append(tuple(current))
    return [_with_end(lines[0], end, frame), *lines[1:]]


def _broken(part: Line, room: int) -> list[Line]:
    # A list of flags may be broken between two flags, anything else stays whole.
    if _size(part) <= room:
        return [part]
    broken: list[Line] = []
    for piece in part:
        words_ = piece.text.replace("|", "|\0").replace(" ", " \0").split("\0")
        broken += [(Piece(word, piece.role),) for word in words_]
    return broken


def _leaf_lines(row: TreeRow, frame: _Frame) -> list[Line]:
    first = Piece(frame.first, "frame")
    shown: tuple[Line, Line] | None = None
    for detail in Detail:
        text, why = label.leaf_line(row, detail)
        line = (first, *text, *((Piece("  "), *why) if why else ()))
        if frame.columns is None or _size(line) <= frame.columns:
            return [line]
        if shown is None and detail is not Detail.FULL and _size((first, *text)) <= frame.columns:
            shown = text, why
    text, why = shown or label.leaf_line(row, Detail.SHORT)
    if not why or not frame.roomy:
        return [(first, *text, *((Piece("  "), *why) if why else ()))]
    # The reason matters most: it goes to lines of its own where it does not fit.
    return _filled((first, *text), [why], (), frame)


def _with_end(line: Line, end: Line, frame: _Frame) -> Line:
    if not end:
        return line
    room = frame.width - _size(end) - 2
    if frame.columns is not None and _size(line) > room:
        line = fit(line, max(room, _ROOM // 2))
    gap = max(2, frame.width - _size(line) - _size(end))
    return (*line, Piece(" " * gap), *end)


def _size(line: Line) -> int:
    return sum(width_of(piece.text) for piece in line)


def _below(trace: Trace, limits: Limits) -> Iterator[Line]:
    by_reason: dict[str, list[str]] = {}
    for what, why in [*((each.what, each.why) for each in trace.header.blind), *trace.notes]:
        by_reason.setdefault(why, []).append(what)
    for why, whats in by_reason.items():
        shown = ", ".join(printable(what) for what in whats[:_NOTES])
        more = f" and {len(whats) - _NOTES} more" if len(whats) > _NOTES else ""
        yield from _note(f"{shown}{more}: {printable(why)}", limits)
    if trace.end_reason is None:
        yield from _note("the trace was cut off; what came after its last line is not known", limits)


def _note(text: str, limits: Limits) -> list[Line]:
    frame = _Frame("", "", limits.columns, roomy=True)
    import textwrap

    width = frame.width
    return [(Piece(part, "loud"),) for part in textwrap.wrap(f"Not known: {text}", width)]
