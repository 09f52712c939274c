"""The part of the JSON view that is about code: modules, stacks, scripts, and who made each task."""

from __future__ import annotations

from typing import Any

import msgspec

from forklore.events import records as ev
from forklore.model.attribution import Attribution
from forklore.model.names import whole_name
from forklore.model.stacks import Frame, Place, Stack, Stacks
from forklore.model.tasks import Naming, Trace


def module_data(module: ev.Module) -> dict[str, Any]:
    """A file or region that code lies in."""
    return {
        "id": module.module,
        "path": msgspec.to_builtins(module.path),
        "build_id": module.build_id,
        "device": module.device,
        "inode": module.inode,
        "unknown": None if module.unknown is None else _absent(module.unknown),
    }


def stack_data(stack: Stack) -> dict[str, Any]:
    """A call stack, innermost frame first."""
    return {"id": stack.number, "frames": [frame_data(frame) for frame in stack.frames], "end": stack.end}


def frame_data(frame: Frame) -> dict[str, Any]:
    """A frame: its place, how it was found, and what it called that has left no frame."""
    called = None if frame.called is None else place_data(frame.called)
    return {"place": place_data(frame.place), "how": frame.how, "sure": frame.sure, "called": called}


def place_data(place: Place) -> dict[str, Any]:
    """An address of code."""
    return {
        "module": None if place.module is None else place.module.module,
        "address": place.address,
        "symbol": _name(place.function),
        "function": None if place.function is None else whole_name(place.function),
        "offset": place.offset,
        "lines": [_line(line) for line in place.lines],
    }


def _line(line: ev.Line) -> dict[str, Any]:
    return {
        "function": None if line.function is None else whole_name(ev.raw_bytes(line.function)),
        "file": None if line.file is None else msgspec.to_builtins(line.file),
        "line": line.line,
    }


def script_data(script: ev.Script) -> dict[str, Any]:
    """The frames of an interpreter, innermost first."""
    frames = [script_frame_data(frame) for frame in script.frames]
    return {"id": script.script, "language": script.language, "frames": frames, "end": script.end}


def script_frame_data(frame: ev.ScriptFrame) -> dict[str, Any]:
    """A frame of an interpreter."""
    return {
        "function": msgspec.to_builtins(frame.function),
        "file": msgspec.to_builtins(frame.file),
        "line": frame.line,
    }


def attribution_data(found: Attribution | None) -> dict[str, Any] | None:
    """Who made a task; null where its call was not seen."""
    if found is None:
        return None
    return {
        "chain": list(found.chain),
        "caller": None if found.caller is None else frame_data(found.caller),
        "caller_line": None if found.caller_line is None else _line(found.caller_line),
        "script": None if found.script_frame is None else script_frame_data(found.script_frame),
        "source": found.source,
        "sure": found.sure,
        "why": found.why,
    }


def runs_data(runs: ev.Runs | None, trace: Trace) -> dict[str, Any] | None:
    """What a task was given to run."""
    if runs is None:
        return None
    return {
        "how": runs.how,
        "fn": runs.fn,
        "fn_place": _place(runs.fn_place, trace.code),
        "arg": runs.arg,
        "routine": runs.routine,
        "routine_place": _place(runs.routine_place, trace.code),
        "routine_arg": runs.routine_arg,
        "unknown": None if runs.unknown is None else _absent(runs.unknown),
    }


def naming_data(naming: Naming) -> dict[str, Any]:
    """A name that a task got."""
    return {"t": naming.t, "comm": _name(naming.comm), "source": naming.how}


def _place(number: int | None, code: Stacks) -> dict[str, Any] | None:
    return None if number is None else place_data(code.places[number])


def _name(raw: bytes | None) -> Any:  # noqa: ANN401 - JSON
    return None if raw is None else msgspec.to_builtins(ev.text(raw))


def _absent(value: ev.Absent) -> dict[str, Any]:
    return {"unavailable": value.why, "errno": value.errno}
