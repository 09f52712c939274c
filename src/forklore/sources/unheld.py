"""A run without stops, for any engine that reads what the kernel writes: start, follow to the end, let go."""

from __future__ import annotations

import os
import select
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from signal import SIGKILL
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from forklore.abi.units import Fd, Pid
from forklore.events import records as ev
from forklore.linux.ours.signal_relay import Relay
from forklore.linux.ours.this_process import keep_only
from forklore.linux.tracing import spawn
from forklore.linux.tracing.wait import WaitStatus, kill
from forklore.sources.header import TraceRefusedError
from forklore.sources.launching import not_executed, own_environment
from forklore.sources.ptrace.options import Leave, Options, Until

if TYPE_CHECKING:
    from forklore.sources.source import Emit, Idle

BUFFER: Final = 1 << 26
"""Bytes between the kernel and the reader: some 80,000 creations of the bpf engine."""
LOOK: Final = 0.02
"""Seconds between two looks at what the kernel has written, where nothing wakes the reader."""
_PATIENCE: Final = 5.0
"""Seconds that are given to those that were killed."""


class Follows(Protocol):
    """Who makes a trace of what the kernel writes."""

    @property
    def root_ended(self) -> bool:
        """Whether the process that was started has ended."""

    def living(self) -> list[Pid]:
        """The processes that have not ended."""

    def finish(self, t: int, why: ev.GoneWhy) -> None:
        """The trace ends: nothing more is seen of what is still there."""


Follower = TypeVar("Follower", bound=Follows)
_Taker = TypeVar("_Taker", bound=Follows, contravariant=True)


class Written(Protocol[_Taker]):
    """What the kernel writes of tasks, from when it was opened until it is closed."""

    @property
    def alive(self) -> int:
        """How many tasks are followed and have not ended; asked before :meth:`give`."""

    def wait_for(self, fd: int) -> None:
        """:meth:`wait` ends when this can be read, too: once."""

    def wait(self, seconds: float) -> None:
        """Until there is much to read, or so long."""

    def give(self, follower: _Taker) -> bool:
        """Have a follower take what is there now. Whether there was any."""

    def detach(self) -> None:
        """Nothing more is written."""

    def take_the_rest(self, follower: _Taker) -> None:
        """What was written before, …"""

    def tell_what_is_missing(self, notes: _Taker, t: int) -> None:
        """… and what was not."""

    def close(self) -> None:
        """Nothing is left of it in the kernel."""


class UnheldSession(ABC, Generic[Follower]):
    """A program about to be followed, a :class:`forklore.sources.source.Source`. An engine's own opens its events."""

    status: WaitStatus
    """How the program ended, once :meth:`run` has returned."""
    header: ev.Header

    def __init__(
        self,
        command: Sequence[str],
        options: Options,
        environment: Sequence[bytes] | None,
        *,
        relay_signals: bool,
        kept: Collection[str] | None,
    ) -> None:
        """Find the program. ``kept``: the capabilities that are not given up once it is followed, which keeps its own;
        None: all. Raises NotFoundError, NotExecutableError.
        """
        self._kept = kept
        self.command = command
        self.options = options
        self._environment = environment
        self._relay_signals = relay_signals
        self.warnings: list[str] = []
        self.begun: Callable[[], None] | None = None
        """Called once the program runs. RuntimeError where it cannot be."""
        self._follower: Follower | None = None
        self._path = spawn.find(command[0])
        self._start = time.monotonic_ns()
        self._asked = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    @abstractmethod
    def _events(self) -> Written[Follower]:
        """What the kernel writes; opened when the session is made."""

    @abstractmethod
    def _following(self, emit: Emit, launched: spawn.Launched) -> Follower:
        """Who makes a trace of it. The program, which waits, is followed from now on."""

    def run(self, emit: Emit, idle: Idle) -> ev.EndReason:
        """Start the program and follow it to the end: ``done``, or ``root`` where only the program's own end counts.

        Raises NotExecutableError where it cannot be executed after all, OSError where no process can be made.
        """
        environment = own_environment() if self._environment is None else self._environment
        events = self._events
        try:
            launched = spawn.launch(self._path, [os.fsencode(word) for word in self.command], environment, None)
            try:
                follower = self._following(emit, launched)
                if self._kept is not None:
                    keep_only(self._kept)
            except BaseException:
                launched.abandon()
                raise
            if self._relay_signals:
                Relay(launched.pid, self.stop, lambda _number, _info: None)
            ended = launched.handle()
            try:
                events.wait_for(ended)
                events.wait_for(self._wake_read)
                launched.go()
                self._follower = follower
                if self.begun is not None:
                    self.begun()
                self._follow(follower, idle, ended)
            finally:
                os.close(ended)
            self._finish(follower, launched)
            self._explain(launched.failure())
        finally:
            events.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
        return "root" if self.options.until is Until.ROOT else "done"

    def _follow(self, follower: Follower, idle: Idle, ended: Fd) -> None:
        events, started = self._events, False
        until_root = self.options.until is Until.ROOT
        end = select.poll()
        end.register(ended, select.POLLIN)
        while True:
            wait(events, idle(self.elapsed()))
            over = bool(end.poll(0))
            alive = events.alive
            started = events.give(follower) or started
            if over:
                self._over(follower)
            if started and (alive == 0 or self._asked or (until_root and follower.root_ended)):
                return

    def _over(self, follower: Follower) -> None:
        """The program had ended before the last look at what the kernel has written."""

    def _finish(self, follower: Follower, launched: spawn.Launched) -> None:
        left = follower.living()
        if left and self.options.leave is Leave.KILL:
            for pid in left:
                with suppress(ProcessLookupError):
                    kill(pid, SIGKILL)
            self._drain(follower)
        t = take_the_rest(self._events, follower, self.elapsed)
        follower.finish(t, "released" if follower.living() else "lost")
        if follower.living() and not follower.root_ended:
            raise TraceRefusedError("the program was let go before it ended")
        self.status = WaitStatus.decode(self._waited(launched))

    def _waited(self, launched: spawn.Launched) -> int:
        return launched.wait()

    def _drain(self, follower: Follower) -> None:
        # Those that were killed end by themselves, however long the kernel takes.
        until = time.monotonic() + _PATIENCE
        while self._events.alive and time.monotonic() < until:
            self._events.wait(LOOK)
            self._events.give(follower)

    @property
    def ended(self) -> bool:
        """Whether the program has ended; what it left behind may live."""
        return self._follower is not None and self._follower.root_ended

    def processes(self) -> list[Pid]:
        """The processes that are followed now, the program first while it lives; from any thread."""
        while self._follower is not None:
            try:
                return self._follower.living()
            except RuntimeError:
                continue  # the loop has added one meanwhile
        return []

    def send(self, number: int) -> None:
        """Send a signal to every process that is followed now; from any thread."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                kill(pid, number)

    def kill(self) -> None:
        """SIGKILL everything that is followed; from any thread."""
        self.send(SIGKILL)

    def stop(self) -> None:
        """End the trace before the last task has ended: what is left is killed or let go, as the options say."""
        self._asked = True
        with suppress(BlockingIOError):
            os.write(self._wake_write, b".")

    def _explain(self, failure: tuple[str, int] | None) -> None:
        if failure is not None:
            raise not_executed(self._path, failure[1])

    def elapsed(self) -> int:
        """Nanoseconds since the start of the trace."""
        return time.monotonic_ns() - self._start


def wait(events: Written[Follower], seconds: float) -> None:
    """For events, or ``seconds`` where they are not 0, or until it is time to look whoever woke nobody."""
    events.wait(min(seconds, LOOK) if seconds else LOOK)


def take_the_rest(events: Written[Follower], follower: Follower, elapsed: Callable[[], int]) -> int:
    """Let the programs go, and tell what they had still written and what was lost; when that was, by ``elapsed``."""
    events.detach()
    events.take_the_rest(follower)
    t = elapsed()
    events.tell_what_is_missing(follower, t)
    return t
