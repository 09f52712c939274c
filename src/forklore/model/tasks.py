"""What a trace is about: tasks, the calls that made them, what they executed and how they ended.

Times are nanoseconds since the start of the trace, None where a log has none. Tasks point at each other by number;
:class:`Trace` has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

from forklore.abi.units import Nanoseconds, TaskId, Tid, Unavailable
from forklore.decode.calls import Call
from forklore.decode.creation import Creation
from forklore.events import records as ev
from forklore.model.creations import CreationForm, decoded
from forklore.model.stacks import CallStack, CallStacks

if TYPE_CHECKING:
    from forklore.decode.rules.table import Reason
    from forklore.model.sharing import Sharing

Kind = Literal["process", "thread", "task"]
"""``task`` where it is not known which of the two."""


class Image(Struct, frozen=True, gc=False):
    """A program that a task executed."""

    t: Nanoseconds | None
    path: bytes | Unavailable
    """As given to execve; of execveat, from the directory that its descriptor referred to."""
    argv: tuple[bytes, ...] | Unavailable
    argc: int | None
    """How many arguments there were, where ``argv`` has only the first."""
    cut: frozenset[int]
    """Which of ``argv`` are cut off, counted from 0."""
    exe: bytes | Unavailable | None
    """The executable, which is the interpreter for a script; None where the source does not tell."""
    comm: bytes | None
    began: Nanoseconds | None
    """When execve was called."""
    former_tid: Tid | None
    """The tid before, where a thread that was not the leader executed."""
    at: ev.ExecAt | None = None
    """Of execveat, how it was told the path."""
    envp: tuple[bytes, ...] | None = None
    """Its environment; None: not recorded."""
    set_id: ev.SetId | None = None
    """Of a set-user-id or set-group-id file."""

    @property
    def file(self) -> bytes | None:
        """The best name there is of what runs: the path as given, else the executable."""
        if isinstance(self.path, bytes) and self.path:
            return self.path
        return self.exe if isinstance(self.exe, bytes) else None

    @property
    def named(self) -> bytes:
        """The same, else the name of the task that runs it (15 bytes of it); ``?`` where nothing is known."""
        return self.file or self.comm or b"?"


class FailedExec(Struct, frozen=True, gc=False):
    """One or more refused execve of one program: a search through PATH is one."""

    t: Nanoseconds | None
    paths: list[bytes | Unavailable]
    """In the order they were tried."""
    errnos: list[int]
    """The error of each."""
    injected: bool = False
    """These are the doing of the tool that wrote the log."""
    argv: tuple[bytes, ...] | Unavailable = ()
    """Of all of them."""
    argc: int | None = None
    """As of an :class:`Image`."""
    at: ev.ExecAt | None = None
    """Of execveat, which is no search."""
    order: int = 0
    """In a trace without times: the how manyth it is of what its trace tells."""


class MadeCall(Struct, frozen=True, gc=False):
    """unshare, setns, close_range, setsid or a ptrace that asks for a tracer, and how it returned."""

    t: Nanoseconds | None
    call: Call
    result: int | None
    """Negative: -errno. None: not known."""
    target: str | None
    reasons: tuple[Reason, ...] = ()
    injected: bool = False
    """The kernel did nothing: the result is the doing of the tool that wrote the log."""
    order: int = 0
    """In a trace without times: the how manyth it is of what its trace tells."""


class Failure(Struct, frozen=True, gc=False):
    """A creation that was refused."""

    t: Nanoseconds | None
    task: TaskId
    creation: Creation
    errno: int | None
    """None: not known."""
    limits: dict[str, int]
    reasons: tuple[Reason, ...]
    stack: CallStack | None = None
    script: ev.Script | None = None
    injected: bool = False
    """As in :class:`MadeCall`."""
    library: str | None = None
    """As in :class:`forklore.events.records.Fail`."""
    order: int = 0
    """In a trace without times: the how manyth it is of what its trace tells."""


class Naming(Struct, frozen=True, gc=False):
    """A task got another name, as :class:`forklore.events.records.Name` has it."""

    t: Nanoseconds | None
    comm: bytes
    how: ev.NameHow


class Death(Struct, frozen=True, gc=False):
    """How a task ended: an exit ``code``, or the ``signal`` that ended it, with ``core`` and its origin if known."""

    code: int | None = None
    signal: int | None = None
    core: bool = False
    sender: Tid | None = None
    address: int | None = None
    by: ev.KilledBy | None = None
    """How it is known who sent a SIGKILL."""
    stack: CallStack | None = None
    """Where the task was when the signal came; None: not read."""


class Reaper(Struct, frozen=True, gc=False):
    """Who inherited a task: its tgid then, and its number if it is in the trace."""

    t: Nanoseconds | None
    tid: Tid
    task: TaskId | None


class Reaping(Struct, frozen=True, gc=False):
    """What became of a process's zombie, as :class:`forklore.events.records.Reap` has it."""

    t: Nanoseconds | None
    how: ev.ReapHow
    since: Nanoseconds
    tid: Tid
    """Its parent's, …"""
    task: TaskId
    """… and the task that led that."""


class JobStop(Struct, frozen=True, gc=False):
    """A stop for job control: by which signal, and when it went on."""

    t: Nanoseconds | None
    signal: int
    resumed: Nanoseconds | None


class Task(Struct, eq=False, gc=False):
    """A task in the kernel's sense, thread or process. What there is none of is an empty tuple."""

    id: TaskId
    tid: Tid
    tgid: Tid | None
    kind: Kind
    creator: TaskId | None
    """Who made the call. None for the root and for tasks whose creation was not seen."""
    parent: TaskId | None
    """Whose child it was at first: who waits for it. None: outside the trace, or unknown."""
    leader: TaskId | None
    """The task that its thread group began with; its own number for a process."""
    form: CreationForm | None = None
    """What its :attr:`creation` has in common with many; None where that was not seen."""
    record: ev.Create | None = None
    """The record of its creation."""
    how: ev.BeginHow | Literal["created"] = "created"
    """How it came into the trace, where that was not by its creation."""
    found_under: TaskId | None = None
    """Of one that was attached to or continued: the first thread of its process, or its parent's, where that is in the
    trace."""
    traced: bool = True
    untraced_cleared: bool = False
    stop: ev.CreateStop | None = None
    ns_tids: tuple[int, ...] = ()
    created: Nanoseconds | None = None
    comm: bytes | None = None
    images: Sequence[Image] = ()
    failed_execs: Sequence[FailedExec] = ()
    calls: Sequence[MadeCall] = ()
    failures: Sequence[Failure] = ()
    stops: Sequence[JobStop] = ()
    reapers: Sequence[Reaper] = ()
    reaped: Sequence[Reaping] = ()
    """What became of its zombie: of one that was left, also what its reaper did. Empty where its parent is not in the
    trace."""
    children: Sequence[TaskId] = ()
    """What it created, in order, and what was found under it."""
    ended: Nanoseconds | None = None
    death: Death | None = None
    gone: ev.GoneWhy | None = None
    """Why it is seen no more, where that was not its death."""
    heir: TaskId | None = None
    """The thread whose exec took over this leader's tid."""
    kcmp: tuple[int, ...] | Unavailable | None = None
    """kcmp(2) of creator and child, in the order of :data:`forklore.events.records.COMPARED`."""
    standing: ev.Standing | Unavailable | None = None
    """As the kernel had it at its first stop."""
    cow: Sequence[ev.Cow] = ()
    """The pages that it had in common with its creator, and what became of them; where that was asked for."""
    borrowed: Sequence[ev.Borrowed] = ()
    """What it changed in its creator's memory as its CLONE_VFORK child; one, where that was asked for."""
    descriptors: Sequence[ev.Descriptors] = ()
    """What it held right after each exec."""
    stack: CallStack | None = None
    """The creator's call stack as it made this task; None: not read."""
    script: ev.Script | None = None
    """The creator's interpreter frames then."""
    runs: ev.Runs | None = None
    """What it was given to run."""
    names: Sequence[Naming] = ()
    """The names it got other than by exec, in order; :attr:`comm` is the last."""
    title: tuple[bytes, ...] = ()
    """The command line that it wrote for itself since its last exec; empty where none was seen."""
    vfork_released: Nanoseconds | None = None
    """When its creator went on, for a CLONE_VFORK child."""
    coarse: int = 0
    """:attr:`forklore.events.records.Clock.resolution` of the trace: shorter spans are not known."""
    cpu: int | None = None
    """CPU time in µs of its process and of the children that this had waited for; None: not told, as of a thread."""
    peak: int | None = None
    """The most memory in KiB that its process had resident, or one of these children; None: not told."""
    tracer_held: Nanoseconds = Nanoseconds(0)
    """For how long the tracer held it, from when it learned of each stop, …"""
    tracer_unseen: Nanoseconds = Nanoseconds(0)
    """… and for how long at most before that."""
    order: int = 0
    """As in :class:`Failure`, of its creation."""
    _creation: Creation | None = None

    @property
    def creation(self) -> Creation | None:
        """The call that made it; None where that was not seen."""
        # Decoded when it is asked for: in a long trace of threads no two are the same, and most are never looked at.
        if self._creation is None and self.record is not None:
            self._creation = decoded(self.record)
        return self._creation

    @property
    def lifetime(self) -> Nanoseconds | None:
        """From creation to death."""
        return self.age(self.ended) if self.death is not None else None

    @property
    def zombie(self) -> tuple[Nanoseconds, Nanoseconds] | None:
        """For how long it stood as a zombie at least and at most, until its parent took its status or ended; None:
        not known."""
        if not self.reaped or self.ended is None or (first := self.reaped[0]).t is None:
            return None
        least = first.t if first.how in ("left", "stands") else first.since
        return Nanoseconds(max(least - self.ended, 0)), Nanoseconds(max(first.t - self.ended, 0))

    @property
    def exec_after(self) -> Nanoseconds | None:
        """From creation to the first exec."""
        return self.age(self.images[0].t) if self.images else None

    @property
    def held(self) -> Nanoseconds | None:
        """How long its vfork held its creator."""
        return self.age(self.vfork_released)

    def age(self, then: Nanoseconds | None) -> Nanoseconds | None:
        """From creation to ``then``; None where the times do not tell."""
        if self.created is None or then is None or (self.coarse and then - self.created <= self.coarse):
            return None
        return Nanoseconds(then - self.created)

    @property
    def name(self) -> bytes | None:
        """What to call it: its image's file name, else its comm."""
        if self.images and (file := self.images[-1].file):
            return file.rstrip(b"/").rpartition(b"/")[2] or file
        return self.comm


class Trace(Struct):
    """A whole trace."""

    header: ev.Header
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    """In the order in which they were first seen."""
    failures: list[Failure] = field(default_factory=list)
    code: CallStacks = field(default_factory=CallStacks)
    notes: list[tuple[str, str]] = field(default_factory=list)
    """What was not seen or had to be changed on the way, and why."""
    warnings: list[str] = field(default_factory=list)
    """What is wrong with the file it was read from."""
    ended: Nanoseconds | None = None
    end_reason: ev.EndReason | None = None
    """None: the trace was cut off."""
    sharing: Sharing | None = None
    """Who shared what over time, where it was asked for when the trace was read."""

    @property
    def roots(self) -> list[Task]:
        """The tasks that nothing of the trace stands above."""
        return [task for task in self.tasks.values() if task.creator is None and task.found_under is None]
