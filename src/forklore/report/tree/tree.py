"""The tree that a trace made, by creator, readable at three tasks and at three thousand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from signal import SIGKILL
from typing import Final

from msgspec import Struct

from forklore.events.records import raw_bytes
from forklore.model.tasks import Failure, Task, Trace
from forklore.model.timing import cpu_of, most_at_once
from forklore.model.without_gc import uncollected
from forklore.report.stacks import ShownStacks
from forklore.report.styled_lines import Line, Piece, cut_text, fit, size_of, width_of, wrapped
from forklore.report.tree import label
from forklore.report.tree.commands import asked_text
from forklore.report.tree.edges import own_name
from forklore.report.tree.fold import Folded, TreeRow
from forklore.report.tree.label import Detail, task_head
from forklore.report.tree.margins import Legend, Starts, unread
from forklore.report.words import words
from forklore.report.words.code import clipped

_INDENT: Final = 3
_ROOM: Final = 44
"""Columns that a line keeps for itself however deep it stands."""
_WIDEST: Final = 132
_NOTES: Final = 3
"""So many of the notes that have one reason are shown, …"""
_CHARACTERS: Final = 2000
"""… and of each so much, unless everything is asked for."""
_ROOMY: Final = 60
"""A tree of no more lines than that may take several for a task; a longer one keeps to one and says less."""
_LEAST_MAKER: Final = 12
"""Columns below which the end of a function's name is not worth showing."""


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
    verbose: bool = False
    """Calls, flags, what is shared and paths of every task, in as many lines as that takes."""

    @property
    def deepest(self) -> int | None:
        """The depth at which the indent leaves no room for the text."""
        return None if self.columns is None else max(3, (self.columns - _ROOM) // _INDENT)


DEFAULTS: Final = Limits()


def tree_lines(trace: Trace, limits: Limits = DEFAULTS) -> list[Line]:
    """The whole view: a tree for each root, then what the trace could not see."""
    with uncollected():
        return _all(trace, limits)


def _all(trace: Trace, limits: Limits) -> list[Line]:
    folded = Folded(trace, limits.fold, stacks=limits.stacks)
    stacks = ShownStacks(verbose=limits.verbose) if limits.stacks else None
    legend, starts = Legend(), Starts(trace)
    lines: list[Line] = []
    roots = trace.roots
    for root in roots:
        inside = list(_descendants(root, trace) if len(roots) > 1 else trace.tasks.values())
        lines += _one(root, inside, trace, folded, limits, stacks, legend, starts)
    for text in legend.texts():
        lines += [(Piece(part, "quiet"),) for part in wrapped(text, _width(limits), "   ")]
    lines += list(_below(trace, limits))
    return [fit(line, limits.columns) for line in lines]


def _one(
    root: Task,
    inside: list[Task],
    trace: Trace,
    folded: Folded,
    limits: Limits,
    stacks: ShownStacks | None,
    legend: Legend,
    starts: Starts,
) -> list[Line]:
    depth, rows = _affordable(root, folded, limits)
    if limits.depth is not None:
        depth = limits.depth
    roomy = rows <= _ROOMY or limits.verbose
    lines: list[Line] = _root_lines(root, inside, trace, folded, limits, starts)
    # An explicit stack: a tree can be deeper than Python may recurse.
    stack = [_Level(iter(_shown(folded.rows([root]), limits)), "")] if depth != 0 else []
    while stack:
        level = stack[-1]
        item = level.next()
        if item is None:
            stack.pop()
            continue
        row, last = item
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        prefix = _narrowed(level.prefix, len(stack), limits)
        if isinstance(row, str):
            lines.append((Piece(starts.blank), Piece(prefix + branch, "frame"), Piece(row, "quiet")))
            continue
        cut = len(stack) >= depth if depth is not None else False
        of_many = bool(row.tasks) and len(row.tasks) > row.each
        start = starts.blank if of_many else starts.text(row)
        frame = _Frame(start, prefix + branch, starts.blank + prefix + below, limits, roomy)
        lines += _row_lines(row, trace, frame, legend, cut=cut)
        if stacks is not None:
            lines += _stack_lines(row, stacks, frame)
        if row.tasks and not cut:
            # A prefix that is too long to be shown grows no more: a chain of n tasks would take n * n characters.
            grown = level.prefix + below if prefix is level.prefix else level.prefix
            stack.append(_Level(iter(_shown(folded.rows(row.tasks), limits)), grown))
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
    if not limits.verbose:
        rows = [row for row in rows if not (row.leaves and label.goes_without_saying(row.leaves[0]))]
    limit = limits.siblings
    if limit is None or len(rows) <= limit:
        return list(rows)
    hidden = rows[limit - 1 :]
    tasks = sum(len(row.tasks) * (1 + row.below) for row in hidden)
    others = sum(len(row.leaves) for row in hidden)
    parts = [words.count(tasks, "task")] if tasks else []
    parts += [words.count(others, "refused or unsharing call")] if others else []
    return [*rows[: limit - 1], f"… {' and '.join(parts)} more (--siblings {len(rows)})"]


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
            rows = _shown(folded.rows([task]), limits)
            more += len(rows)
            following += [row.tasks[0] for row in rows if isinstance(row, TreeRow) and row.tasks]
        if spent + more > limits.lines and depth > 0:
            return depth, spent if limits.depth is None else spent + more
        spent += more
        depth += 1
        level = following
    return depth, spent


def _root_lines(
    root: Task, inside: list[Task], trace: Trace, folded: Folded, limits: Limits, starts: Starts
) -> list[Line]:
    row = folded.row([root])
    width = _width(limits)
    head = task_head(row, width - len(starts.blank))
    if root.how == "root" and not root.images and trace.header.command:
        tid = words.tid(root.tid)
        asked = asked_text(tuple(map(raw_bytes, trace.header.command)), width - width_of(tid) - 1)
        head = (Piece(tid, "tid"), Piece(f" {asked}", "name"))
        if own := own_name(root):
            head += (Piece(f' "{own}"', "name"),)
    ended = _last_of(root, trace)
    end: Line = label.task_end(TreeRow([ended], each=1))
    processes = sum(task.kind == "process" for task in inside)
    threads = sum(task.kind == "thread" for task in inside)
    counted = words.count(processes, "process", "processes")
    if threads:
        counted += f", {words.count(threads, 'thread')}"
    unknown = len(inside) - processes - threads
    if unknown:
        counted += f", {words.count(unknown, 'task')} of unknown kind"
    if len(inside) > 2 and (side_by_side := most_at_once(inside)) is not None:
        counted += f", {side_by_side:,} at once at most"
    refused = sum(len(task.failures) for task in inside)
    parts: list[Line] = [(Piece("→ "), *end)]
    if (cpu := cpu_of(inside)) is not None:
        peak = max((task.peak for task in inside if task.peak is not None), default=None)
        most = "" if peak is None else f", {words.size(peak * 1024)} at most"
        parts.append((Piece(f"cpu {words.span(cpu * 1000)}{most}"),))
    parts.append((Piece(counted),))
    if held := sum(task.tracer_held for task in inside):
        unseen = sum(task.tracer_unseen for task in inside)
        parts.append((Piece(f"held by forklore {words.bounds(held, held + unseen)}", "quiet"),))
    if refused:
        parts.append((Piece(words.count(refused, "creation") + " refused", "bad"),))
    parts += _by_tracing(root, ended, inside, trace)
    parts += label.task_parts(row, trace, Detail.SHORT, verbose=limits.verbose)
    frame = _Frame("", "", starts.blank + ("│  " if root.children and limits.depth != 0 else "   "), limits, roomy=True)
    return _filled(head, parts, (), frame)


def _by_tracing(root: Task, ended: Task, inside: list[Task], trace: Trace) -> Iterator[Line]:
    """What is otherwise than it would be without the tracer, in short; -v has the reasons."""
    if root.how != "root":
        return
    killed = 0
    if trace.end_reason == "root" and ended.ended is not None:
        late = (task for task in inside if task.ended is not None and task.ended >= ended.ended)
        killed = sum(task.kind != "thread" and task.death is not None and task.death.signal == SIGKILL for task in late)
    yield from ((Piece(clipped(each.what), "quiet"),) for each in trace.header.blind if each.changed)
    if killed:
        yield (Piece(f"{words.count(killed, 'process', 'processes')} killed at its end", "quiet"),)


def _last_of(task: Task, trace: Trace) -> Task:
    # The process goes on in the thread whose exec took over.
    while task.heir is not None:
        task = trace.tasks[task.heir]
    return task


def _descendants(root: Task, trace: Trace) -> Iterator[Task]:
    stack = [root]
    while stack:
        task = stack.pop()
        yield task
        stack += [trace.tasks[child] for child in task.children]


def _width(limits: Limits) -> int:
    return _WIDEST if limits.columns is None else min(limits.columns, _WIDEST)


class _Frame(Struct, frozen=True):
    """What stands to the left of a task's first line and of its further ones, and the width."""

    start: str
    first: str
    rest: str
    limits: Limits
    roomy: bool

    @property
    def columns(self) -> int | None:
        return self.limits.columns

    @property
    def width(self) -> int:
        return _width(self.limits)

    @property
    def left(self) -> Line:
        """What the first line begins with."""
        return (Piece(self.start, "quiet"), Piece(self.first, "frame"))


def _row_lines(row: TreeRow, trace: Trace, frame: _Frame, legend: Legend, *, cut: bool) -> list[Line]:
    if row.leaves:
        return _leaf_lines(row, frame)
    verbose = frame.limits.verbose
    behind: Line = ()
    if cut and row.below:
        behind = (Piece(f" (+{words.count(row.below, 'task')} below{' each' * (row.each > 1)}: --depth)", "loud"),)
    parts = label.task_parts(row, trace, Detail.SHORT, verbose=verbose)
    legend.saw(row, row.tasks[0].death is not None)
    # The command comes first: how several lived goes behind it as far as there is room.
    least = label.task_end(row, verbose=verbose, room=0)
    room = frame.width - size_of(frame.left) - size_of(behind)
    head = label.task_head(row, None if frame.columns is None else room - size_of(least) - 2)
    made = label.maker(row, brief=True)
    reserved = 0 if verbose or row.tasks[0].images else width_of(made) + 2
    end = label.task_end(row, verbose=verbose, room=room - size_of(head) - 2 - reserved)
    line = (*frame.left, *head, *behind)
    if verbose:
        return _filled(line, parts, end, frame)
    if shown := _maker(row, made, frame, room - size_of(head) - size_of(end) - 4):
        line = (*line, Piece("  "), Piece(shown, "maker"))
    elif made:
        legend.made(made, row)
    if not frame.roomy:
        return [_with_end(label.joined([line, *parts]), end, frame)]
    return _filled(line, parts, end, frame)


def _maker(row: TreeRow, brief: str, frame: _Frame, room: int) -> str:
    # Who made a program's process stands below the tree where it does not fit; of a task without a command line it is
    # what tells it from others.
    made, short = label.maker(row), label.maker(row, short=True)
    if frame.columns is None:
        return made
    shown = next((each for each in (made, brief, short) if width_of(each) <= room), "")
    if shown or row.tasks[0].images or room < _LEAST_MAKER:
        return shown
    (edge,) = row.edges if len(row.edges) == 1 else (None,)
    alone = f"← {edge.place}" if edge is not None and edge.place and not edge.runs else ""
    return alone if alone and width_of(alone) <= room else cut_text(short, room)


def _stack_lines(row: TreeRow, stacks: ShownStacks, frame: _Frame) -> list[Line]:
    made = row.tasks[0] if row.tasks else row.leaves[0]
    if not isinstance(made, Task | Failure):
        return []
    rest = Piece(frame.rest + "   ", "frame")
    room = max(frame.width - width_of(rest.text), _ROOM // 2)
    return [(rest, Piece(part, role)) for text, role in stacks.texts(made) for part in wrapped(text, room, "   ")]


def _filled(head: Line, parts: list[Line], end: Line, frame: _Frame) -> list[Line]:
    # As many parts as fit beside the head, the others on lines of their own.
    width = frame.width
    lines: list[Line] = []
    current, room = list(head), width - size_of(head) - (size_of(end) + 2 if end else 0)
    rest = Piece(frame.rest + "   " if head else frame.rest, "frame")
    fresh = bool(head)
    for part in parts:
        separator = Piece("  ") if fresh else label.SEPARATOR
        if current and size_of(part) + width_of(separator.text) > room:
            lines.append(tuple(current))
            current, room, fresh = [rest], width - width_of(rest.text), True
            for piece in _broken(part, room):
                if size_of(piece) > room:
                    lines.append(tuple(current))
                    current, room = [rest], width - width_of(rest.text)
                current += piece
                room -= size_of(piece)
            fresh = False
            continue
        if current:
            current.append(separator)
            room -= width_of(separator.text)
        current += part
        room -= size_of(part)
        fresh = False
    lines.append(tuple(current))
    return [_with_end(lines[0], end, frame), *lines[1:]]


def _broken(part: Line, room: int) -> list[Line]:
    # A list of flags may be broken between two flags, anything else stays whole.
    if size_of(part) <= room:
        return [part]
    broken: list[Line] = []
    for piece in part:
        words_ = piece.text.replace("|", "|\0").replace(" ", " \0").split("\0")
        broken += [(Piece(word, piece.role),) for word in words_]
    return broken


def _leaf_lines(row: TreeRow, frame: _Frame) -> list[Line]:
    first = frame.left
    shown: tuple[Line, Line] | None = None
    for detail in Detail:
        text, why = label.leaf_line(row, detail)
        line = (*first, *text, *((Piece("  "), *why) if why else ()))
        if frame.columns is None or size_of(line) <= frame.columns:
            return [line]
        if shown is None and detail is not Detail.FULL and size_of((*first, *text)) <= frame.columns:
            shown = text, why
    text, why = shown or label.leaf_line(row, Detail.SHORT)
    if not why or not frame.roomy:
        return [(*first, *text, *((Piece("  "), *why) if why else ()))]
    # The reason matters most: it goes to lines of its own where it does not fit.
    return _filled((*first, *text), [why], (), frame)


def _with_end(line: Line, end: Line, frame: _Frame) -> Line:
    if not end:
        return line
    room = frame.width - size_of(end) - 2
    if frame.columns is not None and size_of(line) > room:
        line = fit(line, max(room, _ROOM // 2))
    gap = max(2, frame.width - size_of(line) - size_of(end))
    return (*line, Piece(" " * gap), *end)


def _below(trace: Trace, limits: Limits) -> Iterator[Line]:
    most = _CHARACTERS if limits.lines is not None else sys.maxsize
    by_reason: dict[str, list[str]] = {}
    blind = trace.header.blind
    tool = trace.header.source.tool
    options = trace.header.options
    source = "program attached to" if "attach" in options else ""
    if options.get("engine") in ("bpf", "perf"):
        source = f"trace by the {options['engine']} engine"
    if tool != "forklore":
        source = f"log of {clipped(tool, most)}"
    if source and not limits.verbose:
        asked = (f"{tool} was run without", "--")
        always = [each for each in blind if not (each.changed or each.why.startswith(asked))]
        if always:
            whats = clipped(", ".join(each.what for each in always), most)
            yield from _note(f"as of any {source} (-v): {whats}", limits)
        blind = [each for each in blind if each not in always]
    refused = unread(trace, verbose=limits.verbose)
    for what, why in [*((each.what, each.why) for each in blind if not each.changed), *trace.notes, *refused]:
        by_reason.setdefault(why, []).append(what)
    for why, named in by_reason.items():
        shown = ", ".join(clipped(what, most) for what in named[:_NOTES])
        more = f" and {len(named) - _NOTES} more" if len(named) > _NOTES else ""
        yield from _note(f"{shown}{more}: {clipped(why, most)}", limits)
    if trace.end_reason is None:
        yield from _note("the trace was cut off; what came after its last line is not known", limits)
    if limits.verbose:
        for each in (each for each in blind if each.changed):
            text = f"Because it was traced, {clipped(each.what, most)}: {clipped(each.why, most)}"
            yield from ((Piece(part, "quiet"),) for part in wrapped(text, _width(limits)))


def _note(text: str, limits: Limits) -> list[Line]:
    return [(Piece(part, "loud"),) for part in wrapped(f"Not known: {text}", _width(limits))]
