"""Call stacks: the code that made each child and the code that each child was given to run."""

from __future__ import annotations

from msgspec import Struct, field

from forklore.events import records as ev


class CodePlace(Struct, eq=False):
    """An address of code, with what is known of it."""

    number: int
    module: ev.Module | None
    """None: in no mapping."""
    address: int
    """In the numbering of the module's ELF file."""
    function: bytes | None
    """The symbol that covers it, as the file has it."""
    start: int | None
    """Where the function begins."""
    lines: tuple[ev.Line, ...] = ()
    """Inlined functions from the innermost on, then the function itself; empty without debug information."""

    @property
    def offset(self) -> int | None:
        """How far into its function it is."""
        return None if self.start is None else self.address - self.start

    @property
    def path(self) -> bytes:
        """The module's path; empty without one."""
        return b"" if self.module is None else ev.raw_bytes(self.module.path)


class StackFrame(Struct, frozen=True):
    """A frame of a stack and how it was found, as :class:`forklore.events.records.Frame` has it."""

    place: CodePlace
    how: ev.FrameHow
    called: CodePlace | None = None
    """The function that it called, if that is not on the stack: behind its jump to the next inner frame's, or where it
    begins if that is not known."""

    @property
    def sure(self) -> bool:
        """By the rules of the code itself, not by a guess."""
        return self.how != "pointer"


class CallStack(Struct, eq=False):
    """A call stack, innermost frame first. Equal stacks are one object within a trace."""

    number: int
    frames: tuple[StackFrame, ...]
    end: str


class CallStacks(Struct):
    """All the code that a trace tells of, by the numbers of its records."""

    modules: dict[int, ev.Module] = field(default_factory=dict)
    places: dict[int, CodePlace] = field(default_factory=dict)
    stacks: dict[int, CallStack] = field(default_factory=dict)
    scripts: dict[int, ev.Script] = field(default_factory=dict)

    def feed(self, event: ev.Module | ev.Place | ev.Lines | ev.Stack | ev.Script) -> None:
        """Take the next event about code."""
        match event:
            case ev.Module():
                self.modules[event.module] = event
            case ev.Place():
                self.places[event.place] = CodePlace(
                    number=event.place,
                    module=None if event.module is None else self.modules[event.module],
                    address=event.address,
                    function=None if event.function is None else ev.raw_bytes(event.function),
                    start=event.start,
                )
            case ev.Lines():
                self.places[event.place].lines = tuple(event.lines)
            case ev.Stack():
                called = {one.frame: self.places[one.place] for one in event.jumped}
                frames = tuple(
                    StackFrame(self.places[frame.place], frame.how, called.get(index))
                    for index, frame in enumerate(event.frames)
                )
                self.stacks[event.stack] = CallStack(event.stack, frames, event.end)
            case ev.Script():
                self.scripts[event.script] = event
