"""Call stacks folded: a line for each distinct one and how often it made a task, the input of flame graph tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from forklore.abi.text import printable
from forklore.export.table import ExportOptions
from forklore.model.tasks import Failure, Task, Trace
from forklore.report.sites import asked_for
from forklore.report.tree.edges import Edges
from forklore.report.words.code import functions, script_words


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the lines."""
    out.write("".join(f"{line}\n" for line in folded_lines(trace)).encode())


def folded_lines(trace: Trace) -> list[str]:
    """A line for each distinct stack, ``outermost;…;innermost COUNT``, sorted: the input of flame graph tools.

    For a program in an interpreter its frames stand for those of the interpreter itself, followed by the library call.
    """
    edges = Edges(trace)
    counts: dict[str, int] = {}
    for made in asked_for(trace):
        stack = ";".join(map(_element, _elements(made, edges)))
        counts[stack] = counts.get(stack, 0) + 1
    return [f"{stack} {count}" for stack, count in sorted(counts.items())]


def _elements(made: Task | Failure, edges: Edges) -> Iterator[str]:
    script, stack, creation = made.script, made.stack, made.creation
    assert creation is not None
    end = script.end if script is not None else stack.end if stack is not None else "no stack"
    if end != "outermost":
        yield f"({end})"
    if script is None and stack is not None:
        for frame in reversed(stack.frames):
            yield from functions(frame.place)
        return
    if script is not None:
        for called in reversed(script.frames):
            source, _, function = script_words(called).partition(" ")
            yield f"{function} ({source})" if function else source
    found = edges.attribution(made)
    chain = found.chain if found is not None else ()
    yield from chain
    if chain[-1:] != (creation.call,):
        yield creation.call


def _element(text: str) -> str:
    # A semicolon parts frames, and a line is a stack.
    return printable(text).replace(";", "\\x3b") or "?"
