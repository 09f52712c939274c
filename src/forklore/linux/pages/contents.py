"""Which of the common pages a task has changed, told by their contents: for users who are shown no frame numbers.

A checksum of each page is taken at creation and compared with the page as it is before its task ends or executes.
That finds changes, not copies: a page that was written with what it held already does not count, and both sides can
have changed one and the same page (the second of them then wrote to it in place).
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from forklore.abi.units import Tid, Unavailable
from forklore.linux.memory import PAGE_SIZE
from forklore.linux.pages.cow import OWN, Common, CountSource, CowSnapshot, over
from forklore.linux.pages.whole import MOST, Memory, open_memory, pieces

LIMIT: Final = 1 << 18
"""Pages whose contents are read unless told otherwise: 1 GiB in pages of 4 KiB, which takes about a second."""

_RUN: Final = re.compile(rb"\x01+")
_IS_OWN: Final = bytes(kind == OWN for kind in range(256))


class Sums(Struct, frozen=True):
    """Pages side by side from ``start``, and the CRC-32 of each."""

    start: int
    sums: array[int]


class Checksums(Struct, frozen=True):
    """What the common pages held; four bytes a page."""

    runs: tuple[Sums, ...]
    left_out: int
    """Common pages beyond the limit, or that could not be read."""


def checksums(tid: Tid, base: Common, limit: int = LIMIT) -> Checksums | Unavailable:
    """Read the common pages of one of the two, both held at creation: about 1 s a GiB."""
    if base.source is CountSource.SMAPS:
        return Unavailable(0, "smaps does not tell which pages are common, so their contents were not read")
    opened = open_memory(tid)
    if isinstance(opened, Unavailable):
        return opened
    runs: list[Sums] = []
    done = 0
    with opened as memory:
        for start, count in (run for span in base.spans for run in _runs(span.start, span.pages)):
            sums = _sums(memory, start, min(count, limit - done))
            done += len(sums)
            if sums:
                runs.append(Sums(start, sums))
    return Checksums(tuple(runs), base.pages - done)


def changed(tid: Tid, before: Checksums, now: CowSnapshot) -> int | Unavailable:
    """How many of the pages ``tid`` has changed; ``now`` is its snapshot, taken in the same stop.

    Only pages that are mapped here alone are read. :class:`Unavailable` if pages were left out, or smaps was all that
    could be read.
    """
    if now.source is CountSource.SMAPS:
        return Unavailable(0, "smaps does not tell which pages are common, so their contents were not compared")
    if before.left_out:
        return Unavailable(0, f"the contents of {before.left_out} common pages are not known: they were not read")
    opened = open_memory(tid)
    if isinstance(opened, Unavailable):
        return opened
    count = 0
    with opened as memory:
        for known in before.runs:
            own = over(now.spans, known.start, len(known.sums)).translate(_IS_OWN)
            for start, length in _runs(known.start, own):
                found = _sums(memory, start, length)
                if len(found) != length:
                    return Unavailable(0, f"{length - len(found)} pages from {start:#x} could not be read")
                first = (start - known.start) // PAGE_SIZE
                count += _differing(known.sums[first : first + length], found)
    return count


def _differing(left: array[int], right: array[int]) -> int:
    return 0 if left == right else sum(a != b for a, b in zip(left, right, strict=True))


def _runs(start: int, pages: bytes) -> Iterator[tuple[int, int]]:
    for run in _RUN.finditer(pages):
        yield start + run.start() * PAGE_SIZE, run.end() - run.start()


def _sums(memory: Memory, start: int, count: int) -> array[int]:
    sums = array("I")
    view = memoryview(bytearray(min(MOST, count * PAGE_SIZE)))
    for address, length in pieces(start, start + count * PAGE_SIZE):
        got = memory.read_into(view[:length], address) // PAGE_SIZE
        sums.extend([zlib.crc32(view[at : at + PAGE_SIZE]) for at in range(0, got * PAGE_SIZE, PAGE_SIZE)])
        if got * PAGE_SIZE < length:
            break
    return sums
