"""The command's own stdout and stderr: whole writes, characters that their encoding lacks, readers that leave."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from forklore.abi.text import UNENCODABLE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputLostError(Exception):
    """What was to be printed could not be written; ``problem`` says why."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(problem.strerror)
        self.problem = problem


class _Lasting(io.FileIO):
    """A descriptor of this process that takes all and stays silent once it cannot be written any more: its reader left,
    the disk is full, the terminal is gone. ``telling``: the first failure raises OutputLostError.
    """

    def __init__(self, number: int, *, telling: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self._telling = telling
        self._lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it, also where the other end was made non-blocking by whoever has it in common with us."""
        left = memoryview(data)
        while left and not self._lost:
            try:
                left = left[super().write(left) or self._wait() :]
            except OSError as problem:
                self._lost = True
                if self._telling:
                    raise OutputLostError(problem) from None
        return memoryview(data).nbytes

    def _wait(self) -> int:
        import select

        poll = select.poll()
        poll.register(self, select.POLLOUT)
        poll.poll()
        return 0


def open_streams() -> None:
    """Make sys.stdout and sys.stderr ones that can be printed to, whatever they are."""
    # A stream that was closed is None in Python, and print() takes a file of None for stdout, which is the program's.
    # One that is not buffered (python -u) loses without an error what a single write(2) does not take.
    for name, original in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w")  # noqa: SIM115 - for good, and closed on exec
        elif stream is original and isinstance(stream, io.TextIOWrapper):
            raw = _Lasting(stream.fileno(), telling=name == "stdout")
            each_line = stream.line_buffering or stream.write_through
            stream = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, line_buffering=each_line)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=UNENCODABLE)
        setattr(sys, name, stream)
