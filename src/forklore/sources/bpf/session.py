"""One run without stops: the program is started when the programs in the kernel wait for it, and their records read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from signal import SIGKILL
from typing import TYPE_CHECKING, Final

from forklore.abi.units import Pid
from forklore.events import records as ev
from forklore.linux.bpf.loader import LoadError
from forklore.linux.ours.signal_relay import Relay
from forklore.linux.tracing import spawn
from forklore.linux.tracing.wait import WaitStatus, kill
from forklore.sources.bpf import following
from forklore.sources.bpf.blind import blind
from forklore.sources.bpf.follower import Follower
from forklore.sources.bpf.kernel import BUFFER, LOOK, Failures
from forklore.sources.header import TraceRefusedError, header, machine
from forklore.sources.launching import not_executed, own_environment
from forklore.sources.ptrace.options import DEFAULTS, Leave, Options, Until

if TYPE_CHECKING:
    from forklore.sources.source import Emit, Idle

_PATIENCE: Final = 5.0
"""Seconds that are given to those that were killed."""


class Session:
    """A program about to be followed, a :class:`forklore.sources.source.Source`."""

    status: WaitStatus
    """How the program ended, once :meth:`run` has returned."""

    def __init__(
        self,
        command: Sequence[str],
        options: Options = DEFAULTS,
        environment: Sequence[bytes] | None = None,
        *,
        buffer: int = BUFFER,
        failures: Failures = Failures.AUTO,
        relay_signals: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Find the program and load the programs that follow it. As for :class:`forklore.sources.ptrace.session`.

        ``buffer``: bytes of the ring between the kernel and us; ``failures``: whether refused calls are seen.
        Raises NotFoundError, NotExecutableError, TraceRefusedError, and ValueError for options that need held tasks.
        """
        following.refuse(options)
        self._machine = machine()
        self.command = command
        self.options = options
        self._environment = environment
        self._relay_signals = relay_signals
        self._say = say
        self.warnings: list[str] = []
        self.begun: Callable[[], None] | None = None
        """Called once the program runs. RuntimeError where it cannot be."""
        self._follower: Follower | None = None
        self._path = spawn.find(command[0])
        self._start = time.monotonic_ns()
        try:
            self._events = following.loaded(self._machine, options, buffer=buffer, failures=failures)
        except LoadError as problem:
            raise TraceRefusedError(f"{problem}; --engine ptrace needs none of this") from problem
        self._asked = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        recorded = command if options.argv else command[:1]
        told = following.told(options, self._events, buffer)
        self.header = header(self._machine, self._start, told, blind(options, self._events), recorded)

    def run(self, emit: Emit, idle: Idle) -> ev.EndReason:
        """Start the program and follow it to the end: ``done``, or ``root`` where only the program's own end counts.

        Raises NotExecutableError where it cannot be executed after all, OSError where no process can be made.
        """
        environment = own_environment() if self._environment is None else self._environment
        events = self._events
        try:
            launched = spawn.launch(self._path, [os.fsencode(word) for word in self.command], environment, None)
            pid = launched.pid
            follower = following.follower(self._machine, self.options, self._start, emit, events, root=pid)
            events.mark([pid])
            if self._relay_signals:
                Relay(pid, self.stop, lambda _number, _info: None)
            ended = launched.handle()
            try:
                events.wait_for(ended)
                events.wait_for(self._wake_read)
                launched.go()
                self._follower = follower
                if self.begun is not None:
                    self.begun()
                self._follow(follower, idle)
            finally:
                os.close(ended)
            self._finish(follower, launched)
            self._explain(launched.failure())
        finally:
            events.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
        return "root" if self.options.until is Until.ROOT else "done"

    def _follow(self, follower: Follower, idle: Idle) -> None:
        events, started = self._events, False
        until_root = self.options.until is Until.ROOT
        while True:
            following.wait(events, idle(self.elapsed()))
            alive = events.alive
            started = events.give(follower) or started
            if started and (alive == 0 or self._asked or (until_root and follower.root_ended)):
                return

    def _finish(self, follower: Follower, launched: spawn.Launched) -> None:
        left = follower.living()
        if left and self.options.leave is Leave.KILL:
            for pid in left:
                with suppress(ProcessLookupError):
                    kill(pid, SIGKILL)
            self._drain(follower)
        t = following.take_the_rest(self._events, follower, self.elapsed)
        follower.finish(t, "released" if follower.living() else "lost")
        if follower.living() and not follower.root_ended:
            raise TraceRefusedError("the program was let go before it ended")
        self.status = WaitStatus.decode(launched.wait())

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
