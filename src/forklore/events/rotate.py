"""A trace in several files, of which the last ones are kept: for programs that never end."""

from __future__ import annotations

import os
import re
import stat
from errno import EINVAL
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi.text import printable
from forklore.events.carried_over import Carried
from forklore.events.jsonl import Writer
from forklore.events.output_file import OutputPlace
from forklore.events.records import Blind, EndReason, Event, Header, Lines, Note, text

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Rotation(Struct, frozen=True):
    """When a file is full, and how many are kept; None: all."""

    size: int
    """In bytes, what the file begins with for the sake of earlier ones not counted."""
    keep: int | None = None

    @classmethod
    def read(cls, text: str) -> Rotation:
        """``64M``, ``1G,4``: the size, and how many are kept. Raises ValueError."""
        size, comma, keep = text.partition(",")
        found = re.fullmatch(r"([0-9]{1,15})([KMG]?)", size)
        if found is None or int(found[1]) == 0 or (comma and not re.fullmatch(r"0*[1-9][0-9]{0,8}", keep)):
            wanted = "a number of bytes from 1, with K, M or G if wanted, and of files, like 64M,4"
            raise ValueError(f"{text!r} is no SIZE[,KEEP]: {wanted}")
        return cls(int(found[1]) * _UNITS[found[2]], int(keep) if comma else None)


class RotatingWriter:
    """As :class:`Writer`, to FILE, then FILE.1, FILE.2 and so on; older files than the last ``keep`` are removed.

    Each file is a trace of its own: a header, a ``begin`` record (how: ``continued``) for each task that is alive,
    with what it executed last and what it shares, and the code that its events refer to once more. Task numbers, times,
    and the numbers of modules, places, stacks and scripts are the same in all of them. FILE.1 and so on are new files.
    Raises OSError.
    """

    def __init__(self, path: str, header: Header, rotation: Rotation) -> None:
        self.path = path
        self.events = 0
        self._header = header
        self._rotation = rotation
        self._lost = 0
        self._number = 0
        other = OSError(EINVAL, "only a regular file can be continued in others (--rotate)", path)
        if path == "-":
            raise other
        self._place = OutputPlace(path)
        self._fd = self._place.open()
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise other
        self._writer = Writer(self._fd, header)
        self._carried = Carried()
        self._full = self._writer.size + rotation.size

    @property
    def source(self) -> int:
        """The descriptor of the current file."""
        return self._fd

    @property
    def name(self) -> str:
        """The current file."""
        return self._name(self._number)

    @property
    def pending(self) -> bool:
        """Whether something is buffered."""
        return self._writer.pending

    @property
    def failure(self) -> OSError | None:
        """The error that ended the recording."""
        return self._writer.failure

    @property
    def lost(self) -> int:
        """How many events could not be written."""
        return self._lost + self._writer.lost

    def event(self, event: Event) -> None:
        """Take an event."""
        self.events += 1
        if self._writer.size >= self._full and self._writer.failure is None:
            self._next(event.t)
        for needed in self._carried.before(event):
            self._writer.event(needed)
        if self._carried.belongs(event):
            self._writer.event(event)
        elif not isinstance(event, Lines):
            self._lost += 1
        self._carried.note(event)

    def flush(self) -> None:
        """Write what is buffered."""
        self._writer.flush()

    def end(self, t: int | None, reason: EndReason, left_out: int = 0) -> None:
        """Write the last line of the last file."""
        self._writer.end(t, reason, left_out)

    def _name(self, number: int) -> str:
        return f"{self.path}.{number}" if number else self.path

    def _next(self, t: int | None) -> None:
        former, following = self._name(self._number), self._name(self._number + 1)
        self._writer.flush()
        try:
            fd = self._place.make(f".{self._number + 1}")
        except OSError as problem:
            self._writer.failure = problem
            return
        goes_on = f"the recording goes on in {printable(following)}"
        self._writer.event(Note(t=t, what="what happened from here on", why=goes_on))
        self._writer.end(t, "rotated")
        self._lost += self._writer.lost
        os.close(self._fd)
        self._number += 1
        self._fd = fd
        self._writer = Writer(fd, self._continued(former))
        for record in self._carried.begin_file():
            self._writer.event(record)
        self._full = self._writer.size + self._rotation.size
        self._remove_oldest()

    def _continued(self, former: str) -> Header:
        before = Blind("what happened before this file", f"the recording goes on here from {printable(former)}")
        return replace(self._header, blind=[*self._header.blind, before], continues=text(os.fsencode(former)))

    def _remove_oldest(self) -> None:
        keep = self._rotation.keep
        if keep is None or self._number < keep:
            return
        try:
            self._place.remove(f".{self._number - keep}" if self._number > keep else "")
        except FileNotFoundError:
            return  # somebody has moved it away
        except OSError as problem:
            what = f"{printable(self._name(self._number - keep))} is still there"
            self._writer.event(Note(t=None, what=what, why=problem.strerror or str(problem)))
