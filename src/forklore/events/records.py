"""The event log's records: what a trace file holds, one JSON object a line, a header first.

Records hold facts: raw words, bytes, errno, wait statuses. What they mean is derived when they are read.
Times are nanoseconds of CLOCK_MONOTONIC, minus the header's ``clock.start``. Task numbers are forklore's own,
from 1, never reused. A tid is in the tracer's pid namespace unless a field says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from forklore.abi.arch import Arch
from forklore.abi.kcmp import UNSET

FORMAT_NAME: Final = "forklore-trace"
FORMAT_VERSION: Final = (1, 0)
"""(major, minor). A reader refuses a newer major version; a minor version only adds fields and records."""


Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]


class Opaque(msgspec.Struct, frozen=True, tag_field="kind", tag="opaque", gc=False):
    """Bytes that are not valid UTF-8, in hexadecimal."""

    hex: Hex


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


class Absent(msgspec.Struct, frozen=True, tag_field="kind", tag="absent", gc=False):
    """Something that could not be read, and why. ``errno`` is 0 where no call failed."""

    errno: int
    why: str


class Blind(msgspec.Struct, frozen=True, gc=False):
    """Something that the tracer could not see or could not leave unchanged, and why."""

    what: str
    why: str


class Clock(msgspec.Struct, frozen=True, gc=False):
    """``start``: CLOCK_MONOTONIC at the start, null for a log without it; ``wall``: the same since 1970 (ns)."""

    start: int | None
    wall: int | None


class Source(msgspec.Struct, frozen=True, gc=False):
    """Who saw the events: ``tool`` is forklore, strace or ltrace; ``version`` may be unknown for a log."""

    tool: str
    version: str | None = None


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The first line of a trace file."""

    # Factories, because omit_defaults leaves plain defaults out of the file and these two must be in it.
    format: str = msgspec.field(default_factory=lambda: FORMAT_NAME)
    version: tuple[int, int] = msgspec.field(default_factory=lambda: FORMAT_VERSION)
    source: Source
    host: str | None = None
    kernel: str | None = None
    arch: str | None = None
    """The machine's own arch, as in :class:`forklore.abi.arch.Arch`."""
    boot_id: str | None = None
    clock: Clock
    command: list[Text] = []
    """What was asked to run, argument by argument."""
    options: dict[str, str | int | bool | None] = {}
    uid: int | None = None
    blind: list[Blind] = []


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="event", gc=False):
    """What every event has: ``t``, nanoseconds since the start, or null where a log has no time stamps."""

    t: int | None


class Call(Event, frozen=True, kw_only=True):
    """A system call's raw words. An argument is null where the source of the event does not tell it."""

    task: Id
    arch: Arch
    nr: int | None
    """The call's number in ``arch``; null if the call itself is not known (an event without its registers)."""
    args: tuple[Word | None, ...] = ()
    struct: Hex | Absent | None = None
    """The clone_args that the call pointed to, in hexadecimal; null for other calls."""
    set_tid: Hex | Absent | None = None
    """The set_tid array, in hexadecimal, where clone_args names one."""


COMPARED: Final = ("mm", "files", "fs", "sighand", "sysvsem", "io")
"""What kcmp(2) compares of two tasks, in the order of :attr:`Create.kcmp`."""

Answer = Annotated[int, msgspec.Meta(ge=-4095, le=UNSET)]
"""kcmp(2)'s answer: an :class:`forklore.abi.kcmp.Order` (0 one object, 1 and 2 two objects, in that order, 3 two
objects), :data:`forklore.abi.kcmp.UNSET`, or -errno."""


class Standing(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False, tag_field="kind", tag="standing"
):
    """How the kernel has a task at a moment when it is held. A field is null where this kernel does not tell it."""

    ppid: int | None = None
    pgrp: int | None = None
    session: int | None = None
    exit_signal: int | None = None
    no_new_privs: bool | None = None
    seccomp: int | None = None
    seccomp_filters: int | None = None
    umask: int | None = None
    namespaces: dict[str, int | Absent] | None = None
    """Inode numbers by the names of /proc/PID/ns: mnt, uts, ipc, net, pid, pid_for_children, time, …"""
    cgroups: list[Text] | Absent | None = None
    """The lines of /proc/PID/cgroup."""


class Runs(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What the creator gave a child to run. Addresses are the creator's; with ``_place``, where that is code."""

    how: str
    """How it was found: ``clone``, ``nptl``, ``musl``, ``go``, … (:mod:`forklore.tracer.routines`)."""
    fn: Word | None = None
    """What the C library's clone() was given to call."""
    fn_place: Id | None = None
    arg: Word | None = None
    routine: Word | None = None
    """What the program gave to pthread_create, thrd_create, …, where that is something else than ``fn``."""
    routine_place: Id | None = None
    routine_arg: Word | None = None
    unknown: Absent | None = None
    """Why the routine could not be found."""


class Begin(Event, tag="begin", frozen=True, kw_only=True):
    """A task that was there before its creation could be seen: the root, or one adopted later."""

    task: Id
    tid: int
    tgid: int
    how: str
    """``root``, ``adopted`` (its creator was killed before it could report), ``attached`` (it ran already) or ``log``
    (first seen in a log)."""
    parent_tid: int | None = None
    """The kernel's parent (its tgid) at that time."""
    comm: Text | None = None
    standing: Standing | Absent | None = None
    together: dict[str, Id] | None = None
    """``attached``: by name of :data:`COMPARED`, the first attached task that holds the same object, by kcmp(2): the
    task itself where none before it does. Left out: it has no such object, or could not be compared. null: not asked.
    """


class Create(Call, tag="create", frozen=True, kw_only=True):
    """A task was made. ``task`` is the creator."""

    child: Id
    tid: int
    """The child's tid."""
    stop: str | None = None
    """The ptrace event that told of it: fork, vfork, clone; null for a log, or where none was sent."""
    traced: bool = True
    """False: the child runs on without the tracer; nothing more of it is known."""
    ns_tids: list[int] | None = None
    """The child's tid in each pid namespace from the tracer's down to its own, where these differ."""
    untraced_cleared: bool = False
    """The call had CLONE_UNTRACED, which the tracer cleared for the call and put back after it."""
    kcmp: tuple[Answer, Answer, Answer, Answer, Answer, Answer] | Absent | None = None
    """Creator against child while both were held, in the order of :data:`COMPARED`; null: not asked."""
    standing: Standing | Absent | None = None
    """The child's, at its first stop; null: not read."""
    stack: Id | None = None
    """The creator's call stack: a :class:`Stack`; null: not read."""
    script: Id | None = None
    """The frames of the interpreter that the creator runs: a :class:`Script`."""
    runs: Runs | None = None


class Module(Event, tag="module", frozen=True, kw_only=True):
    """A file or region that code of the traced programs lies in, before the first :class:`Place` of it."""

    module: Id
    path: Text
    """As /proc/PID/maps names it: ``[vdso]`` for the kernel's own; empty for memory without a file."""
    build_id: Hex | None = None
    device: Word = 0
    inode: Word = 0
    unknown: Absent | None = None
    """Why the file could not be looked into."""


class Place(Event, tag="place", frozen=True, kw_only=True):
    """An address of code, before the first :class:`Stack` that goes through it."""

    place: Id
    module: Id | None = None
    """null: in no mapping."""
    address: Word
    """In the numbering of the module's ELF file; that of the process where it has none. A return address is that."""
    function: Text | None = None
    """The symbol that covers it, as the file has it, C++ and Rust names mangled."""
    start: Word | None = None
    """Where ``function`` begins."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A function and the line in it, from debug information."""

    function: Text | None = None
    file: Text | None = None
    line: Count | None = None


class Lines(Event, tag="lines", frozen=True, kw_only=True):
    """The source of a place: the functions inlined there from the innermost on, then the one they are inlined in."""

    place: Id
    lines: list[Line]


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A frame of a stack and how it was found: ``register`` (the innermost), ``rule`` (call-frame information),
    ``wrapper`` (what is known of a C library's system call wrapper), ``signal`` (interrupted by a signal handler) or
    ``pointer`` (the frame pointer: a guess).
    """

    place: Id
    how: str = "rule"


class Stack(Event, tag="stack", frozen=True, kw_only=True):
    """A call stack, innermost frame first, before the first event that has it."""

    stack: Id
    frames: list[Frame]
    end: str
    """Why there are no more frames: ``outermost``, ``depth``, or what was in the way."""


class ScriptFrame(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A frame of an interpreted program."""

    function: Text
    file: Text
    line: Count | None = None


class Script(Event, tag="script", frozen=True, kw_only=True):
    """The frames of an interpreter, innermost first, before the first event that has them."""

    script: Id
    language: str
    """``CPython 3.11``."""
    frames: list[ScriptFrame]
    end: str
    """As :attr:`Stack.end`."""


class Name(Event, tag="name", frozen=True, kw_only=True):
    """A task has another name (/proc/TID/comm)."""

    task: Id
    comm: Text
    how: str
    """``prctl``: it named itself, seen as it did; ``found``: seen later, set by anyone."""


class Fail(Call, tag="fail", frozen=True, kw_only=True):
    """A creation that the kernel refused. ``errno`` is positive."""

    errno: int
    limits: dict[str, int] = {}
    """Numbers that may have decided, read right after: see :mod:`forklore.decode.rules`."""
    stack: Id | None = None
    script: Id | None = None


class Other(Call, tag="call", frozen=True, kw_only=True):
    """unshare, setns, close_range or setsid, successful (``result`` >= 0) or not (-errno); null: never returned."""

    result: int | None
    target: str | None = None
    """setns: what the descriptor was, as /proc names it."""
    compared: dict[str, tuple[Id, Answer]] = {}
    """What the caller still shared, asked again right after the call: resource to the task that it was compared
    with, and kcmp's answer."""
    standing: Standing | Absent | None = None


class Exec(Event, tag="exec", frozen=True, kw_only=True):
    """A task executes a new image."""

    task: Id
    path: Text | Absent
    """As given to execve."""
    argv: list[Text] | Absent = []
    argc: Count | None = None
    """How many arguments there were, where ``argv`` holds only the first of them."""
    exe: Text | Absent | None = None
    """The executable that runs now (an interpreter, for a script), as /proc/PID/exe names it."""
    comm: Text | None = None
    former_tid: int | None = None
    """The tid before, for a thread that was not its group's leader."""
    began: int | None = None
    """When the call was made."""
    envp: list[Text] | None = None
    """Only where it was asked for."""
    compared: dict[str, tuple[Id, Answer]] = {}
    """As for :class:`Other`, at the exec event."""
    standing: Standing | Absent | None = None
    """Where the exec may have entered another time namespace."""


class ExecFail(Event, tag="exec-fail", frozen=True, kw_only=True):
    """An execve that the kernel refused."""

    task: Id
    path: Text | Absent
    argv: list[Text] | Absent = []
    errno: int


class VforkDone(Event, tag="vfork-done", frozen=True, kw_only=True):
    """The task goes on after its CLONE_VFORK child released the memory (exec or exit)."""

    task: Id
    child: Id | None = None
    tid: int
    """The child's tid."""


class Held(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """An entry of a descriptor table. A field is null where the kernel does not tell it."""

    fd: Count
    kind: str
    """What it refers to: ``file``, ``pipe``, ``socket``, … (:class:`forklore.linux.descriptors.Kind`)."""
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


class Descriptors(Event, tag="descriptors", frozen=True, kw_only=True):
    """What a task holds right after it executed: the descriptors that survived."""

    task: Id
    table: list[Held] | Absent
    left_out: Count = 0
    """How many more there are."""
    creator: Id | None = None
    """Who it was compared with; null where that one is gone or outside the trace."""
    creators_pipes: list[Held] = []
    """The creator's ends of pipes at that moment, where the task holds any pipe."""


class Variable(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A variable, member or element by debug information, and its value before and after."""

    name: Text
    function: Text | None = None
    """Whose local variable it is."""
    old: str | None = None
    new: str | None = None


class Written(msgspec.Struct, frozen=True, gc=False):
    """Bytes that a child changed in the memory that it borrowed."""

    start: Word
    length: Count
    where: str
    """Which part of the parent's memory: ``live stack``, ``data``, … (:class:`forklore.linux.borrowed.Where`)."""
    mapping: Text
    """The mapping's name in /proc/PID/maps; empty for one without."""
    old: Hex
    """The first 256 bytes at most, as they were and as they are."""
    new: Hex
    variables: list[Variable] = []
    """What these bytes are, where there is debug information."""


class Remapped(msgspec.Struct, frozen=True, gc=False):
    """Addresses that a child mapped, unmapped or mapped otherwise: permissions and name, null for none."""

    start: Word
    end: Word
    before: Text | None
    after: Text | None


class NotCompared(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a mapping that were not kept or could not be read again."""

    start: Word
    size: Count
    mapping: Text
    why: str


class Borrowed(Event, tag="borrowed", frozen=True, kw_only=True):
    """What a CLONE_VM|CLONE_VFORK child left changed in its creator's memory when it gave it back."""

    task: Id
    """The child."""
    creator: Id
    changes: list[Written] | Absent = []
    more: Count = 0
    """How many more ranges changed."""
    remaps: list[Remapped] = []
    left_out: list[NotCompared] = []
    threads: int | None = None
    """Threads of the creator's process: with more than one, each change can be another thread's."""


class Cow(Event, tag="cow", frozen=True, kw_only=True):
    """Pages that a child without CLONE_VM has in common with its creator: at creation, and before one of them loses
    its memory. Counts are of pages of private memory that exist."""

    task: Id
    """The child."""
    creator: Id
    moment: str
    """``created``; ``exec`` or ``exit``: what became of the common pages, on the side of ``side``."""
    side: Id | None = None
    """Which of the two executed or ended."""
    source: str | None = None
    """``pagemap``, page by page, or ``smaps``: sums, and so an estimate."""
    exact: bool = False
    """Every page was looked at, and none is part of a huge page or swapped out."""
    page_size: Count = 0
    common: Count = 0
    """At creation."""
    still: Count = 0
    """Of these: not copied by anybody, …"""
    parted: Count = 0
    """… no longer in common, …"""
    swapped: Count = 0
    gone: Count = 0
    """… and not there any more."""
    copied: Count | Absent | None = None
    """Of the parted: by ``side``; the rest by the other one."""
    told_by: str | None = None
    """How ``copied`` is known: ``frames`` (the page frame is another one) or ``contents`` (they changed)."""
    unknown: Absent | None = None
    """Why nothing could be measured."""


class Exit(Event, tag="exit", frozen=True, kw_only=True):
    """A task ended. ``status`` is the wait status word; null where a log does not tell."""

    task: Id
    status: int | None


class Gone(Event, tag="gone", frozen=True, kw_only=True):
    """A task is no longer seen, without an exit of its own.

    ``why``: ``superseded`` (another thread's exec took its tid), ``released`` (the tracer let go of it by the
    follow policy or at its end), ``ended`` (the trace ends here), ``lost`` (the kernel reports it no more).
    """

    task: Id
    why: str


class Signal(Event, tag="signal", frozen=True, kw_only=True):
    """The signal whose delivery ended a task, with its origin: siginfo's si_code and, where it has one, si_pid."""

    task: Id
    signal: int
    code: int
    sender: int | None = None
    address: int | None = None


class GroupStop(Event, tag="stop", frozen=True, kw_only=True):
    """The task stopped for job control."""

    task: Id
    signal: int


class Resume(Event, tag="resume", frozen=True, kw_only=True):
    """A stopped task runs again."""

    task: Id


class Reparent(Event, tag="reparent", frozen=True, kw_only=True):
    """A task's parent ended; ``parent_tid`` (a tgid) waits for it now. ``parent`` is null for one outside the trace."""

    task: Id
    parent_tid: int
    parent: Id | None = None


class Note(Event, tag="note", frozen=True, kw_only=True):
    """Something that the tracer could not see or had to change at this point."""

    what: str
    why: str
    task: Id | None = None


class End(Event, tag="end", frozen=True, kw_only=True):
    """The last line. A file without it was cut off: ``reason`` is ``done``, ``root``, ``interrupted`` or ``log``."""

    reason: str
    events: Count
    """How many events come before this one."""
    lost: Count = 0
    """How many could not be written."""


AnyEvent = (
    Begin | Module | Place | Lines | Stack | Script | Name | Create | Fail | Other | Exec | ExecFail | VforkDone
    | Descriptors | Borrowed | Cow | Exit | Gone | Signal | GroupStop | Resume | Reparent | Note | End
)
