"""From events to tasks, one event at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from forklore.abi.flags import CLONE_THREAD, CLONE_VFORK
from forklore.abi.units import Nanoseconds, TaskId, Tid, Unavailable
from forklore.decode.calls import Call, Ptrace, decode_call
from forklore.decode.creation import Creation
from forklore.decode.lineage import lineage
from forklore.events import records as ev
from forklore.model.creations import Forms, decoded
from forklore.model.refusals import ChildNamespaces, target_of
from forklore.model.stacks import CallStack
from forklore.model.tasks import (
    Death,
    FailedExec,
    Failure,
    Image,
    JobStop,
    MadeCall,
    Naming,
    Reaper,
    Reaping,
    Task,
    Trace,
)
from forklore.model.without_gc import uncollected

if TYPE_CHECKING:
    from forklore.decode.rules.table import Reason
    from forklore.events.trace_file import TraceFile
    from forklore.model.sharing import Sharing

_Fact = TypeVar("_Fact")
_CORE: Final = 0x80
_ENOENT, _EACCES, _ENOTDIR, _ENODEV, _ETIMEDOUT, _ESTALE = 2, 13, 20, 19, 110, 116
_SEARCH_GOES_ON: Final = frozenset({_ENOENT, _EACCES, _ENOTDIR, _ENODEV, _ETIMEDOUT, _ESTALE})
"""After these execvp(3) tries the next directory of PATH (glibc posix/execvpe.c)."""


_FOUND: Final = ("attached", "continued")
"""Tasks that were there before; the order of their events has parents before children and leaders before threads."""


def build(header: ev.Header, events: Iterable[ev.Event], *, sharing: bool = False) -> Trace:
    """The trace that ``events`` tell of, which must be consistent: readers check them.

    ``sharing``: with who shared what over time, in :attr:`Trace.sharing`, which takes several times as long.
    """
    builder = Builder(header, sharing=sharing)
    feed = builder._feed
    with uncollected():
        for event in events:
            feed[type(event)](event)
    return builder.trace


def built(source: TraceFile, *, sharing: bool = False) -> Trace:
    """The trace of an opened file, with what is wrong with the file in its warnings. Raises TraceError."""
    trace = build(source.header, source, sharing=sharing)
    trace.warnings.extend(source.warnings)
    return trace


class Builder:
    """Grows :attr:`trace` as events come; at any time it is what is known so far."""

    def __init__(self, header: ev.Header, *, sharing: bool = False) -> None:
        self.trace = Trace(header)
        self._kernel = kernel_version(header.kernel)
        self._coarse = header.clock.resolution
        self._sharing: Sharing | None = None
        if sharing:
            from forklore.model.sharing import Sharing

            self.trace.sharing = self._sharing = Sharing(self._kernel)
        self._forms = Forms()
        self._callers = ChildNamespaces(self.trace, self._kernel)
        self._signals: dict[TaskId, ev.Signal] = {}
        self._untimed = 0
        """How much was told without a time."""
        self._by_tid: dict[int, TaskId] = {}
        """Who has or had a tid last."""
        self._environments: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        self._superseded: Task | None = None
        """Who lost its tid last, until the exec that it was lost to."""
        self._feed: dict[type, Callable[[Any], None]] = {
            ev.Begin: self._begin,
            ev.Module: self.trace.code.feed,
            ev.Place: self.trace.code.feed,
            ev.Lines: self.trace.code.feed,
            ev.Stack: self.trace.code.feed,
            ev.Script: self.trace.code.feed,
            ev.Name: self._name,
            ev.Title: self._title,
            ev.Create: self._create,
            ev.Fail: self._fail,
            ev.Other: self._other,
            ev.Exec: self._exec,
            ev.ExecFail: self._exec_fail,
            ev.VforkDone: self._vfork_done,
            ev.Cow: self._cow,
            ev.Borrowed: self._borrowed,
            ev.Descriptors: self._descriptors,
            ev.Exit: self._exit,
            ev.Gone: self._gone,
            ev.Signal: self._signal,
            ev.GroupStop: self._group_stop,
            ev.Resume: self._resume,
            ev.Reparent: self._reparent,
            ev.Reap: self._reap,
            ev.Note: self._note,
            ev.End: self._end,
        }

    def feed(self, event: ev.Event) -> None:
        """Take the next event."""
        self._feed[type(event)](event)

    def holds_creator(self, number: TaskId) -> bool:
        """Whether an event may still tell that a CLONE_VFORK child has given its creator's memory back."""
        task = self.trace.tasks[number]
        creator = self.trace.tasks.get(task.creator) if task.creator is not None else None
        if creator is None or creator.death is not None or task.form is None or task.vfork_released is not None:
            return False
        return bool((task.form.flags or 0) & CLONE_VFORK)

    def forget(self, number: TaskId) -> None:
        """Take a task that ended out of :attr:`trace`, for who follows a program that never ends."""
        task = self.trace.tasks.pop(number)
        self._callers.forget(number)
        if self._sharing is not None:
            self._sharing.forget(number)
        if self._by_tid.get(task.tid) == number:
            del self._by_tid[task.tid]
        above = task.creator if task.creator is not None else task.found_under
        creator = self.trace.tasks.get(above) if above is not None else None
        if creator is not None and isinstance(creator.children, list):
            creator.children.remove(number)

    def _order(self, t: int | None) -> int:
        if t is not None:
            return 0
        self._untimed += 1
        return self._untimed

    def _task(self, number: int) -> Task:
        return self.trace.tasks[TaskId(number)]

    def _begin(self, event: ev.Begin) -> None:
        tid, tgid = Tid(event.tid), Tid(event.tgid)
        number = TaskId(event.task)
        process = tid == tgid
        told = event.how != "log"  # which has no word of what a task is that it did not see made
        leader = number if process else self._leader_of(tgid)
        above = None
        if event.how in _FOUND:
            above = self._leader_of(Tid(event.parent_tid or 0)) if process else leader
        self.trace.tasks[number] = Task(
            id=number,
            tid=tid,
            tgid=tgid if told else None,
            kind="task" if not told else "process" if process else "thread",
            creator=None,
            found_under=above,
            parent=above if process else None,
            leader=leader,
            how=event.how,
            created=_time(event.t),
            coarse=self._coarse,
            comm=None if event.comm is None else ev.raw_bytes(event.comm),
            standing=event.standing,
        )
        if event.ns_tids:
            self.trace.tasks[number].ns_tids = tuple(event.ns_tids)
        self._by_tid[tid] = number
        if above is not None:
            finder = self.trace.tasks[above]
            finder.children = _with(finder.children, number)
        if self._sharing is not None:
            standing = event.standing if isinstance(event.standing, ev.Standing) else None
            self._sharing.began(number, _time(event.t), standing, event.together)

    def _leader_of(self, tgid: Tid) -> TaskId | None:
        number = self._by_tid.get(tgid)
        task = None if number is None else self.trace.tasks.get(number)
        return task.id if task is not None and task.death is None and task.gone is None else None

    def _create(self, event: ev.Create) -> None:
        creator, number = self._task(event.task), TaskId(event.child)
        form, tid = self._forms.of(event), Tid(event.tid)
        kind = form.kind
        leader = self.trace.tasks.get(creator.leader) if creator.leader is not None else None
        group = creator.id if creator.leader is None else creator.leader
        flags = form.flags if form.flags is not None else CLONE_THREAD if kind == "thread" else 0
        place = lineage(flags, number, group, None if leader is None else leader.parent)
        # Who waits for it is the whole process of its creator, which is not known of a task of unknown kind.
        parent = None if kind == "task" or creator.kind == "task" else place.parent
        tgid = creator.tgid if place.thread else tid if kind == "process" else None
        # By position and one by one: with all of them as keywords this takes four times as long, and it is what a
        # long trace has most of.
        task = Task(number, tid, tgid, kind, creator.id, parent, creator.leader if place.thread else number)
        task.form = form
        task.record = event
        task.traced = event.traced
        task.untraced_cleared = event.untraced_cleared
        task.stop = event.stop
        task.created, task.coarse = _time(event.t), self._coarse
        task.order = self._order(event.t)
        task.comm = creator.comm
        task.kcmp = event.kcmp
        task.standing = event.standing
        task.runs = event.runs
        if event.ns_tids:
            task.ns_tids = tuple(event.ns_tids)
        if event.stack is not None:
            task.stack = self.trace.code.stacks[event.stack]
        if event.script is not None:
            task.script = self.trace.code.scripts[event.script]
        if self._sharing is not None:
            self._sharing.created(number, creator.id, decoded(event), event)
        self.trace.tasks[number] = task
        self._by_tid[tid] = number
        creator.children = _with(creator.children, number)
        self._callers.created(creator.id, number)

    def _stack(self, number: int | None) -> CallStack | None:
        return None if number is None else self.trace.code.stacks[number]

    def _script(self, number: int | None) -> ev.Script | None:
        return None if number is None else self.trace.code.scripts[number]

    def _name(self, event: ev.Name) -> None:
        task = self._task(event.task)
        task.comm = ev.raw_bytes(event.comm)
        task.names = _with(task.names, Naming(_time(event.t), task.comm, event.how))

    def _title(self, event: ev.Title) -> None:
        self._task(event.task).title = tuple(map(ev.raw_bytes, event.argv))

    def _fail(self, event: ev.Fail) -> None:
        creation = decoded(event)
        why: tuple[Reason, ...] = ()
        # What a library's function returned need not be what the kernel said.
        if event.errno is not None and (event.library is None or creation.call != "unknown"):
            why = self._reasons(event, creation, event.errno)
        failure = Failure(
            t=_time(event.t),
            task=TaskId(event.task),
            creation=creation,
            errno=event.errno,
            limits=event.limits,
            reasons=why,
            stack=self._stack(event.stack),
            script=self._script(event.script),
            injected=event.injected,
            library=event.library,
            order=self._order(event.t),
        )
        self.trace.failures.append(failure)
        task = self._task(event.task)
        task.failures = _with(task.failures, failure)

    def _reasons(self, event: ev.Fail | ev.Other, call: Creation | Call, errno: int) -> tuple[Reason, ...]:
        if event.injected:
            from forklore.decode.rules.table import injected

            return (injected(errno),)
        target, told = (None, {}) if isinstance(event, ev.Fail) else target_of(event.target)
        if isinstance(call, Ptrace) and call.pid in self._by_tid:
            told["traced"] = 1
        read = {**told, **event.limits}
        limits = self._callers.told(self._task(event.task), read, one_thread=not isinstance(call, Creation))
        return _reasons(call, errno, self._kernel, target, tuple(limits.items()))

    def _other(self, event: ev.Other) -> None:
        call = decode_call(event.arch, event.nr, event.args)
        why: tuple[Reason, ...] = ()
        if event.result is not None and event.result < 0:
            why = self._reasons(event, call, -event.result)
        elif event.injected:
            why = self._reasons(event, call, 0)
        elif event.result is not None:
            self._callers.called(TaskId(event.task), call, event.target)
        if self._sharing is not None and not event.injected:
            self._sharing.called(TaskId(event.task), event, call, call_word(call))
        task = self._task(event.task)
        order = self._order(event.t)
        made = MadeCall(_time(event.t), call, event.result, event.target, why, event.injected, order)
        task.calls = _with(task.calls, made)

    def _exec(self, event: ev.Exec) -> None:
        task = self._task(event.task)
        if event.former_tid is not None:
            self._take_over(task)
        image = Image(
            t=_time(event.t),
            path=_text(event.path),
            argv=_texts(event.argv),
            argc=event.argc,
            cut=frozenset(event.cut),
            exe=None if event.exe is None else _text(event.exe),
            comm=None if event.comm is None else ev.raw_bytes(event.comm),
            began=_time(event.began),
            former_tid=None if event.former_tid is None else Tid(event.former_tid),
            at=event.at,
            envp=None if event.envp is None else self._environment(event.envp),
            set_id=event.set_id,
        )
        task.images = _with(task.images, image)
        task.title = ()
        self._callers.executed(task.id)
        task.comm = image.comm or task.name
        if self._sharing is not None:
            self._sharing.executed(task.id, event)

    def _environment(self, entries: list[ev.Text]) -> tuple[bytes, ...]:
        # Most tasks have the one of their creator.
        found = tuple(map(ev.raw_bytes, entries))
        return self._environments.setdefault(found, found)

    def _take_over(self, task: Task) -> None:
        leader = self.trace.tasks.get(task.leader) if task.leader is not None else None
        superseded, self._superseded = self._superseded, None
        if leader is None or (leader is task and task.kind == "task"):
            leader = superseded  # the source did not tell that it is a thread: this does
        if leader is None or leader is task:
            return
        leader.heir = task.id
        task.kind = "thread"
        task.tid = leader.tid
        self._by_tid[task.tid] = task.id
        task.tgid = leader.tgid
        task.parent = leader.parent
        task.leader = task.id  # the group's other threads are dead by now (fs/exec.c: de_thread)

    def _exec_fail(self, event: ev.ExecFail) -> None:
        task = self._task(event.task)
        path, argv = _text(event.path), _texts(event.argv)
        before = task.failed_execs
        if isinstance(before, list) and _same_search(before[-1], path, argv, event):
            before[-1].paths.append(path)
            before[-1].errnos.append(event.errno)
        else:
            failed = FailedExec(
                _time(event.t), [path], [event.errno], event.injected, argv=argv, argc=event.argc, at=event.at,
                order=self._order(event.t),
            )
            task.failed_execs = _with(task.failed_execs, failed)

    def _vfork_done(self, event: ev.VforkDone) -> None:
        if event.child is not None:
            self._task(event.child).vfork_released = _time(event.t)
        else:
            who = f"a child {event.tid} that task {event.task} made with CLONE_UNTRACED|CLONE_VFORK"
            self.trace.notes.append((who, "only its end of borrowing memory was reported"))

    def _exit(self, event: ev.Exit) -> None:
        task = self._task(event.task)
        task.ended = self.trace.ended = _time(event.t)
        # Of a small process it can be 0: the kernel keeps a part of the count per processor (mm_struct's rss_stat).
        task.cpu, task.peak = event.cpu, event.peak or None
        task.tracer_held, task.tracer_unseen = Nanoseconds(event.held), Nanoseconds(event.unseen)
        if self._sharing is not None:
            self._sharing.ended(task.id, event.t)
        origin = self._signals.pop(task.id, None) if self._signals else None
        if event.status is None:
            task.death = Death()
        elif event.status & 0x7F:
            task.death = Death(
                signal=event.status & 0x7F,
                core=bool(event.status & _CORE),
                sender=None if origin is None or origin.sender is None else Tid(origin.sender),
                address=None if origin is None else origin.address,
                by=None if origin is None else origin.by,
                stack=None if origin is None else self._stack(origin.stack),
            )
        else:
            task.death = Death(code=event.status >> 8 & 0xFF)

    def _gone(self, event: ev.Gone) -> None:
        task = self._task(event.task)
        task.ended = _time(event.t)
        task.gone = event.why
        if self._sharing is not None and event.why == "superseded":
            self._sharing.ended(task.id, event.t)
        if event.why == "superseded":
            self._superseded = task

    def _signal(self, event: ev.Signal) -> None:
        self._signals[TaskId(event.task)] = event

    def _group_stop(self, event: ev.GroupStop) -> None:
        task = self._task(event.task)
        task.stops = _with(task.stops, JobStop(_time(event.t), event.signal, None))

    def _resume(self, event: ev.Resume) -> None:
        stops = self._task(event.task).stops
        if isinstance(stops, list):
            stops[-1] = JobStop(stops[-1].t, stops[-1].signal, _time(event.t))

    def _reparent(self, event: ev.Reparent) -> None:
        heir = None if event.parent is None else TaskId(event.parent)
        task = self._task(event.task)
        task.reapers = _with(task.reapers, Reaper(_time(event.t), Tid(event.parent_tid), heir))

    def _reap(self, event: ev.Reap) -> None:
        task = self.trace.tasks.get(TaskId(event.task))
        if task is None:
            return  # forgotten: it stood for long after its end
        found = Reaping(
            _time(event.t), event.how, Nanoseconds(event.since), Tid(event.parent_tid), TaskId(event.parent)
        )
        task.reaped = _with(task.reaped, found)

    def _cow(self, event: ev.Cow) -> None:
        task = self._task(event.task)
        task.cow = _with(task.cow, event)

    def _borrowed(self, event: ev.Borrowed) -> None:
        task = self._task(event.task)
        task.borrowed = _with(task.borrowed, event)

    def _descriptors(self, event: ev.Descriptors) -> None:
        task = self._task(event.task)
        task.descriptors = _with(task.descriptors, event)

    def _note(self, event: ev.Note) -> None:
        self.trace.notes.append((event.what, event.why))

    def _end(self, event: ev.End) -> None:
        self.trace.end_reason = event.reason
        self.trace.ended = _time(event.t)


@lru_cache(maxsize=1024)
def _reasons(
    call: Creation | Call, errno: int, kernel: tuple[int, ...] | None, target: str | None,
    read: tuple[tuple[str, int], ...],
) -> tuple[Reason, ...]:  # fmt: skip
    # The rules are many, and most traces have no use for them: loaded when the first call fails.
    from forklore.abi.capabilities import capability_names
    from forklore.decode.rules.rule import Context
    from forklore.decode.rules.table import reasons

    limits = dict(read)
    capabilities = limits.get("cap_eff")
    context = Context(
        kernel=kernel,
        uid=limits.get("uid"),
        caps=None if capabilities is None else capability_names(capabilities),
        target=target,
        limits=limits,
    )
    return reasons(call, errno, context)


def _with(known: Sequence[_Fact], new: _Fact) -> list[_Fact]:
    # A list is made for its first element: most tasks have none, and there may be very many tasks.
    if isinstance(known, list):
        known.append(new)
        return known
    return [new]


def call_word(call: Call) -> str:
    """The name of a call that is no creation."""
    return call.text().partition("(")[0]


def _text(value: ev.Text | Unavailable) -> bytes | Unavailable:
    return value if isinstance(value, Unavailable) else ev.raw_bytes(value)


def _texts(values: list[ev.Text] | Unavailable) -> tuple[bytes, ...] | Unavailable:
    return values if isinstance(values, Unavailable) else tuple(ev.raw_bytes(value) for value in values)


def _time(t: int | None) -> Nanoseconds | None:
    return None if t is None else Nanoseconds(t)


def _same_search(
    last: FailedExec, path: bytes | Unavailable, argv: tuple[bytes, ...] | Unavailable, event: ev.ExecFail
) -> bool:
    if isinstance(path, Unavailable) or isinstance(last.paths[-1], Unavailable) or event.at or last.at:
        return False
    same = path.rpartition(b"/")[2] == last.paths[-1].rpartition(b"/")[2] and argv == last.argv
    return same and event.injected == last.injected and last.errnos[-1] in _SEARCH_GOES_ON


def kernel_version(release: str | None) -> tuple[int, ...] | None:
    """(6, 18) of "6.18.44-fc"; None where there is no such thing at its start."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", release or "")
    if not found:
        return None
    # Up to 2.6 it is the third number that counts.
    return tuple(int(part) for part in found.groups() if part)[: 3 if found[1] == "2" else 2]
