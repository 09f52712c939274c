"""From the kernel's records to the events of a trace: pure but for what /proc still tells of parents and orphans."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_THREAD, CLONE_VFORK
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux.perf.tasks import CodeMapped, Ended, Executed, Forked, Lost, Named, Record
from forklore.sources.perf.task import Executing, Family, Group, Seen
from forklore.sources.ptrace.options import Follow, Options

if TYPE_CHECKING:
    from forklore.sources.source import Emit

FULL: Final = "a ring between the kernel and forklore was full; a larger --buffer holds more"
NO_PATH: Final = Unavailable(0, "perf's records have the executable, not the path that was given")
NO_ARGUMENTS: Final = Unavailable(0, "perf's records have no arguments")
_NO_CODE: Final = Unavailable(0, "no record told what it executes")
_SET_ID: Final = (
    "of a program whose file gives it other rights, or that its user may not read, the kernel tells an ordinary user"
    " no more; or it was killed in the middle of its exec"
)

_LOOKS: Final = 3
"""So many looks long a process is gone before it is taken for ended: what it wrote before has come by then."""


class Follower:
    """Takes the records of one trace and emits its events."""

    def __init__(
        self, options: Options, arch: Arch, start: int, emit: Emit, *, root: Pid | None = None,
        strangers: bool = False, paths: bool = False, status: Callable[[], int] | None = None,
        parent_of: Callable[[Pid], Pid | None] = lambda _pid: None, command: tuple[bytes, list[bytes]] | None = None,
    ) -> None:  # fmt: skip
        """``root``: the process that is started, ours; ``status``: waits for it; ``command``: the path and arguments
        that it was given, by us. ``strangers``: records of processes
        that are not followed come too. ``paths``: each exec's record has its path. ``parent_of``: what /proc tells.
        """
        self._options = options
        self._arch = arch
        self._start = start
        self._emit = emit
        self._root = root
        self._strangers = strangers
        self._paths = paths
        self._status = status
        self._parent_of = parent_of
        self._command = command
        self._released: set[Tid] = set()
        """Tasks that are not to be followed."""
        self.lost = 0
        """Records that were lost: one of a task that nobody made may be ours then."""
        self.family = Family()
        self.root_ended = False
        self._takers: dict[type, Callable[..., None]] = {
            Forked: self._forked,
            Ended: self._ended,
            Named: self._named,
            CodeMapped: self._mapped,
            Executed: self._executed,
            Lost: self._missed,
        }

    def begin(self, pid: Pid, tids: list[Tid], t: int, comm: bytes | None = None) -> None:
        """A process that is there already."""
        parent = self._parent_of(pid)
        for tid in sorted(tids, key=lambda tid: Pid(tid) != pid):
            task = self.family.add(tid, pid, parent, depth=0)
            task.comm = comm
            task.begun = t + self._start
            self._emit(
                ev.Begin(
                    t=t, task=task.id, tid=tid, tgid=pid, how="root" if pid == self._root else "attached",
                    parent_tid=parent, comm=None if comm is None else ev.text(comm),
                )
            )  # fmt: skip

    def take(self, record: Record) -> None:
        """The next record."""
        self._takers[type(record)](record)

    @property
    def alive(self) -> int:
        """How many tasks are followed and have not ended."""
        return len(self.family.live)

    def _t(self, record: Record) -> int:
        return record.time - self._start

    def _of(self, pid: Pid, tid: Tid, t: int) -> Seen | None:
        """The task that a record is of; None where it is not followed. One whose creation was lost is adopted."""
        task = self.family.live.get(tid)
        if task is not None:
            if task.executing is None or task.unseen:
                return task
            self._complete(task, t)
            return task
        if tid in self._released or not pid or not tid:
            return None
        if self._strangers and not (self.lost and self._parent_of(pid) in self.family.groups):
            return None
        return self._adopt(pid, tid, t)

    def _adopt(self, pid: Pid, tid: Tid, t: int) -> Seen:
        parent = self._parent_of(pid)
        task = self.family.add(tid, pid, parent, depth=1)
        self._emit(ev.Begin(t=t, task=task.id, tid=tid, tgid=pid, how="adopted", parent_tid=parent))
        return task

    # Creations

    def _forked(self, record: Forked) -> None:
        t = self._t(record)
        creator = self._of(record.creator_pid, record.creator, t)
        if creator is None:
            return
        former = self.family.live.get(record.tid)
        if former is not None:
            if record.time < former.begun:  # it was found right after it was made
                return
            self._gone(former, t)  # the record of its end was lost
        self._released.discard(record.tid)
        thread = record.pid == record.creator_pid
        flags = record.flags
        child = self.family.born(creator, record.tid, flags if flags is not None else _assumed(thread=thread))
        if flags is not None and flags & CLONE_VFORK:
            child.waiter = creator
        followed = self._follows(child, thread=thread)
        self._emit(
            ev.Create(
                t=t, task=creator.id, arch=self._arch, nr=None, child=child.id, tid=child.tid, traced=followed,
                flags=flags, thread=thread if flags is None else None,
            )
        )  # fmt: skip
        if not followed:
            self._released.add(record.tid)
            self.family.forget(child)

    def _follows(self, child: Seen, *, thread: bool) -> bool:
        options = self._options
        if options.max_depth is not None and child.depth > options.max_depth:
            return False
        return options.follow is Follow.ALL or options.follow is (Follow.THREADS if thread else Follow.PROCESSES)

    # Names and execs

    def _named(self, record: Named) -> None:
        t = self._t(record)
        if record.executes:
            # Its tid is the leader's by now, whichever thread it was (fs/exec.c: de_thread).
            former = self._taken_over(record, t)
            task = self._of(record.pid, record.tid, t)
            if task is not None:
                task.executing = Executing(record.comm, former)
            return
        task = self._of(record.pid, record.tid, t)
        if task is None or task.comm == record.comm:
            return
        task.comm = record.comm
        how: ev.NameHow = "prctl" if record.by == record.tid else "found"
        self._emit(ev.Name(t=t, task=task.id, comm=ev.text(record.comm), how=how))

    def _taken_over(self, record: Named, t: int) -> Tid | None:
        # All other threads have ended before the exec goes on; so who has not, and is not the leader, is who executes.
        group = self.family.groups.get(record.pid)
        leader = self.family.leader(record.pid)
        others = [] if group is None else [task for task in group.tasks if task is not leader]
        if leader is None or not leader.ended or len(others) != 1:
            return None
        former = others[0].tid
        self._emit(ev.Gone(t=t, task=leader.id, why="superseded"))
        self.family.take_over(former, leader)
        return former

    def _mapped(self, record: CodeMapped) -> None:
        task = self.family.live.get(record.tid)
        executing = None if task is None else task.executing
        if task is None or executing is None or record.path is None:
            return
        task.unseen = False
        executing.exe = executing.exe or record.path
        if not self._paths:
            self._complete(task, self._t(record))

    def _executed(self, record: Executed) -> None:
        task = self.family.live.get(record.tid)
        if task is not None and task.executing is not None:
            task.unseen = False
            task.executing.path = record.path
            self._complete(task, self._t(record))

    def _complete(self, task: Seen, t: int) -> None:
        executing, task.executing = task.executing, None
        if executing is None:
            return
        task.comm = executing.comm
        path: ev.Text | Unavailable = NO_PATH if executing.path is None else ev.text(executing.path)
        argv: list[ev.Text] | Unavailable = NO_ARGUMENTS
        if self._command is not None and task.group.tgid == self._root:  # its first exec is the one that we made it do
            path, argv = ev.text(self._command[0]), [ev.text(word) for word in self._command[1]]
            self._command = None
        if not self._options.argv:
            argv = Unavailable(0, "not recorded")
        self._emit(
            ev.Exec(
                t=t, task=task.id, path=path, argv=argv, comm=ev.text(executing.comm), former_tid=executing.former,
                exe=_NO_CODE if executing.exe is None else ev.text(executing.exe),
            )
        )  # fmt: skip
        self._gives_back(task, t)

    def _gives_back(self, task: Seen, t: int) -> None:
        waiter, task.waiter = task.waiter, None
        if waiter is not None and waiter.alive:
            self._emit(ev.VforkDone(t=t, task=waiter.id, child=task.id, tid=task.tid))

    # Ends

    def _ended(self, record: Ended) -> None:
        t = self._t(record)
        if record.tid in self._released:
            self._released.discard(record.tid)
            return
        task = self.family.live.get(record.tid)
        if task is not None and task.executing is not None and task.executing.exe is None and not task.unseen:
            # In the middle of an exec the kernel takes the events away from whom they may not be told of
            # (fs/exec.c: begin_new_exec). Those of the machine go on.
            task.unseen = True
            if not self._strangers:
                self._out_of_sight(task, t)
            return
        task = self._of(record.pid, record.tid, t)
        if task is None:
            return
        self._complete(task, t)
        self._gives_back(task, t)
        self._parent_is(task.group, record.parent, t)
        is_leader = Pid(task.tid) == task.group.tgid
        task.ended = True
        if is_leader and len(task.group.tasks) > 1:
            return
        group = task.group
        self._exit(task, t)
        leader = self.family.leader(group.tgid)
        if leader is not None and leader is not task and leader.ended and len(group.tasks) == 1:
            self._exit(leader, t)

    def _out_of_sight(self, task: Seen, t: int) -> None:
        self._complete(task, t)
        self._emit(ev.Note(t=t, task=task.id, what=f"tid {task.tid} after its exec, and what it makes", why=_SET_ID))
        if task.group.tgid != self._root:  # of the root we learn the end, as its parent
            self._gone(task, t)

    def look_for(self, t: int, is_there: Callable[[Pid, Tid], bool], *, everybody: bool) -> None:
        """Of a task that may have been killed in its exec no record would come any more, nor, where records were lost
        (``everybody``), of any: they are looked for.
        """
        for task in [task for task in self.family.live.values() if task.unseen or everybody]:
            task.missing = 0 if is_there(task.group.tgid, task.tid) else task.missing + 1
            if task.missing < _LOOKS:
                continue
            self._complete(task, t)
            if task.unseen or task.ended or (task.group.tgid == self._root and Pid(task.tid) == self._root):
                self._exit(task, t)
            else:
                self._gone(task, t)

    def root_is_over(self, t: int) -> None:
        """Its parent, which we are, has learned that the process that was started has ended."""
        root = None if self._root is None else self.family.leader(self._root)
        if root is not None and root.unseen:
            self._exit(root, t)

    def _parent_is(self, group: Group, parent: Pid, t: int) -> None:
        leader = self.family.leader(group.tgid)
        if leader is None or not parent or parent == group.parent or group.parent is None:
            return
        self.family.hand_over(group, parent)
        above = self.family.leader(parent)
        self._emit(
            ev.Reparent(t=t, task=leader.id, parent_tid=parent, parent=None if above is None else above.id)
        )  # fmt: skip

    def _exit(self, task: Seen, t: int) -> None:
        group = task.group
        is_root = group.tgid == self._root and Pid(task.tid) == group.tgid
        status = self._status() if is_root and self._status is not None else None
        self._emit(ev.Exit(t=t, task=task.id, status=status))
        self.root_ended = self.root_ended or is_root
        if self.family.forget(task):
            for child in list(self.family.orphans(group)):
                to = self._parent_of(child.tgid)
                if to is not None:
                    self._parent_is(child, to, t)

    # The rest

    def _missed(self, record: Lost) -> None:
        self.lost += record.count
        self.note(self._t(record), f"{record.count} records of the kernel's", FULL)

    def _gone(self, task: Seen, t: int, why: ev.GoneWhy = "lost") -> None:
        self._emit(ev.Gone(t=t, task=task.id, why=why))
        self.family.forget(task)

    def finish(self, t: int, why: ev.GoneWhy) -> None:
        """The trace ends: nothing more is seen of what is still there."""
        for task in sorted(self.family.live.values(), key=lambda one: one.id):
            self._complete(task, t)
            if task.unseen:  # killed in the middle of its exec
                self._exit(task, t)
            else:
                self._gone(task, t, why)

    def note(self, t: int, what: str, why: str) -> None:
        """Something is missing from the trace."""
        self._emit(ev.Note(t=t, what=what, why=why))

    def living(self) -> list[Pid]:
        """The processes that have not ended."""
        return [tgid for tgid, group in self.family.groups.items() if any(not task.ended for task in group.tasks)]


def _assumed(*, thread: bool) -> int:
    return CLONE_THREAD if thread else 0
