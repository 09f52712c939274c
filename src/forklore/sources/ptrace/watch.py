"""What is measured of tasks beyond their calls: the descriptors that survive an exec, what a vfork
child changes in the memory that it borrows, and copy-on-write (:mod:`forklore.sources.ptrace.cow`).

Each method is called while the task is held, and emits events of its own. What cannot be measured is said in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import Address, Fd, Pid, TaskId, Tid, Unavailable
from forklore.decode.creation import decode_creation
from forklore.events import records as ev
from forklore.linux import descriptors as fds
from forklore.linux import kcmp, ptrace
from forklore.sources.ptrace.options import Observe, Options
from forklore.sources.ptrace.tracee import Entry, Group, Tracee

if TYPE_CHECKING:
    from forklore.linux.mappings import Mapping
    from forklore.linux.pages import vfork_memory
    from forklore.sources.ptrace.cow import Copies
    from forklore.sources.stacks.code import Space
    from forklore.sources.stacks.variables import Frames

_MOST: Final = 512
"""Descriptors of a task that are recorded; the rest is counted."""
_KEPT: Final = 4
"""How many times the memory that is kept for one creator is kept for all at once."""
_LENT: Final = CLONE_VM | CLONE_VFORK
_STANDARD: Final = Fd(2)
_FILES: Final = ev.COMPARED.index("files")
_PIPES: Final = (fds.Kind.PIPE, fds.Kind.FIFO)


class _Maker(Struct, eq=False):
    """Who made a process, and with whom it had its descriptor table in common then."""

    task: Tracee
    table: set[Tracee] | None
    """Kept current by sharing.py. None: it had the table for itself then."""

    def for_(self, made: Group) -> Tracee | None:
        """It, or where it has ended, another task that still has its table; none of the process that it made."""
        # An ended leader is a zombie without a table for as long as its threads live (kernel/exit.c: exit_files).
        if self.task.alive and not kcmp.is_zombie(self.task.tid):
            return self.task
        table = self.table if self.table is not None else self.task.shares.get(_FILES)
        others = (other for other in table or () if other.alive and other.group is not made)
        return next((other for other in others if not kcmp.is_zombie(other.tid)), None)


class _Lent(Struct, frozen=True):
    """Memory that a vfork child borrows: whose it is, the child, how it was, and the creator's stack."""

    creator: Tracee
    child: TaskId
    before: vfork_memory.Before | Unavailable
    frames: Frames


class Watch:
    """``live``: the tasks that are traced now, by tid."""

    def __init__(self, options: Options, live: dict[Tid, Tracee], emit: Callable[[ev.Event], None]) -> None:
        self._emit = emit
        self._copies: Copies | None = None
        if options.cow:
            from forklore.sources.ptrace.cow import Copies

            self._copies = Copies(live, emit)
        self._vfork_writes = options.vfork_writes
        self._lent: dict[TaskId, _Lent] = {}
        """By creator."""
        self.names: Callable[[Tid, Space, Frames, Sequence[vfork_memory.Change]], list[list[ev.Variable]]] | None = None
        """Finds the variables that were changed."""
        self._descriptors = options.observe in (Observe.AUTO, Observe.FULL)
        self._makers: dict[Group, _Maker] = {}
        """By the process that was made; until its end."""

    @property
    def measures(self) -> bool:
        """Whether a creation is more than noted: then its two sides have to be held for it."""
        return self._vfork_writes or self._copies is not None

    def created(self, creator: Tracee, child: Tracee, entry: Entry, t: int) -> None:
        """At a creation. Both are held where this :attr:`measures`: neither has run since."""
        if self._descriptors and child.keep and child.group is not creator.group:
            self._makers[child.group] = _Maker(creator, creator.shares.get(_FILES))
        if self._copies is not None and not entry.flags & CLONE_VM:
            self._copies.created(creator, child, t)
        if self._vfork_writes and entry.flags & _LENT == _LENT:
            self._lent[creator.id] = _Lent(creator, child.id, self._keep(creator, entry), entry.frames)

    def _keep(self, creator: Tracee, entry: Entry) -> vfork_memory.Before | Unavailable:
        from forklore.linux.pages import vfork_memory

        for number in [number for number, lent in self._lent.items() if not lent.creator.alive]:
            del self._lent[number]
        kept = sum(lent.before.size for lent in self._lent.values() if isinstance(lent.before, vfork_memory.Before))
        try:
            registers = ptrace.registers(creator.tid)
        except OSError as problem:
            return Unavailable(problem.errno or 0, f"{problem.filename}: {problem.strerror}")
        made = decode_creation(entry.arch, entry.nr, entry.words, entry.struct, entry.set_tid)
        return vfork_memory.capture(
            creator.tid, Address(registers[registers.layout.sp]), stack=made.stack, stack_size=made.stack_size or 0,
            limit=min(vfork_memory.LIMIT, max(0, _KEPT * vfork_memory.LIMIT - kept)),
        )  # fmt: skip

    def given_back(self, creator: Tracee, t: int) -> None:
        """At PTRACE_EVENT_VFORK_DONE: the child is done with the memory, and the creator has not run again."""
        found = self._lent.pop(creator.id, None)
        if found is None:
            return
        from forklore.linux.pages import vfork_memory

        before, space = found.before, creator.space
        now = before if isinstance(before, Unavailable) else vfork_memory.written(creator.tid, before)
        names: list[list[ev.Variable]] | None = None
        if self.names is not None and space is not None and isinstance(now, vfork_memory.Writes):
            names = self.names(creator.tid, space, found.frames, now.changes)
        self._emit(_borrowed(t, found.child, creator.id, now, names))

    def executing(self, task: Tracee) -> None:
        """At the entry of execve: the memory is still the old one."""
        if self._copies is not None:
            self._copies.executing(task)

    def exiting(self, task: Tracee, t: int) -> None:
        """At PTRACE_EVENT_EXIT: the memory is still there."""
        if self._copies is not None:
            self._copies.exiting(task, t)

    def ended(self, task: Tracee, t: int) -> None:
        """Nothing more will be measured of a task."""
        self._lent.pop(task.id, None)
        if Pid(task.tid) == task.group.tgid:
            self._makers.pop(task.group, None)
        if self._copies is not None:
            self._copies.ended(task, t)

    def executed(self, task: Tracee, t: int) -> Callable[[], None] | None:
        """At the exec event: the new image has not run yet, and what was close-on-exec is closed.

        What is given back is left to do, and ``task`` may run meanwhile.
        """
        if self._copies is not None:
            self._copies.executed(task, t)
        return self._survivors(task, t) if self._descriptors else None

    def _survivors(self, task: Tracee, t: int) -> Callable[[], None] | None:
        try:
            with fds.Reader(task.tid) as reader:
                numbers = reader.numbers()
                targets = reader.targets(numbers[:_MOST])
                if fds.only_standard(targets):
                    return None
                found = [reader.raw(fd, target) for fd, target in targets.items()]
        except OSError as problem:
            absent = Unavailable(problem.errno or 0, f"{problem.filename}: {problem.strerror}")
            self._emit(ev.Descriptors(t=t, task=task.id, table=absent))
            return None
        creator = self._creator(task)
        same = [None if creator is None else _same(task, creator, raw.fd) for raw in found]
        left_out = max(0, len(numbers) - _MOST)
        return lambda: self._emit(surviving(task, creator, t, found, same, left_out))

    def _creator(self, task: Tracee) -> Tracee | None:
        maker = self._makers.get(task.group)
        return None if maker is None else maker.for_(task.group)


def surviving(
    task: Tracee, creator: Tracee | None, t: int, raw: list[fds.Raw], same: list[int | None], left_out: int
) -> ev.Descriptors:
    """What a task had open when it had executed, compared with its creator, which may run meanwhile.

    ``same``: kcmp's answer for each and the creator's descriptor of the same number.
    """
    found = [each.described() for each in raw]
    pipes = any(held.kind in _PIPES for held in found)
    beyond = {held.fd for held in found if held.fd > _STANDARD}
    theirs = _Theirs() if creator is None or not (pipes or beyond) else _theirs(creator.tid, beyond, pipes=pipes)
    return ev.Descriptors(
        t=t,
        task=task.id,
        table=[
            _held(held, same=answer, creators_cloexec=theirs.cloexec.get(held.fd))
            for held, answer in zip(found, same, strict=True)
        ],
        left_out=left_out,
        creator=None if creator is None else creator.id,
        creators_pipes=[_held(held, cloexec=held.cloexec) for held in theirs.pipes],
    )


class _Theirs(Struct, frozen=True):
    """What matters of a creator's table."""

    cloexec: dict[Fd, bool | None] = {}
    pipes: list[fds.Descriptor] = []


def _theirs(creator: Tid, beyond: set[Fd], *, pipes: bool) -> _Theirs:
    found = _Theirs()
    try:
        with fds.Reader(creator) as reader:
            if not pipes:
                found.cloexec.update((fd, fds.cloexec(reader.info(fd))) for fd in beyond)
                return found
            for fd, target in reader.targets(reader.numbers()[:_MOST]).items():
                if fd not in beyond and not _may_be_pipe(reader, fd, target):
                    continue
                held = reader.raw(fd, target).described()
                if fd in beyond:
                    found.cloexec[fd] = held.cloexec
                if held.kind in _PIPES:
                    found.pipes.append(held)
    except OSError:
        return _Theirs()  # it has ended: its descriptors are gone with it
    return found


def _may_be_pipe(reader: fds.Reader, fd: Fd, target: bytes) -> bool:
    if not target.startswith(b"/"):
        return target.startswith(b"pipe:")
    about = reader.about(fd)
    return about is not None and about[0] is fds.Kind.FIFO


def _same(task: Tracee, creator: Tracee, fd: Fd) -> int | None:
    if fd <= _STANDARD:
        return None
    order = fds.order(task.tid, fd, creator.tid, fd)
    return -order.errno if isinstance(order, Unavailable) else int(order)


def _held(
    held: fds.Descriptor, *, cloexec: bool | None = None, same: int | None = None, creators_cloexec: bool | None = None
) -> ev.Held:
    return ev.Held(
        fd=held.fd, kind=held.kind.value, target=ev.text(held.target), flags=held.flags, position=held.position,
        device=0 if held.inode is None else held.inode.device, inode=None if held.inode is None else held.inode.number,
        cloexec=cloexec, same=same, creators_cloexec=creators_cloexec,
    )  # fmt: skip


def _borrowed(
    t: int, child: TaskId, creator: TaskId, found: vfork_memory.Writes | Unavailable,
    names: list[list[ev.Variable]] | None,
) -> ev.Borrowed:  # fmt: skip
    if isinstance(found, Unavailable):
        return ev.Borrowed(t=t, task=child, creator=creator, changes=found)
    return ev.Borrowed(
        t=t,
        task=child,
        creator=creator,
        changes=[
            ev.Written(
                each.start, each.length, each.where.value, ev.text(each.mapping.path), each.old.hex(), each.new.hex(),
                [] if names is None else names[index],
            )
            for index, each in enumerate(found.changes)
        ],
        more=found.more,
        remaps=[
            ev.Remapped(each.start, each.end, _line(each.before), _line(each.after)) for each in found.remaps
        ],
        left_out=[
            ev.NotCompared(each.mapping.start, each.size, ev.text(each.mapping.path), each.why)
            for each in found.left_out
        ],
        threads=found.threads,
    )


def _line(mapping: Mapping | None) -> ev.Text | None:
    return None if mapping is None else ev.text(f"{mapping.permissions} ".encode() + mapping.path)
