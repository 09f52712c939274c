"""A log as a file of events, read as its events are asked for."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from forklore.abi.arch import Arch
from forklore.events.lines import Dull, LineSource
from forklore.events.records import Event, Header
from forklore.events.trace_file import TraceFile
from forklore.sources.logs.assembly.assembler import Assembler
from forklore.sources.logs.assembly.dialect import Dialect
from forklore.sources.logs.assembly.ordering import Ordering
from forklore.sources.logs.pasted import lines
from forklore.sources.logs.printed.time_stamps import Stamps

_CREATION_NAMED: Final = re.compile(rb"(?:\b|SYS_)(?:v?fork|clone3?)(?:@SYS)?(?:\(| resumed>)")


class LogReader(ABC):
    """What understands the lines of a tool's log: :meth:`feed` takes them in order, ``order`` has the events."""

    def __init__(self, arch: Arch) -> None:
        self.order = Ordering(arch)
        self.stamps = Stamps()
        self.dull: Dull = _none
        """Which lines need not be fed."""

    @abstractmethod
    def feed(self, line: bytes, number: int) -> None:
        """Take the next line."""

    def finish(self) -> None:
        """The log has ended."""
        self.order.line += 1

    def not_understood(self, line: bytes) -> None:
        """A line that says nothing to this reader: one that names a creation is worth a warning."""
        if _CREATION_NAMED.search(line):
            self.order.notices.add("lines that name a creation and are not understood", self.order.line)


class CallReader(LogReader):
    """One whose lines are calls, whole or in parts, which ``calls`` puts together."""

    def __init__(self, dialect: Dialect, arch: Arch) -> None:
        super().__init__(arch)
        self.calls = Assembler(dialect, self.order)

    def finish(self) -> None:
        """The log has ended: what a call lacks by now is not in it."""
        super().finish()
        self.calls.next_line()


def _none(_part: bytes, at: int) -> int:
    return at


def trace_file(header: Header, reader: LogReader, source: LineSource, head: list[bytes]) -> TraceFile:
    """The log that ``source`` gives, from its first line on; ``head`` are its first lines."""
    warnings: list[str] = []
    return TraceFile(header, _events(reader, source, head, warnings), warnings, source)


def _events(reader: LogReader, source: LineSource, head: list[bytes], warnings: list[str]) -> Iterator[Event]:
    order, feed = reader.order, reader.feed
    queue = order.queue
    with closing(source):
        for number, line, overlong in lines(source, head, reader.dull):
            if overlong:
                order.notices.add("lines too long to read", number)
                continue
            feed(line, number)
            if queue:
                yield from order.ready()
    reader.finish()
    yield from order.finish(reader.stamps.last)
    warnings.extend(order.notices.texts(source.place_of))
