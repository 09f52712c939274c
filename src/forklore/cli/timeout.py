"""``forklore run --timeout``: end a program that takes too long, as timeout(1) does, and say first why it hangs."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING, Final

from forklore.abi.patterns import regex
from forklore.abi.signals import signal_name, signal_number
from forklore.cli.main import complain

if TYPE_CHECKING:
    import threading
    from typing import Protocol

    from forklore.abi.units import Pid

    class Session(Protocol):
        """What is asked of a program that is traced, from any thread."""

        @property
        def ended(self) -> bool:
            """Whether the program itself has ended."""

        def processes(self) -> list[Pid]:
            """Those that are traced now."""

        def send(self, number: int) -> None:
            """A signal to all of them."""

        def kill(self) -> None:
            """SIGKILL to all of them."""

        def stop(self) -> None:
            """Leave what is left."""

TIMED_OUT: Final = 124
KILLED: Final = 128 + signal.SIGKILL
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN: Final = regex(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([smhd]?)")


def add_timeout_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of it."""
    group = parser.add_argument_group("a limit of time")
    group.add_argument(
        "--timeout",
        type=span,
        metavar="S",
        help="end the program after S seconds (or 5m, 2h, 1d), as timeout(1) does, and say before that why it hangs, as"
        " `forklore why` does; the exit status is 124 then, or 137 where SIGKILL had to be sent",
    )
    group.add_argument(
        "--signal", type=_signal, metavar="SIG", default=signal.SIGTERM, help="what is sent then (default: TERM)"
    )
    group.add_argument(
        "--kill-after", type=span, metavar="S", help="send SIGKILL as well if something still runs S seconds later"
    )


def span(text: str) -> float:
    """Seconds, as sleep(1) and timeout(1) take them."""
    found = _SPAN.fullmatch(text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 10, 0.5, 90s, 5m, 2h, 1d")
    return float(found[1]) * _UNITS[found[2]]


def _signal(text: str) -> int:
    name = text.upper()
    number = int(text) if text.isdecimal() else signal_number(name) or signal_number(f"SIG{name}")
    if number is None or not 0 < number < signal.NSIG:
        raise argparse.ArgumentTypeError(f"{text!r} is no signal: TERM, SIGINT, 9")
    return number


class Timeout:
    """The limit of one run. A thread of its own waits and looks, so that the tracer goes on meanwhile."""

    def __init__(self, seconds: float, number: int, kill_after: float | None, *, quiet: bool) -> None:
        """``quiet``: stderr is the program's alone, so nothing is said of why it hangs."""
        import threading  # a run without a limit does not load it

        self._seconds = seconds
        self._number = number
        self._kill_after = kill_after
        self._quiet = quiet
        self._over = threading.Event()
        self._status: int | None = None
        self._thread: threading.Thread | None = None

    def begin(self, session: Session) -> None:
        """The program starts now. RuntimeError where there is no room for a thread."""
        import threading

        self._thread = threading.Thread(target=self._run, args=(session,), daemon=True)
        # Signals of this process are the tracing thread's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> int | None:
        """The program has ended: the exit status, if that was for want of time."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        return self._status

    def _run(self, session: Session) -> None:
        if self._over.wait(self._seconds):
            return
        self._status = KILLED if self._number == signal.SIGKILL else TIMED_OUT
        if not self._quiet:
            then = signal_name(self._number)
            complain(f"--timeout: it has not ended after {self._seconds:g} s; why, and then {then}:")
            self._explain(session)
        if session.ended:
            session.stop()  # only leftovers are there
            return
        self._send(session, self._number)
        if self._kill_after is not None and not self._over.wait(self._kill_after):
            if not self._quiet:
                complain(f"--kill-after: it has not ended {self._kill_after:g} s later: SIGKILL")
            self._status = KILLED
            session.kill()

    @staticmethod
    def _send(session: Session, number: int) -> None:
        if number == signal.SIGKILL:
            session.kill()
            return
        session.send(number)
        session.send(signal.SIGCONT)  # who is stopped gets a signal only when it goes on

    @staticmethod
    def _explain(session: Session) -> None:
        from forklore.features.why.conclude import conclude
        from forklore.features.why.observe.observe import observe
        from forklore.features.why.text import worst
        from forklore.report.styled_lines import write

        graph = observe(session.processes())
        found = conclude(graph)
        if not found:
            complain("--timeout: nothing of it could be looked at any more")
            return
        write(worst(graph, found, _COLUMNS), sys.stderr, color=False)


_COLUMNS: Final = 100
