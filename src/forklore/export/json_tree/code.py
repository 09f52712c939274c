"""The part that is about code: modules, stacks, scripts, and who made each task."""

from __future__ import annotations

from msgspec import Struct

from forklore.events import records as ev
from forklore.export.json_tree.parts import Time, UnavailableObject, Word, named, unavailable, word
from forklore.model.attribution import Attribution, Told
from forklore.model.names import whole_name
from forklore.model.stacks import CallStack, CallStacks, CodePlace, StackFrame
from forklore.model.tasks import Naming


class AttributionObject(Struct, frozen=True):
    """Who made a task."""

    chain: tuple[str, ...]
    """The library calls, the outermost first: ``popen``, ``posix_spawn``; in an interpreter its own call before them:
    ``subprocess.Popen``; empty where none is known, or the program makes the system call itself."""
    caller: FrameObject | None
    """The frame that called the first of them."""
    caller_line: LineObject | None
    """The line of it that is not a library's inlined code."""
    script: ScriptFrameObject | None
    """The same in an interpreter."""
    source: Told
    """``stack``; ``log``, a log that names the library's function; ``fingerprint``, by the form of the call alone;
    ``none``."""
    sure: bool
    """False: it is likely, and not more."""
    why: str
    """What it is told by."""

    @classmethod
    def of(cls, found: Attribution) -> AttributionObject:
        """What the model found."""
        return cls(
            chain=found.chain,
            caller=None if found.caller is None else FrameObject.of(found.caller),
            caller_line=None if found.caller_line is None else LineObject.of(found.caller_line),
            script=None if found.script_frame is None else ScriptFrameObject.of(found.script_frame),
            source=found.source,
            sure=found.sure,
            why=found.why,
        )


class RunsObject(Struct, frozen=True):
    """What a task was given to run. Addresses are the creator's."""

    how: ev.RunsHow
    """How it was found: ``clone``, ``nptl``, ``musl``, ``go``, ``rust``, ``c++``, ``raw``."""
    fn: Word | None
    """What the library's clone() was given to call."""
    fn_place: PlaceObject | None
    """The same as a place."""
    arg: Word | None
    """Its argument."""
    routine: Word | None
    """What the program gave to pthread_create or its like."""
    routine_place: PlaceObject | None
    """The same as a place."""
    routine_arg: Word | None
    """Its argument."""
    script: ScriptFrameObject | None
    """Of a thread that Python's ``threading`` starts: the function that it is to run, and where that begins."""
    name: ev.Text | None
    """What it is called there."""
    unknown: UnavailableObject | None
    """Why the routine could not be found."""

    @classmethod
    def of(cls, runs: ev.Runs, code: CallStacks) -> RunsObject:
        """What a task was given to run, in a trace with this code."""
        return cls(
            how=runs.how,
            fn=word(runs.fn),
            fn_place=None if runs.fn_place is None else PlaceObject.of(code.places[runs.fn_place]),
            arg=word(runs.arg),
            routine=word(runs.routine),
            routine_place=None if runs.routine_place is None else PlaceObject.of(code.places[runs.routine_place]),
            routine_arg=word(runs.routine_arg),
            script=None if runs.script is None else ScriptFrameObject.of(runs.script),
            name=runs.name,
            unknown=None if runs.unknown is None else unavailable(runs.unknown),
        )


class NameObject(Struct, frozen=True, gc=False):
    """A name that a task got other than by exec."""

    t: Time
    """When it was seen."""
    comm: ev.Text
    """The name."""
    source: ev.NameHow
    """``prctl``: it named itself; ``found``: seen later, set by anyone."""

    @classmethod
    def of(cls, naming: Naming) -> NameObject:
        """One of a task's names."""
        return cls(naming.t, ev.text(naming.comm), naming.how)


class ModuleObject(Struct, frozen=True, gc=False):
    """A file or region that code lies in."""

    id: ev.Id
    """What places name it by."""
    path: ev.Text
    """As /proc/PID/maps has it; empty for memory without a file."""
    build_id: ev.Hex | None
    """In hexadecimal."""
    device: Word
    """With ``inode``: which file."""
    inode: Word
    """0 for none."""
    unknown: UnavailableObject | None
    """Why the file could not be looked into."""

    @classmethod
    def of(cls, module: ev.Module) -> ModuleObject:
        """A module of a trace."""
        unknown = None if module.unknown is None else unavailable(module.unknown)
        return cls(module.module, module.path, module.build_id, word(module.device), word(module.inode), unknown)


class StackObject(Struct, frozen=True):
    """A call stack."""

    id: ev.Id
    """What tasks and failures name it by."""
    frames: list[FrameObject]
    """Innermost first."""
    end: str
    """``outermost``, ``depth`` (more than ``--stack-depth``), or what was in the way."""

    @classmethod
    def of(cls, stack: CallStack) -> StackObject:
        """A stack of a trace."""
        return cls(stack.number, [FrameObject.of(frame) for frame in stack.frames], stack.end)


class FrameObject(Struct, frozen=True):
    """A frame of a call stack."""

    place: PlaceObject
    """Where it is."""
    how: ev.FrameHow
    """How it was found: ``register`` (the innermost), ``rule``, ``wrapper``, ``signal``, ``pointer``."""
    sure: bool
    """False: by the frame pointer, which is a guess."""
    called: PlaceObject | None
    """The function that it called, if that is not on the stack: it went on to the next inner frame's by a jump. Behind
    that jump, or where the function begins if the jump is not known."""

    @classmethod
    def of(cls, frame: StackFrame) -> FrameObject:
        """A frame of a stack."""
        called = None if frame.called is None else PlaceObject.of(frame.called)
        return cls(PlaceObject.of(frame.place), frame.how, frame.sure, called)


class PlaceObject(Struct, frozen=True):
    """An address of code."""

    module: ev.Id | None
    """The ``id`` of one of ``modules``; null: in no mapping."""
    address: Word
    """As the module's ELF file numbers it; a return address in all frames but the innermost."""
    symbol: ev.Text | None
    """What covers it, as the file has it."""
    function: str | None
    """The same, demangled."""
    offset: int | None
    """How far into it the address is."""
    lines: list[LineObject]
    """From debug information, the innermost inlined function first, the one that ``symbol`` names last."""

    @classmethod
    def of(cls, place: CodePlace) -> PlaceObject:
        """A place of a trace."""
        return cls(
            module=None if place.module is None else place.module.module,
            address=word(place.address),
            symbol=named(place.function),
            function=None if place.function is None else whole_name(place.function),
            offset=place.offset,
            lines=[LineObject.of(line) for line in place.lines],
        )


class LineObject(Struct, frozen=True, gc=False):
    """A line of source."""

    function: str | None
    """The function."""
    file: ev.Text | None
    """Its source."""
    line: ev.Count | None
    """The line in it."""

    @classmethod
    def of(cls, line: ev.Line) -> LineObject:
        """A line of a place."""
        return cls(None if line.function is None else whole_name(ev.raw_bytes(line.function)), line.file, line.line)


class ScriptObject(Struct, frozen=True):
    """The frames of an interpreter."""

    id: ev.Id
    """What tasks and failures name it by."""
    language: str
    """``CPython 3.11``."""
    frames: list[ScriptFrameObject]
    """Innermost first."""
    end: str
    """As for a stack."""
    late: bool
    """Names and lines were read when the task had gone on."""

    @classmethod
    def of(cls, script: ev.Script) -> ScriptObject:
        """The frames of a trace's script."""
        frames = [ScriptFrameObject.of(frame) for frame in script.frames]
        return cls(script.script, script.language, frames, script.end, script.late)


class ScriptFrameObject(Struct, frozen=True, gc=False):
    """A frame of an interpreter."""

    function: ev.Text
    """The function."""
    file: ev.Text
    """Its source."""
    line: ev.Count | None
    """The line that was running."""

    @classmethod
    def of(cls, frame: ev.ScriptFrame) -> ScriptFrameObject:
        """A frame of a script."""
        return cls(frame.function, frame.file, frame.line)
