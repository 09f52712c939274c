"""What becomes of a source's events: they are written to files and, where they are looked at in the end, to memory."""

from __future__ import annotations

import os
import stat
from errno import EINVAL
from typing import TYPE_CHECKING, Final

from forklore.events.jsonl import Writer, open_trace, read
from forklore.events.records import Event, Header, Note

if TYPE_CHECKING:
    from forklore.events.rotate import RotatingWriter, Rotation
    from forklore.events.trace_file import TraceFile
    from forklore.sources.source import Emit, Idle, Source

_FLUSH_AFTER: Final = 0.05
"""Seconds for which an event may wait to be written: a write at every stop of a program would double their price."""


class Recording:
    """A recording of one source: make it with the source's header, give it the source once.

    What cannot be written raises nothing, for the traced programs go on: :meth:`complaints` says it in the end.
    """

    def __init__(
        self,
        header: Header,
        output: str | None = None,
        *,
        rotation: Rotation | None = None,
        most: int | None = None,
        reread: bool = False,
    ) -> None:
        """``output`` as for :func:`forklore.events.jsonl.open_trace`; ``rotation``: continued in further files.

        ``most``: so many events are recorded and no more. ``reread``: :meth:`trace_file` is wanted, so that a copy is
        kept in memory where the output is no file to read back. Raises OSError.
        """
        self.left_out = 0
        """How many events came after the last that was to be recorded."""
        self._output = output
        self._writers: list[Writer | RotatingWriter] = []
        self._rotating: RotatingWriter | None = None
        self._kept: int | None = None
        """A descriptor to read everything back from."""
        self._most = most
        self._due: int | None = None
        """When what is buffered must be written, in ns since the start of the trace."""
        if rotation is not None:
            if output is None:
                raise OSError(EINVAL, "--rotate needs a file to continue in others: give -o FILE too")
            from forklore.events.rotate import RotatingWriter

            self._rotating = RotatingWriter(output, header, rotation)
            self._writers.append(self._rotating)
            return
        if output is not None:
            fd = open_trace(output)
            self._writers.append(Writer(fd, header))
            if reread and output != "-" and stat.S_ISREG(os.fstat(fd).st_mode) and os.access(_again(fd), os.R_OK):
                self._kept = fd
        if reread and self._kept is None:
            self._kept = os.memfd_create("forklore-trace", os.MFD_CLOEXEC)
            self._writers.append(Writer(self._kept, header))

    def record(self, source: Source, also: Emit | None = None, idle: Idle | None = None) -> None:
        """Run the source and record it to its end.

        ``also`` takes each event after it was recorded; ``idle`` is called as a source's is (:class:`Source`).
        """
        emit = self._emit if self._most is None else self._until(self._most)
        reason = source.run(
            emit if also is None else _both(emit, also), self._idle if idle is None else _sooner(self._idle, idle)
        )
        t = source.elapsed()
        for writer in self._writers:
            writer.end(t, reason, self.left_out)

    @property
    def _emit(self) -> Emit:
        # By the shortest way: a live source holds tasks meanwhile.
        return self._writers[0].event if len(self._writers) == 1 else self._event

    def _event(self, event: Event) -> None:
        for writer in self._writers:
            writer.event(event)

    def _until(self, most: int) -> Emit:
        take, room = self._emit, most

        def emit(event: Event) -> None:
            nonlocal room
            if room:
                room -= 1
                take(event)
                return
            if self.left_out == 0:
                why = f"the recording was to end after {most} events"
                take(Note(t=event.t, what="what happened from here on", why=why))
            self.left_out += 1

        return emit

    def _idle(self, t: int) -> float:
        # A file that can be looked at meanwhile is written soon after something came, and not at every wait.
        if self._due is None:
            if self._output is None or not self._writers[0].pending:
                return 0.0
            self._due = t + int(_FLUSH_AFTER * 1e9)
        elif t >= self._due:
            self._due = None
            for writer in self._writers:
                writer.flush()
            return 0.0
        return _FLUSH_AFTER

    def complaints(self) -> list[str]:
        """What could not be written, or was not to be, in sentences."""
        said = [
            f"the trace in {self._output} is not whole: {writer.failure.strerror}; {writer.lost} of"
            f" {writer.events} events could not be written"
            for writer in self._writers
            if writer.failure is not None
        ]
        if self._writers and self.left_out:
            said.append(f"--max-events: {self.left_out} more events were not recorded")
        return said

    @property
    def name(self) -> str | None:
        """The file that was written, of several the last; None where there is none, or nothing of it was written."""
        if self._rotating is not None:
            return self._rotating.name
        if self._output in (None, "-"):
            return None
        writer = self._writers[0]
        return None if writer.failure is not None and writer.lost == writer.events else self._output

    def trace_file(self) -> TraceFile | None:
        """What was recorded, read back; of several files the last. None where ``reread`` was not asked for."""
        fd = self._kept if self._rotating is None else self._rotating.source
        return None if fd is None else read(_again(fd))


def _again(fd: int) -> str:
    # The very file, whatever has its name by now.
    return f"/proc/self/fd/{fd}"


def _both(first: Emit, second: Emit) -> Emit:
    def emit(event: Event) -> None:
        first(event)
        second(event)

    return emit


def _sooner(first: Idle, second: Idle) -> Idle:
    def idle(t: int) -> float:
        # 0: to be called again only when something has happened.
        return min((seconds for seconds in (first(t), second(t)) if seconds), default=0.0)

    return idle
