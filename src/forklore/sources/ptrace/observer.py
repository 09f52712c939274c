"""Who looks at tasks beyond their calls: one protocol for all, and every observer is given when the engine is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from forklore.linux.tracing.ptrace import Entry as Words
from forklore.sources.ptrace.deferred import Work
from forklore.sources.ptrace.tracee import EnteredCall, Tracee


class Observer:
    """Sees nothing: an observer defines what it wants to see, and costs nothing at what it does not.

    The task is held during each of these. What an observer gives back is left to do, and the task may run meanwhile.
    """

    holds_creations: ClassVar[bool] = False
    """Whether creator and child are to be held while it sees a creation: then neither has run since."""

    def starting(self) -> None:
        """There is no program yet: what takes long can be got ready, and nobody is held for it."""

    def started(self) -> None:
        """The program runs: the same, beside it, in a thread."""

    def creating(self, task: Tracee, entry: EnteredCall, t: int) -> Work | None:
        """``task`` is in a creation call: at its entry stop, or at its event stop if that was not seen."""

    def created(self, creator: Tracee, child: Tracee, entry: EnteredCall, t: int) -> None:
        """A creation of which both sides were looked at was told."""

    def vfork_done(self, creator: Tracee, t: int) -> None:
        """PTRACE_EVENT_VFORK_DONE: the child is done with the memory, and the creator has not run again."""

    def executing(self, task: Tracee) -> None:
        """At the entry of execve, which may fail: the memory is still the old one."""

    def executed(self, task: Tracee, t: int) -> Work | None:
        """PTRACE_EVENT_EXEC: the new image has not run yet, and what was close-on-exec is closed."""

    def falling(self, task: Tracee, t: int) -> None:
        """A signal that dumps core is about to be delivered to a task that does not take it."""

    def exiting(self, task: Tracee, t: int) -> None:
        """PTRACE_EVENT_EXIT: the memory is still there."""

    def ended(self, task: Tracee, t: int) -> None:
        """Nothing more will be seen of a task; it is not there any more."""

    def call_entered(self, task: Tracee, t: int, audit: int, nr: int, words: Words) -> bool:
        """Any system call, with ``Stops.SYSCALLS``. True: it was taken out, and is none that the engine should see."""
        return False

    def call_left(self, task: Tracee, t: int, result: int) -> None:
        """Its result."""

    def finish(self, t: int) -> None:
        """Nothing is traced any more: what may take its time."""


class Observers:
    """All of them: for each thing to see, those that want to."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        def seeing(name: str) -> tuple[Callable[..., Any], ...]:
            nothing = getattr(Observer, name)
            return tuple(getattr(each, name) for each in observers if getattr(type(each), name) is not nothing)

        self.starting: tuple[Callable[[], None], ...] = seeing("starting")
        self.started: tuple[Callable[[], None], ...] = seeing("started")
        self.creating: tuple[Callable[[Tracee, EnteredCall, int], Work | None], ...] = seeing("creating")
        self.created: tuple[Callable[[Tracee, Tracee, EnteredCall, int], None], ...] = seeing("created")
        self.vfork_done: tuple[Callable[[Tracee, int], None], ...] = seeing("vfork_done")
        self.executing: tuple[Callable[[Tracee], None], ...] = seeing("executing")
        self.executed: tuple[Callable[[Tracee, int], Work | None], ...] = seeing("executed")
        self.falling: tuple[Callable[[Tracee, int], None], ...] = seeing("falling")
        self.exiting: tuple[Callable[[Tracee, int], None], ...] = seeing("exiting")
        self.ended: tuple[Callable[[Tracee, int], None], ...] = seeing("ended")
        self.call_entered: tuple[Callable[[Tracee, int, int, int, Words], bool], ...] = seeing("call_entered")
        self.call_left: tuple[Callable[[Tracee, int, int], None], ...] = seeing("call_left")
        self.finish: tuple[Callable[[int], None], ...] = seeing("finish")
        self.holds_creations = any(each.holds_creations for each in observers)
