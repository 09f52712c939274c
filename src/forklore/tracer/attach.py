"""Tracing programs that run already: attached to without being stopped, left without being noticed.

The loop runs in a thread of its own. ptrace belongs to a thread, and when that ends the kernel detaches its tracees
where they are (kernel/ptrace.c: exit_ptrace); PTRACE_DETACH would have to stop them first, and a stop makes some
blocked calls fail with EINTR (signal(7)).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

from forklore import __version__
from forklore.abi.units import Pid, Unavailable
from forklore.events import records as ev
from forklore.linux import proc
from forklore.linux.seizing import Seizing
from forklore.linux.tasks import descendants
from forklore.tracer.engine import Engine, trace_options
from forklore.tracer.options import DEFAULTS, Options, Stops
from forklore.tracer.session import TraceRefusedError

_NUDGE = 0.02


class Attachment:
    """Running programs about to be traced: make one, give its :attr:`header` to who writes it, :meth:`run` it once."""

    def __init__(self, pids: Sequence[Pid], options: Options = DEFAULTS, *, tree: bool = False) -> None:
        """``tree``: with the descendants that each process has already. Raises TraceRefusedError."""
        machine = proc.machine()
        if machine is None:
            raise TraceRefusedError(
                f"this machine is a {os.uname().machine}; forklore traces on x86_64, aarch64 and riscv64"
            )
        self._machine = machine
        self._pids = list(dict.fromkeys(pids))
        self._tree = tree
        self.options = options
        self.refused: list[Unavailable] = []
        """Why some tasks could not be attached to."""
        self._engine: Engine | None = None
        self._problem: BaseException | None = None
        self._over = threading.Event()
        self._start = time.monotonic_ns()
        self.header = self._header(time.time_ns())

    def _header(self, wall: int) -> ev.Header:
        system = os.uname()
        return ev.Header(
            source=ev.Source("forklore", __version__),
            host=system.nodename,
            kernel=system.release,
            arch=self._machine,
            boot_id=proc.boot_id(),
            clock=ev.Clock(self._start, wall),
            options={**self.options.record(), "attach": " ".join(map(str, self._pids))},
            uid=os.getuid(),
            blind=self._blind(),
        )

    def _blind(self) -> list[ev.Blind]:
        blind = [ev.Blind("what happened before", "the programs were attached to while they ran")]
        if self.options.effective_stops() is Stops.EVENTS:
            blind.append(
                ev.Blind(
                    "creations and execs that fail, unshare, setns, close_range, setsid, names, children made with"
                    " CLONE_UNTRACED",
                    "a running program cannot be given a seccomp filter; --syscalls sees them, at the price of two"
                    " stops for every system call",
                )
            )
        return blind

    def run(
        self, emit: Callable[[ev.Event], None], idle: Callable[[], None], seconds: float | None = None
    ) -> str:
        """Trace until the programs have ended, ``seconds`` are over, or :meth:`stop`; why it ended.

        ``done``, ``interrupted`` (they go on), or ``time``. In the main thread. Raises TraceRefusedError where nothing
        could be attached to.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked)
        signal.signal(signal.SIGIO, _interrupt)
        thread = threading.Thread(target=self._trace, args=(emit, idle), name="tracer", daemon=True)
        thread.start()
        reason = "done"
        if not self._over.wait(seconds):
            reason = "time"
        if thread.is_alive() and self._engine is not None:
            reason = "interrupted" if reason == "done" else reason
            self._engine.abandon()
        while thread.is_alive():
            # A signal just before waitpid would be lost, so it is sent until the loop has taken note.
            if thread.ident is not None:
                signal.pthread_kill(thread.ident, signal.SIGIO)
            thread.join(_NUDGE)
        if self._problem is not None:
            raise self._problem
        if self._engine is not None:
            self._engine.finish()
        return reason

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        self._over.set()

    def elapsed(self) -> int:
        """Nanoseconds since the start of the trace."""
        return time.monotonic_ns() - self._start

    def _trace(self, emit: Callable[[ev.Event], None], idle: Callable[[], None]) -> None:
        try:
            engine = self._engine = Engine(self._machine, self.options, self._start, emit, idle)
            self._attach(engine)
            engine.run()
        except BaseException as problem:  # noqa: BLE001 - it is the main thread's to raise
            self._problem = problem
        finally:
            self._over.set()

    def _attach(self, engine: Engine) -> None:
        seizing = Seizing(trace_options(self.options.effective_stops(), ends=self.options.cow, exitkill=False))
        done: set[Pid] = set()
        wanted = list(self._pids)
        while wanted:
            for pid in wanted:
                done.add(pid)
                self.refused += engine.attach(pid, seizing)
            # What a process made before it was attached to, while we were at others.
            found = [child for pid in self._pids for child in descendants(pid)] if self._tree else []
            wanted = [child for child in found if child not in done]
        if engine.left == 0:
            why = self.refused[0].why if self.refused else "they have ended"
            more = f" (and {len(self.refused) - 1} more like it)" if len(self.refused) > 1 else ""
            raise TraceRefusedError(f"nothing to attach to: {why}{more}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Makes waitpid return."""
