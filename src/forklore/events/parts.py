"""What the records are made of: words and strings out of traced programs, and groups of facts within one event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from forklore.abi import resources
from forklore.abi.kcmp import UNSET
from forklore.abi.units import Unavailable

# By eight pairs at a time: matching pair by pair takes longer than all else that is done to read a line.
Hex = Annotated[str, msgspec.Meta(pattern="^(?:[0-9a-f]{16})*(?:[0-9a-f]{2}){0,7}$")]


class Opaque(msgspec.Struct, frozen=True, tag_field="kind", tag="opaque", gc=False):
    """Bytes that are not valid UTF-8."""

    hex: Hex
    """The bytes in hexadecimal."""


Text = str | Opaque
"""A string out of a traced program: a JSON string where it is valid UTF-8, else :class:`Opaque`."""


def text(raw: bytes) -> Text:
    """The record form of bytes out of a traced program."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Opaque(raw.hex())


def raw_bytes(value: Text) -> bytes:
    """The bytes that :func:`text` was given."""
    return value.encode() if isinstance(value, str) else bytes.fromhex(value.hex)


Word = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Id = Annotated[int, msgspec.Meta(ge=1)]


class Blind(msgspec.Struct, frozen=True, gc=False):
    """Something that the tracer could not see or could not leave unchanged."""

    what: str
    """What it is."""
    why: str
    """Why."""
    changed: bool = False
    """It is not unseen, but otherwise than it would be without the tracer."""


class Clock(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The start of the trace, in nanoseconds."""

    start: int | None
    """CLOCK_MONOTONIC; null for a log without it."""
    wall: int | None
    """The same instant, since 1970; null where it is not known."""
    resolution: Count = 0
    """Times that are no further apart cannot be told apart: 10⁹ for a log of whole seconds. 0: as exact as they say."""


class Source(msgspec.Struct, frozen=True, gc=False):
    """Who saw the events."""

    tool: str
    """``forklore``, ``strace``, ``ltrace`` or another."""
    version: str | None = None
    """Its version; null where a log does not tell."""


COMPARED: Final = tuple(resources.KCMP)
"""What kcmp(2) compares of two tasks, in the order of :attr:`Create.kcmp`."""

Answer = Annotated[int, msgspec.Meta(ge=-4095, le=UNSET)]
"""kcmp(2)'s answer: an :class:`forklore.abi.kcmp.Order` (0 one object, 1 and 2 two objects, in that order, 3 two
objects), :data:`forklore.abi.kcmp.UNSET`, or -errno."""


class ExecAt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """How execveat was told its file."""

    fd: int
    """The descriptor where the path begins, unless it is absolute; -100 (AT_FDCWD): the working directory."""
    directory: Text | Unavailable | None = None
    """What that descriptor referred to, as /proc names it; null where the path does not begin there."""
    path: Text | Unavailable
    """As it was passed; empty where the descriptor itself was meant."""
    flags: Word = 0
    """AT_EMPTY_PATH and its like; 32 bits."""


class SetId(msgspec.Struct, frozen=True, gc=False):
    """Of an exec of a set-user-id or set-group-id file: what that says, and what the task runs as."""

    uid: int | None
    """The file's owner, with the set-user-id bit; null without."""
    gid: int | None
    """Its group, with the set-group-id bit."""
    euid: int
    """The task's effective user then, …"""
    egid: int
    """… and group."""


class Standing(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False, tag_field="kind", tag="standing"
):
    """How the kernel has a task at a moment when it is held. A field is null where this kernel does not tell it."""

    ppid: int | None = None
    """The pid of its parent."""
    pgrp: int | None = None
    """Its process group."""
    session: int | None = None
    """Its session."""
    exit_signal: int | None = None
    """What its parent gets when it ends."""
    no_new_privs: bool | None = None
    """PR_SET_NO_NEW_PRIVS of prctl(2)."""
    seccomp: int | None = None
    """Mode: 0 none, 1 strict, 2 filter."""
    seccomp_filters: int | None = None
    """How many filters it has."""
    umask: int | None = None
    """Its file mode creation mask."""
    namespaces: Mapping[str, int | Unavailable] | None = None
    """Inode numbers by the names of /proc/PID/ns: mnt, uts, ipc, net, pid, pid_for_children, time, …"""
    cgroups: list[Text] | Unavailable | None = None
    """The lines of /proc/PID/cgroup."""


RunsHow = Literal["clone", "nptl", "musl", "go", "rust", "c++", "raw"]


class ScriptFrame(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A frame of an interpreted program."""

    function: Text
    file: Text
    line: Count | None = None


class Runs(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What the creator gave a child to run. Addresses are the creator's; with ``_place``, where that is code."""

    how: RunsHow
    """How it was found: see :mod:`forklore.sources.stacks.routines`."""
    fn: Word | None = None
    """What the C library's clone() was given to call."""
    fn_place: Id | None = None
    arg: Word | None = None
    routine: Word | None = None
    """What the program gave to pthread_create, thrd_create, …, where that is something else than ``fn``."""
    routine_place: Id | None = None
    routine_arg: Word | None = None
    script: ScriptFrame | None = None
    """Of a thread that Python's ``threading`` starts: the function that it is to run, and where that begins."""
    name: Text | None = None
    """What it is called there."""
    unknown: Unavailable | None = None
    """Why the routine could not be found."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A function and the line in it, from debug information."""

    function: Text | None = None
    file: Text | None = None
    line: Count | None = None


FrameHow = Literal["register", "rule", "wrapper", "signal", "pointer"]


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A frame of a stack and how it was found: ``register`` (the innermost), ``rule`` (call-frame information),
    ``wrapper`` (what is known of a C library's system call wrapper), ``signal`` (interrupted by a signal handler) or
    ``pointer`` (the frame pointer: a guess).
    """

    place: Id
    how: FrameHow = "rule"


class Jumped(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A function that a frame called and that is not on the stack: it went on to the next inner frame's by a jump."""

    frame: int
    """Of the caller, counted from 0, the innermost."""
    place: Id
    """Behind its jump to the next inner frame's function, where that was found, else where the function begins: it may
    have jumped to a third one that did."""


class Held(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """An entry of a descriptor table. A field is null where the kernel does not tell it."""

    fd: Count
    kind: str
    """What it refers to: ``file``, ``pipe``, ``socket``, … (:class:`forklore.linux.descriptors.DescriptorKind`).
    Kernels get new kinds, so any word is one."""
    target: Text
    """As /proc names it, ``pipe:[123]``."""
    flags: int | None = None
    """open(2)'s status flags and access mode, without O_CLOEXEC."""
    position: int | None = None
    device: Word = 0
    """With ``inode``: which file, pipe or socket; 0 for what has no name in a file system."""
    inode: Word | None = None
    cloexec: bool | None = None
    """Only of :attr:`Descriptors.creators_pipes`: what survives an exec has none."""
    same: Answer | None = None
    """kcmp(2) of the open file description with that at the creator's same number; -EBADF: it has none there. Not
    asked of 0, 1 and 2."""
    creators_cloexec: bool | None = None
    """Whether the creator's descriptor of the same number is close-on-exec."""


class Variable(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A variable, member or element by debug information, and its value before and after."""

    name: Text
    """As a program would write it."""
    function: Text | None = None
    """Whose local variable it is."""
    old: str | None = None
    """The value before, as text; null where it is too large."""
    new: str | None = None
    """The value after."""


WrittenWhere = Literal["live stack", "dead stack", "child's stack", "data", "bss", "heap", "anonymous"]


class Written(msgspec.Struct, frozen=True, gc=False):
    """Bytes that a child changed in the memory that it borrowed."""

    start: Word
    """The address."""
    length: Count
    """In bytes."""
    where: WrittenWhere
    """Which part of the parent's memory: ``live stack``, ``dead stack``, ``child's stack``, ``data``, ``bss``,
    ``heap``, ``anonymous`` (:class:`forklore.linux.pages.vfork_memory.MemoryPart`)."""
    mapping: Text
    """The mapping's name in /proc/PID/maps; empty for one without."""
    old: Hex
    """The first 256 bytes at most, as they were."""
    new: Hex
    """The same as they are now."""
    variables: list[Variable] = []
    """What these bytes are, where there is debug information."""


class Remapped(msgspec.Struct, frozen=True, gc=False):
    """Addresses that a child mapped, unmapped or mapped otherwise."""

    start: Word
    """The first address."""
    end: Word
    """The one behind the last."""
    before: Text | None
    """Permissions and name of the mapping; null for none."""
    after: Text | None
    """The same, afterwards."""


class NotCompared(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a mapping that were not kept or could not be read again."""

    start: Word
    """Where the mapping begins."""
    size: Count
    """Bytes of it that were not compared."""
    mapping: Text
    """Its name."""
    why: str
    """Why."""
