"""``show --view time``: where the time went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from forklore.abi.text import printable
from forklore.events.records import raw_bytes
from forklore.model.critical_path import After, CriticalPath, Saving, by_program, critical_path, savings
from forklore.model.tasks import Task, Trace
from forklore.model.timing import Bin, Program, alone, at_once, cpu_of, own_cpu, programs
from forklore.model.waits import Untimed
from forklore.report.styled_lines import Line, Piece, cut_text, fit, width_of, wrapped
from forklore.report.tree.commands import asked_text, command_line
from forklore.report.words import words

SHOWN: Final = 10
"""Rows of each table, unless more are asked for."""
STEPS: Final = 40
NOT_TRACED: Final = (
    "≈ told by time alone: calls of read(2) and futex(2) are not traced, nor is wait(2) where no zombie was looked at,"
    " so what a task waited for is taken to be the last child, thread or writer to its pipe that ended before it was"
    " seen again."
)
SAVINGS: Final = 5
"""Programs and tasks for which it is found out what would be gained."""
_BARS: Final = "▁▂▃▄▅▆▇█"
_NAME: Final = 20
_AFTER: Final[dict[After, str]] = {
    "start": "",
    "created": "made by {}",
    "vfork": "its vfork child {} let it go",
    "wait": "its child {} ended",
    "join": "its thread {} ended",
    "pipe": "{} ended, which wrote to its pipe",
}


def time_lines(trace: Trace, columns: int | None, *, everything: bool = False) -> list[Line]:
    """The view. ``columns`` None: as wide as it gets; ``everything``: with all rows and steps."""
    width = columns or 1 << 30
    lines = [*_head(trace, width), (), *_side_by_side(trace, min(width, 100))]
    lines += [(), *_programs(trace, width, None if everything else SHOWN)]
    lines += [(), *_slowest(trace, None if everything else SHOWN)]
    lines += [(), *_path(trace, width, None if everything else STEPS)]
    return [fit(line, columns) for line in lines]


def _head(trace: Trace, width: int) -> Iterator[Line]:
    tasks = trace.tasks.values()
    roots = trace.roots
    asked = trace.header.command
    if asked:
        yield (Piece(asked_text(tuple(map(raw_bytes, asked)), width), "name"),)
    parts: list[str] = []
    wall = roots[0].age(roots[0].ended) if len(roots) == 1 else None
    if wall is not None:
        parts.append(words.span(wall))
    if (cpu := cpu_of(tasks)) is not None:
        parts.append(f"cpu {words.span(cpu * 1000)}")
        if wall:
            parts[-1] += f", {cpu * 1000 / wall:.1f} processors on average"
    parts.append(words.count(sum(task.kind == "process" for task in tasks), "process", "processes"))
    if held := sum(task.tracer_held for task in tasks):
        parts.append(f"held by forklore {words.span(held)}")
    yield from ((Piece(f"  {part}"),) for part in wrapped(" · ".join(parts), min(width, 100) - 2))


def _side_by_side(trace: Trace, width: int) -> Iterator[Line]:
    bins = at_once(trace, max(width - 2, 8))
    yield (Piece("Processes at once", "name"),)
    if bins is None:
        yield (Piece("  not known: the trace has no times, or too coarse ones", "quiet"),)
        return
    most = max((each.most for each in bins), default=0)
    length = bins[-1].until - bins[0].since
    mean = sum(each.mean * (each.until - each.since) for each in bins) / length if length else float(most)
    yield (Piece("  "), Piece("".join(_bar(each, most) for each in bins)))
    left, right = _seconds(bins[0].since), _seconds(bins[-1].until)
    yield (Piece(f"  {left}{right:>{max(len(bins) - len(left), len(right) + 1)}}", "quiet"),)
    column = words.span(bins[0].until - bins[0].since)
    yield from _quiet(f"{most:,} at most, {mean:.1f} on average; a column is {column}, its height the average", width)


def _bar(each: Bin, most: int) -> str:
    level = round(each.mean / most * len(_BARS)) if most else 0
    return _BARS[min(max(level, 1), len(_BARS)) - 1] if each.most else " "


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:.3f} s"


def _programs(trace: Trace, width: int, shown: int | None) -> Iterator[Line]:
    yield (Piece("By program, each from its exec or fork to its end", "name"),)
    found = programs(trace)
    rows: list[tuple[str, ...]] = [("program", "runs", "Σ time", "Σ cpu", "longest", "", "memory")]
    rows += [_program(trace, program) for program in found[:shown]]
    yield from _table("<>>>>>>", rows)
    yield from _more(len(found), shown, "more program")
    if any(program.cpu is not None for program in found):
        text = "cpu: of the processes that ended in it, without their children; memory: of the largest, with them"
        yield from _quiet(text, width)


def _program(trace: Trace, program: Program) -> tuple[str, ...]:
    longest = program.longest
    task = None if longest is None else trace.tasks[longest.task]
    return (
        name_of(program.name),
        f"{program.count:,}",
        words.span(program.wall),
        "-" if program.cpu is None else words.span(program.cpu * 1000),
        "-" if longest is None else words.span(longest.until - longest.since),
        "" if task is None or program.count == 1 else words.tid(task.tid),
        "-" if program.peak is None else words.size(program.peak * 1024),
    )


def name_of(program: bytes | None) -> str:
    """A program's name as it is shown."""
    return "?" if program is None else printable(program) or '""'


def _slowest(trace: Trace, shown: int | None) -> Iterator[Line]:
    yield (Piece("Slowest, by the time without a child of their own", "name"),)
    found = alone(trace)
    own = own_cpu(trace)
    order = sorted(found, key=lambda task: -found[task])
    rows = [("alone", "in all", "cpu", "task", "")]
    for number in order[:shown]:
        task = trace.tasks[number]
        cpu = own.get(number)
        end = task.ended if task.ended is not None else trace.ended
        age = None if end is None or task.created is None else end - task.created
        rows.append((
            words.span(found[number]), "-" if age is None else words.span(age),
            "-" if cpu is None else words.span(cpu * 1000), words.tid(task.tid), command_of(task),
        ))  # fmt: skip
    yield from _table(">>>><", rows)
    yield from _more(len(order), shown, "more process", "more processes")


def command_of(task: Task) -> str:
    """Its command line, else its name."""
    command = command_line(task)
    return words.task_name(task) if command is None else command.text()


def _path(trace: Trace, width: int, shown: int | None) -> Iterator[Line]:
    path = critical_path(trace)
    if isinstance(path, Untimed):
        yield (Piece("Critical path", "name"), Piece(f": not known: {path.why}"))
        return
    length = words.span(path.length)
    yield (Piece(f"Critical path: {length} in {words.count(len(path.steps), 'step')}", "name"),)
    rows = [("Σ time", "", "program", "steps")]
    for name, spent, steps in by_program(path)[:SHOWN]:
        rows.append((words.span(spent), f"{spent * 100 // max(path.length, 1)} %", name_of(name), f"{steps:,}"))
    yield from _table(">><>", rows)
    yield from _more(len(by_program(path)), SHOWN, "more program")
    yield ()
    yield from _steps(trace, path, shown)
    if not path.sure:
        yield from _quiet(NOT_TRACED, width)
    if path.outlived:
        yield from _quiet(f"{words.count(path.outlived, 'task')} ended later, and are on no path to its end.", width)
    yield from _saved(trace, path)


def _steps(trace: Trace, path: CriticalPath, shown: int | None) -> Iterator[Line]:
    # The longest ones, in the order of time.
    kept = sorted(range(len(path.steps)), key=lambda index: -path.steps[index].length)[:shown]
    rows = [("at", "took", "", "task", "", "after")]
    for index in sorted(kept):
        step = path.steps[index]
        task = trace.tasks[step.task]
        rows.append((
            f"{step.since / 1e9:.3f}", words.span(step.length), "" if step.sure else "≈", words.tid(task.tid),
            name_of(step.program), after_text(trace, path, index),
        ))  # fmt: skip
    yield from _table(">><><<", rows)
    yield from _more(len(path.steps), shown, "shorter step")


def after_text(trace: Trace, path: CriticalPath, index: int) -> str:
    """What a step came after: ``its child 4711 ended``; empty for the first."""
    step = path.steps[index]
    before = path.steps[index - 1].task if index else step.task
    # It is the task of the step before, unless what is between took no time.
    other = "" if before == step.task else words.tid(trace.tasks[before].tid)
    return " ".join(_AFTER[step.after].format(other).split())


def _quiet(text: str, width: int) -> Iterator[Line]:
    yield from ((Piece(f"  {part}", "quiet"),) for part in wrapped(text, min(width, 100) - 2))


def _saved(trace: Trace, path: CriticalPath) -> Iterator[Line]:
    found = [each for each in savings(trace, path, SAVINGS) if each.saved > 0]
    if not found:
        return
    yield ()
    yield (Piece("If it took nothing, the whole would be shorter by at most", "name"),)
    rows = [("saved", "", "what")]
    rows += [
        (words.span(each.saved), f"{each.saved * 100 // max(path.length, 1)} %", saving_text(trace, each))
        for each in found
    ]
    yield from _table(">><", rows)


def saving_text(trace: Trace, saving: Saving) -> str:
    """What would take nothing: ``all of cc1``, ``4711 cc1 -O2 a.c``."""
    if saving.task is None:
        return f"all of {name_of(saving.program)}"
    task = trace.tasks[saving.task]
    return f"{words.tid(task.tid)} {command_of(task)}".rstrip()


def _more(number: int, shown: int | None, one: str, many: str | None = None) -> Iterator[Line]:
    if shown is not None and number > shown:
        yield (Piece(f"  … {words.count(number - shown, one, many)} (--all shows them)", "quiet"),)


def _table(align: str, rows: Sequence[tuple[str, ...]]) -> Iterator[Line]:
    """Rows below their head; ``align`` has ``<`` or ``>`` for each column."""
    last = len(align) - 1
    widths = [max(width_of(row[index]) for row in rows) for index in range(len(align))]
    for number, row in enumerate(rows):
        cells: list[str] = []
        for index, (cell, side) in enumerate(zip(row, align, strict=True)):
            width = widths[index] if index == last else min(widths[index], _NAME)
            shown = cell if index == last else cut_text(cell, width)
            pad = " " * (width - width_of(shown))
            cells.append(shown + pad if side == "<" else pad + shown)
        yield (Piece(f"  {'  '.join(cells).rstrip()}", "quiet" if number == 0 else "plain"),)
