"""What a CLONE_VM|CLONE_VFORK child changed in its parent's memory while it borrowed it.

``before = capture(...)`` at the creation event, with both held, so that neither has run; ``written(tid, before)`` when
the memory is given back and the parent has not run again: at PTRACE_EVENT_VFORK_DONE of the parent, or at the child's
entry of execve or PTRACE_EVENT_EXIT. The memory is one, so either task can be read.

Only private memory that can be written and exists is kept and read again: of memory that was never touched it is known
that it is zero. Shared mappings are left out, for a fork(2) child would write to them just as well.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from enum import StrEnum
from itertools import pairwise
from typing import Final

from msgspec import Struct

from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux import proc
from forklore.linux.files.served_memory import is_servers_device
from forklore.linux.mappings import Mapping, MappingKind, Mappings, mappings
from forklore.linux.memory import PAGE_SIZE
from forklore.linux.pages.pagemap import FILE, PRESENT, SWAP, Pagemap, flags, open_pagemap
from forklore.linux.pages.whole import MOST, Memory, open_memory, pieces

LIMIT: Final = 64 << 20
"""Bytes of the parent's memory that are kept unless told otherwise."""
MOST_CHANGES: Final = 4096
"""Ranges that are listed; the rest is counted."""
KEPT_BYTES: Final = 256
"""Bytes of a range that are kept, old and new."""
DEPTH: Final = 1 << 18
"""Bytes below a stack pointer that count as its stack where nothing tells how far that goes."""

# Changed bytes with at most seven between them that stay: a pointer of which some bytes change is one range.
_CHANGED: Final = re.compile(rb"[^\0]+(?:\0{1,7}[^\0]+)*")
_THERE: Final = bytes(bool(flag & (PRESENT | SWAP)) and not flag & FILE for flag in range(256))
_PRESENT: Final = bytes(bool(flag & (PRESENT | SWAP)) for flag in range(256))
_RUN: Final = re.compile(rb"\x01+")
_CHUNK: Final = 16 * MOST

Bounds = tuple[int, int]
"""First address, and the one behind the last."""


class MemoryPart(StrEnum):
    """Which part of the parent's memory, and so whether a change matters."""

    LIVE_STACK = "live stack"
    """At or above the caller's stack pointer: frames that the parent returns to."""
    DEAD_STACK = "dead stack"
    """Below the caller's stack pointer: every function that the child calls writes there, and the parent overwrites
    it. Harmless."""
    CHILD_STACK = "child's stack"
    """The stack that the call gave to the child. Harmless."""
    DATA = "data"
    """Initialized variables: a private, writable mapping of a file."""
    BSS = "bss"
    """Zero-filled variables, behind those."""
    HEAP = "heap"
    ANONYMOUS = "anonymous"
    """Other memory: malloc's, other threads' stacks, thread-local variables."""

    @property
    def harmless(self) -> bool:
        """No part of the parent's state."""
        return self in (MemoryPart.DEAD_STACK, MemoryPart.CHILD_STACK)


class SavedBytes(Struct, frozen=True):
    """Bytes as they were, from ``start``."""

    start: int
    data: memoryview


class LeftOut(Struct, frozen=True):
    """Bytes of a mapping that were not looked at, and why."""

    mapping: Mapping
    size: int
    why: str


class Before(Struct, frozen=True):
    """The memory of a parent as it was lent."""

    maps: Mappings
    sp: Address
    child_stack: Bounds | None
    pieces: tuple[SavedBytes, ...]
    zero: tuple[Mapping, ...]
    """Anonymous mappings that are known as a whole: what no piece covers was zero."""
    left_out: tuple[LeftOut, ...]
    threads: int | None
    """Threads of the parent's process. Only the caller is held by vfork: with more than one, each change can be
    another thread's."""

    @property
    def size(self) -> int:
        """Bytes kept."""
        return sum(len(piece.data) for piece in self.pieces)


class MemoryChange(Struct, frozen=True):
    """Bytes that differ. ``old`` and ``new`` hold the first KEPT_BYTES of them, ``length`` counts all."""

    start: Address
    length: int
    where: MemoryPart
    mapping: Mapping
    old: bytes
    new: bytes


class Remap(Struct, frozen=True):
    """Addresses that were mapped, unmapped (``after`` is None) or mapped otherwise."""

    start: Address
    end: Address
    before: Mapping | None
    after: Mapping | None


class Writes(Struct, frozen=True):
    """All that the child left behind, in order of address."""

    changes: tuple[MemoryChange, ...]
    more: int
    """Ranges beyond MOST_CHANGES."""
    remaps: tuple[Remap, ...]
    left_out: tuple[LeftOut, ...]
    threads: int | None


def capture(
    tid: Tid, sp: Address, *, stack: Address | None = None, stack_size: int = 0, limit: int = LIMIT
) -> Before | Unavailable:
    """Keep the memory that a child is about to borrow: 0.5 to 1 ms a MiB.

    ``sp`` is the caller's stack pointer at the call. ``stack`` and ``stack_size`` are the child's, as in clone_args;
    for clone(2), which knows the upper end only, that and 0. The stack is kept first, then data, bss, heap, the rest.
    """
    maps = mappings(tid)
    if isinstance(maps, Unavailable):
        return maps
    opened = open_memory(tid)
    if isinstance(opened, Unavailable):
        return opened
    store = _Store(limit)
    kept: list[SavedBytes] = []
    zero: list[Mapping] = []
    left_out: list[LeftOut] = []
    with opened as memory, ExitStack() as files:
        tried = open_pagemap(tid)
        pagemap = None if isinstance(tried, Unavailable) else files.enter_context(tried)
        servers: dict[tuple[int, int], bool] = {}
        for mapping in _in_order(maps, sp):
            wanted, absent = there(pagemap, mapping), 0
            device = mapping.major, mapping.minor
            if mapping.kind is MappingKind.FILE and device not in servers:
                servers[device] = is_servers_device(tid, device)
            if mapping.kind is MappingKind.FILE and servers[device]:
                wanted = [] if pagemap is None else present(pagemap, mapping)
                absent = mapping.size - sum(end - start for start, end in wanted)
            found, missing, why = store.keep(memory, wanted)
            if absent:
                missing, why = missing + absent, why or "a server answers for its file, and it is not waited for"
            kept += found
            if missing:
                left_out.append(LeftOut(mapping, missing, why))
            elif mapping.kind is not MappingKind.FILE:
                zero.append(mapping)
    fields = proc.status(tid)
    threads = None if isinstance(fields, Unavailable) else proc.number(fields, b"Threads")
    kept.sort(key=lambda piece: piece.start)
    return Before(maps, sp, _child_stack(maps, stack, stack_size), tuple(kept), tuple(zero), tuple(left_out), threads)


def _in_order(maps: Mappings, sp: int) -> list[Mapping]:
    stack = maps.find(sp)

    def rank(mapping: Mapping) -> int:
        if mapping is stack:
            return 0
        if mapping.kind is MappingKind.FILE:
            return 1
        if maps.file_of_bss(mapping) is not None:
            return 2
        return 3 if mapping.kind is MappingKind.HEAP else 4

    lent = [m for m in maps if m.private and m.writable and m.kind is not MappingKind.SPECIAL]
    return sorted(lent, key=rank)


def _child_stack(maps: Mappings, stack: int | None, size: int) -> Bounds | None:
    if not stack:
        return None
    if size:
        return stack, stack + size
    mapping = maps.find(stack - 1)
    lowest = mapping.start if mapping is not None else 0
    return max(lowest, stack - DEPTH), stack


def there(pagemap: Pagemap | None, mapping: Mapping) -> list[Bounds]:
    """Which parts of a mapping exist and so can hold anything: all of a file's, the written pages of anonymous memory.

    Without a pagemap, all of it.
    """
    if pagemap is None or mapping.kind is MappingKind.FILE:
        return [(mapping.start, mapping.end)]
    try:
        return [(region.start, region.end) for region in pagemap.anonymous(mapping.start, mapping.end)]
    except OSError:  # before Linux 6.7: each page has to be looked at
        return _marked(pagemap, mapping, _THERE)


def present(pagemap: Pagemap, mapping: Mapping) -> list[Bounds]:
    """Which parts of a file's mapping are in memory, or swapped out: to read these is to wait for no server."""
    return _marked(pagemap, mapping, _PRESENT)


def _marked(pagemap: Pagemap, mapping: Mapping, wanted: bytes) -> list[Bounds]:
    found: list[Bounds] = []
    for start, length in pieces(0, mapping.size // PAGE_SIZE):
        first = mapping.start + start * PAGE_SIZE
        marks = flags(pagemap.entries(first, length)).translate(wanted)
        found += [(first + run.start() * PAGE_SIZE, first + run.end() * PAGE_SIZE) for run in _RUN.finditer(marks)]
    return found


class _Store:
    """Room for what is kept, at most ``limit`` bytes: in huge pages, because touching it costs as much as reading."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._free = memoryview(b"")

    def keep(self, memory: Memory, wanted: Sequence[Bounds]) -> tuple[list[SavedBytes], int, str]:
        """The pieces, and how many bytes of ``wanted`` are missing and why."""
        found: list[SavedBytes] = []
        missing = 0
        why = ""
        for start, end in wanted:
            for address, length in pieces(start, end):
                size = min(length, self._left)
                if size < length:
                    missing, why = missing + length - size, "beyond the limit"
                got = memory.read_into(self._room(size), address) if size else 0
                if got < size:
                    missing, why = missing + size - got, "cannot be read"
                if got:
                    found.append(SavedBytes(address, self._free[:got]))
                    self._free, self._left = self._free[got:], self._left - got
        return found, missing, why

    def _room(self, size: int) -> memoryview:
        if len(self._free) < size:
            chunk = mmap.mmap(-1, _CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with suppress(OSError):  # a kernel without huge pages: EINVAL
                chunk.madvise(mmap.MADV_HUGEPAGE)
            self._free = memoryview(chunk)
        return self._free[:size]


def written(tid: Tid, before: Before) -> Writes | Unavailable:
    """What differs from ``before``: about 0.5 ms for each MiB that was kept. ``tid`` is either of the two."""
    maps = mappings(tid)
    if isinstance(maps, Unavailable):
        return maps
    opened = open_memory(tid)
    if isinstance(opened, Unavailable):
        return opened
    listing = _Listing(before)
    left_out = list(before.left_out)
    with opened as memory, ExitStack() as files:
        for piece in before.pieces:
            _compare(memory, piece.start, piece.data, listing, maps, left_out)
        tried = open_pagemap(tid)
        pagemap = None if isinstance(tried, Unavailable) else files.enter_context(tried)
        known = [(piece.start, piece.start + len(piece.data)) for piece in before.pieces]
        for mapping in before.zero:
            for start, end in subtract(there(pagemap, mapping), known):
                for address, length in pieces(start, end):
                    _compare(memory, address, memoryview(bytes(length)), listing, maps, left_out)
    changes = tuple(sorted(listing.changes, key=lambda change: change.start))
    return Writes(changes, listing.more, tuple(remapped(before, maps)), tuple(left_out), before.threads)


def _compare(
    memory: Memory, start: int, old: memoryview, listing: _Listing, maps: Mappings, left_out: list[LeftOut]
) -> None:
    new = bytearray(len(old))
    got = memory.read_into(memoryview(new), start)
    if got < len(old):
        # What was unmapped is told by the remaps; the rest of it is not.
        mapping = maps.find(start + got)
        if mapping is not None:
            left_out.append(LeftOut(mapping, len(old) - got, "cannot be read any more"))
        old, new = old[:got], new[:got]
    if new != old:  # bytearray with a buffer is memcmp; two memoryviews are compared item by item
        listing.add(start, old, new)


def subtract(regions: Iterable[Bounds], known: Sequence[Bounds]) -> Iterator[Bounds]:
    """What of ``regions`` no one of ``known`` covers; both in order of address and without overlap."""
    index = 0
    for first, end in regions:
        start = first
        while index < len(known) and known[index][1] <= start:
            index += 1
        position = index
        while position < len(known) and known[position][0] < end:
            if known[position][0] > start:
                yield start, known[position][0]
            start = known[position][1]
            position += 1
        if start < end:
            yield start, end


def differences(old: memoryview | bytes, new: bytearray | bytes) -> Iterator[Bounds]:
    """Where two strings of one length differ: offsets. Fewer than eight equal bytes between two differences are in."""
    size = len(old)
    difference = (int.from_bytes(old, "little") ^ int.from_bytes(new, "little")).to_bytes(size, "little")
    for found in _CHANGED.finditer(difference):
        yield found.span()


class _Listing:
    """Collects changes, cut where the kind of memory changes, and puts together what adjoins."""

    def __init__(self, before: Before) -> None:
        self._before = before
        self._stack = before.maps.find(before.sp)
        self._cuts = sorted({before.sp, before.sp - DEPTH, *(before.child_stack or ())})
        self.changes: list[MemoryChange] = []
        self.more = 0

    def add(self, start: int, old: memoryview, new: bytearray) -> None:
        """Bytes from ``start`` that were ``old`` and are ``new``."""
        for first, last in differences(old, new):
            edges = [first, *(cut - start for cut in self._cuts if first < cut - start < last), last]
            for begin, end in pairwise(edges):
                self._one(start + begin, bytes(old[begin:end]), bytes(new[begin:end]))

    def _one(self, start: int, old: bytes, new: bytes) -> None:
        mapping = self._before.maps.find(start)
        if mapping is None:
            return
        where = self._where(start, mapping)
        last = self.changes[-1] if self.changes else None
        length = len(old)
        if last is not None and (last.start + last.length, last.where, last.mapping) == (start, where, mapping):
            self.changes.pop()
            start, old, new, length = last.start, last.old + old, last.new + new, last.length + length
        elif len(self.changes) >= MOST_CHANGES:
            self.more += 1
            return
        self.changes.append(MemoryChange(Address(start), length, where, mapping, old[:KEPT_BYTES], new[:KEPT_BYTES]))

    def _where(self, address: int, mapping: Mapping) -> MemoryPart:
        before = self._before
        if before.child_stack is not None and before.child_stack[0] <= address < before.child_stack[1]:
            return MemoryPart.CHILD_STACK
        if mapping is self._stack:
            # A thread's stack is a mapping like others, and may be one with what lies below it.
            deep = mapping.kind is not MappingKind.STACK and address < before.sp - DEPTH
            if not deep:
                return MemoryPart.DEAD_STACK if address < before.sp else MemoryPart.LIVE_STACK
        if mapping.kind is MappingKind.FILE:
            return MemoryPart.DATA
        if mapping.kind is MappingKind.HEAP:
            return MemoryPart.HEAP
        return MemoryPart.BSS if before.maps.file_of_bss(mapping) is not None else MemoryPart.ANONYMOUS


def remapped(before: Before, after: Mappings) -> Iterator[Remap]:
    """Where the mappings differ. That the stack grew is no difference, nor that a mapping was split or joined."""
    edges = sorted({edge for maps in (before.maps, after) for m in maps for edge in (m.start, m.end)})
    stack = before.maps.find(before.sp)
    pending: Remap | None = None
    for start, end in pairwise(edges):
        old, new = before.maps.find(start), after.find(start)
        grown = old is None and new is not None and stack is not None and new.end == stack.end
        if grown or _alike(old, new, start):
            continue
        if pending is not None and pending.end == start and (pending.before, pending.after) == (old, new):
            pending = Remap(pending.start, Address(end), old, new)
            continue
        if pending is not None:
            yield pending
        pending = Remap(Address(start), Address(end), old, new)
    if pending is not None:
        yield pending


def _alike(old: Mapping | None, new: Mapping | None, address: int) -> bool:
    if old is None or new is None:
        return old is new
    same = (old.permissions, old.major, old.minor, old.inode, old.path) == (
        new.permissions, new.major, new.minor, new.inode, new.path,
    )  # fmt: skip
    return same and (not old.inode or old.offset + address - old.start == new.offset + address - new.start)
