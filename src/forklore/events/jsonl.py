"""Trace files in forklore's own form: a header, then one event a line. See docs/trace-format.md."""

from __future__ import annotations

import fcntl
import os
import select
import stat
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from forklore.abi.patterns import regex
from forklore.abi.text import printable
from forklore.events.check import Checker, InconsistentError
from forklore.events.lines import LINE_LIMIT, LineSource, TraceError, excerpt, open_lines
from forklore.events.output_file import OutputPlace
from forklore.events.records import FORMAT_NAME, FORMAT_VERSION, AnyEvent, End, EndReason, Event, Header

if TYPE_CHECKING:
    from forklore.events.trace_file import TraceFile

_BUFFER: Final = 1 << 16
_OWN_FD: Final = regex(r"/dev/(?:fd/(\d+)|std(in|out|err))|/proc/self/fd/(\d+)")
_LACKING: Final = "they could not be written, or so many were not asked for"
_UNKNOWN_WORD: Final = regex(r"Invalid enum value (?s:.*) - at `\$\.(\w+)[^`]*`")
"""msgspec's message for a word that is none of a field's."""
_STREAMS: Final = {"in": 0, "out": 1, "err": 2}


def open_trace(path: str | os.PathLike[str]) -> int:
    """Open a file to write a trace to; the caller owns the descriptor, which is closed on exec.

    A new file gets mode 0600, an existing one keeps its mode and loses its content; what others may have planted
    under the name is refused (:mod:`forklore.events.output_file`). A FIFO waits for its reader. ``-`` and names of
    this process's descriptors (``/dev/stdout``, ``/dev/fd/N``) give a duplicate, so what else was written there stays.
    Raises OSError.
    """
    name = os.fspath(path)
    if name == "-":
        return fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    if own := _OWN_FD.fullmatch(name):
        number, stream, proc = own.groups()
        fd = _STREAMS[stream] if stream else int(number or proc)
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    with closing(OutputPlace(name)) as place:
        return place.open()


class Writer:
    """Writes a header and events to a descriptor, whole lines at a time.

    A write that fails raises nothing: ``failure`` holds the OSError, the lines that did not get out whole and
    all later events count as ``lost``, and a regular file is cut back to its last whole line. ``events`` counts
    what was given, ``size`` the bytes that it takes. The descriptor is the caller's to close; ``buffer`` is how many
    bytes gather before a write.
    """

    def __init__(self, fd: int, header: Header, *, buffer: int = _BUFFER) -> None:
        self.events = 0
        self.lost = 0
        self.size = 0
        self.failure: OSError | None = None
        self._fd = fd
        self._limit = buffer
        self._encoder = msgspec.json.Encoder()
        self._pending = bytearray()
        self._add(header)
        self.flush()
        self.lost = 0  # the header is no event

    @property
    def pending(self) -> bool:
        """Whether something is buffered."""
        return bool(self._pending)

    def event(self, event: Event) -> None:
        """Take an event; it is written when the buffer is full, or by :meth:`flush`."""
        self.events += 1
        if self.failure is not None:
            self.lost += 1
            return
        self._add(event)
        if len(self._pending) >= self._limit:
            self.flush()

    def end(self, t: int | None, reason: EndReason, left_out: int = 0) -> None:
        """Write the last line and flush. ``left_out``: how many more events there were, which were not given."""
        self.flush()
        if self.failure is None:
            self._add(End(t=t, reason=reason, events=self.events, lost=self.lost + left_out))
            self.flush()

    def flush(self) -> None:
        """Write what is buffered: after this a kill loses nothing that was given."""
        if self.failure is not None or not self._pending:
            return
        rest = memoryview(self._pending)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    _wait_writable(self._fd)
        except OSError as error:
            self.failure = error
            self._lose(len(rest))
        finally:
            rest.release()
        self._pending = bytearray()

    def _add(self, record: Header | Event) -> None:
        before = len(self._pending)
        self._encoder.encode_into(record, self._pending, -1)
        self._pending += b"\n"
        self.size += len(self._pending) - before

    def _lose(self, unwritten: int) -> None:
        written = len(self._pending) - unwritten
        self.lost += self._pending.count(b"\n", written)
        partial = written - (self._pending.rfind(b"\n", 0, written) + 1)
        if partial:
            _cut_back(self._fd, partial)


def _wait_writable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()


def _cut_back(fd: int, count: int) -> None:
    """Take back the last ``count`` bytes written, where nobody else's can go with them."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return
        position = os.lseek(fd, 0, os.SEEK_CUR)
        if position == os.fstat(fd).st_size and position >= count:
            os.ftruncate(fd, position - count)
            os.lseek(fd, position - count, os.SEEK_SET)
    except OSError:
        return  # the first error is the one to report; a reader takes a cut last line for what it is


def read(path: str | os.PathLike[str]) -> TraceFile:
    """Read a trace file of forklore's own form. Raises OSError; TraceError now or while it is read.

    A last line that was cut off, a missing end record, and what a newer minor version added are warnings.
    """
    return read_lines(open_lines(path))


def read_lines(source: LineSource) -> TraceFile:
    """The same from an open source, which is closed at the end of the events."""
    from forklore.events.trace_file import TraceFile  # a recording needs none of it

    try:
        header = _header(source, next(source, b""))
    except TraceError:
        source.close()
        raise
    warnings: list[str] = []
    return TraceFile(header, _events(source, header, warnings), warnings, source)


class _Preamble(msgspec.Struct):
    format: str
    version: tuple[int, int]


def _header(source: LineSource, line: bytes) -> Header:
    expected = f"a header line of a {FORMAT_NAME} file"
    if not line:
        raise TraceError(source.name, 0, expected, "an empty file")
    _bounded(source)
    try:
        preamble = msgspec.json.decode(line, type=_Preamble)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise source.error(expected, _fault(error, line)) from error
    if preamble.format != FORMAT_NAME:
        raise source.error(f'format "{FORMAT_NAME}"', f'"{excerpt(preamble.format)}"')
    if preamble.version[0] != FORMAT_VERSION[0]:
        found = f"version {preamble.version[0]}.{preamble.version[1]}; read it with the forklore that wrote it"
        if preamble.version[0] > FORMAT_VERSION[0]:
            found += ", or upgrade this one"
        raise source.error(f"a trace of format version {FORMAT_VERSION[0]}", found)
    try:
        return msgspec.json.decode(line, type=Header)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise source.error(expected, _fault(error, line)) from error


def _events(source: LineSource, header: Header, warnings: list[str]) -> Iterator[Event]:
    check = Checker()
    newer = _Newer() if header.version > FORMAT_VERSION else None
    with closing(source):
        cut = yield from _checked(source, check, newer, warnings)
    warnings.extend(_closing(source.name, check, cut=cut))
    if newer is not None:
        warnings.extend(newer.report(source.name, header.version))


def _checked(
    source: LineSource, check: Checker, newer: _Newer | None, warnings: list[str]
) -> Generator[Event, None, bool]:
    """The events; returns whether the last line was cut off."""
    decode = msgspec.json.Decoder(AnyEvent).decode
    for line in source:
        try:
            if newer is not None and not newer.knows(line):
                check.skipped()
                continue
            event = decode(line)
            check(event)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            _bounded(source)
            if not line.endswith(b"\n"):
                warnings.append(f"{source.place()}: the last line was cut off and is left out")
                return True
            raise source.error(f"an event record{_whose_word(error, line)}", _fault(error, line)) from error
        except InconsistentError as error:
            raise source.error(error.expected, error.found) from error
        yield event
    return False


def _closing(name: str, check: Checker, *, cut: bool) -> Iterator[str]:
    if check.end is None:
        if not cut:
            yield f"{printable(name)}: no end record: the recording was cut off after {check.seen} events"
    elif check.end.lost:
        yield f"{printable(name)}: {check.end.lost} events are not in it: {_LACKING}"


class _Newer:
    """What a file of a newer minor version has that this one does not know."""

    def __init__(self) -> None:
        self._fields = {
            str(t.__struct_config__.tag): {"event", *t.__struct_encode_fields__} for t in get_args(AnyEvent)
        }
        self._decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._tag = msgspec.json.Decoder(str).decode
        self._events = 0
        self._unknown_fields = 0

    def knows(self, line: bytes) -> bool:
        """Whether the line's event is one of ours; counts it, or its unknown fields."""
        record = self._decode(line)
        known = self._fields.get(self._tag(record.get("event", msgspec.Raw(b"null"))))
        if known is None:
            self._events += 1
            return False
        self._unknown_fields += len(record.keys() - known)
        return True

    def report(self, name: str, version: tuple[int, int]) -> Iterator[str]:
        if self._events or self._unknown_fields:
            yield (
                f"{printable(name)}: format version {version[0]}.{version[1]} is newer than "
                f"{FORMAT_VERSION[0]}.{FORMAT_VERSION[1]}: skipped {self._events} events and "
                f"{self._unknown_fields} fields of unknown kinds; a newer forklore reads them"
            )


def _bounded(source: LineSource) -> None:
    if source.overlong:
        raise source.error(f"lines of at most {LINE_LIMIT >> 20} MiB", "a longer one")


class _Tag(msgspec.Struct):
    event: str


def _whose_word(error: Exception, line: bytes) -> str:
    """What a field has to choose from, where that is what is wrong with the line."""
    unknown = _UNKNOWN_WORD.fullmatch(str(error))
    if unknown is None:
        return ""
    from forklore.events.schema import words  # of no use for files that are in order

    try:
        found = words(msgspec.json.decode(line, type=_Tag).event, unknown[1])
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError):
        return ""  # what comes later in the line is wrong, too
    return f" with one of {', '.join(found)} in “{unknown[1]}”"


def _fault(error: Exception, line: bytes) -> str:
    if isinstance(error, RecursionError):
        return "values nested too deeply"
    return f"“{excerpt(line.strip())}” ({excerpt(str(error))})"
