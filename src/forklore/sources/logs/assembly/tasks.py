"""What is remembered of a log's tasks, of what they are making, and of what could not be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_NEWPID
from forklore.events.records import Event
from forklore.sources.logs.assembly.dialect import LoggedCall


@dataclass(slots=True, eq=False)
class Place:
    """A place in the order of events for one that is not known yet."""

    event: Event | None = None
    void: bool = False
    """There is none."""
    after: Place | None = None
    """What has its place further on and comes before it: the creation of its creator."""


@dataclass(slots=True, eq=False)
class Creating:
    """A creation that a task has begun and that has not ended yet, or whose end the log does not show.

    ``call`` has the fields of :class:`forklore.events.records.Call`, as far as they are known.
    """

    task: LoggedTask
    seq: int
    began: int | None
    call: dict[str, Any]
    flags: int | None
    vfork: bool
    line: int
    library: bool
    """A library's function: the system call that it makes may still be told."""
    certain: bool = False
    """It returns no pid, and has made one task."""
    until: int | None = None
    """It has returned without telling whether it made a task: what shows up after this place is none of its."""
    returned: int | None = None
    """When it returned, in the order of ``seq``; None while it runs."""
    value: int | None = None
    """The pid that it returned where that is, or may be, one of another pid namespace than the log's."""
    t: int | None = None
    """When it returned that."""
    place: Place | None = None
    """Where it returned."""
    ended: tuple[int, int | None] | None = None
    """By when, in that order, the task that it made was known to have ended; and that one's wait status."""

    @property
    def space(self) -> int | None:
        """The pid namespace of what it makes: see :attr:`LoggedTask.space`; None: a new one, without a number yet."""
        if (self.flags or 0) & CLONE_NEWPID:
            return None
        return self.task.space if self.task.children_space is None else self.task.children_space


@dataclass(slots=True, eq=False, kw_only=True)
class Slot(Place):
    """The place in the order where a task first shows that nothing has announced."""

    task: LoggedTask
    tid: int
    seq: int
    t: int | None
    line: int
    makers: Set[str] | None = None
    """The library's functions of which one made it, by its first line; None: any."""
    own: int | None = None
    """What it calls itself, in its own pid namespace."""
    ended: tuple[int, int | None] | None = None
    """When it ended, in the order of ``seq``, and its wait status."""


@dataclass(slots=True, eq=False)
class LoggedTask:
    """A task of the log."""

    id: int
    tid: int
    arch: Arch
    group: LoggedTask = field(init=False)
    threads: int = 0
    """How many threads the process has beside this one, its leader, as far as the log shows them made and ended."""
    creating: Creating | None = None
    open: LoggedCall | None = None
    """The system call that it is in."""
    seen: int = 0
    """When its last line was, in the order of :attr:`Creating.seq`."""
    space: int = 0
    """Which pid namespace its calls return pids of: a number of our own, 0 for the log's own, negative for one that
    nothing in the log announced."""
    level: int = 0
    """How many pid namespaces below the log's own that one is, as far as the log tells."""
    children_space: int | None = None
    """The one that its children are put into, where that is another."""
    unshared: bool = False
    """That one is new: the next child is pid 1 in it."""
    slot: Slot | None = None
    """Where it first showed, until it is known who made it."""
    shown: Place | None = None
    """Where it first showed unannounced, or was announced."""
    above: LoggedTask | None = None
    """Its creator, or one further up."""
    within: list[str] = field(default_factory=list)
    """The library's functions that make tasks which it is in, the outermost first."""
    stopped: bool = False
    signal: tuple[int, int | None, int | None, int | None] | None = None
    """The last signal delivered: number, si_code, si_pid, si_addr."""
    former_tid: int | None = None
    """The tid that it had before it took its leader's, until its execve has come back."""
    leaving: tuple[int, int | None] | None = None
    """The wait status that an exit call announced, and when."""
    told_flags: int | None = None
    """Those that the kernel acted on in the creation that it is in, where the log tells them apart from the call."""
    group_leaving: tuple[int, int | None] | None = None
    """The same by exit_group, kept at the task that stands for the group."""

    def __post_init__(self) -> None:
        self.group = self

    @property
    def first(self) -> LoggedTask:
        """The first of those that made it, as far up as is known; itself if nobody is."""
        task = self
        while task.above is not None:
            if task.above.above is not None:
                task.above = task.above.above
            task = task.above
        return task

    @property
    def name(self) -> str:
        """What notes call it."""
        return str(self.tid or "a task of unknown pid")


class Notices:
    """What a reader could not use: counted by kind, each with the first line where it was."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, what: str, line: int) -> None:
        """Count one ``what`` (a phrase in the plural)."""
        count, first = self._counts.get(what, (0, line))
        self._counts[what] = (count + 1, first)

    def texts(self, place_of: Callable[[int], str]) -> Iterator[str]:
        """A sentence for each kind; ``place_of`` names a line."""
        for what, (count, first) in self._counts.items():
            yield f"{place_of(first)}: {what}" + (f" ({count} of them, this is the first)" if count > 1 else "")
