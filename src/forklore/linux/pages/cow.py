"""Copy-on-write, page by page: what a forked child has in common with its creator, and what became of it.

At creation, with both held: ``base = common(snapshot(child), snapshot(creator))``. When either ends or executes, and
before it does (PTRACE_EVENT_EXIT, the entry of execve): ``compare(base, snapshot(it))``. After that its partner is
the only one to map the pages, and nothing can be told any more.

Pagemap's bit 56 says that a page is mapped once, and says so on both sides as soon as one of them has copied it: it
tells *that* a page was copied, not by whom. By whom is told by frame numbers where they are shown (the side whose
frame changed made the copy), and by contents where they are not (:mod:`forklore.linux.pages.contents`).
"""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from forklore.abi.units import Tid, Unavailable
from forklore.linux.mappings import MappingKind, mappings, smaps
from forklore.linux.memory import PAGE_SIZE
from forklore.linux.pages.pagemap import (
    ENTRY,
    EXCLUSIVE,
    FILE,
    FRAME,
    PRESENT,
    SWAP,
    Pagemap,
    PageRun,
    flags,
    open_pagemap,
)
from forklore.linux.proc import unavailable

LIMIT: Final = 1 << 22
"""Pages that a snapshot looks at unless told otherwise: 16 GiB in pages of 4 KiB, and 4 MiB of state (36 MiB with
frame numbers)."""

_GAP: Final = 512
"""Pages that do not count but are read along, because another read costs more."""
_SPAN: Final = 1 << 18
"""Pages read at once."""

NONE, SHARED, OWN, SWAPPED = range(4)
"""What a page of anonymous memory is: not there (or of a file, or the zero page), mapped by others too, mapped here
alone, swapped out."""


def _class_of(flag: int) -> int:
    if flag & FILE:
        return NONE
    if flag & PRESENT:
        return OWN if flag & EXCLUSIVE else SHARED
    return SWAPPED if flag & SWAP else NONE


_CLASSES: Final = bytes(_class_of(flag) for flag in range(256))
_IS_SHARED: Final = bytes(kind == SHARED for kind in range(256))


class CountSource(StrEnum):
    """Where the numbers come from."""

    PAGEMAP = "pagemap"
    SMAPS = "smaps"
    """Sums of a mapping at a time: no page is known by its address, and comparing them is an estimate."""


class Span(Struct, frozen=True):
    """Neighbouring pages from ``start``: a byte each in ``pages``; ``frames`` are pagemap's entries, where shown."""

    start: int
    pages: bytes
    frames: bytes | None

    @property
    def end(self) -> int:
        """The address behind the last page."""
        return self.start + len(self.pages) * PAGE_SIZE


class CowSnapshot(Struct, frozen=True):
    """The private memory of a task at one moment; counts are of pages."""

    tid: Tid
    source: CountSource
    shared: int
    """Pages of anonymous memory in memory that another process maps too: not yet copied on write."""
    huge: int
    """Mapped as part of a huge page. Bit 56 speaks for the whole of it, and fork(2) may leave it in common or not."""
    swapped: int
    """Swapped out: whether in common, nobody tells."""
    left_out: int
    """Pages beyond the limit."""
    zero_told: bool
    """Pages that were only read are known and not counted. False: they count as shared."""
    spans: tuple[Span, ...]
    """Empty if the source is smaps."""

    @property
    def exact(self) -> bool:
        """Every page was looked at, one by one, and none of it is huge."""
        return (
            self.source is CountSource.PAGEMAP and self.zero_told and not (self.huge or self.left_out or self.swapped)
        )


class Common(Struct, frozen=True):
    """Pages that two tasks have in common, at the same addresses: a byte of 1 each in ``spans``."""

    source: CountSource
    pages: int
    exact: bool
    same_frames: bool | None
    """The frame numbers were compared, page by page, so that the partner is certain. None: they are not shown."""
    spans: tuple[Span, ...]


class CowChange(Struct, frozen=True):
    """What became of common pages on one side. The first four add up to ``Common.pages``, but for smaps."""

    source: CountSource
    still: int
    """Not copied by anybody: still mapped by another process too."""
    parted: int
    """No longer in common."""
    swapped: int
    gone: int
    """Not there any more: unmapped, or given back (madvise)."""
    copied: int | Unavailable
    """Of the parted: this side made the copy. The rest the other side copied, or gave up."""
    exact: bool


def snapshot(tid: Tid, limit: int = LIMIT) -> CowSnapshot | Unavailable:
    """Look at the private memory of a task that is held: about 3 ms, and 60 ms a GiB in use.

    pagemap where it can be read, else smaps; :class:`Unavailable` with pagemap's reason where neither can.
    """
    opened = open_pagemap(tid)
    if isinstance(opened, Unavailable):
        return _from_smaps(tid, opened)
    with opened as pagemap:
        try:
            return _from_pagemap(tid, pagemap, limit)
        except OSError as problem:
            return _from_smaps(tid, unavailable(problem, f"/proc/{tid}/pagemap"))


def _from_pagemap(tid: Tid, pagemap: Pagemap, limit: int) -> CowSnapshot | Unavailable:
    found = mappings(tid)
    if isinstance(found, Unavailable):
        return found
    private = [PageRun(m.start, m.end, huge=False) for m in found if m.private and m.kind is not MappingKind.SPECIAL]
    zero_told = True
    try:
        regions = pagemap.anonymous(private[0].start, private[-1].end) if private else []
    except OSError as problem:
        if problem.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        regions, zero_told = private, False
    kept, left_out = _within(regions, limit)
    spans = [_span(pagemap, group) for group in grouped(kept)]
    shared, swapped = (sum(span.pages.count(kind) for span in spans) for kind in (SHARED, SWAPPED))
    return CowSnapshot(
        tid=tid, source=CountSource.PAGEMAP, shared=shared, swapped=swapped,
        huge=sum(region.end - region.start for region in kept if region.huge) // PAGE_SIZE,
        left_out=left_out, zero_told=zero_told, spans=_with_frames(spans),
    )  # fmt: skip


def _within(regions: Sequence[PageRun], limit: int) -> tuple[list[PageRun], int]:
    kept: list[PageRun] = []
    left_out = 0
    for region in regions:
        pages = (region.end - region.start) // PAGE_SIZE
        fits = min(pages, limit)
        limit -= fits
        left_out += pages - fits
        if fits:
            kept.append(PageRun(region.start, region.start + fits * PAGE_SIZE, region.huge))
    return kept, left_out


def grouped(regions: Sequence[PageRun]) -> Iterator[list[PageRun]]:
    """Regions that are best read together: close to each other, and at most ``_SPAN`` pages in all."""
    group: list[PageRun] = []
    for region in regions:
        start = region.start
        while start < region.end:
            far = group and (start - group[-1].end > _GAP * PAGE_SIZE or start - group[0].start >= _SPAN * PAGE_SIZE)
            if far:
                yield group
                group = []
            first = group[0].start if group else start
            end = min(region.end, first + _SPAN * PAGE_SIZE)
            group.append(PageRun(start, end, region.huge))
            start = end
    if group:
        yield group


def _span(pagemap: Pagemap, group: Sequence[PageRun]) -> Span:
    start = group[0].start
    entries = pagemap.entries(start, (group[-1].end - start) // PAGE_SIZE)
    pages = flags(entries).translate(_CLASSES)
    if len(group) > 1:
        # What lies between the regions does not count: the zero page looks like a shared one.
        counted = bytearray(len(pages))
        for region in group:
            first, last = (region.start - start) // PAGE_SIZE, (region.end - start) // PAGE_SIZE
            counted[first:last] = pages[first:last]
        pages = bytes(counted)
    return Span(start, pages, entries)


def _with_frames(spans: list[Span]) -> tuple[Span, ...]:
    # Without the right to see frame numbers all of them are 0, so one page that is present tells.
    for span in spans:
        index = span.pages.find(OWN)
        index = index if index != -1 else span.pages.find(SHARED)
        if index != -1 and span.frames is not None:
            word = int.from_bytes(span.frames[index * ENTRY : (index + 1) * ENTRY], "little")
            return tuple(spans) if word & FRAME else tuple(Span(s.start, s.pages, None) for s in spans)
    return tuple(Span(span.start, span.pages, None) for span in spans)


def _from_smaps(tid: Tid, why: Unavailable) -> CowSnapshot | Unavailable:
    found = smaps(tid)
    if isinstance(found, Unavailable):
        return why
    shared = swapped = huge = 0
    for mapping, usage in found:
        if not mapping.private or mapping.kind is MappingKind.SPECIAL:
            continue
        sizes = {name: size // PAGE_SIZE for name, size in usage.fields.items()}
        anonymous = sizes.get("Anonymous", 0)
        # In a file mapping pages of the file are shared as well; those that were written come first in doubt.
        shared += min(anonymous, sizes.get("Shared_Clean", 0) + sizes.get("Shared_Dirty", 0))
        swapped += sizes.get("Swap", 0)
        huge += sizes.get("AnonHugePages", 0) + sizes.get("Private_Hugetlb", 0)
    return CowSnapshot(
        tid=tid, source=CountSource.SMAPS, shared=shared, swapped=swapped, huge=huge, left_out=0, zero_told=True,
        spans=(),
    )  # fmt: skip


def over(spans: Sequence[Span], start: int, count: int, *, frames: bool = False) -> bytes:
    """The ``count`` pages from ``start`` as ``spans`` have them, zeros where they have none: their bytes or entries."""
    width = ENTRY if frames else 1
    end = start + count * PAGE_SIZE
    parts: list[bytes] = []
    position = start
    index = bisect_right(spans, start, key=lambda span: span.end)
    while position < end and index < len(spans) and spans[index].start < end:
        span = spans[index]
        source = (span.frames if frames else span.pages) or b""
        first = max(span.start, position)
        last = min(span.end, end)
        parts.append(bytes((first - position) // PAGE_SIZE * width))
        parts.append(source[(first - span.start) // PAGE_SIZE * width : (last - span.start) // PAGE_SIZE * width])
        position, index = last, index + 1
    parts.append(bytes((end - position) // PAGE_SIZE * width))
    return b"".join(parts)


def both(left: bytes, right: bytes) -> bytes:
    """Byte by byte, the bits that are in both; of equal length."""
    return (int.from_bytes(left, "little") & int.from_bytes(right, "little")).to_bytes(len(left), "little")


def _framed(*sides: CowSnapshot | Common) -> bool:
    return all(span.frames is not None for side in sides for span in side.spans)


def common(child: CowSnapshot, creator: CowSnapshot) -> Common:
    """The pages that both have in common, from snapshots taken while both are held."""
    source = CountSource.PAGEMAP if child.source is creator.source is CountSource.PAGEMAP else CountSource.SMAPS
    exact = child.exact and creator.exact
    if source is CountSource.SMAPS:
        return Common(source, min(child.shared, creator.shared), False, None, ())
    framed = _framed(child, creator)
    spans: list[Span] = []
    for span in child.spans:
        count = len(span.pages)
        there = over(creator.spans, span.start, count)
        pages = both(span.pages.translate(_IS_SHARED), there.translate(_IS_SHARED))
        if framed and span.frames is not None:
            differ = moved(pages, span.frames, over(creator.spans, span.start, count, frames=True))
            pages = both(pages, differ.translate(_NOT))
        if any(pages):
            spans.append(Span(span.start, pages, span.frames if framed else None))
    total = sum(span.pages.count(1) for span in spans)
    return Common(source, total, exact, True if framed else None, tuple(spans))


_NOT: Final = bytes(value == 0 for value in range(256))
_BLOCK: Final = 256


def moved(pages: bytes, before: bytes, now: bytes) -> bytes:
    """Where ``pages`` has a byte that is not 0: whether the frame number in the two entries differs (1) or not (0)."""
    found = bytearray(len(pages))
    for block in range(0, len(pages), _BLOCK):
        part = slice(block * ENTRY, (block + _BLOCK) * ENTRY)
        if before[part] == now[part]:
            continue
        for index, (old, new) in enumerate(zip(array("Q", before[part]), array("Q", now[part]), strict=True), block):
            if pages[index] and (old ^ new) & FRAME:
                found[index] = 1
    return bytes(found)


def compare(base: Common, now: CowSnapshot) -> CowChange:
    """What became of common pages in one of the two, from a snapshot of it before it executes or ends."""
    if base.source is CountSource.SMAPS or now.source is CountSource.SMAPS:
        still = min(base.pages, now.shared)
        nobody = Unavailable(0, "smaps has sums only: who made a copy cannot be told from them")
        return CowChange(CountSource.SMAPS, still, base.pages - still, 0, 0, nobody, False)
    framed = bool(base.spans) and _framed(base, now)
    counts = [0, 0, 0, 0]
    copied = 0
    for span in base.spans:
        here = over(now.spans, span.start, len(span.pages))
        here = both(here, span.pages.translate(_ALL_BITS))
        if framed and span.frames is not None:
            there = here.translate(_IN_MEMORY)
            differ = moved(there, span.frames, over(now.spans, span.start, len(here), frames=True))
            copied += differ.count(1)
            here = _parted(here, differ)
        for kind in (SHARED, OWN, SWAPPED):
            counts[kind] += here.count(kind)
    still, own, swapped = counts[SHARED], counts[OWN], counts[SWAPPED]
    who: int | Unavailable = copied
    if not framed and base.pages:
        why = "frame numbers are shown to CAP_SYS_ADMIN only, and bit 56 is the same on both sides"
        who = Unavailable(errno.EPERM, why)
    return CowChange(
        CountSource.PAGEMAP, still, own, swapped, base.pages - still - own - swapped, who, base.exact and now.exact
    )


_ALL_BITS: Final = bytes(0xFF if value else 0 for value in range(256))
_IN_MEMORY: Final = bytes(kind in (SHARED, OWN) for kind in range(256))


def _parted(pages: bytes, differ: bytes) -> bytes:
    # A page whose frame changed was copied, even if it is shared again by now, with a child made since.
    out = bytearray(pages)
    index = differ.find(1)
    while index != -1:
        out[index] = OWN
        index = differ.find(1, index + 1)
    return bytes(out)
