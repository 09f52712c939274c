"""What is remembered of a log's tasks, of what they are making, and of what could not be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from forklore.abi.arch import Arch
from forklore.events.records import Event
from forklore.sources.logs.dialect import LoggedCall

UNKNOWN_TID: Final = 0
"""Of a task that its lines do not name."""


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


@dataclass(slots=True, eq=False)
class Slot:
    """The place in the order where a task first shows that nothing has announced."""

    task: LoggedTask
    tid: int
    seq: int
    t: int | None
    event: Event | None = None


@dataclass(slots=True, eq=False)
class LoggedTask:
    """A task of the log."""

    id: int
    tid: int
    arch: Arch
    group: LoggedTask = field(init=False)
    creating: Creating | None = None
    open: LoggedCall | None = None
    """The system call that it is in."""
    inner_pids: bool = False
    """Its calls return pids of another pid namespace than the log's."""
    children_inner: bool = False
    stopped: bool = False
    signal: tuple[int, int | None, int | None, int | None] | None = None
    """The last signal delivered: number, si_code, si_pid, si_addr."""
    former_tid: int | None = None
    """The tid that it had before it took its leader's, until its execve has come back."""
    leaving: tuple[int, int | None] | None = None
    """The wait status that an exit call announced, and when."""
    group_leaving: tuple[int, int | None] | None = None
    """The same by exit_group, kept at the task that stands for the group."""

    def __post_init__(self) -> None:
        self.group = self


class Notices:
    """What a reader could not use: counted by kind, each with the first line where it was."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, what: str, line: int) -> None:
        """Count one ``what`` (a phrase in the plural)."""
        count, first = self._counts.get(what, (0, line))
        self._counts[what] = (count + 1, first)

    def texts(self, name: str) -> Iterator[str]:
        """A sentence for each kind."""
        for what, (count, first) in self._counts.items():
            yield f"{name}:{first}: {what}" + (f" ({count} of them, this is the first)" if count > 1 else "")
