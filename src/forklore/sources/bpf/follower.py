"""From the programs' records to the events of a trace: pure but for what /proc still tells of a task that was missed.

The kernel writes a record before anybody can act on what it tells: a creation before the child runs, an end before
the tid is free again. So records are taken one after another, and nothing is waited for.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from msgspec.structs import replace

from forklore.abi import syscalls
from forklore.abi.flags import AT_FDCWD, CLONE_THREAD, CLONE_VFORK
from forklore.abi.kcmp import UNSET, Order
from forklore.abi.resources import APART
from forklore.abi.units import Pid, TaskId, Tid, Unavailable
from forklore.decode.holders import end, join, leave
from forklore.events import records as ev
from forklore.sources.bpf import raw
from forklore.sources.bpf.loss import Gaps
from forklore.sources.bpf.task import Family, Followed, Group, Pending
from forklore.sources.ptrace.options import Follow, Observe, Options

if TYPE_CHECKING:
    from forklore.sources.bpf.callers import Caller, CopiedStacks

_EQUAL, _UNEQUAL = int(Order.EQUAL), int(Order.UNEQUAL)
_GROUP_EXIT: Final = 4  # include/linux/sched/signal.h: SIGNAL_GROUP_EXIT
_SIGKILL: Final = 9
_FAULTS: Final = frozenset({4, 5, 7, 8, 11})
_SI_USER, _SI_QUEUE, _SI_TKILL = 0, -1, -6
_ARGUMENTS: Final = 4096
_STRING: Final = 1 << 16
_PYTHON: Final = b"python"
"""What an interpreter is called that runs already; one of another name is found when it makes a child."""

Mode = Literal["run", "attach", "watch"]


class Follower:
    """Takes the records of one trace and emits its events."""

    def __init__(
        self, options: Options, start: int, emit: Callable[[ev.Event], None], counts: Callable[[], Sequence[int]], *,
        root: Pid | None = None, parent_of: Callable[[Pid], Pid | None] = lambda _pid: None,
        cgroups: Callable[[Tid], list[ev.Text] | Unavailable] | None = None, stacks: CopiedStacks | None = None,
    ) -> None:  # fmt: skip
        """``counts``: what the programs have lost so far, by kind. ``root``: the process that is started, ours.

        ``parent_of``, ``cgroups``: what /proc tells of a task, late. ``stacks``: walks those that are copied.
        """
        self._options = options
        self._start = start
        self._emit = emit
        self._counts = counts
        self._root = root
        self._parent_of = parent_of
        self._cgroups = cgroups
        self.stacks = stacks
        self._me = os.getpid()
        self.family = Family()
        self.gaps = Gaps()
        self._released: set[int] = set()
        """Keys of tasks that are not followed."""
        self.root_ended = False
        self._takers: dict[type, Callable[..., None]] = {
            raw.Create: self._create,
            raw.Executing: self._executing,
            raw.Text: self._text,
            raw.Exec: self._exec,
            raw.Exit: self._exit,
            raw.Signal: self._signal,
            raw.Name: self._name,
            raw.Begin: self._begin,
            raw.Job: self._job,
            raw.Return: self._returned,
        }

    def take(self, record: raw.Record) -> None:
        """The next record."""
        if self.gaps.saw(record.head.number):
            self.tell_losses(record.head.time - self._start)
        self._takers[type(record)](record)

    def tell_losses(self, t: int) -> None:
        """Say what was lost since the last time, if anything was."""
        lost = self.gaps.lost(self._counts())
        if lost is not None:
            self._emit(
                ev.Note(
                    t=t, what=f"{lost.count} records of the kernel's events: {lost}",
                    why="the ring between the kernel and forklore was full; a larger --buffer holds more",
                )
            )  # fmt: skip

    def _t(self, head: raw.Head) -> int:
        return head.time - self._start

    def _of(self, head: raw.Head) -> Followed | None:
        """The task that a record is of; None where it is not followed. One that was missed is adopted."""
        task = self.family.by_key.get(head.task)
        if task is not None:
            return task if task.keep else None
        if head.task in self._released:
            return None
        return self._adopt(head, Tid(head.tid), Pid(head.tgid))

    def _adopt(self, head: raw.Head, tid: Tid, tgid: Pid, how: ev.BeginHow = "adopted") -> Followed:
        parent = self._parent_of(tgid)
        self._replace(tid, self._t(head))
        task = self.family.enter(self.family.add(tid, tgid, parent, depth=1), head.task)
        self._emit(ev.Begin(t=self._t(head), task=task.id, tid=tid, tgid=tgid, how=how, parent_tid=parent))
        return task

    def _replace(self, tid: Tid, t: int) -> None:
        # A tid is another task's now: the end of the one that had it was lost.
        former = self.family.live.get(tid)
        if former is not None:
            self._gone(former, t)

    def _gone(self, task: Followed, t: int, why: ev.GoneWhy = "lost") -> None:
        self._emit(ev.Gone(t=t, task=task.id, why=why))
        end(task, task.shares)
        self.family.forget(task)

    # What was there before

    def _begin(self, record: raw.Begin) -> None:
        head, t = record.head, self._t(record.head)
        tid, tgid = Tid(record.pids[0] or head.tid), Pid(record.process or head.tgid)
        is_root = tgid == self._root
        how: ev.BeginHow = "root" if is_root else "adopted" if record.late else "attached"
        self._replace(tid, t)
        task = self.family.enter(self.family.add(tid, tgid, Pid(record.ppid), depth=0), head.task)
        task.objects = record.objects
        task.namespaces = record.standing.namespaces
        task.comm = None if is_root else record.comm
        if self.stacks is not None and Pid(tid) == tgid and record.comm.startswith(_PYTHON):
            self.stacks.begin(task.group)
        together = None if is_root or self._options.observe is Observe.NONE else self._together(task)
        self._emit(
            ev.Begin(
                t=t, task=task.id, tid=tid, tgid=tgid, how=how, parent_tid=record.ppid,
                ns_tids=list(record.pids[: record.level + 1]) if record.level else None,
                comm=None if task.comm is None else ev.text(task.comm),
                standing=self._standing(record.standing, tid), together=together,
            )
        )  # fmt: skip

    def _together(self, task: Followed) -> dict[str, int]:
        found: dict[str, int] = {}
        for index, name in enumerate(ev.COMPARED):
            mine = task.objects[index]
            if not mine:
                continue
            other = next(
                (other for other in self.family.live.values()
                 if other is not task and other.objects and other.objects[index] == mine), None,
            )  # fmt: skip
            if other is not None:
                join(task, task.shares, other, other.shares, (index,))
            holders = task.shares.get(index)
            found[name] = min(each.id for each in holders) if holders else task.id
        return found

    # Creations

    def _create(self, record: raw.Create) -> None:
        creator = self._of(record.head)
        if creator is None:
            self._released.add(record.child)
            return
        t = self._t(record.head)
        tid = Tid(record.pids[0] or record.child_tid)
        self._replace(tid, t)
        child = self.family.enter(self.family.born(creator, tid, record.flags), record.child)
        child.keep = self._follows(child, thread=child.group is creator.group)
        creator.objects, child.objects = record.creators, record.childs
        thread = bool(record.flags & CLONE_THREAD)
        child.namespaces = creator.namespaces if thread else record.standing.namespaces
        if record.flags & CLONE_VFORK:
            child.waiter = creator
        answers = _compared(record.creators, record.childs)
        join(child, child.shares, creator, creator.shares, [i for i, answer in enumerate(answers) if answer == _EQUAL])
        caller = None if self.stacks is None else self.stacks.created(creator, child, record, t)
        self._emit(self._created(record, creator.id, child, t, answers, caller, thread=thread))
        if not child.keep:
            self._release(child)

    def _created(
        self,
        record: raw.Create,
        creator: TaskId,
        child: Followed,
        t: int,
        answers: tuple[int, ...],
        caller: Caller | None,
        *,
        thread: bool,
    ) -> ev.Create:
        call, observe = record.call, self._options.observe
        known = call.arch is not None and not record.by_kernel
        apart = not thread and (record.apart or bool(record.flags & APART) or observe is Observe.FULL)
        standing = self._standing(record.standing, child.tid) if apart else None
        return ev.Create(
            t=t, task=creator, arch=call.arch or "x86_64", nr=call.nr if known else None,  # type: ignore[arg-type]
            args=call.words if known else (), struct=_hexadecimal(call.struct) if known else None,
            set_tid=_hexadecimal(call.set_tid) if known else None, child=child.id, tid=child.tid, traced=child.keep,
            ns_tids=list(record.pids[: record.level + 1]) if record.level else None,
            kcmp=None if observe is Observe.NONE else answers,  # type: ignore[arg-type]
            standing=standing, stack=None if caller is None else caller.stack,
            script=None if caller is None else caller.script, runs=None if caller is None else caller.runs,
        )  # fmt: skip

    def _follows(self, child: Followed, *, thread: bool) -> bool:
        options = self._options
        if options.max_depth is not None and child.depth > options.max_depth:
            return False
        return options.follow is Follow.ALL or options.follow is (Follow.THREADS if thread else Follow.PROCESSES)

    def _release(self, child: Followed) -> None:
        self._released.add(child.key)
        end(child, child.shares)
        self.family.forget(child)

    def _standing(self, found: raw.Standing, tid: Tid) -> ev.Standing | None:
        if self._options.observe not in (Observe.AUTO, Observe.FULL):
            return None
        return ev.Standing(
            ppid=found.ppid, pgrp=found.pgrp, session=found.session, exit_signal=found.exit_signal,
            no_new_privs=found.no_new_privs, seccomp=found.seccomp, seccomp_filters=found.seccomp_filters,
            umask=found.umask, namespaces=found.namespaces,
            cgroups=None if self._cgroups is None else self._cgroups(tid),
        )  # fmt: skip

    # Execs

    def _executing(self, record: raw.Executing) -> None:
        task = self._of(record.head)
        if task is None:
            return
        pending = task.executing = Pending(self._t(record.head), record.path, argc=record.argc)
        if record.at:
            shown = record.path if isinstance(record.path, Unavailable) else ev.text(record.path)
            pending.at = ev.ExecAt(fd=record.fd, path=shown, flags=record.at_flags)

    def _text(self, record: raw.Text) -> None:
        task = self._of(record.head)
        if task is None:
            return
        pending = task.executing = task.executing or Pending(self._t(record.head))
        if record.what == raw.ENVP:
            pending.envp += record.text
            return
        if record.what == raw.DIRECTORY:
            _begin_at(pending, raw.path_of(record.text, deleted=record.last != raw.WHOLE))
            return
        pending.argv += record.text
        pending.error = record.error
        pending.whole = record.last == raw.WHOLE

    def _exec(self, record: raw.Exec) -> None:
        task = self._of(record.head)
        if task is None:
            return
        t, former = self._t(record.head), task.tid
        if record.former_tid != record.head.tid:
            task = self._take_over(task, t)
        pending, task.executing = task.executing or Pending(t), None
        compared = self._compared_again(task, record.objects)
        task.comm = record.comm
        argv, argc, cut = self._arguments(pending)
        moved = task.namespaces and task.namespaces.get("time") != record.standing.namespaces["time"]
        task.namespaces = record.standing.namespaces
        self._emit(
            ev.Exec(
                t=t, task=task.id, path=_path_of(pending, record), at=pending.at, argv=argv, argc=argc, cut=cut,
                exe=ev.text(record.exe), comm=ev.text(record.comm),
                former_tid=former if former != task.tid else None, compared=compared,
                standing=ev.Standing(namespaces=task.namespaces) if moved else None,
                envp=[ev.text(one) for one in _strings(pending.envp)] if self._options.env else None,
            )
        )  # fmt: skip
        self._gives_back(task, t)

    def _take_over(self, task: Followed, t: int) -> Followed:
        leader = self.family.leader(task.group.tgid)
        if leader is None or leader is task:
            return task
        self._emit(ev.Gone(t=t, task=leader.id, why="superseded"))
        end(leader, leader.shares)
        self.family.by_key.pop(leader.key, None)
        return self.family.take_over(task.tid, leader)

    def _arguments(self, pending: Pending) -> tuple[list[ev.Text] | Unavailable, int | None, list[int]]:
        if not self._options.argv:
            return Unavailable(0, "not recorded"), None, []
        if pending.error:
            return Unavailable(-pending.error, "an argument lies in memory that was not there any more"), None, []
        strings = _strings(pending.argv)
        if not strings and not pending.whole:
            return Unavailable(0, "the record of the arguments was lost"), None, []
        whole = pending.whole and len(strings) <= _ARGUMENTS
        kept = strings[:_ARGUMENTS]
        cut = [index for index, string in enumerate(kept) if len(string) > _STRING]
        return [ev.text(string[:_STRING]) for string in kept], None if whole else pending.argc, cut

    def _compared_again(self, task: Followed, now: raw.Objects) -> dict[str, tuple[int, int]]:
        """What the task still holds of what it held with others: an object that others hold is not freed meanwhile."""
        found: dict[str, tuple[int, int]] = {}
        for index, holders in list(task.shares.items()):
            other = next((other for other in holders if other is not task and other.ended is None), None)
            if other is None:
                continue
            same = bool(task.objects) and task.objects[index] == now[index]
            found[ev.COMPARED[index]] = other.id, _EQUAL if same else _UNEQUAL
            if not same:
                leave(task, task.shares, index)
        task.objects = now
        return found

    def _gives_back(self, task: Followed, t: int) -> None:
        waiter, task.waiter = task.waiter, None
        if waiter is not None and waiter.alive:
            self._emit(ev.VforkDone(t=t, task=waiter.id, child=task.id, tid=task.tid))

    # Ends

    def _exit(self, record: raw.Exit) -> None:
        if record.head.task in self._released:
            self._released.discard(record.head.task)
            return
        task = self._of(record.head)
        if task is None:
            return
        t = self._t(record.head)
        self._gives_back(task, t)
        end(task, task.shares)
        is_leader = Pid(task.tid) == task.group.tgid
        if is_leader and not record.last:
            task.ended = record
            return
        group = task.group
        self._ended(task, record.code, record, t)
        leader = self.family.leader(group.tgid)
        if record.last and leader is not None and leader.ended is not None:
            self._ended(leader, leader.ended.code, record, t)

    def _ended(self, task: Followed, code: int, last: raw.Exit, t: int) -> None:
        status = last.group_code if last.signal_flags & _GROUP_EXIT else code
        if status & 0x7F:
            self._told_why(task, status & 0x7F, t)
        self._emit(ev.Exit(t=t, task=task.id, status=status))
        group = task.group
        if group.tgid == self._root and Pid(task.tid) == group.tgid:
            self.root_ended = True
        if self.family.forget(task):
            if self.stacks is not None:
                self.stacks.ended(group)
            for child in list(self.family.orphans(group)):
                self._inherited(child, last.reaper, t)

    def _told_why(self, task: Followed, number: int, t: int) -> None:
        sent = task.signals.get(number)
        to_all = self.family.signals.get(task.group, {}).get(number)
        if sent is None and to_all is not None and (number == _SIGKILL or Pid(task.tid) == task.group.tgid):
            sent = to_all
        if sent is None:
            return
        sender = sent.sender if sent.code in (_SI_USER, _SI_QUEUE, _SI_TKILL) else None
        by: ev.KilledBy | None = None
        if number == _SIGKILL and sender is not None:
            by = "tracer" if sender == self._me else "call"
        fault = number in _FAULTS and sent.code > 0
        self._emit(
            ev.Signal(
                t=t, task=task.id, signal=number, code=sent.code, sender=sender,
                address=sent.address if fault else None, by=by,
            )
        )  # fmt: skip

    def _inherited(self, child: Group, reaper: int | None, t: int) -> None:
        orphan = self.family.leader(child.tgid)
        if orphan is None or (orphan.ended is not None and not child.tasks):
            return
        to = Pid(reaper) if reaper is not None else self._parent_of(child.tgid)
        if to is None or to == child.parent:
            return
        self.family.hand_over(child, to)
        leader = self.family.leader(to)
        self._emit(ev.Reparent(t=t, task=orphan.id, parent_tid=to, parent=None if leader is None else leader.id))

    # Calls that were refused, and such as change what a task shares

    def _returned(self, record: raw.Return) -> None:
        task, call = self._of(record.head), record.call
        if task is None or call.arch is None:
            return
        t, result, name = self._t(record.head), record.result, syscalls.name(call.arch, call.nr)
        if name in syscalls.CREATIONS:
            self._emit(
                ev.Fail(
                    t=t, task=task.id, arch=call.arch, nr=call.nr, args=call.words, struct=_hexadecimal(call.struct),
                    set_tid=_hexadecimal(call.set_tid), errno=-result,
                )
            )  # fmt: skip
        elif name in ("execve", "execveat"):
            self._exec_failed(task, -result, t)
        elif result <= 0 or name == "setsid":  # else a trap of a filter kept it from running
            changed = result >= 0 and name != "setsid"
            spaces = changed and name != "close_range" and self._options.observe in (Observe.AUTO, Observe.FULL)
            if changed:
                task.namespaces = record.standing.namespaces
            self._emit(
                ev.Other(
                    t=t, task=task.id, arch=call.arch, nr=call.nr, args=call.words, result=result,
                    compared=self._compared_again(task, record.objects) if changed else {},
                    standing=ev.Standing(namespaces=record.standing.namespaces) if spaces else None,
                )
            )  # fmt: skip

    def _exec_failed(self, task: Followed, number: int, t: int) -> None:
        pending, task.executing = task.executing or Pending(t), None
        _begin_nowhere(pending)
        argv, argc, cut = self._arguments(pending)
        lost = Unavailable(0, "the record of the call was lost")
        path = lost if pending.path is None else pending.path
        self._emit(
            ev.ExecFail(
                t=t, task=task.id, path=path if isinstance(path, Unavailable) else ev.text(path), at=pending.at,
                argv=argv, argc=argc, cut=cut, errno=number,
            )
        )  # fmt: skip

    # The rest

    def _signal(self, record: raw.Signal) -> None:
        task = self._of(record.head)
        if task is None:
            return
        if record.to_process:
            self.family.signals.setdefault(task.group, {})[record.signal] = record
        else:
            task.signals[record.signal] = record

    def _name(self, record: raw.Name) -> None:
        task = self._of(record.head)
        if task is None or record.comm == task.comm:
            return
        task.comm = record.comm
        how: ev.NameHow = "prctl" if record.by_itself else "found"
        self._emit(ev.Name(t=self._t(record.head), task=task.id, comm=ev.text(record.comm), how=how))

    def _job(self, record: raw.Job) -> None:
        task = self._of(record.head)
        if task is None:
            return
        t = self._t(record.head)
        for each in sorted(task.group.tasks, key=lambda one: one.id):
            if each.ended is None:
                self._emit(
                    ev.Resume(t=t, task=each.id) if record.continued
                    else ev.GroupStop(t=t, task=each.id, signal=record.signal)
                )  # fmt: skip

    def finish(self, t: int, why: ev.GoneWhy) -> None:
        """The trace ends: nothing more is seen of what is still there."""
        self.tell_losses(t)
        if self.stacks is not None:
            self.stacks.write_lines(t)
        for task in sorted(self.family.live.values(), key=lambda one: one.id):
            self._gone(task, t, why)

    def note(self, t: int, what: str, why: str) -> None:
        """Something is missing from the trace."""
        self._emit(ev.Note(t=t, what=what, why=why))

    def living(self) -> list[Pid]:
        """The processes that have not ended."""
        return [tgid for tgid, group in self.family.groups.items() if any(task.ended is None for task in group.tasks)]


def _compared(creators: raw.Objects, childs: raw.Objects) -> tuple[int, ...]:
    return tuple(
        (UNSET if mine == 0 else _EQUAL) if mine == theirs else _UNEQUAL
        for mine, theirs in zip(creators, childs, strict=True)
    )


def _hexadecimal(value: bytes | Unavailable | None) -> str | Unavailable | None:
    return value.hex() if isinstance(value, bytes) else value


def _begin_at(pending: Pending, directory: bytes) -> None:
    """The path of an execveat begins at this directory; an empty one means this file itself."""
    path = pending.path
    if pending.at is not None and isinstance(path, bytes) and not path.startswith(b"/"):
        pending.at = replace(pending.at, directory=ev.text(directory))
        pending.path = directory + b"/" + path if path else directory


def _begin_nowhere(pending: Pending) -> None:
    """The path of an execveat that was refused begins at a descriptor that is not open, where none was found."""
    path, at = pending.path, pending.at
    if at is None or at.fd == AT_FDCWD or at.directory is not None or not isinstance(path, bytes):
        return
    if not path.startswith(b"/"):
        pending.path = Unavailable(errno.EBADF, f"descriptor {at.fd} is not open")
        pending.at = replace(at, directory=pending.path)


def _path_of(pending: Pending, record: raw.Exec) -> ev.Text | Unavailable:
    path = pending.path if pending.path is not None else record.path
    return path if isinstance(path, Unavailable) else ev.text(path)


def _strings(block: bytearray) -> list[bytes]:
    return bytes(block).removesuffix(b"\0").split(b"\0") if block else []
