"""A task, and how it ended."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from forklore.abi.signals import signal_name
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.export.json_tree.calls import CallObject, CreationObject, ExecObject, FailedExecObject
from forklore.export.json_tree.code import AttributionObject, NameObject, RunsObject
from forklore.export.json_tree.descriptors import DescriptorsObject
from forklore.export.json_tree.memory import BorrowedObject, CowObject, VforkObject
from forklore.export.json_tree.parts import Span, TaskNumber, Time, Word, named, word
from forklore.export.json_tree.sharing import AnswerObject, SharingObject
from forklore.model.attributions import Attributions
from forklore.model.tasks import Death, Failure, JobStop, Kind, Reaper, Reaping, Task, Trace
from forklore.model.vfork_holds import Holding


class ReaperObject(Struct, frozen=True, gc=False):
    """Who inherited a task."""

    t: Time
    """When."""
    tid: int
    """The pid of its new parent."""
    task: TaskNumber | None
    """The same, if it is in the trace."""

    @classmethod
    def of(cls, reaper: Reaper) -> ReaperObject:
        """One of a task's reapers."""
        return cls(reaper.t, reaper.tid, reaper.task)


class ReapingObject(Struct, frozen=True, gc=False):
    """What became of a process's zombie."""

    how: ev.ReapHow
    """``waited``: its parent took its status; ``ignored``: that ignores SIGCHLD, and there was no zombie; ``at once``:
    it was gone in the moment in which its parent could take its status (which was waiting for it, or has
    SA_NOCLDWAIT); ``left``: its parent ended and never waited for it; ``stands``: the zombie is there as the trace
    ends; ``unknown``: its parent waited or, after that one's end, a reaper."""
    since: int
    """When it was last seen as a zombie."""
    t: Time
    """When it was first seen to be so."""
    tid: int
    """The pid of its parent then, …"""
    task: TaskNumber
    """… and the task that led that."""

    @classmethod
    def of(cls, reaping: Reaping) -> ReapingObject:
        """One of a task's."""
        return cls(reaping.how, reaping.since, reaping.t, reaping.tid, reaping.task)


class StopObject(Struct, frozen=True, gc=False):
    """A stop for job control."""

    t: Time
    """When it stopped."""
    signal: str
    """By which signal."""
    resumed: Time
    """When it went on; null if it did not."""

    @classmethod
    def of(cls, stop: JobStop) -> StopObject:
        """One of a task's stops."""
        return cls(stop.t, signal_name(stop.signal), stop.resumed)


class ExitObject(Struct, frozen=True, gc=False, kw_only=True):
    """One of two forms: ``code``, or the keys of a signal."""

    code: int | UnsetType | None = UNSET
    """Exit status; null where a log does not tell how it ended."""
    signal: int | UnsetType = UNSET
    """What ended it."""
    signal_name: str | UnsetType = UNSET
    """Its name."""
    core: bool | UnsetType = UNSET
    """Whether a core was dumped."""
    sender: int | UnsetType | None = UNSET
    """The pid that sent it, where a process did."""
    by: ev.KilledBy | UnsetType | None = UNSET
    """How it is known who sent a SIGKILL: by the sender's ``call``; the ``tracer`` did; ``oom``: nobody in sight did,
    and the kernel had killed for want of memory meanwhile."""
    stack: ev.Id | UnsetType | None = UNSET
    """Where it was when the signal came: the ``id`` of one of ``stacks``."""
    address: Word | UnsetType | None = UNSET
    """The address of a fault."""

    @classmethod
    def of(cls, death: Death) -> ExitObject:
        """A task's death."""
        if death.signal is None:
            return cls(code=death.code)
        return cls(
            signal=death.signal,
            signal_name=signal_name(death.signal),
            core=death.core,
            sender=death.sender,
            by=death.by,
            stack=None if death.stack is None else death.stack.number,
            address=word(death.address),
        )


class TaskObject(Struct, frozen=True):
    """A task in the kernel's sense, process or thread."""

    id: TaskNumber
    """Its task number."""
    tid: int | None
    """Its thread id, in the tracer's pid namespace; after an exec that took over a leader's tid, that one; null where a
    log does not tell it."""
    tgid: int | None
    """Its process id, as getpid(2) gives it; null where it is not known, or not known whether it is a thread."""
    ns_tids: tuple[int | None, ...]
    """Its tid in each pid namespace from the tracer's down to its own, where these differ."""
    kind: Kind
    """``process``, ``thread``, or ``task`` where the flags of its creation are not known."""
    comm: ev.Text | None
    """Its name, as the kernel has it."""
    names: list[NameObject]
    """The names that it got other than by exec."""
    how: ev.BeginHow | Literal["created"]
    """``created``; or ``root``, ``attached`` (it ran already), ``continued`` (its creation is in an earlier file of the
    recording), ``adopted`` (its creation was not seen), ``log`` (first seen in a log)."""
    traced: bool
    """False: it was let go, or never followed, and nothing more is known of it."""
    creator: TaskNumber | None
    """Who made the call."""
    parent: TaskNumber | None
    """Who waited for it at first; not the creator with CLONE_PARENT, nor for a thread."""
    leader: TaskNumber | None
    """The task that its thread group began with; itself for a process."""
    heir: TaskNumber | None
    """The thread whose exec took over this leader's tid."""
    reaper: list[ReaperObject]
    """Who inherited it when its parent ended."""
    reaped: list[ReapingObject]
    """What became of its zombie: after ``left`` also what its reaper did. Empty where its parent is not in the
    trace."""
    creation: CreationObject | None
    """The call that made it."""
    attribution: AttributionObject | None
    """Who made it; null where its creation was not seen."""
    runs: RunsObject | None
    """What it was given to run; null where that was not looked for."""
    stack: ev.Id | None
    """Its creator's call stack then: the ``id`` of one of ``stacks``."""
    script: ev.Id | None
    """Its creator's interpreter frames then: the ``id`` of one of ``scripts``."""
    execs: list[ExecObject]
    """The programs that it executed."""
    sharing: SharingObject | None
    """What it shared, with whom and how long."""
    standing: ev.Standing | Unavailable | None
    """How the kernel had it when it was first held."""
    cow: list[CowObject]
    """The memory that it had in common with its creator, and what became of it, with ``--cow``."""
    vfork: VforkObject | None
    """Of a CLONE_VFORK child: whom it held, and who ran on meanwhile."""
    borrowed: list[BorrowedObject]
    """What it changed in its creator's memory as a child with CLONE_VM, with ``--vfork-writes``."""
    descriptors: list[DescriptorsObject]
    """What it held right after each exec."""
    failed_execs: list[FailedExecObject]
    """Those that were refused."""
    calls: list[CallObject]
    """Its unshare, setns, setsid, and close_range with CLOSE_RANGE_UNSHARE."""
    stops: list[StopObject]
    """Its stops for job control."""
    exit: ExitObject | None
    """How it ended."""
    cpu: int | None
    """CPU time in µs of its process and of the children that this had waited for; null: not told, as of a thread."""
    peak: int | None
    """The most memory in KiB that its process had resident, or one of these children; null: not told."""
    tracer_held: int
    """For how many ns the tracer held it, from when it learned of each stop, …"""
    tracer_unseen: int
    """… and for how many at most before that."""
    gone: ev.GoneWhy | None
    """Why it is seen no more, where that was not its end: ``superseded``, ``released``, ``ended``, ``lost``."""
    t_created: Time
    """When its creation was seen."""
    t_ended: Time
    """When its end was seen."""
    lifetime: Span | None
    """From one to the other."""
    exec_after: Span | None
    """From its creation to its first exec."""
    vfork_held: Span | None
    """How long its CLONE_VFORK held its creator."""


class Tasks:
    """Makes the objects of a trace's tasks, and what of it they have in common once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._found = Attributions()
        self._holding = Holding(trace)
        self._attributions: dict[int, AttributionObject] = {}
        self._answers: dict[int, list[AnswerObject]] = {}

    def attribution(self, made: Task | Failure) -> AttributionObject | None:
        """Who made it; None where its call was not seen."""
        found = self._found.of(made)
        if found is None or made.stack is None:
            return None if found is None else AttributionObject.of(found)
        # With a stack it is one for many (Attributions), and lives as long as they do.
        known = self._attributions.get(id(found))
        if known is None:
            known = self._attributions[id(found)] = AttributionObject.of(found)
        return known

    def object(self, task: Task) -> TaskObject:
        """The whole object of one task."""
        sharing = self._trace.sharing
        creation = task.creation
        held = self._holding.of(task)
        return TaskObject(
            id=task.id,
            tid=task.tid or None,
            tgid=task.tgid or None,
            ns_tids=tuple(tid or None for tid in task.ns_tids),
            kind=task.kind,
            comm=named(task.comm),
            names=[NameObject.of(naming) for naming in task.names],
            how=task.how,
            traced=task.traced,
            creator=task.creator,
            parent=task.parent,
            leader=task.leader,
            heir=task.heir,
            reaper=[ReaperObject.of(reaper) for reaper in task.reapers],
            reaped=[ReapingObject.of(reaping) for reaping in task.reaped],
            creation=None if creation is None else CreationObject.of(creation, task.stop, task.untraced_cleared),
            attribution=self.attribution(task),
            runs=None if task.runs is None else RunsObject.of(task.runs, self._trace.code),
            stack=None if task.stack is None else task.stack.number,
            script=None if task.script is None else task.script.script,
            execs=[ExecObject.of(image) for image in task.images],
            sharing=None if sharing is None else SharingObject.of(task.id, sharing, self._answers),
            standing=task.standing,
            cow=[CowObject.of(record) for record in task.cow],
            vfork=None if held is None else VforkObject.of(held),
            borrowed=[BorrowedObject.of(record) for record in task.borrowed],
            descriptors=[DescriptorsObject.of(record) for record in task.descriptors],
            failed_execs=[FailedExecObject.of(failed) for failed in task.failed_execs],
            calls=[CallObject.of(call) for call in task.calls],
            stops=[StopObject.of(stop) for stop in task.stops],
            exit=None if task.death is None else ExitObject.of(task.death),
            cpu=task.cpu,
            peak=task.peak,
            tracer_held=task.tracer_held,
            tracer_unseen=task.tracer_unseen,
            gone=task.gone,
            t_created=task.created,
            t_ended=task.ended,
            lifetime=task.lifetime,
            exec_after=task.exec_after,
            vfork_held=task.held,
        )
