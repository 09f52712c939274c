"""What one run of the probe left behind: every system call of its tasks and what the tracer saw, in order."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.units import Nanoseconds, Pid, TaskId, Tid

SAY: Final = 0x666B6C72
"""The option of prctl by which the probe speaks (probe.c)."""


class ProbeWord(IntEnum):
    """What the probe says (probe.c)."""

    BEGIN = 1
    RETURN = 2
    USER = 3
    PREPARE = 4
    PARENT = 5
    CHILD = 6
    MISSING = 7
    CANNOT = 8
    STACK = 9
    SELF = 10
    IDS = 11


class SeenCall(Struct, kw_only=True):
    """A system call. ``data`` is what its pointer argument pointed to at the entry, as far as that is decoded."""

    task: TaskId
    t: Nanoseconds
    arch: Arch
    nr: int
    name: str
    words: tuple[int, ...]
    data: bytes | None = None
    second: bytes | None = None
    """A second thing pointed to: the set_tid array, or what follows at another pointer."""
    result: int | None = None
    """Signed; None: it did not return."""
    until: Nanoseconds | None = None
    sp: int | None = None
    """The stack pointer, at a creation."""
    injected: int | None = None
    """The errno that the tracer answered in the kernel's place."""


class ProbeSaid(Struct, frozen=True):
    """The probe spoke."""

    task: TaskId
    word: ProbeWord
    values: tuple[int, int, int]


class Born(Struct, frozen=True):
    """A child was made, and compared with its creator while both were held (:data:`COMPARED`)."""

    task: TaskId
    child: TaskId
    tid: Tid
    compared: tuple[int, ...] | None


class Became(Struct, frozen=True):
    """A task executed a program."""

    task: TaskId


class TaskEnded(Struct, frozen=True):
    """A task ended with this wait status."""

    task: TaskId
    status: int


Happening = SeenCall | ProbeSaid | Born | Became | TaskEnded


class Run(Struct, frozen=True):
    """One function called once. ``log`` begins before the probe's first word."""

    function: str
    mode: str
    """``single`` or ``multi``: how many threads the program has."""
    injected: tuple[tuple[str, int], ...]
    """Which calls the tracer refused, with which errno."""
    log: list[Happening]
    pid: Pid
    """The probe's."""
    timed_out: bool = False
