"""One traced run: what is decided before the program starts, the header, and the loop around it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from errno import EACCES, ENOSYS, EPERM
from typing import TYPE_CHECKING, Final

from forklore.abi.text import printable
from forklore.abi.units import Pid
from forklore.events import records as ev
from forklore.linux.ours import this_process
from forklore.linux.ours.signal_relay import Relay
from forklore.linux.tracing import seccomp, spawn
from forklore.linux.tracing.wait import WaitStatus
from forklore.sources.header import TraceRefusedError, header, machine
from forklore.sources.launching import not_executed, own_environment
from forklore.sources.ptrace import alarm
from forklore.sources.ptrace.engine import Engine
from forklore.sources.ptrace.options import DEFAULTS, Leave, Options, Stops, Until

if TYPE_CHECKING:
    from forklore.sources.source import Emit, Idle


_NAMED: Final = 3
"""Processes that are waited for and named; the rest is counted."""


class Session:
    """A program about to be traced, a :class:`forklore.sources.source.Source`."""

    status: WaitStatus
    """How the program ended, once :meth:`run` has returned."""

    def __init__(
        self,
        command: Sequence[str],
        options: Options = DEFAULTS,
        environment: Sequence[bytes] | None = None,
        *,
        relay_signals: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Find the program and decide how to trace it.

        ``environment`` is the program's, entry by entry; by default the one that this process was executed with.
        ``relay_signals``: this process stands for the program, so what is sent to it is passed on; only in the main
        thread. ``say`` takes a sentence while the trace goes on: what is still waited for.

        Raises NotFoundError, NotExecutableError, TraceRefusedError, and ValueError for options that exclude each other.
        """
        self._machine = machine()
        self.command = command
        self.options = options
        self._environment = environment
        self._relay_signals = relay_signals
        self._say = say
        self.warnings: list[str] = []
        self.begun: Callable[[], None] | None = None
        """Called once the program runs. RuntimeError where it cannot be."""
        self._engine: Engine | None = None
        self._filter: spawn.Filter | None = None
        self._path = spawn.find(self.command[0])
        if self.options.effective_stops() is Stops.SECCOMP:
            no_new_privs = seccomp.needs_no_new_privs(this_process.effective_capabilities())
            program = seccomp.assemble(seccomp.host_arches(self._machine))
            self._filter = spawn.Filter(program, no_new_privs, self._machine)
        self._start = time.monotonic_ns()
        recorded = command if options.argv else command[:1]
        self.header = header(self._machine, self._start, options.record(), self._blind(), recorded)

    def _blind(self) -> list[ev.Blind]:
        options, stops = self.options, self.options.effective_stops()
        blind: list[ev.Blind] = []
        if stops is Stops.EVENTS:
            blind.append(
                ev.Blind(
                    "creations and execs that fail, unshare, setns, close_range, setsid, children made with"
                    " CLONE_UNTRACED",
                    "no seccomp filter and no syscall stops: "
                    + ("--stops events" if options.stops else "a task that is let go must not carry the filter")
                    + "; --stops syscalls sees them, at the price of two stops for every system call",
                )
            )
        if not options.follow_untraced:
            blind.append(ev.Blind("what children made with CLONE_UNTRACED do", "--no-follow-untraced"))
        if options.follow != "all":
            blind.append(ev.Blind("what tasks do that are not followed", f"--follow {options.follow}"))
        if options.max_depth is not None:
            blind.append(ev.Blind(f"what tasks do deeper than {options.max_depth}", "--max-depth"))
        if options.until is Until.ROOT and options.leave is Leave.DETACH:
            blind.append(ev.Blind("what goes on when the program has ended", "--wait root --leave detach"))
        if self._filter is not None and self._filter.no_new_privs:
            blind.append(
                ev.Blind(
                    "no_new_privs is set",
                    "the seccomp filter of an ordinary user needs it; set-id programs gain nothing under an ordinary"
                    " user's tracer in any case. --stops events does without",
                    changed=True,
                )
            )
        elif os.geteuid() != 0:
            why = "an ordinary user's tracer (ptrace(2))"
            blind.append(ev.Blind("set-id programs gain no privilege", why, changed=True))
        return blind

    def run(self, emit: Emit, idle: Idle) -> ev.EndReason:
        """Start the program and trace it to the end: ``done``, or ``root`` where only the program's own end counts.

        Raises TraceRefusedError where the kernel refuses to trace it, NotExecutableError where it cannot be executed
        after all, OSError where no process can be made.
        """
        environment = own_environment() if self._environment is None else self._environment
        arguments = [os.fsencode(word) for word in self.command]
        engine = Engine(self._machine, self.options, self._start, emit, idle)
        engine.starting()
        launched = spawn.launch(self._path, arguments, environment, self._filter)
        try:
            engine.seize(launched.pid)
        except OSError as problem:
            launched.abandon()
            raise TraceRefusedError(_refusal(problem)) from problem
        self._engine = engine
        engine.outlived = self._outlived
        if self._relay_signals:
            alarm.survive()
            try:
                Relay(launched.pid, self.stop, engine.relayed)
            except (OSError, RuntimeError) as problem:  # no descriptor left, or no room for a thread
                launched.abandon()
                raise TraceRefusedError(_no_relay(problem)) from problem
        launched.go()
        engine.started()
        if self.begun is not None:
            self.begun()
        engine.run()
        engine.finish()
        self._explain(launched.failure())
        if engine.root_status is None:
            raise TraceRefusedError("the program was let go before it ended")
        self.status = engine.root_status
        return "root" if self.options.until is Until.ROOT else "done"

    def _outlived(self, status: WaitStatus, left: list[tuple[Pid, bytes]]) -> None:
        if self._say is not None:
            self._say(waiting_for(status, left, kills=self.options.leave is Leave.KILL))

    @property
    def ended(self) -> bool:
        """Whether the program has ended; what it left behind may live."""
        return self._engine is not None and self._engine.root_status is not None

    def processes(self) -> list[Pid]:
        """The processes that are traced now, the program first while it lives; from any thread."""
        return [] if self._engine is None else self._engine.processes()

    def send(self, number: int) -> None:
        """Send a signal to every process that is traced now; from any thread."""
        if self._engine is not None:
            self._engine.send(number)

    def kill(self) -> None:
        """SIGKILL everything that is traced; from any thread."""
        if self._engine is not None:
            self._engine.kill()

    def stop(self) -> None:
        """End the trace before the last task has ended: what is left is killed or let go, as the options say."""
        if self._engine is not None:
            self._engine.ask_to_leave()

    def _explain(self, failure: tuple[str, int] | None) -> None:
        if failure is None:
            return
        what, errno = failure
        if what == "execve":
            raise not_executed(self._path, errno)
        raise TraceRefusedError(
            f"the seccomp filter was refused ({os.strerror(errno)}); --stops events or --stops syscalls do without it,"
            " `forklore doctor` says more"
        )

    def elapsed(self) -> int:
        """Nanoseconds since the start of the trace."""
        return time.monotonic_ns() - self._start


def waiting_for(status: WaitStatus, left: Sequence[tuple[Pid, bytes]], *, kills: bool) -> str:
    """That the program has ended, whom it left behind (pid and name), and how not to wait for them."""
    named = [f"{pid} {printable(name)}".rstrip() for pid, name in left[:_NAMED]]
    more = [f"{len(left) - _NAMED} more"] if len(left) > _NAMED else []
    them = "it" if len(left) == 1 else "them"
    leave = f"kills {them} and leaves" if kills else f"leaves {them}"
    return f"the program ended ({status}); waiting for {', '.join([*named, *more])}; Ctrl-C {leave}"


def _no_relay(problem: Exception) -> str:
    reason = problem.strerror if isinstance(problem, OSError) else problem
    if isinstance(problem, OSError) and problem.errno in (EPERM, EACCES, ENOSYS):
        return (
            f"forklore cannot start the thread that passes signals on to the program (pidfd_open: {reason}): a"
            " container's seccomp profile refuses a call that it needs; docs/recipes.md has the list"
        )
    return (
        f"forklore cannot start the thread that passes signals on to the program ({reason}): it needs a descriptor"
        " and 8 MB of address space for it; see `ulimit -n`, `ulimit -v` and `ulimit -u`; or a"
        " seccomp profile refuses clone3"
    )


def _refusal(problem: OSError) -> str:
    from forklore.linux.tracing.seizing import why_no_child

    yama = why_no_child() if problem.errno == errno.EPERM else None
    if yama is not None:
        return f"the kernel refuses to trace the program ({problem.strerror}): {yama}"
    return (
        f"the kernel refuses to trace the program ({problem.strerror}): another tracer may hold it, a container's"
        " seccomp profile may forbid ptrace; `forklore doctor` tells which"
    )
