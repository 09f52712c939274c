"""Files read a line at a time, with bounds: no line, and no compressed file, is read whole into memory."""

from __future__ import annotations

import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Final, cast

from forklore.abi.text import printable

LINE_LIMIT: Final = 16 << 20
"""The longest line that is read, in bytes, its newline not counted."""

SKIPPED_LIMIT: Final = 256 << 20
"""How much is read of a longer line, to find its end."""
INFLATED: Final = 1 << 30
"""A compressed file may hold so many bytes, and more if it has at least a part in ``BOMB`` of what it holds."""
BOMB: Final = 400
"""A trace takes a tenth when it is compressed; the same line again and again takes a part in 300 to 1,030."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BUFFER: Final = 1 << 18
_SHOWN: Final = 80

Dull = Callable[[bytes, int], int]
"""Takes a part of a file and where a line begins in it, and gives where the next line of interest begins: the same
place if that one is. Only lines that are there with their newlines can be passed over."""


class TraceError(Exception):
    """A file is not the trace it should be.

    ``file`` and ``line`` (from 1; 0 for the file as a whole) say where, ``expected`` what should stand there
    and ``found`` what does, already safe to print.
    """

    def __init__(self, file: str, line: int, expected: str, found: str) -> None:
        super().__init__(file, line, expected, found)
        self.file = file
        self.line = line
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        where = f"{printable(self.file)}:{self.line}" if self.line else printable(self.file)
        return f"{where}: expected {self.expected}; found {self.found}"


def excerpt(value: str | bytes) -> str:
    """What a message shows of a value: no control characters, and cut when it is long."""
    shown = printable(value[: 4 * _SHOWN] if isinstance(value, bytes) else value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


class LineSource:
    """The lines of a binary stream, with the number of the last one (from 1).

    ``name`` is what messages call it. Iteration gives each line with its newline, if it has one. A line longer
    than ``LINE_LIMIT`` comes cut, without a newline, and ``overlong`` is set until the next one; the rest of it
    is skipped. Raises TraceError where the stream cannot be read on, and at a line longer than ``SKIPPED_LIMIT``.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.name = name
        self.number = 0
        self.overlong = False
        self._file = stream
        self._packed = _Counted(stream)
        self._compressed = isinstance(stream, io.BufferedReader) and stream.peek(2)[:2] == _GZIP_MAGIC
        self._stream = _inflated(self._packed) if self._compressed else stream
        self._total = 0
        self._ahead: list[bytes] = []
        self._taken: bytes | None = None
        """What was read last, where it is still to be looked at."""

    def __iter__(self) -> Iterator[bytes]:
        while line := next(self, b""):
            yield line
            if not self._compressed:
                yield from self._whole()

    def past(self, dull: Dull) -> Iterator[bytes]:
        """As iteration, without the lines that ``dull`` passes over: these are counted, and that is all."""
        while self._ahead or self._taken is not None:
            yield next(self)
        block, at = b"", 0
        while True:
            while (end := dull(block, at)) > at:
                self.number += block.count(b"\n", at, end)
                at = end
            if (end := block.find(b"\n", at, at + LINE_LIMIT + 1)) >= 0:
                self.number += 1
                line = block[at : end + 1]
                at = end + 1
                yield line
            elif len(block) - at > LINE_LIMIT:
                self.number += 1
                self.overlong = True
                yield block[at : at + LINE_LIMIT + 1]
                self.overlong = False
                block, at = self._behind(block[at + LINE_LIMIT + 1 :]), 0
            elif more := self._block():
                block, at = block[at:] + more, 0
            else:
                if rest := block[at:]:
                    self.number += 1
                    yield rest
                return

    def _behind(self, block: bytes) -> bytes:
        """What comes after the line that the block is in the middle of."""
        skipped = LINE_LIMIT
        while block and (end := block.find(b"\n")) < 0:
            skipped = self._skipped(skipped, block)
            block = self._block()
        return block[end + 1 :] if block else block

    def _whole(self) -> Iterator[bytes]:
        # As __next__ gives them, for as long as nothing is special: most of a long file comes this way.
        readline, number = self._stream.readline, self.number
        while not self._ahead:
            try:
                line = readline(LINE_LIMIT + 1)
            except OSError:
                return  # once more, to say where
            if not line.endswith(b"\n"):
                self._taken = line
                return
            number += 1
            self.number = number
            yield line

    def __next__(self) -> bytes:
        again = bool(self._ahead)
        line = self._ahead.pop() if again else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self.overlong = len(line) > LINE_LIMIT and not line.endswith(b"\n")
        if self.overlong and not again:
            self._skip()
        return line

    def unread(self, lines: list[bytes]) -> None:
        """Give back the last lines read, in the order in which they came."""
        self._ahead.extend(reversed(lines))
        self.number -= len(lines)

    def place(self) -> str:
        """The last line, as messages name it."""
        return f"{printable(self.name)}:{self.number}"

    def place_of(self, number: int) -> str:
        """A line, as messages name it."""
        return f"{printable(self.name)}:{number}"

    def error(self, expected: str, found: str) -> TraceError:
        """The error that says so of the last line."""
        return TraceError(self.name, self.number, expected, found)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()
        self._file.close()

    def _read(self) -> bytes:
        if self._taken is not None:
            line, self._taken = self._taken, None
            return line
        try:
            line = self._stream.readline(LINE_LIMIT + 1)
        except (EOFError, zlib.error, OSError) as error:
            raise self._unreadable(error) from error
        return self._counted(line)

    def _block(self) -> bytes:
        """What there is to read next; empty at the end."""
        try:
            block = cast("io.BufferedReader", self._stream).read1(_BUFFER)
        except (EOFError, zlib.error, OSError) as error:
            raise self._unreadable(error) from error
        return self._counted(block)

    def _counted(self, part: bytes) -> bytes:
        if self._compressed:
            self._total += len(part)
            if self._total > INFLATED and self._total > BOMB * self._packed.count:
                expected = f"at most {BOMB} times as many bytes after decompression as before"
                raise TraceError(self.name, self.number + 1, expected, "more; decompress the file before reading it")
        return part

    def _unreadable(self, error: Exception) -> TraceError:
        expected, found = "a whole gzip file", f"damaged data after line {self.number} ({error})"
        # gzip.BadGzipFile is an OSError, too, and the only one without an errno.
        if isinstance(error, OSError) and (error.errno is not None or not self._compressed):
            expected, found = "a file that can be read", error.strerror or str(error)
        return TraceError(self.name, self.number + 1, expected, found)

    def _skip(self) -> None:
        skipped = LINE_LIMIT
        while (part := self._read()) and not part.endswith(b"\n"):
            skipped = self._skipped(skipped, part)

    def _skipped(self, skipped: int, part: bytes) -> int:
        skipped += len(part)
        if skipped > SKIPPED_LIMIT:
            raise self.error(f"lines of at most {LINE_LIMIT >> 20} MiB", f"one of more than {SKIPPED_LIMIT >> 20}")
        return skipped


def open_lines(path: str | os.PathLike[str]) -> LineSource:
    """Open a file, a FIFO, or with ``-`` the standard input, compressed with gzip or not. Raises OSError."""
    name = os.fspath(path)
    if name == "-":
        return LineSource(io.BufferedReader(io.FileIO(os.dup(sys.stdin.fileno())), _BUFFER), "standard input")
    return LineSource(open(name, "rb", buffering=_BUFFER), name)


class _Counted:
    """A stream that tells how much of it was read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self.count += len(part)
        return part


def _inflated(stream: _Counted) -> IO[bytes]:
    import gzip  # a trace that is being written needs none of it

    return io.BufferedReader(gzip.GzipFile(fileobj=cast("IO[bytes]", stream), mode="rb"), _BUFFER)
