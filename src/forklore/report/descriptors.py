"""``show --view descriptors``: what survived each exec beyond 0, 1 and 2, and every pipe by both ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from forklore.abi.text import printable
from forklore.abi.units import Unavailable
from forklore.events.records import Descriptors, raw_bytes
from forklore.model.pipes import Pipe, PipeHolder, pipes
from forklore.model.tasks import Task, Trace
from forklore.report.styled_lines import Line, Piece, fit, wrapped
from forklore.report.words import words
from forklore.report.words.descriptors import Key, beyond, given, held_name, key, origin

_NUMBER: Final = 6


def descriptor_lines(trace: Trace, columns: int, *, verbose: bool = False) -> list[Line]:
    """The view, wrapped to ``columns``. ``verbose``: with what the traced program itself was started with."""
    records = [record for task in trace.tasks.values() for record in task.descriptors[-1:]]
    if not records:
        text = "No descriptors were recorded: nothing executed, or the trace was made with --observe kcmp or none."
        return list(_wrapped("", text, columns))
    lines: list[Line] = [(Piece("Beyond 0, 1 and 2 after the last exec of each task", "name"),)]
    handed = frozenset() if verbose else given(trace)
    told = [line for record in records for line in _table(trace, record, columns, handed)]
    lines += told or [(Piece("  none", "quiet"),)]
    if handed:
        text = f"Not shown: {words.count(len(handed), 'descriptor')} that the program was started with (-v)."
        lines += _wrapped("  ", text, columns)
    outside = frozenset() if verbose else _of_the_start(trace)
    found = [pipe for pipe in pipes(trace) if raw_bytes(pipe.name) not in outside]
    if found:
        lines += [(), (Piece("Pipes, by who was seen to hold which end", "name"),)]
        for pipe in found:
            lines += _pipe(trace, pipe, columns)
        lines.append(())
        text = (
            "A reader sees the end of the data when nobody holds a write end any more. A task was looked at when it"
            " executed, a creator marked ~ when its child did: it may have closed the end since."
        )
        lines += _wrapped("", text, columns)
    return [fit(line, columns) for line in lines]


def _of_the_start(trace: Trace) -> frozenset[bytes]:
    """The names of what the traced program had open when it began, 0 to 2 among them."""
    root = next((task for task in trace.tasks.values() if task.how == "root" and task.descriptors), None)
    table = () if root is None else root.descriptors[0].table
    return frozenset() if isinstance(table, Unavailable) else frozenset(raw_bytes(held.target) for held in table)


def _table(trace: Trace, record: Descriptors, columns: int, handed: frozenset[Key]) -> Iterator[Line]:
    found = [held for held in beyond(record) if key(held) not in handed]
    if not found and not isinstance(record.table, Unavailable):
        return
    yield (Piece("  "), *_who(trace.tasks[record.task]))  # type: ignore[index]
    if isinstance(record.table, Unavailable):
        yield from _wrapped("      ", f"not known: {record.table.why}", columns)
    for held in found:
        text = f"{held_name(held)}; {origin(held, record, trace)}"
        for number, part in enumerate(_cut(text, columns - _NUMBER - 4)):
            yield (Piece(f"    {held.fd if number == 0 else '':<{_NUMBER}}", "tid"), Piece(part))
    if record.left_out:
        yield from _wrapped("      ", f"and {record.left_out} more, which were not looked at", columns)


def _pipe(trace: Trace, pipe: Pipe, columns: int) -> Iterator[Line]:
    yield (Piece(f"  {printable(raw_bytes(pipe.name))}", "tid"),)
    for title, holders in (("read by", pipe.readers), ("written by", pipe.writers)):
        text = ", ".join(_holder(trace, holder) for holder in _in_order(trace, holders)) or "nobody that was looked at"
        for number, part in enumerate(_cut(text, columns - 16)):
            yield (Piece(f"    {title if number == 0 else '':<12}", "quiet"), Piece(part))


def _in_order(trace: Trace, holders: Iterable[PipeHolder]) -> list[PipeHolder]:
    # Who ended holds nothing any more: last.
    return sorted(holders, key=lambda holder: trace.tasks[holder.task].death is not None)


def _holder(trace: Trace, holder: PipeHolder) -> str:
    task = trace.tasks[holder.task]
    mark = "" if holder.executed else "~"
    ended = ""
    if task.death is not None:
        ended = ", ended" if task.ended is None else f", ended at {words.span(task.ended)}"
    return f"{mark}{task.tid} {words.task_name(task) or '?'} (by {holder.fd}{ended})"


def _who(task: Task) -> Line:
    return (Piece(str(task.tid), "tid"), Piece(" "), Piece(words.task_name(task) or "?", "name"))


def _cut(text: str, room: int) -> list[str]:
    return wrapped(printable(text), max(room, 24)) or [""]


def _wrapped(indent: str, text: str, columns: int) -> Iterator[Line]:
    for part in _cut(text, columns - len(indent)):
        yield (Piece(indent + part, "quiet"),)
