"""The whole object, written piece by piece: a long trace takes no more memory than its model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any, Final

import msgspec
from msgspec import Struct

from forklore.events import records as ev
from forklore.export.json_tree.calls import FailureObject
from forklore.export.json_tree.code import ModuleObject, ScriptObject, StackObject
from forklore.export.json_tree.parts import Time
from forklore.export.json_tree.task import TaskObject, Tasks
from forklore.export.table import ExportOptions
from forklore.model.tasks import Trace
from forklore.model.without_gc import uncollected

VERSION: Final = (1, 0)
"""(major, minor). Names do not change within a major version; a minor version only adds."""

_PIECE: Final = 100
"""So many elements of an array are written at once."""


class FormatObject(Struct, frozen=True):
    """Which form of JSON this is."""

    name: str = "forklore-tree"
    """``forklore-tree``, or of another form its own."""
    version: tuple[int, int] = VERSION
    """``[major, minor]``."""


class NoteObject(Struct, frozen=True):
    """What was not seen, or had to be changed, on the way."""

    what: str
    """What is not known."""
    why: str
    """Why."""


class EndObject(Struct, frozen=True):
    """How the trace ended."""

    t: Time
    """Of the last thing that was seen to end."""
    reason: ev.EndReason | None
    """``done`` (all had ended), ``root`` (the program had), ``interrupted``, ``time`` (it was over), ``log`` (end of a
    log), ``rotated`` (the recording goes on in another file), ``cut off`` (what it was copied from was); null: the
    trace was cut off."""


class TreeObject(Struct, frozen=True):
    """A trace."""

    format: FormatObject
    """What it is."""
    header: ev.Header
    """Where the trace comes from."""
    tasks: Sequence[TaskObject]
    """Every task, in the order in which they were first seen: creators before what they created."""
    failures: Sequence[FailureObject]
    """Every creation that the kernel refused."""
    modules: Sequence[ModuleObject]
    """The files that the code of call stacks lies in."""
    stacks: Sequence[StackObject]
    """Call stacks, each of them once."""
    scripts: Sequence[ScriptObject]
    """Frames of interpreters, each row of them once."""
    notes: Sequence[NoteObject]
    """What was not seen, or had to be changed, on the way."""
    warnings: Sequence[str]
    """What is wrong with the file."""
    end: EndObject
    """How the trace ended."""


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the object."""
    with uncollected():
        out.writelines(pieces(trace))


def to_json(trace: Trace) -> bytes:
    """The object, indented, with a newline at its end."""
    return b"".join(pieces(trace))


def pieces(trace: Trace) -> Iterator[bytes]:
    """The same, one piece after the other."""
    tasks = Tasks(trace)
    members: dict[str, Any] = {
        "format": FormatObject(),
        "header": trace.header,
        "tasks": map(tasks.object, trace.tasks.values()),
        "failures": (FailureObject.of(failure, tasks.attribution(failure)) for failure in trace.failures),
        "modules": map(ModuleObject.of, trace.code.modules.values()),
        "stacks": map(StackObject.of, trace.code.stacks.values()),
        "scripts": map(ScriptObject.of, trace.code.scripts.values()),
        "notes": (NoteObject(what, why) for what, why in trace.notes),
        "warnings": trace.warnings,
        "end": EndObject(trace.ended, trace.end_reason),
    }
    before = b"{\n"
    for name, value in members.items():
        yield before
        yield from _array(name, value) if isinstance(value, Iterator) else [_member(name, value)]
        before = b",\n"
    yield b"\n}\n"


def _array(name: str, elements: Iterator[Any]) -> Iterator[bytes]:
    # Each piece is formatted as an array of its own and loses its brackets where it goes on from another.
    start, end = len(f'  "{name}": [\n'), len("\n  ]")
    piece = list(islice(elements, _PIECE))
    text = _member(name, piece)
    while piece:
        piece = list(islice(elements, _PIECE))
        if piece:
            yield text[:-end] + b",\n"
            text = _member(name, piece)[start:]
    yield text


def _member(name: str, value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode({name: value}), indent=2)[len("{\n") : -len("\n}")]
