"""The graph as a Mermaid flowchart, and the time that tasks took as a Mermaid Gantt chart (https://mermaid.js.org)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Final

from forklore.abi.text import printable
from forklore.events.records import raw_bytes
from forklore.export.graph.graph import Node, Shape, graph, task_node
from forklore.export.table import NO_TIMES, CannotExportError, ExportOptions
from forklore.model.tasks import Trace

_BRACKETS: Final[dict[Shape, tuple[str, str]]] = {
    "process": ("[", "]"),
    "thread": ("(", ")"),
    "task": ("[", "]"),
    "object": ("((", "))"),
    "pipe": (">", "]"),
}
_SPECIAL: Final = re.compile(r"[^\w ./+=,@-]", re.ASCII)
_MS: Final = 1_000_000
_COMMAND: Final = 60


def write(trace: Trace, out: IO[str], options: ExportOptions) -> None:
    """Write the flowchart that the view asks for."""
    out.writelines(_flowchart(trace, options))


def _flowchart(trace: Trace, options: ExportOptions) -> Iterator[str]:
    yield "flowchart LR\n"
    for each in graph(trace, options):
        if isinstance(each, Node):
            start, end = _BRACKETS[each.shape]
            text = "<br>".join(map(_escaped, each.lines))
            yield f'    {each.name}{start}"{text}"{end}\n'
        else:
            text = f'|"{_escaped(each.text)}"|' if each.text else ""
            yield f"    {each.start} -->{text} {each.end}\n"


def write_gantt(trace: Trace, out: IO[str], _options: ExportOptions) -> None:
    """Write a bar for each task, in milliseconds since the trace began. Raises CannotExportError."""
    tasks = [task for task in trace.tasks.values() if task.created is not None]
    if not tasks:
        raise CannotExportError(NO_TIMES)
    out.writelines(_gantt(trace))


def _gantt(trace: Trace) -> Iterator[str]:
    asked = printable(b" ".join(map(raw_bytes, trace.header.command)))[:_COMMAND]
    yield f"gantt\n    title {_escaped(asked) or 'forklore'}\n    dateFormat x\n    axisFormat %M:%S.%L\n"
    for task in trace.tasks.values():
        end = task.ended if task.ended is not None else trace.ended
        if task.created is None or end is None:
            continue
        failed = task.death is not None and (task.death.signal is not None or task.death.code)
        mark = "crit, " if failed else ""
        since = max(task.created, 0) // _MS
        # A bar has at least a millisecond: what took none is not drawn.
        until = max(end // _MS, since + 1)
        text = _escaped(" ".join(task_node(task).lines))
        yield f"    {text} :{mark}t{task.id}, {since}, {until}\n"


def _escaped(text: str) -> str:
    # Mermaid's own entities are decimal numbers of characters; nothing else is safe in all its languages.
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", text)
