"""Following what runs already: processes that are named, or whoever on the machine passes a filter.

Nothing is attached to the programs themselves: they neither stop nor notice, and go on when we end, however we do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux.bpf.loader import LoadError
from forklore.linux.ours import leaving
from forklore.linux.ours.asked_to_end import Polled
from forklore.linux.tasks import descendants, leader_of
from forklore.sources.bpf import following
from forklore.sources.bpf.blind import blind
from forklore.sources.bpf.follower import Follower
from forklore.sources.bpf.kernel import BUFFER, Failures, Filter
from forklore.sources.header import TraceRefusedError, header, machine
from forklore.sources.ptrace.options import DEFAULTS, Options

if TYPE_CHECKING:
    from forklore.sources.source import Emit, Idle

_REFUSALS: Final = 5


class Attachment:
    """Running processes about to be followed, or a machine, a :class:`forklore.sources.source.Source`."""

    def __init__(
        self, pids: Sequence[Pid], options: Options = DEFAULTS, *, everything: Filter | None = None,
        tree: bool = False, seconds: float | None = None, buffer: int = BUFFER, failures: Failures = Failures.AUTO,
    ) -> None:  # fmt: skip
        """``pids`` with what they make from now on, with ``tree`` their descendants too, or with ``everything`` whoever
        passes that filter. ``seconds``: leave after that time. ``buffer``, ``failures``: as
        for a run.

        Raises TraceRefusedError, ValueError for options that need held tasks.
        """
        following.refuse(options)
        self._machine = arch = machine()
        self._everything = everything
        self._tree = tree
        self._seconds = seconds
        self.options = options
        self._refused: list[Unavailable] = []
        self._pids = self._leaders(pids)
        if everything is None and not self._pids:
            raise TraceRefusedError(f"nothing to attach to: {self._refused[0].why if self._refused else 'no process'}")
        self._start = time.monotonic_ns()
        try:
            self._events = following.loaded(arch, options, buffer=buffer, failures=failures, everything=everything)
        except LoadError as problem:
            raise TraceRefusedError(str(problem)) from problem
        self._asked = Polled()
        told = {**following.told(options, self._events, buffer), **_shown(self._pids, everything)}
        before = ev.Blind("what happened before", "the programs ran already")
        self.header = header(arch, self._start, told, [before, *blind(options, self._events)])

    def _leaders(self, pids: Sequence[Pid]) -> list[Pid]:
        found: list[Pid] = []
        for pid in pids:
            leader = leader_of(Tid(pid))
            if isinstance(leader, Unavailable):
                self._refused.append(leader)
            else:
                found.append(leader)
                found += descendants(leader) if self._tree else []
        return [pid for pid in dict.fromkeys(found) if pid != os.getpid()]

    def run(self, emit: Emit, idle: Idle) -> ev.EndReason:
        """Follow until the processes have ended, the time is over, or a signal asks for the end; why it ended.

        ``done``, ``interrupted`` (they go on), or ``time``. In the main thread.
        """
        events = self._events
        leaving.begin()
        self._asked.keep()
        try:
            follower = following.follower(self._machine, self.options, self._start, emit, events)
            events.wait_for(self._asked.fd)
            if self._everything is None:
                events.mark(self._pids)
                if follower.stacks is not None:
                    for pid in self._pids:  # while they are there
                        follower.stacks.where_code_lies.of(pid)
            else:
                events.look()
            reason = self._follow(follower, idle)
            t = following.take_the_rest(events, follower, self.elapsed)
            follower.finish(t, "lost" if reason == "done" else "released")
        finally:
            events.close()
            self._asked.close()
        return reason

    def _follow(self, follower: Follower, idle: Idle) -> ev.EndReason:
        events = self._events
        until = None if self._seconds is None else time.monotonic() + self._seconds
        while True:
            following.wait(events, idle(self.elapsed()))
            alive = events.alive
            events.give(follower)
            if self._asked.said:
                return "interrupted"
            if until is not None and time.monotonic() >= until:
                return "time"
            if alive == 0 and self._everything is None:
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


def _shown(pids: Sequence[Pid], everything: Filter | None) -> dict[str, str | int | bool | None]:
    if everything is None:
        return {"attach": " ".join(map(str, pids))}
    comm = None if everything.comm is None else everything.comm.decode(errors="replace")
    return {"watch": True, "uid": everything.uid, "cgroup": everything.cgroup, "comm": comm}
