"""/proc/PID/pagemap: what is behind each page of a task (Documentation/admin-guide/mm/pagemap.rst).

Eight bytes a page. All flags that matter lie in the highest one, so a slice of the file is a string of flags, and
counting pages is counting bytes. ioctl(PAGEMAP_SCAN) finds the pages that exist at all, and so makes mappings of
terabytes (address sanitizer, Go, Java) cheap.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from typing import Final

from msgspec import Struct

from forklore.abi.units import Tid, Unavailable
from forklore.linux.memory import PAGE_SIZE
from forklore.linux.ours.own_child import OwnChild, attempt
from forklore.linux.proc import unavailable

ENTRY: Final = 8
"""Bytes a page."""
FRAME: Final = (1 << 55) - 1
"""The page frame number in an entry's word: zero for readers without CAP_SYS_ADMIN in the first user namespace."""

# Bits 56 to 63 of an entry, as bits of its highest byte.
EXCLUSIVE: Final = 0x01
"""Mapped once, here (Linux 4.2)."""
FILE: Final = 0x20
"""A page of a file or of shared memory: nothing that fork(2) could copy on write."""
SWAP: Final = 0x40
PRESENT: Final = 0x80

_SOFT_DIRTY: Final = 0x80
"""Bit 55, as a bit of the second highest byte."""

# include/uapi/linux/fs.h: struct pm_scan_arg, struct page_region, PAGE_IS_*
_SCAN_ARG: Final = struct.Struct("=12Q")
_REGION: Final = struct.Struct("=3Q")
_PAGEMAP_SCAN: Final = 3 << 30 | _SCAN_ARG.size << 16 | ord("f") << 8 | 16
_IS_FILE: Final = 1 << 2
_IS_PRESENT: Final = 1 << 3
_IS_SWAPPED: Final = 1 << 4
_IS_ZERO: Final = 1 << 5
_IS_HUGE: Final = 1 << 6
_REGIONS: Final = 2048
_MOST_REGIONS: Final = 1 << 20
_buffer: Final = ctypes.create_string_buffer(_REGIONS * _REGION.size)
_view: Final = memoryview(_buffer)


class PageRun(Struct, frozen=True, gc=False):
    """Pages side by side that are alike: addresses from ``start`` up to ``end``."""

    start: int
    end: int
    huge: bool
    """Parts of huge pages, mapped as such."""


class Pagemap:
    """The opened pagemap of one task; a context manager. Methods raise OSError."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Pagemap:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._fd)

    def entries(self, start: int, pages: int) -> bytes:
        """The entries of ``pages`` pages from address ``start``; zeros behind the end of the address space."""
        offset, wanted = start // PAGE_SIZE * ENTRY, pages * ENTRY
        parts: list[bytes] = []
        while wanted and (part := os.pread(self._fd, wanted, offset)):
            parts.append(part)
            offset, wanted = offset + len(part), wanted - len(part)
        return b"".join(parts) + bytes(wanted)

    def anonymous(self, start: int, end: int) -> list[PageRun]:
        """Where pages of anonymous memory exist, in memory or swapped out, that somebody has written.

        Linux 6.7: OSError with ENOTTY before. The zero page, which stands in for memory that was only read, does not
        count: pagemap's entries alone show it like a page shared by copy-on-write.
        """
        found: list[PageRun] = []
        unwanted = _IS_FILE | _IS_ZERO
        wanted = _IS_PRESENT | _IS_SWAPPED
        while start < end and len(found) < _MOST_REGIONS:
            argument = bytearray(
                _SCAN_ARG.pack(
                    _SCAN_ARG.size, 0, start, end, 0, ctypes.addressof(_buffer), _REGIONS, 0,
                    unwanted, unwanted, wanted, wanted | _IS_HUGE,
                )
            )  # fmt: skip
            count = fcntl.ioctl(self._fd, _PAGEMAP_SCAN, argument)
            for first, last, categories in _REGION.iter_unpack(_view[: count * _REGION.size]):
                found.append(PageRun(first, last, bool(categories & _IS_HUGE)))
            if count < _REGIONS:
                break
            # Not walk_end: after a walk that filled the kernel's own buffer before it came to the end, that is where
            # the buffer was full (fs/proc/task_mmu.c: do_pagemap_scan), and regions would come twice.
            start = found[-1].end
        return found


def open_pagemap(tid: Tid) -> Pagemap | Unavailable:
    """The pagemap of a task; it takes the right to read its memory (PTRACE_MODE_READ)."""
    path = f"/proc/{tid}/pagemap"
    try:
        return Pagemap(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as problem:
        return unavailable(problem, path)


def flags(entries: bytes) -> bytes:
    """The highest byte of each entry: EXCLUSIVE, FILE, SWAP, PRESENT."""
    return entries[7::ENTRY]


class Probes(Struct, frozen=True):
    """What pagemap can do here: tried on pages of a child of our own. False: it answers, and wrongly."""

    exclusive: bool | Unavailable
    """Bit 56 tells a page that is shared by copy-on-write from one that is not."""
    soft_dirty: bool | Unavailable
    """Bit 55 tells what was written since clear_refs. Without CONFIG_MEM_SOFT_DIRTY, clear_refs succeeds all the same
    and the bit stays 0."""
    scan: bool | Unavailable
    """ioctl(PAGEMAP_SCAN) finds a page that was written, and not one that was only read."""
    frames: bool | Unavailable
    """Page frame numbers are shown."""


def probe() -> Probes:
    """Try it all. Takes a fork and about a millisecond, and leaves nothing behind."""
    return Probes(
        attempt(_exclusive_tells), attempt(_soft_dirty_tells), attempt(_scan_tells), attempt(_frames_shown)
    )


def _own() -> Pagemap:
    return Pagemap(os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))


def _pages(count: int) -> tuple[mmap.mmap, int]:
    memory = mmap.mmap(-1, count * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _exclusive_tells() -> bool:
    memory, address = _pages(2)
    memory[0] = memory[PAGE_SIZE] = 1
    with _own() as own:
        alone = flags(own.entries(address, 2))
        with OwnChild(lambda: memory.__setitem__(0, 2)) as child:
            both = flags(own.entries(address, 2))
            child.act()
            parted = flags(own.entries(address, 2))
    return (
        all(flag & EXCLUSIVE for flag in alone)
        and not any(flag & EXCLUSIVE for flag in both)
        and [flag & EXCLUSIVE for flag in parted] == [EXCLUSIVE, 0]
    )


def _soft_dirty_tells() -> bool:
    # In a child: clear_refs write-protects every page of who it is written for.
    memory, address = _pages(1)
    memory[0] = 1
    answer, told = os.pipe2(os.O_CLOEXEC)

    def look() -> None:
        with _own() as own:
            before = own.entries(address, 1)[6] & _SOFT_DIRTY
            with open("/proc/self/clear_refs", "wb") as clear:
                clear.write(b"4")
            cleared = own.entries(address, 1)[6] & _SOFT_DIRTY
            memory[0] = 2
            after = own.entries(address, 1)[6] & _SOFT_DIRTY
        os.write(told, b"+" if before and after and not cleared else b"-")

    try:
        with OwnChild(look) as child:
            child.act()
        os.set_blocking(answer, False)
        return os.read(answer, 1) == b"+"
    finally:
        os.close(answer)
        os.close(told)


def _scan_tells() -> bool:
    memory, address = _pages(2)
    memory[0] = 1
    _read_only_once = memory[PAGE_SIZE]
    with _own() as own:
        found = own.anonymous(address, address + 2 * PAGE_SIZE)
    return found == [PageRun(address, address + PAGE_SIZE, huge=False)]


def _frames_shown() -> bool:
    memory, address = _pages(1)
    memory[0] = 1
    with _own() as own:
        return bool(int.from_bytes(own.entries(address, 1), "little") & FRAME)
