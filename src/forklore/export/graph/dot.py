"""The graph in Graphviz' language: https://graphviz.org/doc/info/lang.html."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Final

from forklore.export.graph.graph import Arrow, Node, Shape, graph
from forklore.export.table import ExportOptions
from forklore.model.tasks import Trace

_LOOKS: Final[dict[Shape, str]] = {
    "process": "",
    "thread": " style=rounded",
    "task": " style=dotted",
    "object": " shape=ellipse",
    "pipe": " shape=cds",
}
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""In a string a backslash begins an escape, and in a label & begins an entity."""


def write(trace: Trace, out: IO[str], options: ExportOptions) -> None:
    """Write the graph that the view asks for."""
    out.writelines(_lines(trace, options))


def _lines(trace: Trace, options: ExportOptions) -> Iterator[str]:
    yield 'digraph forklore {\n  graph [rankdir=LR]\n  node [shape=box fontname="sans-serif"]\n'
    for each in graph(trace, options):
        if isinstance(each, Node):
            yield f'  {each.name} [label="{_label(*each.lines)}"{_LOOKS[each.shape]}]\n'
        else:
            yield _arrow(each)
    yield "}\n"


def _arrow(arrow: Arrow) -> str:
    text = f' [label="{_label(arrow.text)}"]' if arrow.text else ""
    return f"  {arrow.start} -> {arrow.end}{text}\n"


def _label(*lines: str) -> str:
    return "\\n".join(line.translate(_ESCAPES) for line in lines)
