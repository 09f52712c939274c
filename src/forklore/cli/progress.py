"""One line on the terminal that is renewed while something takes long, and gone when it is done."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final, TextIO, cast

from forklore.cli.common import DEFAULT_COLUMNS

if TYPE_CHECKING:
    import threading

    from forklore.events.records import Event

_EVERY: Final = 1.0
"""Seconds between two lines."""
_S: Final = 1_000_000_000
_CLEAR: Final = "\r\x1b[K"
_LONG: Final = 100 << 20
"""Bytes of a file that takes long to read."""


def can_renew(stream: TextIO) -> bool:
    """Whether a line of ``stream`` can be written over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def shows_on(stream: TextIO, pids: Sequence[int]) -> bool:
    """Whether one of ``pids`` has the terminal of ``stream`` as its output, too; True where that cannot be told."""
    from forklore.linux.ours.this_process import output_device

    own = os.fstat(stream.fileno()).st_rdev
    return any(output_device(pid, fd) in (own, None) for pid in pids for fd in (1, 2))


def apart() -> TextIO | None:
    """The terminal that this process belongs to, where its stdout and stderr are both elsewhere: in files, of which
    nobody prints what comes. None behind a pipe, for whoever reads it may print it there, and in the background."""
    if any(stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd) for fd, mode in _outputs()):
        return None
    try:
        terminal = open("/dev/tty", "w", encoding="utf-8")  # noqa: SIM115 - the line is drawn there as long as we run
    except OSError:
        return None  # there is none
    if can_renew(terminal) and _in_front(terminal):
        return terminal
    terminal.close()
    return None


def _outputs() -> Iterator[tuple[int, int]]:
    for fd in (1, 2):
        with suppress(OSError):  # it is closed
            yield fd, os.fstat(fd).st_mode


def _in_front(stream: TextIO) -> bool:
    """Whether the terminal is ours to draw on, and not that of a shell that put us into the background."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except OSError:
        return True  # not the terminal that we belong to: nobody's job control is about it


class Progress:
    """How many tasks there are, from the events of a trace."""

    def __init__(self, stream: TextIO, *, own: bool = False) -> None:
        """``own``: the stream is closed with it."""
        from forklore.events import records as ev

        self._stream = stream
        self._own = own
        self._alive = self._made = self._refused = 0
        self._last: int | None = None
        self._due = 0
        self._began, self._created, self._failed, self._ended = ev.Begin, ev.Create, ev.Fail, (ev.Exit, ev.Gone)

    def event(self, event: Event) -> None:
        """The next event."""
        if isinstance(event, self._created):
            self._made += 1
            self._alive += event.traced
            self._last = event.t
        elif isinstance(event, self._ended):
            self._alive -= 1
        elif isinstance(event, self._began):
            self._alive += 1
        elif isinstance(event, self._failed):
            self._refused += 1

    def idle(self, t: int) -> float:
        """The source is about to wait, ``t`` ns after the start: after how many seconds it is to call again."""
        if t >= self._due:
            self._due = t + int(_EVERY * _S)
            self._draw(self.text(t))
        return max((self._due - t) / _S, 0.001)

    def text(self, t: int) -> str:
        """``12 s: 31 tasks alive, 412 made, the last 3 s ago, 2 creations refused``."""
        from forklore.report.words.words import count

        last = "" if self._last is None else f", the last {(t - self._last) // _S} s ago"
        refused = f", {count(self._refused, 'creation')} refused" if self._refused else ""
        return f"{t // _S} s: {count(self._alive, 'task')} alive, {self._made:,} made{last}{refused}"

    def _draw(self, text: str) -> None:
        self._put(f"{_CLEAR}forklore: {text}"[: len(_CLEAR) + _width(self._stream) - 1])

    def close(self) -> None:
        """Take the line away."""
        self._put(_CLEAR)
        if self._own:
            with suppress(OSError):
                self._stream.close()

    def _put(self, text: str) -> None:
        if self._stream.isatty() and not _in_front(self._stream):
            return
        with suppress(OSError):  # the terminal is gone, and nobody sees it
            self._stream.write(text)
            self._stream.flush()


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_COLUMNS
    except OSError:
        return DEFAULT_COLUMNS


class Steps:
    """One line on stderr for what is being done, renewed at most once a second and only where it is a terminal."""

    def __init__(self) -> None:
        self._progress = Progress(sys.stderr) if can_renew(sys.stderr) else None
        self._due = time.monotonic() + _EVERY

    def at(self, text: Callable[[], str]) -> None:
        """The next step; its text is made where it is drawn."""
        if self._progress is not None and (now := time.monotonic()) >= self._due:
            self._due = now + _EVERY
            self._progress._draw(text())

    def close(self) -> None:
        """Take the line away."""
        if self._progress is not None:
            self._progress.close()


@contextmanager
def reading(name: str, out: IO[Any]) -> Iterator[IO[Any]]:
    """While a file is read that takes long: how much of it has been, on a terminal.

    What is made of it is to be written to the stream that is given, which is ``out`` but for taking that line away.
    """
    size = os.stat(name).st_size if os.path.isfile(name) else 0
    if size < _LONG or not can_renew(sys.stderr):
        yield out
        return
    import threading  # which a file that is read at once does not pay for

    done = threading.Event()
    shown = threading.Thread(target=_shown, args=(name, size, done), daemon=True)
    shown.start()

    def stop() -> None:
        done.set()
        shown.join()

    try:
        yield cast("IO[Any]", _After(out, stop))
    finally:
        stop()


class _After:
    """A stream that does something before it is first written to."""

    def __init__(self, stream: IO[Any], first: Callable[[], None]) -> None:
        self._stream = stream
        self._first = first

    def write(self, data: str | bytes) -> int:
        self._first()
        return self._stream.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _shown(name: str, size: int, done: threading.Event) -> None:
    progress = Progress(sys.stderr)
    try:
        while not done.wait(_EVERY):
            at = _position(name)
            if at is None:
                return  # it is read; what is made of it comes now
            progress._draw(f"read {min(at, size) * 100 // size} % of {size >> 20:,} MB")
    finally:
        progress.close()


def _position(name: str) -> int | None:
    from forklore.linux.ours.this_process import own_positions

    # Where the descriptor stands that it is read through, as the kernel tells: readers need not know of this.
    try:
        wanted = os.stat(name)
    except OSError:
        return None
    return next((at for file, at in own_positions() if os.path.samestat(file, wanted)), None)
