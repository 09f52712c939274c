"""What a trace holds, counted: which programs made, executed and were refused what, and how they ended.

Nothing in it differs between two runs that did the same: no pid, no time, no address, no line of a source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from forklore.abi.text import as_text
from forklore.abi.units import TaskId, Unavailable
from forklore.decode.calls import CloseRange
from forklore.events import records as ev
from forklore.model.attributions import Attributions
from forklore.model.build import Builder
from forklore.model.names import function_name
from forklore.model.tasks import FailedExec, Failure, Kind, Task, Trace
from forklore.model.without_gc import uncollected

if TYPE_CHECKING:
    from forklore.events.trace_file import TraceFile
    from forklore.model.attribution import Attribution

_OBJECT: Final = re.compile(r"(?<=\[)\d+(?=\])")
"""Of ``net:[4026531840]``, as /proc names what a descriptor refers to."""
_POINTER: Final = re.compile(r"(?<=set_tid=)0x[0-9a-f]+")
_NO_FILE: Final = "code without a file"
_UNKNOWN: Final = b"?"


class Maker(Struct, frozen=True):
    """Where tasks of one kind are made: the creator's program, and the function in it that asks for them."""

    program: bytes
    """The file name of what the creator executed last, or its name; empty where it had executed nothing yet."""
    kind: Kind
    caller: str = ""
    """A function, or ``function (file)`` of a script; the file of code without names; empty where it is not known."""


class Manner(Struct, frozen=True):
    """How a task is made: the library calls, and the system call with its flags and exit signal."""

    call: str
    library: str = ""
    """``popen → posix_spawn``; empty where the program makes the system call itself, or where it is not known."""


class Refusal(Struct, frozen=True):
    """A creation that the kernel refuses."""

    maker: Maker
    manner: Manner
    errno: int | None
    """None: not known."""


class Execution(Struct, frozen=True):
    """An execve of ``path`` by what runs ``program``, empty for the first of the trace. ``errno`` None: it succeeds."""

    program: bytes
    path: bytes
    """As given to execve; the bare name for a search through PATH that finds nothing."""
    errno: int | None = None


class Act(Struct, frozen=True):
    """unshare, setns, close_range or setsid. ``errno`` None: it succeeds."""

    program: bytes
    call: str
    errno: int | None = None


class Ending(Struct, frozen=True):
    """How a process ends: an exit ``code`` or a ``signal``; neither where it is not known."""

    code: int | None = None
    signal: int | None = None
    core: bool = False


Counted = tuple[Maker, Manner] | Refusal | Execution | Act | tuple[bytes, Ending]
"""What is counted; the last is a program and how it ended."""

UNKNOWN: Final = Ending()
GOOD: Final = Ending(code=0)


class SharedExtent(Struct):
    """What was found of one resource, over all tasks of a maker: whether sharing it was asked for, and was observed."""

    asked: set[bool] = field(default_factory=set)
    observed: set[bool] = field(default_factory=set)


class Census(Struct, kw_only=True):
    """All counts of one trace."""

    header: ev.Header
    processes: int = 0
    threads: int = 0
    tasks: int = 0
    """Those of which it is not known what they are."""
    made: dict[Maker, Counter[Manner]] = field(default_factory=dict)
    sharing: dict[Maker, dict[str, SharedExtent]] = field(default_factory=dict)
    refused: Counter[Refusal] = field(default_factory=Counter)
    executed: Counter[Execution] = field(default_factory=Counter)
    acts: Counter[Act] = field(default_factory=Counter)
    ends: dict[bytes, Counter[Ending]] = field(default_factory=dict)
    """Of processes, by the program that they ran last. A thread ends as its process does, or before: by chance."""
    sites: bool = True
    """Whether the trace tells who made what."""
    observed: bool = True
    """Whether it tells what was shared, not only what was asked for."""
    warnings: list[str] = field(default_factory=list)
    whose: dict[Counted, list[TaskId]] = field(default_factory=dict)
    """The tasks behind the counts: those that were made, or who was refused, executed, acted or ended so."""

    def without_sites(self) -> Census:
        """The same, as a trace without call stacks would have it."""
        made: dict[Maker, Counter[Manner]] = {}
        sharing: dict[Maker, dict[str, SharedExtent]] = {}
        for maker, manners in self.made.items():
            counted = made.setdefault(_bare(maker), Counter())
            for manner, count in manners.items():
                counted[Manner(manner.call)] += count
        for maker, extents in self.sharing.items():
            merged = sharing.setdefault(_bare(maker), {})
            for resource, extent in extents.items():
                known = merged.setdefault(resource, SharedExtent())
                known.asked |= extent.asked
                known.observed |= extent.observed
        refused: Counter[Refusal] = Counter()
        for refusal, count in self.refused.items():
            refused[Refusal(_bare(refusal.maker), Manner(refusal.manner.call), refusal.errno)] += count
        whose: dict[Counted, list[TaskId]] = {}
        for what, tasks in self.whose.items():
            whose.setdefault(_without_site(what), []).extend(tasks)
        return Census(
            header=self.header, processes=self.processes, threads=self.threads, tasks=self.tasks, made=made,
            sharing=sharing, refused=refused, executed=self.executed, acts=self.acts, ends=self.ends, sites=False,
            observed=self.observed, warnings=self.warnings, whose=whose,
        )  # fmt: skip


def _without_site(counted: Counted) -> Counted:
    match counted:
        case (Maker() as maker, Manner() as manner):
            return _bare(maker), Manner(manner.call)
        case Refusal():
            return Refusal(_bare(counted.maker), Manner(counted.manner.call), counted.errno)
        case _:
            return counted


def _bare(maker: Maker) -> Maker:
    return Maker(maker.program, maker.kind)


def census(source: TraceFile) -> Census:
    """Of an opened file, with what is wrong with the file in its warnings. Raises TraceError."""
    return counted(source)[0]


def counted(source: TraceFile) -> tuple[Census, Trace]:
    """The same, and the trace that was counted."""
    counting = _Counting(source.header)
    with uncollected():
        for event in source:
            counting.feed(event)
        found = counting.done()
    found.warnings.extend(source.warnings)
    return found, counting.trace


def count(header: ev.Header, events: Iterable[ev.Event]) -> Census:
    """Of ``events``, which must be consistent: readers check them."""
    counting = _Counting(header)
    with uncollected():
        for event in events:
            counting.feed(event)
        return counting.done()


class _Counting:
    """Reads events with the tasks' programs as they are at that moment: a log need not have times to tell it later."""

    def __init__(self, header: ev.Header) -> None:
        self._builder = Builder(header, sharing=True)
        self._census = Census(header=header)
        self._programs: dict[TaskId, bytes] = {}
        self._searches: dict[tuple[TaskId, int], bytes] = {}
        """Who tried to execute, for each of a task's failed execs."""
        self._attributions = Attributions()
        self._stacks = self._created = False

    @property
    def trace(self) -> Trace:
        return self._builder.trace

    def feed(self, event: ev.Event) -> None:
        self._builder.feed(event)
        match event:
            case ev.Begin():
                self._programs[TaskId(event.task)] = b"" if event.comm is None else ev.raw_bytes(event.comm)
            case ev.Create():
                self._made(self._task(event.child), self._task(event.task))
            case ev.Fail():
                self._refused(self._builder.trace.failures[-1])
            case ev.Exec():
                self._executed(self._task(event.task))
            case ev.ExecFail():
                task = self._task(event.task)
                self._searches.setdefault((task.id, len(task.failed_execs) - 1), self._programs[task.id])
            case ev.Other():
                self._acted(self._task(event.task))
            case _:
                return

    def _task(self, number: int) -> Task:
        return self._builder.trace.tasks[TaskId(number)]

    def _made(self, task: Task, creator: Task) -> None:
        program = self._programs[task.id] = self._programs[creator.id]
        maker, manner = self._how(program, task)
        self._census.made.setdefault(maker, Counter())[manner] += 1
        self._whose((maker, manner), task)
        match task.kind:
            case "process":
                self._census.processes += 1
            case "thread":
                self._census.threads += 1
            case _:
                self._census.tasks += 1
        extents = self._census.sharing.setdefault(maker, {})
        sharing = self._builder.trace.sharing
        assert sharing is not None
        for answer in sharing.answers.get(task.id, ()):
            extent = extents.setdefault(answer.resource, SharedExtent())
            if answer.asked is not None:
                extent.asked.add(answer.asked)
            if answer.how in ("kcmp", "/proc") and answer.observed != "unknown":
                # Of an object that neither has, as an I/O context before any I/O, there is nothing to share.
                extent.observed.add(answer.observed == "shared")

    def _refused(self, failure: Failure) -> None:
        maker, manner = self._how(self._programs[failure.task], failure)
        refusal = Refusal(maker, manner, failure.errno)
        self._census.refused[refusal] += 1
        self._whose(refusal, self._task(failure.task))

    def _how(self, program: bytes, made: Task | Failure) -> tuple[Maker, Manner]:
        creation = made.creation
        assert creation is not None
        self._created = True
        caller, library = self._site(made)
        return Maker(program, creation.kind, caller), Manner(_POINTER.sub("…", creation.text(abbreviate=True)), library)

    def _site(self, made: Task | Failure) -> tuple[str, str]:
        if made.stack is None and made.script is None:
            return "", ""
        found = self._attributions.of(made)
        if made.creation is None or found is None:
            return "", ""
        self._stacks = True
        chain = found.chain[:-1] if found.chain[-1:] == (made.creation.call,) else found.chain
        return _caller(found), " → ".join(chain)

    def _executed(self, task: Task) -> None:
        image = task.images[-1]
        path = image.file or image.comm or _UNKNOWN
        execution = Execution(self._programs[task.id], path)
        self._census.executed[execution] += 1
        self._whose(execution, task)
        self._programs[task.id] = _base(path)

    def _acted(self, task: Task) -> None:
        made = task.calls[-1]
        if isinstance(made.call, CloseRange) and made.call.unshares is False:
            return  # it closes, which logs of other tools tell as well
        target = f" [{_OBJECT.sub('…', made.target)}]" if made.target else ""
        errno = None if made.result is None or made.result >= 0 else -made.result
        act = Act(self._programs[task.id], made.call.text(abbreviate=True) + target, errno)
        self._census.acts[act] += 1
        self._whose(act, task)

    def _whose(self, counted: Counted, task: Task) -> None:
        self._census.whose.setdefault(counted, []).append(task.id)

    def done(self) -> Census:
        found, trace = self._census, self._builder.trace
        for task in trace.tasks.values():
            if task.creation is None:
                found.processes += task.kind == "process"
                found.threads += task.kind == "thread"
                found.tasks += task.kind == "task"
            for index, failed in enumerate(task.failed_execs):
                if not _found_later(task, failed):
                    program = self._searches[task.id, index]
                    failing = Execution(program, _sought(failed), failed.errnos[-1])
                    found.executed[failing] += 1
                    self._whose(failing, task)
            if task.leader == task.id and task.gone != "superseded":
                program, ending = self._programs[task.id], _ending(task)
                found.ends.setdefault(program, Counter())[ending] += 1
                self._whose((program, ending), task)
        found.sites = self._stacks or not self._created
        seen = (extent.observed for extents in found.sharing.values() for extent in extents.values())
        found.observed = not found.made or any(seen)
        return found


def _caller(found: Attribution) -> str:
    frame = found.script_frame
    if frame is not None:
        function, file = ev.raw_bytes(frame.function), _base(ev.raw_bytes(frame.file))
        return f"{as_text(function)} ({as_text(file)})"
    if found.caller is None:
        return ""
    place = found.caller.place
    return function_name(place, found.caller_line) or as_text(_base(place.path)) or _NO_FILE


def _base(path: bytes) -> bytes:
    return path.rstrip(b"/").rpartition(b"/")[2] or path


def _found_later(task: Task, failed: FailedExec) -> bool:
    # A step of a search through PATH that succeeded.
    last = failed.paths[-1]
    return isinstance(last, bytes) and any(_base(image.file or b"") == _base(last) for image in task.images)


def _sought(failed: FailedExec) -> bytes:
    last = failed.paths[-1]
    if isinstance(last, Unavailable):
        return _UNKNOWN
    return last if len(set(failed.paths)) == 1 else _base(last)


def _ending(task: Task) -> Ending:
    if task.death is None:
        return UNKNOWN
    return Ending(code=task.death.code, signal=task.death.signal, core=task.death.core)
