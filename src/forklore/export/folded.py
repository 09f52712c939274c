"""Call stacks folded: a line for each distinct one and how often it made a task, the input of flame graph tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from forklore.abi.text import as_text, printable
from forklore.events import records as ev
from forklore.export.table import ExportOptions
from forklore.model.attribution import Attribution
from forklore.model.names import whole_name
from forklore.model.stacks import CallStack, CodePlace
from forklore.model.tasks import Failure, Task, Trace
from forklore.report.sites import asked_for
from forklore.report.tree.edges import Edges
from forklore.report.words.code import bare
from forklore.report.words.words import base_name


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the lines."""
    out.writelines(f"{line}\n".encode() for line in folded_lines(trace))


def folded_lines(trace: Trace) -> list[str]:
    """A line for each distinct stack, ``outermost;…;innermost COUNT``, sorted: the input of flame graph tools.

    The functions from the outermost to the one that called the library, then the library calls; for a program in an
    interpreter its frames stand for those of the interpreter itself.
    """
    edges = Edges(trace)
    counts: dict[str, int] = {}
    known: dict[object, str] = {}
    for made in asked_for(trace):
        found = edges.attribution(made)
        # With a stack, the attribution is one object for all that were made alike.
        key = None if made.stack is None else (made.stack.number, made.script and made.script.script, id(found))
        stack = known.get(key)
        if stack is None or key is None:
            stack = known[key] = ";".join(map(_element, _elements(made, found)))
        counts[stack] = counts.get(stack, 0) + 1
    return [f"{stack} {count}" for stack, count in sorted(counts.items())]


def _elements(made: Task | Failure, found: Attribution | None) -> Iterator[str]:
    script, stack, creation = made.script, made.stack, made.creation
    assert creation is not None
    chain = () if found is None else found.chain
    end = script.end if script is not None else stack.end if stack is not None else "no stack"
    if end != "outermost":
        yield f"({end})"
    if script is not None:
        for called in reversed(script.frames):
            yield _script(called)
        # The calls of the interpreter's own library are frames of it; without others, one that has none ends it.
        calls = chain[found.script_calls :] if found is not None else ()
        yield from calls or chain[-1:] or (creation.call,)
    elif stack is not None:
        yield from _native(stack, found)
    else:
        yield from chain
        if chain[-1:] != (creation.call,):
            yield creation.call


def _native(stack: CallStack, found: Attribution | None) -> Iterator[str]:
    # What a library does behind its call is left out where the stack tells the call; all else is as it was found.
    told = found is not None and found.source == "stack" and found.chain and found.caller is not None
    for frame in reversed(stack.frames):
        yield from _functions(frame.place)
        if told and found is not None and frame is found.caller:
            yield from found.chain
            return


def _functions(place: CodePlace) -> Iterator[str]:
    """Every function that is open there: the one that the code belongs to, then those inlined in it."""
    last = place.lines[-1].function if place.lines else None
    if place.function is not None:
        yield whole_name(place.function)
    else:
        yield bare(place) if last is None else whole_name(ev.raw_bytes(last))
    for line in place.lines[-2::-1]:
        yield "?" if line.function is None else whole_name(ev.raw_bytes(line.function))


def _script(frame: ev.ScriptFrame) -> str:
    file = base_name(ev.raw_bytes(frame.file))
    source = file if frame.line is None else f"{file}:{frame.line}"
    function = as_text(ev.raw_bytes(frame.function))
    return f"{function} ({source})" if function else source


def _element(text: str) -> str:
    # A semicolon parts frames, and a line is a stack.
    return printable(text).replace(";", "\\x3b") or "?"
