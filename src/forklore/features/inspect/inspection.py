"""What running tasks share right now, from what was read of them and a comparison of any two.

Nothing here asks the kernel: whoever does hands in the tasks and the comparison, and says afterwards which of the
tasks are no longer those that were read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.resources import NAMESPACES, NULLABLE, OBJECTS
from forklore.abi.units import NsInode, Pid, Tid, Unavailable
from forklore.decode.object_groups import Grouping, ObjectGroup, group, letter

Compare = Callable[[str, Tid, Tid], int | Unavailable]
"""How the first task's object of that name sorts against the second's (:mod:`forklore.decode.object_groups`)."""


class InspectedThread(Struct, frozen=True):
    """A thread as it was read."""

    tid: Tid
    pid: Pid
    ppid: Pid
    name: bytes
    uid: int
    state: str
    """The letter of proc_pid_stat(5)."""
    marks: str
    """What ps(1) adds to it."""
    start: int
    """Ticks since boot."""
    ns_tids: tuple[int, ...]
    exit_signal: int
    made_by: str | None
    """``io_uring``, ``vhost`` or ``kernel`` for a thread that the kernel put into the process."""
    in_vfork: bool
    """Held until a vfork child executes or ends."""
    namespaces: dict[str, NsInode | Unavailable]
    cgroups: tuple[tuple[int, bytes, bytes], ...] | Unavailable
    """Hierarchy (0: v2), controllers and path of each."""

    @property
    def is_leader(self) -> bool:
        """Whether its tid is the pid of its process."""
        return int(self.tid) == int(self.pid)

    @property
    def ended(self) -> bool:
        """Whether it is a zombie, which has nothing that could be compared."""
        return self.state in ("Z", "X")


class Between(Struct, frozen=True):
    """Processes that share objects although they are different processes."""

    pids: tuple[Pid, ...]
    objects: tuple[str, ...]
    holder: Tid | None
    """The thread that a vfork child among them holds until it executes or ends; None if there is or was seen none."""


class Apart(Struct, frozen=True):
    """A thread that has objects or namespaces of its own, unlike its process's first thread.

    An I/O context of its own is what every thread has.
    """

    tid: Tid
    pid: Pid
    objects: tuple[str, ...]
    namespaces: tuple[str, ...]


class Pending(Struct, frozen=True):
    """A task whose next child (pid) or next execve (time) enters another namespace than its own."""

    tid: Tid
    namespace: str


class Dropped(Struct, frozen=True):
    """A task that was left out."""

    tid: Tid
    why: str


class Inspection(Struct, frozen=True):
    """The answer. Letters are per column: ``A`` of mm and ``A`` of files are different things."""

    tasks: tuple[InspectedThread, ...]
    """Process by process, each first thread first."""
    asked: frozenset[Pid]
    """The processes that were asked for; the others were found to share something with them."""
    objects: dict[str, Grouping]
    """By name, in the order of the columns."""
    namespaces: Grouping
    """Tasks by the whole set of their namespaces."""
    cgroups: Grouping
    """Tasks by their place in all hierarchies."""
    between: tuple[Between, ...]
    apart: tuple[Apart, ...]
    pending: tuple[Pending, ...]
    dropped: tuple[Dropped, ...]
    elsewhere: Elsewhere | None
    """What was done to find others that share; None: nothing."""

    @property
    def comparisons(self) -> int:
        """How many comparisons all of it took."""
        own = sum(grouping.comparisons for grouping in self.objects.values())
        return own + (self.elsewhere.comparisons if self.elsewhere is not None else 0)

    def processes(self) -> dict[Pid, list[InspectedThread]]:
        """The tasks of each process."""
        found: dict[Pid, list[InspectedThread]] = {}
        for task in self.tasks:
            found.setdefault(task.pid, []).append(task)
        return found


class Elsewhere(Struct, frozen=True):
    """The search for partners among the processes that were not asked for, by the first thread of each."""

    compared: int
    refused: int
    """How many could not be compared."""
    comparisons: int


def compare_all(tasks: Sequence[InspectedThread], compare: Compare, without: Tid | None) -> dict[str, Grouping]:
    """The groups of each object. ``without``: a task known to have none of what a task can be without, if there is one.

    A task that may not be looked into is asked once: the kernel's access check is the same for all objects.
    """
    closed = {task.tid: Unavailable(0, "it has ended and has no objects any more") for task in tasks if task.ended}
    near = {task.tid: Tid(int(task.pid)) for task in tasks if not task.is_leader}
    found = {}
    for name in OBJECTS:
        open_ = [task.tid for task in tasks if task.tid not in closed]
        grouping = group(
            open_,
            lambda a, b, name=name: compare(name, a, b),  # type: ignore[misc]
            near=near,
            without=without if name in NULLABLE else None,
        )
        found[name] = Grouping(grouping.groups, grouping.unset, {**closed, **grouping.unknown}, grouping.comparisons)
        closed.update(grouping.unknown)
    return found


def partners(asked: Iterable[Tid], objects: Mapping[str, Grouping]) -> list[Tid]:
    """The tasks that share an object with one of ``asked`` and are none of them."""
    wanted = set(asked)
    groups = [each.members for grouping in objects.values() for each in grouping.groups]
    found = {tid for members in groups if not wanted.isdisjoint(members) for tid in members}
    return sorted(found - wanted)


def concluded(
    tasks: Sequence[InspectedThread],
    asked: Iterable[Pid],
    objects: Mapping[str, Grouping],
    *,
    dropped: Sequence[Dropped] = (),
    elsewhere: Elsewhere | None = None,
) -> Inspection:
    """Put the answer together. Tasks of ``dropped`` are left out of it everywhere."""
    gone = {each.tid for each in dropped}
    left = tuple(task for task in tasks if task.tid not in gone)
    kept = {name: _without(grouping, gone, left) for name, grouping in objects.items()}
    spaces = _grouped(left, _namespace_key)
    return Inspection(
        tasks=left,
        asked=frozenset(asked),
        objects=kept,
        namespaces=spaces,
        cgroups=_grouped(left, lambda task: task.cgroups),
        between=tuple(_between(left, kept)),
        apart=tuple(_apart(left, kept)),
        pending=tuple(_pending(left)),
        dropped=tuple(dropped),
        elsewhere=elsewhere,
    )


def _without(grouping: Grouping, gone: set[Tid], tasks: Sequence[InspectedThread]) -> Grouping:
    place = {task.tid: index for index, task in enumerate(tasks)}
    members = [left for each in grouping.groups if (left := tuple(tid for tid in each.members if tid not in gone))]
    members.sort(key=lambda tids: place[tids[0]])
    return Grouping(
        groups=tuple(ObjectGroup(letter(index), tids) for index, tids in enumerate(members)),
        unset=tuple(tid for tid in grouping.unset if tid not in gone),
        unknown={tid: why for tid, why in grouping.unknown.items() if tid not in gone},
        comparisons=grouping.comparisons,
    )


_Key = Callable[[InspectedThread], object]


def _grouped(tasks: Sequence[InspectedThread], key: _Key) -> Grouping:
    # What is told by number or path needs no comparisons.
    found: dict[object, list[Tid]] = {}
    unknown: dict[Tid, Unavailable] = {}
    for task in tasks:
        value = key(task)
        if isinstance(value, Unavailable):
            unknown[task.tid] = value
        else:
            found.setdefault(value, []).append(task.tid)
    groups = tuple(ObjectGroup(letter(index), tuple(tids)) for index, tids in enumerate(found.values()))
    return Grouping(groups, (), unknown, 0)


def _namespace_key(task: InspectedThread) -> object:
    values = task.namespaces
    refused = [value for value in values.values() if isinstance(value, Unavailable)]
    if len(refused) == len(values):
        return refused[0] if refused else Unavailable(0, "no namespaces were read")
    return tuple((name, value.errno if isinstance(value, Unavailable) else value) for name, value in values.items())


def _between(tasks: Sequence[InspectedThread], objects: Mapping[str, Grouping]) -> list[Between]:
    by_tid = {task.tid: task for task in tasks}
    shared: dict[tuple[Pid, ...], list[str]] = {}
    for name in OBJECTS:
        for each in objects[name].groups:
            pids = tuple(dict.fromkeys(by_tid[tid].pid for tid in each.members))
            if len(pids) > 1:
                shared.setdefault(pids, []).append(name)
    return [Between(pids, tuple(names), _holder(pids, names, tasks)) for pids, names in shared.items()]


def _holder(pids: tuple[Pid, ...], names: Sequence[str], tasks: Sequence[InspectedThread]) -> Tid | None:
    if "mm" not in names:
        return None
    parents = {task.ppid for task in tasks if task.pid in pids}
    return next((task.tid for task in tasks if task.in_vfork and task.pid in pids and task.pid in parents), None)


def _apart(tasks: Sequence[InspectedThread], objects: Mapping[str, Grouping]) -> list[Apart]:
    letters = {name: grouping.letters() for name, grouping in objects.items()}
    first: dict[Pid, InspectedThread] = {}
    found = []
    for task in tasks:
        if task.ended:
            continue
        leader = first.setdefault(task.pid, task)
        own = [
            name
            for name, of in letters.items()
            if name != "io"  # C libraries make threads without CLONE_IO
            and not {task.tid, leader.tid} & objects[name].unknown.keys()
            and of.get(task.tid) != of.get(leader.tid)
        ]
        spaces = [name for name, value in task.namespaces.items() if _differ(value, leader.namespaces.get(name))]
        if own or spaces:
            found.append(Apart(task.tid, task.pid, tuple(own), tuple(spaces)))
    return found


def _differ(value: NsInode | Unavailable, other: NsInode | Unavailable | None) -> bool:
    return isinstance(value, int) and isinstance(other, int) and value != other


def _pending(tasks: Sequence[InspectedThread]) -> list[Pending]:
    found = []
    for task in tasks:
        for name in _PENDING:
            own, later = task.namespaces.get(name), task.namespaces.get(f"{name}_for_children")
            if own is None or later is None or isinstance(own, Unavailable) or task.ended:
                continue
            fresh = isinstance(later, Unavailable) and later.errno == _ENOENT and name == "pid"
            if fresh or _differ(own, later):
                found.append(Pending(task.tid, name))
    return found


_ENOENT: Final = 2
_PENDING: Final = tuple(name for name, namespace in NAMESPACES.items() if namespace.later)
