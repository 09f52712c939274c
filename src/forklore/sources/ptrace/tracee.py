"""What the tracer remembers of a task while it lives: as little as the loop needs."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.units import TaskId, Tid, Unavailable
from forklore.linux.tracing.ptrace import Entry as Words
from forklore.linux.tracing.ptrace import Registers, SignalInfo
from forklore.sources.task_table import ThreadGroup as AnyGroup

if TYPE_CHECKING:
    from forklore.events import records as ev
    from forklore.sources.stacks.code import CodeSpace


class Class(Enum):
    """What the loop does with a call that it stops at."""

    CREATION = auto()
    EXEC = auto()
    NAME = auto()
    """prctl(PR_SET_NAME): told at its entry, and nothing waits for its exit."""
    KILL = auto()
    """SIGKILL is sent."""
    OTHER = auto()


class Glance(Struct):
    """What is read of a caller at once: its registers, its stack, and what it will have to be asked for besides."""

    tid: Tid
    """Whose it is."""
    registers: Registers
    base: int
    """The stack pointer, …"""
    window: bytes
    """… and what lies there and above."""
    beside: int
    """Another address, …"""
    near: bytes
    """… and what lies there; empty where nothing was read."""
    used: int = 0
    """Up to where the stack was of use, counted from the stack pointer."""
    further: tuple[tuple[int, bytes], ...] = ()
    """Other memory that was read, each part from an address on."""

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes of the caller's memory, where they are among these."""
        offset = address - self.base
        end = offset + size
        if offset >= 0 and end <= len(self.window):
            self.used = max(self.used, end)
            return self.window[offset:end]
        if address == self.beside and size <= len(self.near):
            return self.near[:size]
        for start, content in self.further:
            if start <= address and address + size <= start + len(content):
                return content[address - start : address - start + size]
        return None


Filters = Literal["unseen", "passed", "tracer"]
"""What the program's own seccomp filters did about a call: ``unseen``, as where the tracer has none beside them;
``passed``, for the tracer's got its turn; ``tracer``, one of theirs asked for a tracer that is not there."""


class Noted(Struct):
    """Where a task was when it was held outside of any call."""

    stack: int | None = None
    """The number of its stack's record."""
    unread: bool = False
    """As in :class:`EnteredCall`."""


class EnteredCall(Struct):
    """A call that a task is in, as its entry stop showed it."""

    kind: Class
    name: str
    t: int
    arch: Arch
    nr: int
    words: Words
    flags: int = 0
    """Creations: the flags, exit signal apart."""
    struct: bytes | Unavailable | None = None
    set_tid: bytes | Unavailable | None = None
    path: bytes | Unavailable | None = None
    """Of an exec; prctl: the name."""
    at: ev.ExecAt | None = None
    """execveat: how it was told the path."""
    argv: list[bytes] | Unavailable | None = None
    argc: int | None = None
    cut: list[int] = []
    """Which of ``argv`` are cut off."""
    target: bytes | Unavailable | None = None
    """setns: what the descriptor refers to."""
    glance: Glance | None = None
    stack: int | None = None
    script: int | None = None
    runs: ev.Runs | None = None
    """Creations: the records of the caller's stack and interpreter, and what the child is to run."""
    unread: bool = False
    """What tells of these was copied, and is read when nobody is held: until then they do not hold."""
    frames: tuple[tuple[int, str, int], ...] = ()
    """The frames of that stack (pc, how it was found, canonical frame address), where they are needed later."""
    filters: Filters = "unseen"
    took: int = 0
    """Creations: for how many ns the task was in the call."""
    cleared: bool = False
    """CLONE_UNTRACED is cleared in the tracee and has to be put back."""


class Tracee(Struct, eq=False):
    """One live task. ``tid`` changes when a thread that is not the leader executes."""

    id: TaskId
    tid: Tid
    group: Group
    depth: int
    creator: tuple[TaskId, Tid] | None = None
    """Who made it: not the task itself, which may be long gone."""
    comm: bytes | None = None
    """Its name after its last exec, or its creator's then."""
    named: int | None = None
    """When it was last seen to name itself."""
    entry: EnteredCall | None = None
    """The call that it was seen to enter and not yet to leave."""
    nested: bool = False
    """Its tid differs between the tracer's pid namespace and its own."""
    parted: bool = False
    """Its next child enters another pid namespace than the tracer's."""
    keep: bool = True
    """False: to be let go at its first stop."""
    alive: bool = True
    stopped: bool = False
    """In group-stop, by PTRACE_LISTEN."""
    shares: dict[int, set[Tracee]] = {}
    """What it holds together with others, by the index in COMPARED (see sharing.py)."""
    time_pending: bool = False
    """It enters another time namespace when it executes, and its children do when they are made."""
    last_signal: SignalInfo | None = None
    fell: Noted | None = None
    """Where it was when it got a signal that it does not survive."""
    tells_end: bool = False
    """It stops at its end (PTRACE_O_TRACEEXIT), where it does not by the options of all."""
    child_tells_end: bool = False
    """It did when it made the child that it is about to tell of, which has its options of then."""
    title_at_end: bool = False
    """The command line that it may have written for itself is read then."""
    space: CodeSpace | None = None
    """What is known of the code in its memory; None: nothing yet."""


Group = AnyGroup[Tracee]
