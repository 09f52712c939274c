"""What attachments without stops have in common: whom they are to follow, and until when."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, Generic

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux.ours import leaving
from forklore.linux.ours.asked_to_end import Polled
from forklore.linux.ours.this_process import keep_only
from forklore.linux.tasks import descendants, leader_of
from forklore.sources.header import TraceRefusedError
from forklore.sources.unheld import Follower, Written, take_the_rest, wait

if TYPE_CHECKING:
    from forklore.sources.source import Emit, Idle

_REFUSALS: Final = 5
BEFORE: Final = ev.Blind("what happened before", "the programs ran already")


class UnheldAttachment(ABC, Generic[Follower]):
    """Running processes about to be followed, a :class:`forklore.sources.source.Source`. They go on when we end."""

    header: ev.Header

    def __init__(self, pids: Sequence[Pid], *, tree: bool, seconds: float | None, kept: Collection[str] | None,
                 any_will_do: bool = False) -> None:  # fmt: skip
        """``tree``: with their descendants. ``any_will_do``: whom to follow is told otherwise. ``kept``: the
        capabilities that are not given up once they are followed; None: all.

        Raises TraceRefusedError where none of them is there.
        """
        self._seconds = seconds
        self._kept = kept
        self._refused: list[Unavailable] = []
        self._pids = self._leaders(pids, tree=tree)
        self._for_good = any_will_do
        if not any_will_do and not self._pids:
            raise TraceRefusedError(f"nothing to attach to: {self._refused[0].why if self._refused else 'no process'}")
        self._start = time.monotonic_ns()
        self._asked = Polled()

    def _leaders(self, pids: Sequence[Pid], *, tree: bool) -> list[Pid]:
        found: list[Pid] = []
        for pid in pids:
            leader = leader_of(Tid(pid))
            if isinstance(leader, Unavailable):
                self._refused.append(leader)
            else:
                found.append(leader)
                found += descendants(leader) if tree else []
        return [pid for pid in dict.fromkeys(found) if pid != os.getpid()]

    @property
    @abstractmethod
    def _events(self) -> Written[Follower]:
        """What the kernel writes; opened when the attachment is made."""

    @abstractmethod
    def _following(self, emit: Emit) -> Follower:
        """Who makes a trace of it. From now on they are followed."""

    def run(self, emit: Emit, idle: Idle) -> ev.EndReason:
        """Follow until the processes have ended, the time is over, or a signal asks for the end; why it ended.

        ``done``, ``interrupted`` (they go on), or ``time``. In the main thread.
        """
        events = self._events
        leaving.begin()
        self._asked.keep()
        try:
            events.wait_for(self._asked.fd)
            follower = self._following(emit)
            if self._kept is not None:
                keep_only(self._kept)
            reason = self._follow(follower, idle)
            t = take_the_rest(events, follower, self.elapsed)
            follower.finish(t, "lost" if reason == "done" else "released")
        finally:
            events.close()
            self._asked.close()
        return reason

    def _follow(self, follower: Follower, idle: Idle) -> ev.EndReason:
        events = self._events
        until = None if self._seconds is None else time.monotonic() + self._seconds
        while True:
            wait(events, idle(self.elapsed()))
            alive = events.alive
            events.give(follower)
            if self._asked.said:
                return "interrupted"
            if until is not None and time.monotonic() >= until:
                return "time"
            if alive == 0 and not self._for_good:
                return "done"

    def stop(self) -> None:
        """Leave the programs, which go on."""
        self._asked.ask()

    @property
    def warnings(self) -> list[str]:
        """What is not followed."""
        named = [f"not attached to: {refused.why}" for refused in self._refused[:_REFUSALS]]
        more = len(self._refused) - _REFUSALS
        return [*named, f"not attached to: {more} more"] if more > 0 else named

    def elapsed(self) -> int:
        """Nanoseconds since the start of the trace."""
        return time.monotonic_ns() - self._start
