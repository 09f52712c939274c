"""The descriptors that a task has when it has executed, compared with those of whoever made its process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from forklore.abi.units import Fd, Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux import descriptors as fds
from forklore.linux import kcmp
from forklore.sources.ptrace.observer import Observer
from forklore.sources.ptrace.tracee import EnteredCall, Group, Tracee

_MOST: Final = 512
"""Descriptors of a task that are recorded; the rest is counted."""
_STANDARD: Final = Fd(2)
_FILES: Final = ev.COMPARED.index("files")
_PIPES: Final = (fds.DescriptorKind.PIPE, fds.DescriptorKind.FIFO)


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


class ExecDescriptors(Observer):
    """Looks at a task's table at its exec event, and at its creator's while the task runs on."""

    def __init__(self, emit: Callable[[ev.Event], None]) -> None:
        self._emit = emit
        self._makers: dict[Group, _Maker] = {}
        """By the process that was made; until its end."""

    def created(self, creator: Tracee, child: Tracee, entry: EnteredCall, t: int) -> None:
        """Note with whom a new process had its table in common."""
        if child.keep and child.group is not creator.group:
            self._makers[child.group] = _Maker(creator, creator.shares.get(_FILES))

    def ended(self, task: Tracee, t: int) -> None:
        """A process is forgotten at its end."""
        if Pid(task.tid) == task.group.tgid:
            self._makers.pop(task.group, None)

    def executed(self, task: Tracee, t: int) -> Survivors | None:
        """Read the table; what it says is told later."""
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
        maker = self._makers.get(task.group)
        creator = None if maker is None else maker.for_(task.group)
        same = [None if creator is None else _same(task, creator, raw.fd) for raw in found]
        return Survivors(self._emit, task, creator, t, found, same, max(0, len(numbers) - _MOST))


class Survivors(Struct, eq=False):
    """What a task had open when it had executed, to be told while it and its creator run.

    ``same``: kcmp's answer for each and the creator's descriptor of the same number.
    """

    emit: Callable[[ev.Event], None]
    task: Tracee
    creator: Tracee | None
    t: int
    raw: list[fds.Raw]
    same: list[int | None]
    left_out: int

    @property
    def tasks(self) -> Iterable[Tracee]:
        """The one that executed."""
        return (self.task,)

    def run(self) -> None:
        """Tell it."""
        self.emit(surviving(self.task, self.creator, self.t, self.raw, self.same, self.left_out))


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
    return about is not None and about[0] is fds.DescriptorKind.FIFO


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
