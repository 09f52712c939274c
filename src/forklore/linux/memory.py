"""Memory of traced programs: process_vm_readv(2) and process_vm_writev(2).

Reading answers :class:`Unavailable` where memory cannot be read: a bad pointer of the traced program is a fact, not
an error.

To read a page that is not in memory is to read the file that it is mapped from, and of FUSE or a network's file system
to wait for a server, deaf to every signal. So it is asked first which pages are there (move_pages(2), which brings none
in). Of the others it is looked up what is mapped there, and what may wait is read by the process for that
(:mod:`forklore.linux.files.reader_process`).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import Final

from forklore.abi.arch import Arch
from forklore.abi.syscalls import number
from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux.libc import CLIB, Iovec, fail, function
from forklore.linux.proc import machine
from forklore.linux.tracing import ptrace

PAGE_SIZE: Final = mmap.PAGESIZE
_WORD: Final = (1 << 64) - 1


_PROTOTYPE: Final = (
    ctypes.c_int,
    ctypes.POINTER(Iovec), ctypes.c_ulong,
    ctypes.POINTER(Iovec), ctypes.c_ulong,
    ctypes.c_ulong,
)
_readv: Final = function("process_vm_readv", ctypes.c_ssize_t, *_PROTOTYPE)
_writev: Final = function("process_vm_writev", ctypes.c_ssize_t, *_PROTOTYPE)

# One prepared buffer for the reads of the loop: a clone_args struct or a page.
_buffer: Final = ctypes.create_string_buffer(PAGE_SIZE)
_view: Final = memoryview(_buffer)
_local: Final = Iovec(ctypes.addressof(_buffer), 0)
_remote: Final = Iovec(0, 0)

_arch: Final = machine()
_MOVE_PAGES: Final = None if _arch is None else number(_arch, "move_pages")
_ENOENT: Final = 2
_MOST_PAGES: Final = 16
_pages: Final = (ctypes.c_size_t * _MOST_PAGES)()
_found: Final = (ctypes.c_int * _MOST_PAGES)()
_pages_there: Final = ctypes.byref(_pages)
_found_there: Final = ctypes.byref(_found)
# Without a prototype, as in kcmp.py: it is called for every stack. It may wait, for the lock of a memory.
_move_pages: Final = CLIB["syscall"]
_move_pages.restype = ctypes.c_long


def may_wait(tid: Tid, address: int, size: int, further: int = 0, length: int = 0) -> bool:
    """Whether to read ``size`` bytes at ``address``, or ``length`` at ``further``, may be to wait for a server.

    At most seven pages each. Other threads of the program can make it so just after that was asked.
    """
    count = 0
    for start, end in ((address, address + size), (further, further + length)):
        for page in range(start & -PAGE_SIZE, end, PAGE_SIZE):
            _pages[count] = page & _WORD
            count += 1
    if _MOVE_PAGES is None or _move_pages(_MOVE_PAGES, tid, count, _pages_there, None, _found_there, 0):
        absent = [_pages[index] for index in range(count)]  # no NUMA in this kernel
    else:
        absent = [_pages[index] for index in range(count) if _found[index] == -_ENOENT]
    if not absent:
        return False
    from forklore.linux.files.served_memory import is_served

    return any(is_served(tid, Address(page)) for page in absent)


def _served(tid: Tid, address: Address, size: int) -> bytes | Unavailable:
    from forklore.linux.files import reader_process

    return reader_process.memory(tid, address, size)


def read(tid: Tid, address: Address, size: int) -> bytes | Unavailable:
    """``size`` bytes (at most a page) at ``address``, all of them or :class:`Unavailable`."""
    got = read_some(tid, address, size)
    if isinstance(got, Unavailable) or len(got) == size:
        return got
    return Unavailable(14, f"only {len(got)} of {size} bytes at {address:#x} are mapped")


def read_some(tid: Tid, address: Address, size: int) -> bytes | Unavailable:
    """Up to ``size`` bytes (at most a page) at ``address``: fewer where unmapped memory follows."""
    size = min(size, PAGE_SIZE)
    if may_wait(tid, address, size):
        return _served(tid, address, size)
    return read_whatever(tid, address, size)


def read_whatever(tid: Tid, address: Address, size: int) -> bytes | Unavailable:
    """:func:`read_some`, though it may be to wait."""
    _local.length = _remote.length = min(size, PAGE_SIZE)
    _remote.base = address
    got = _readv(tid, _local, 1, _remote, 1, 0)
    if got == -1:
        number = ctypes.get_errno()
        return Unavailable(number, f"{os.strerror(number)} at {address:#x}")
    return bytes(_view[:got])


_wide: Final = ctypes.create_string_buffer(4 * PAGE_SIZE)
_wide_view: Final = memoryview(_wide)
_wide_local: Final = Iovec(ctypes.addressof(_wide), 0)


def window(tid: Tid, address: Address, size: int) -> bytes:
    """Up to ``size`` bytes (at most four pages) at ``address``: fewer where unmapped memory follows, or none."""
    size = min(size, 4 * PAGE_SIZE)
    if may_wait(tid, address, size):
        served = _served(tid, address, size)
        return b"" if isinstance(served, Unavailable) else served
    _wide_local.length = _remote.length = size
    _remote.base = address
    got = _readv(tid, _wide_local, 1, _remote, 1, 0)
    return bytes(_wide_view[:got]) if got > 0 else b""


_two: Final = (Iovec * 2)()
_one, _other = _two


def with_window(tid: Tid, address: Address, size: int, start: Address, length: int) -> tuple[bytes | None, bytes]:
    """``size`` bytes at ``address``, None where they cannot be read, and a :func:`window` from ``start``, by one call.

    All of it at most four pages.
    """
    if may_wait(tid, address, size, start, length):
        beside = read_some(tid, address, size)
        whole = isinstance(beside, bytes) and len(beside) == size
        return beside if isinstance(beside, bytes) and whole else None, window(tid, start, length)
    _one.base, _one.length = address, size
    _other.base, _other.length = start, length
    _wide_local.length = size + length
    got = _readv(tid, _wide_local, 1, _two, 2, 0)
    if got < size:
        return None, window(tid, start, length)
    return bytes(_wide_view[:size]), bytes(_wide_view[size:got])


def write(tid: Tid, address: Address, data: bytes) -> None:
    """Write ``data``; where the tracee's own mapping is read-only, through ptrace, a word at a time.

    OSError if neither can.
    """
    source = ctypes.create_string_buffer(data, len(data))
    local = Iovec(ctypes.addressof(source), len(data))
    remote = Iovec(address, len(data))
    if _writev(tid, local, 1, remote, 1, 0) == len(data):
        return
    word = ctypes.sizeof(ctypes.c_size_t)
    if len(data) % word:
        raise fail(f"process_vm_writev at {address:#x} of {tid}")
    for offset in range(0, len(data), word):
        ptrace.poke(tid, address + offset, int.from_bytes(data[offset : offset + word], "little"))


class Pages:
    """Strings and pointer arrays of one tracee that is held, each page read at most once, by ``read_page``."""

    def __init__(self, tid: Tid, read_page: Callable[[Tid, Address, int], bytes | Unavailable] = read) -> None:
        self._tid = tid
        self._read = read_page
        self._pages: dict[int, bytes | Unavailable] = {}

    def _page(self, number: int) -> bytes | Unavailable:
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = self._read(self._tid, Address(number * PAGE_SIZE), PAGE_SIZE)
        return page

    def string(self, address: Address, limit: int) -> bytes | Unavailable:
        """The NUL-terminated string at ``address``, cut after ``limit`` bytes."""
        parts: list[bytes] = []
        left = limit
        while left > 0:
            number, offset = divmod(address, PAGE_SIZE)
            page = self._page(number)
            if isinstance(page, Unavailable):
                return page
            end = page.find(b"\0", offset)
            if end != -1:
                parts.append(page[offset : min(end, offset + left)])
                break
            parts.append(page[offset : offset + left])
            left -= PAGE_SIZE - offset
            address = Address((number + 1) * PAGE_SIZE)
        return b"".join(parts)

    def pointers(self, address: Address, arch: Arch, limit: int) -> tuple[list[Address], bool] | Unavailable:
        """The NULL-terminated pointer array at ``address``: at most ``limit`` of them, and whether that was all."""
        size = arch.pointer
        found: list[Address] = []
        while True:
            number, offset = divmod(address, PAGE_SIZE)
            page = self._page(number)
            if isinstance(page, Unavailable):
                return page
            raw = page[offset : offset + size]
            if len(raw) < size:  # an array that is not aligned can straddle two pages
                following = self._page(number + 1)
                if isinstance(following, Unavailable):
                    return following
                raw += following[: size - len(raw)]
            value = int.from_bytes(raw, "little")
            if value == 0:
                return found, True
            if len(found) == limit:
                return found, False
            found.append(Address(value))
            address = Address(address + size)
