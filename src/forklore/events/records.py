"""The event log's records: what a trace file holds, one JSON object a line, a header first.

Records hold facts: raw words, bytes, errno, wait statuses. What they mean is derived when they are read.
Times are nanoseconds of CLOCK_MONOTONIC, minus the header's ``clock.start``. Task numbers are forklore's own,
from 1, never reused. A tid is in the tracer's pid namespace unless a field says otherwise; 0 where it is not known.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from forklore.abi.arch import Arch
from forklore.abi.units import Unavailable
from forklore.events.parts import (
    COMPARED,
    Answer,
    Blind,
    Clock,
    Count,
    ExecAt,
    Frame,
    FrameHow,
    Held,
    Hex,
    Id,
    Jumped,
    Line,
    NotCompared,
    Opaque,
    Remapped,
    Runs,
    RunsHow,
    ScriptFrame,
    SetId,
    Source,
    Standing,
    Text,
    Variable,
    Word,
    Written,
    WrittenWhere,
    raw_bytes,
    text,
)

UNKNOWN_TID: Final = 0
"""Stands for the tid of a task where a log does not tell it."""
FORMAT_NAME: Final = "forklore-trace"
FORMAT_VERSION: Final = (1, 0)
"""(major, minor). A reader refuses a newer major version; a minor version only adds fields and records."""


class Header(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The first line of a trace file."""

    # Factories, because omit_defaults leaves plain defaults out of the file and these two must be in it.
    format: str = msgspec.field(default_factory=lambda: FORMAT_NAME)
    """``forklore-trace``."""
    version: tuple[int, int] = msgspec.field(default_factory=lambda: FORMAT_VERSION)
    """``[major, minor]`` of the trace file."""
    source: Source
    """Who saw the events."""
    host: str | None = None
    """The host's name."""
    kernel: str | None = None
    """The kernel's release, as uname(2) has it."""
    arch: str | None = None
    """The machine's own ABI: ``x86_64``, ``aarch64``, ``riscv64``."""
    boot_id: str | None = None
    """A name for the time since the kernel was started."""
    clock: Clock
    """When the trace began."""
    command: list[Text] = []
    """What was asked to run, argument by argument."""
    options: dict[str, str | int | bool | None] = {}
    """What the trace was asked for: ``stops``, ``follow``, ``max_depth``, ``follow_untraced``, ``until``, ``leave``,
    ``observe``, ``argv``, ``env``, ``stack_depth``, ``cow``, ``vfork_writes``."""
    uid: int | None = None
    """Who ran it."""
    limits: dict[str, int] = {}
    """Numbers that bound how many tasks there can be, and how many there were, as they were when the trace began:
    see :class:`forklore.decode.rules.rule.Context`."""
    blind: list[Blind] = []
    """What the recorder could not see, or could not leave as it was."""
    continues: Text | None = None
    """The name of the file that this one goes on from, where a recording has several."""


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
    struct: Hex | Unavailable | None = None
    """The clone_args that the call pointed to, in hexadecimal; null for other calls."""
    set_tid: Hex | Unavailable | None = None
    """The set_tid array, in hexadecimal, where clone_args names one."""


BeginHow = Literal["root", "adopted", "attached", "continued", "log"]


class Begin(Event, tag="begin", frozen=True, kw_only=True):
    """A task that was there before its creation could be seen: the root, or one adopted later."""

    task: Id
    tid: int
    tgid: int
    how: BeginHow
    """``root``, ``adopted`` (its creator was killed before it could report), ``attached`` (it ran already),
    ``continued`` (alive when an earlier file of the recording ended; its creation is there) or ``log`` (first seen in
    a log)."""
    parent_tid: int | None = None
    """The kernel's parent (its tgid) at that time."""
    ns_tids: list[int] | None = None
    """As of :class:`Create`; null also where it was not asked."""
    comm: Text | None = None
    standing: Standing | Unavailable | None = None
    together: dict[str, Id] | None = None
    """By name of :data:`COMPARED`, the first of the tasks that begin this way that holds the same object: the task
    itself where none before it does. ``attached``: by kcmp(2), left out where it has no such object or could not be
    compared. ``continued``: as all answers of kcmp(2) so far have it, left out where it is not known to share its own.
    null: not asked, or nothing is known.
    """


CreateStop = Literal["fork", "vfork", "clone"]


class Create(Call, tag="create", frozen=True, kw_only=True):
    """A task was made. ``task`` is the creator."""

    child: Id
    tid: int
    """The child's tid."""
    stop: CreateStop | None = None
    """The ptrace event that told of it: PTRACE_EVENT_FORK, …; null for a log, or where none was sent."""
    traced: bool = True
    """False: the child runs on without the tracer; nothing more of it is known."""
    ns_tids: list[int] | None = None
    """The child's tid in each pid namespace from the tracer's down to its own, where these differ."""
    untraced_cleared: bool = False
    """The call had CLONE_UNTRACED, which the tracer cleared for the call and put back after it."""
    kcmp: tuple[Answer, Answer, Answer, Answer, Answer, Answer] | Unavailable | None = None
    """Creator against child while both were held, in the order of :data:`COMPARED`; null: not asked."""
    standing: Standing | Unavailable | None = None
    """The child's, at its first stop; null: not read."""
    stack: Id | None = None
    """The creator's call stack: a :class:`Stack`; null: not read."""
    script: Id | None = None
    """The frames of the interpreter that the creator runs: a :class:`Script`."""
    runs: Runs | None = None
    library: str | None = None
    """The library's function that made the call, where a log tells it: ``fork``, ``system``, ``pthread_create``."""
    took: Count = 0
    """For how many ns the creator was in the call, until the tracer saw its event; 0: less than 1 ms, or not seen."""
    flags: Word | None = None
    """The flags that the kernel acted on (tracepoint task_newtask), without the exit signal, where a log has these and
    not the words or the struct that they were given in."""
    thread: bool | None = None
    """Whether the child joined its creator's thread group, where that was seen and no flags were (PERF_RECORD_FORK)."""


class Module(Event, tag="module", frozen=True, kw_only=True):
    """A file or region that code of the traced programs lies in, before the first :class:`Place` of it."""

    module: Id
    path: Text
    """As /proc/PID/maps names it: ``[vdso]`` for the kernel's own; empty for memory without a file."""
    build_id: Hex | None = None
    device: Word = 0
    inode: Word = 0
    unknown: Unavailable | None = None
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


class Lines(Event, tag="lines", frozen=True, kw_only=True):
    """The source of a place: the functions inlined there from the innermost on, then the one they are inlined in."""

    place: Id
    lines: list[Line]


class Stack(Event, tag="stack", frozen=True, kw_only=True):
    """A call stack, innermost frame first, before the first event that has it."""

    stack: Id
    frames: list[Frame]
    end: str
    """Why there are no more frames: ``outermost``, ``depth``, or what was in the way."""
    jumped: list[Jumped] = []


class Script(Event, tag="script", frozen=True, kw_only=True):
    """The frames of an interpreter, innermost first, before the first event that has them."""

    script: Id
    language: str
    """``CPython 3.11``."""
    frames: list[ScriptFrame]
    end: str
    """As :attr:`Stack.end`."""
    late: bool = False
    """The frames are those of the moment, but names and lines were read when the task had gone on: of code that it has
    freed since they may be missing, or another's."""


NameHow = Literal["prctl", "found"]


class Name(Event, tag="name", frozen=True, kw_only=True):
    """A task has another name (/proc/TID/comm)."""

    task: Id
    comm: Text
    how: NameHow
    """``prctl``: it named itself, seen as it did; ``found``: seen later, set by anyone."""


class Title(Event, tag="title", frozen=True, kw_only=True):
    """The command line of a process as its memory has it (/proc/PID/cmdline), where it is not that of its last exec:
    programs write there what they do. Read when the process is attached to, when a signal comes that may end it, and
    at the end of the trace."""

    task: Id
    argv: list[Text]


class Fail(Call, tag="fail", frozen=True, kw_only=True):
    """A creation that was refused."""

    errno: int | None
    """Positive. null: not known, as of a library's ``fork() = -1`` in a log that has no more of it."""
    injected: bool = False
    """Not the kernel but the tool that wrote the log refused it (``strace --inject``)."""
    limits: dict[str, int] = {}
    """Numbers that may have decided, read right after: see :class:`forklore.decode.rules.rule.Context`."""
    stack: Id | None = None
    script: Id | None = None
    library: str | None = None
    """As for :class:`Create`."""


class Other(Call, tag="call", frozen=True, kw_only=True):
    """unshare, setns, close_range, setsid or a ptrace that asks for a tracer; successful (``result`` >= 0) or not
    (-errno); null: never returned."""

    result: int | None
    injected: bool = False
    """The tool that wrote the log had it return this, and the kernel did nothing."""
    target: str | None = None
    """setns: what the descriptor was, as /proc names it."""
    compared: dict[str, tuple[Id, Answer]] = {}
    """What the caller still shared, asked again right after the call: resource to the task that it was compared
    with, and kcmp's answer."""
    standing: Standing | Unavailable | None = None
    limits: dict[str, int] = {}
    """Of one that was refused, numbers that may have decided, read right after:
    see :class:`forklore.decode.rules.rule.Context`."""


class Exec(Event, tag="exec", frozen=True, kw_only=True):
    """A task executes a new image."""

    task: Id
    path: Text | Unavailable
    """As given to execve; of execveat, from the directory that its descriptor referred to."""
    at: ExecAt | None = None
    """Of execveat."""
    argv: list[Text] | Unavailable = []
    argc: Count | None = None
    """How many arguments there were, where ``argv`` holds only the first of them."""
    cut: list[Count] = []
    """Which of ``argv`` are cut off, counted from 0."""
    exe: Text | Unavailable | None = None
    """The executable that runs now (an interpreter, for a script), as /proc/PID/exe names it."""
    comm: Text | None = None
    former_tid: int | None = None
    """The tid before, for a thread that was not its group's leader."""
    began: int | None = None
    """When the call was made."""
    envp: list[Text] | None = None
    """Only where it was asked for."""
    set_id: SetId | None = None
    """Only of a set-user-id or set-group-id file."""
    compared: dict[str, tuple[Id, Answer]] = {}
    """As for :class:`Other`, at the exec event."""
    standing: Standing | Unavailable | None = None
    """Where the exec may have entered another time namespace."""


class ExecFail(Event, tag="exec-fail", frozen=True, kw_only=True):
    """An execve that the kernel refused."""

    task: Id
    path: Text | Unavailable
    at: ExecAt | None = None
    argv: list[Text] | Unavailable = []
    argc: Count | None = None
    """These four as for :class:`Exec`."""
    cut: list[Count] = []
    """Which of ``argv`` are cut off, counted from 0."""
    errno: int
    injected: bool = False
    """As for :class:`Fail`."""


class VforkDone(Event, tag="vfork-done", frozen=True, kw_only=True):
    """The task goes on after its CLONE_VFORK child released the memory (exec or exit)."""

    task: Id
    child: Id | None = None
    tid: int
    """The child's tid."""


class Descriptors(Event, tag="descriptors", frozen=True, kw_only=True):
    """What a task holds right after it executed: the descriptors that survived."""

    task: Id
    table: list[Held] | Unavailable
    left_out: Count = 0
    """How many more there are."""
    creator: Id | None = None
    """Who it was compared with; null where that one is gone or outside the trace."""
    creators_pipes: list[Held] = []
    """The creator's ends of pipes at that moment, where the task holds any pipe."""


class Borrowed(Event, tag="borrowed", frozen=True, kw_only=True):
    """What a child with CLONE_VM that is no thread left changed in its creator's memory: with CLONE_VFORK when it gave
    it back, without at its exec or end."""

    task: Id
    """The child."""
    creator: Id
    changes: list[Written] | Unavailable = []
    more: Count = 0
    """How many more ranges changed."""
    remaps: list[Remapped] = []
    left_out: list[NotCompared] = []
    threads: int | None = None
    """Threads of the creator's process: with more than one, each change can be another thread's."""
    stack: Id | None = None
    """Where a vfork child was when it ended: a :class:`Stack`; null: it executed, was killed, or it was not read."""
    ran_on: bool = False
    """The creator itself ran meanwhile (no CLONE_VFORK): each change can be its own. That nothing changed is sure."""


CowMoment = Literal["created", "exec", "exit"]
CowToldBy = Literal["frames", "contents"]


class Cow(Event, tag="cow", frozen=True, kw_only=True):
    """Pages that a child without CLONE_VM has in common with its creator: at creation, and before one of them loses
    its memory. Counts are of pages of private memory that exist."""

    task: Id
    """The child."""
    creator: Id
    moment: CowMoment
    """``created``; ``exec`` or ``exit``: what became of the common pages, on the side of ``side``."""
    side: Id | None = None
    """Which of the two executed or ended."""
    source: Literal["pagemap", "smaps"] | None = None
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
    copied: Count | Unavailable | None = None
    """Of the parted: by ``side``; the rest by the other one."""
    told_by: CowToldBy | None = None
    """How ``copied`` is known: ``frames`` (the page frame is another one) or ``contents`` (they changed)."""
    unknown: Unavailable | None = None
    """Why nothing could be measured."""


class Exit(Event, tag="exit", frozen=True, kw_only=True):
    """A task ended. ``status`` is the wait status word; null where a log does not tell."""

    task: Id
    status: int | None
    held: Count = 0
    """For how many ns the tracer held it, all stops together, from when the tracer learned of each, …"""
    unseen: Count = 0
    """… and for how many at most before that, as the tracer had to wake up or was busy; with how much later its parent
    could learn of its end."""
    cpu: Count | None = None
    """CPU time in µs of its process and of the children that this had waited for; null: not told, as of a thread."""
    peak: Count | None = None
    """The most memory in KiB that its process had resident, or one of these children."""


GoneWhy = Literal["superseded", "released", "ended", "lost"]


class Gone(Event, tag="gone", frozen=True, kw_only=True):
    """A task is no longer seen, without an exit of its own.

    ``why``: ``superseded`` (another thread's exec took its tid), ``released`` (the tracer let go of it by the
    follow policy or at its end), ``ended`` (the trace ends here), ``lost`` (the kernel reports it no more).
    """

    task: Id
    why: GoneWhy


KilledBy = Literal["call", "tracer", "oom"]


class Signal(Event, tag="signal", frozen=True, kw_only=True):
    """The signal whose delivery ended a task, with its origin: siginfo's si_code and, where it has one, si_pid."""

    task: Id
    signal: int
    code: int
    sender: int | None = None
    address: int | None = None
    by: KilledBy | None = None
    """SIGKILL, whose siginfo nobody sees: ``call``, ``sender`` sent it, as its call shows; ``tracer``, the tracer did;
    ``oom``, nobody in sight did, and the kernel's count of tasks that it killed for want of memory rose meanwhile."""
    stack: Id | None = None
    """Where the task was when the signal came: a :class:`Stack`; null: not read."""


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


ReapHow = Literal["waited", "ignored", "at once", "left", "stands", "unknown"]


class Reap(Event, tag="reap", frozen=True, kw_only=True):
    """What became of the zombie of a process whose parent is in the trace. ``t``: the first time that it was seen to be
    so."""

    task: Id
    """Whose it was."""
    how: ReapHow
    """``waited``: its parent took its status, some time from ``since`` to ``t``. ``ignored``: the parent ignores
    SIGCHLD, so there was no zombie. ``at once``: it was gone in the moment in which its parent could take its status,
    which was waiting for it, or has SA_NOCLDWAIT. ``left``: it still stood when its parent ended, which never waited
    for it; who takes its status then is in a record of its own if that is a task of the trace. ``stands``: it still
    does as the trace ends. ``unknown``: its parent ended, and whether it took the status before or a reaper did after
    is not known."""
    since: int
    """When it was last seen as a zombie, in ns as ``t``; its end, if never."""
    parent_tid: int
    """Its parent, …"""
    parent: Id
    """… and the task that led that process."""


class Note(Event, tag="note", frozen=True, kw_only=True):
    """Something that the tracer could not see or had to change at this point."""

    what: str
    why: str
    task: Id | None = None


EndReason = Literal["done", "root", "interrupted", "time", "log", "rotated", "cut off"]


class End(Event, tag="end", frozen=True, kw_only=True):
    """The last line. A file without it was cut off."""

    reason: EndReason
    """``done``, ``root`` (it ended, and the rest was not to be awaited), ``interrupted``, ``time`` (it was over),
    ``log``, ``rotated`` (the recording goes on in another file), or ``cut off``: what it was copied from has no end."""
    events: Count
    """How many events come before this one."""
    lost: Count = 0
    """How many could not be written."""


AnyEvent = (
    Begin | Module | Place | Lines | Stack | Script | Name | Title | Create | Fail | Other | Exec | ExecFail | VforkDone
    | Descriptors | Borrowed | Cow | Exit | Gone | Signal | GroupStop | Resume | Reparent | Reap | Note | End
)

__all__ = [
    "COMPARED", "FORMAT_NAME", "FORMAT_VERSION", "UNKNOWN_TID", "Answer", "AnyEvent", "Begin", "BeginHow", "Blind",
    "Borrowed",
    "Call", "Clock", "Count", "Cow", "CowMoment", "CowToldBy", "Create", "CreateStop", "Descriptors", "End",
    "EndReason", "Event", "Exec", "ExecAt", "ExecFail", "Exit", "Fail", "Frame", "FrameHow", "Gone", "GoneWhy",
    "GroupStop", "Header", "Held", "Hex", "Id", "Jumped", "KilledBy", "Line", "Lines", "Module", "Name", "NameHow",
    "NotCompared", "Note", "Opaque", "Other", "Place", "Reap", "ReapHow", "Remapped", "Reparent", "Resume", "Runs",
    "RunsHow", "Script", "ScriptFrame", "SetId", "Signal", "Source", "Stack", "Standing", "Text", "Title", "Variable",
    "VforkDone", "Word", "Written", "WrittenWhere", "raw_bytes", "text",
]  # fmt: skip
