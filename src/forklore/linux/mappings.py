"""The memory mappings of a task: /proc/PID/maps and smaps (proc_pid_maps(5), proc_pid_smaps(5)).

Parsing is pure. fs/proc/task_mmu.c writes a newline in a file's name as ``\\012`` and leaves a backslash as it is, so
a name that really holds those four characters cannot be told from one with a newline; likewise " (deleted)".
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, TypeVar

from msgspec import Struct

from forklore.abi.patterns import regex
from forklore.abi.text import as_text
from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux.proc import read_file

_Found = TypeVar("_Found")

_LIMIT: Final = 1 << 26
"""Bytes of a maps or smaps file that are read: 65530 mappings (vm.max_map_count) of smaps are half of it."""

_QUERY: Final = struct.Struct("=9Q4I2Q")
"""struct procmap_query (include/uapi/linux/fs.h): size, flags and address of the query; start, end, permissions, page
size, offset, inode of the mapping there, its device, and where its name and build-id are to go."""
_PROCMAP_QUERY: Final = 3 << 30 | _QUERY.size << 16 | ord("f") << 8 | 17

_LINE: Final = regex(
    rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) ([0-9]+)(?: +(.*))?"
)
_FIELD: Final = regex(rb"([A-Z][A-Za-z_]*):\s+([0-9]+)(?: kB)?\s*")


class MappingKind(StrEnum):
    """What lies behind a mapping, as far as its line tells."""

    FILE = "file"
    STACK = "stack"
    """The main thread's; the stack of another thread is ``anonymous``."""
    HEAP = "heap"
    """What brk(2) moves."""
    ANONYMOUS = "anonymous"
    SPECIAL = "special"
    """The kernel's own: vdso, vvar, vsyscall, uprobes, and names yet unknown."""


class Mapping(Struct, frozen=True, gc=False):
    """One line of maps: ``start`` up to, not including, ``end``."""

    start: Address
    end: Address
    permissions: str
    """``r``, ``w``, ``x`` or ``-`` each, then ``p`` private or ``s`` shared."""
    offset: int
    major: int
    minor: int
    inode: int
    path: bytes
    """The name as the kernel gives it, newlines restored; empty where it has none."""

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.start

    @property
    def private(self) -> bool:
        """Writes stay with this memory (MAP_PRIVATE): after fork(2), copied on write."""
        return self.permissions[3] == "p"

    @property
    def writable(self) -> bool:
        """Reading and writing are both allowed now."""
        return self.permissions[:2] == "rw"

    @property
    def kind(self) -> MappingKind:
        """See :class:`MappingKind`."""
        path = self.path
        if path == b"[stack]":
            return MappingKind.STACK
        if path == b"[heap]":
            return MappingKind.HEAP
        if not path or path.startswith((b"[anon:", b"[anon_shmem:", b"[stack:")):
            return MappingKind.ANONYMOUS
        return MappingKind.SPECIAL if path.startswith(b"[") else MappingKind.FILE


class Mappings:
    """The mappings of one task at one moment, by address."""

    def __init__(self, entries: tuple[Mapping, ...]) -> None:
        self.entries: Final = entries
        self._starts: Final = [entry.start for entry in entries]

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, address: int) -> Mapping | None:
        """The mapping that ``address`` lies in."""
        index = bisect_right(self._starts, address) - 1
        return self.entries[index] if index >= 0 and address < self.entries[index].end else None

    def file_of_bss(self, mapping: Mapping) -> Mapping | None:
        """The writable file mapping that an unnamed one continues: then it is the zero-filled part of that file's data.

        So the kernel and the dynamic linker lay out a program's .bss; the line itself does not say so.
        """
        if mapping.path or not (mapping.private and mapping.writable):
            return None
        before = self.find(mapping.start - 1)
        fits = before is not None and before.kind is MappingKind.FILE and before.private and before.writable
        return before if fits else None


class Usage(Struct, frozen=True):
    """What smaps adds to a mapping: ``fields`` in bytes by the kernel's names, ``flags`` of VmFlags."""

    fields: dict[str, int]
    flags: frozenset[str]


def parse(raw: bytes) -> Mappings:
    """A whole maps file. ValueError names a line that is none of a mapping."""
    return Mappings(tuple(_mapping(line, number) for number, line in _lines(raw)))


def parse_smaps(raw: bytes) -> list[tuple[Mapping, Usage]]:
    """A whole smaps file. ValueError names a line that is neither a mapping nor a field.

    Fields without a unit (THPeligible, ProtectionKey) are left out.
    """
    found: list[tuple[Mapping, dict[str, int], set[str]]] = []
    for number, line in _lines(raw):
        if not line[:1].isupper():
            found.append((_mapping(line, number), {}, set()))
            continue
        if not found:
            raise ValueError(f"line {number}: a field {line[:80]!r} before any mapping")
        if line.startswith(b"VmFlags:"):
            found[-1][2].update(as_text(line[8:]).split())
            continue
        field = _FIELD.fullmatch(line)
        if field is None:
            raise ValueError(f"line {number}: expected 'Name: NUMBER kB', found {line[:80]!r}")
        if line.rstrip().endswith(b" kB"):
            found[-1][1][field[1].decode()] = int(field[2]) * 1024
    return [(mapping, Usage(fields, frozenset(flags))) for mapping, fields, flags in found]


def mappings(tid: Tid) -> Mappings | Unavailable:
    """/proc/TID/maps: none for a zombie and for the kernel's own tasks."""
    return _parsed(f"/proc/{tid}/maps", parse)


def executable(tid: Tid) -> Mappings | Unavailable:
    """The mappings of /proc/TID/maps that may be executed, and no others: a tenth of the lines, and of the work."""
    return _parsed(f"/proc/{tid}/maps", _executable)


def of_file(tid: Tid, mapping: Mapping) -> list[Mapping] | Unavailable:
    """All mappings of ``tid`` of the file of ``mapping``, which is one of them, by their addresses."""
    inode = b" %d " % mapping.inode

    def wanted(raw: bytes) -> list[Mapping]:
        found = [_mapping(line, number) for number, line in _lines(raw) if inode in line]
        same = mapping.major, mapping.minor, mapping.inode
        return [each for each in found if (each.major, each.minor, each.inode) == same] or [mapping]

    return _parsed(f"/proc/{tid}/maps", wanted)


def still_mapped(tid: Tid, mapping: Mapping) -> bool:
    """Whether ``tid`` has the same part of the same file there now: asked for (Linux 6.11), else read from maps."""
    answer = _asked(tid, mapping.start)
    if answer is _NOT_THERE:
        return False
    if answer is None:
        found = executable(tid)
        return not isinstance(found, Unavailable) and found.find(mapping.start) == mapping
    _size, _flags, _address, start, end, _permissions, _page, offset, inode, *_ = answer
    return (start, end, offset, inode) == (mapping.start, mapping.end, mapping.offset, mapping.inode)


def device_at(tid: Tid, address: int) -> tuple[int, int] | None:
    """The device of the file that is mapped there, (0, 0) where it is none, None where nothing is mapped.

    Asked for as in :func:`still_mapped`.
    """
    found = _place(tid, address)
    return None if found is None else found[2:]


def extent_at(tid: Tid, address: int) -> tuple[int, int] | None:
    """From where to where the mapping goes that ``address`` lies in; None where there is none. As :func:`device_at`."""
    found = _place(tid, address)
    return None if found is None else found[:2]


_NOT_THERE: Final = ()


def _place(tid: Tid, address: int) -> tuple[int, int, int, int] | None:
    # Start, end and device of what is mapped there.
    answer = _asked(tid, address)
    if answer is _NOT_THERE:
        return None
    if answer is None:
        every = mappings(tid)
        found = None if isinstance(every, Unavailable) else every.find(address)
        return None if found is None else (found.start, found.end, found.major, found.minor)
    return answer[3], answer[4], answer[9], answer[10]


def _asked(tid: Tid, address: int) -> tuple[int, ...] | None:
    # The kernel's struct; _NOT_THERE where nothing is mapped there; None: it does not know the question.
    query = bytearray(_QUERY.size)
    _QUERY.pack_into(query, 0, _QUERY.size, 0, address, *(0,) * 12)
    try:
        fd = os.open(f"/proc/{tid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _NOT_THERE
    try:
        fcntl.ioctl(fd, _PROCMAP_QUERY, query)
    except OSError as problem:
        return None if problem.errno == errno.ENOTTY else _NOT_THERE
    finally:
        os.close(fd)
    return _QUERY.unpack(query)


def _executable(raw: bytes) -> Mappings:
    wanted = ((line, number) for number, line in _lines(raw) if b"x" in line.partition(b" ")[2][:4])
    return Mappings(tuple(_mapping(line, number) for line, number in wanted))


def smaps(tid: Tid) -> list[tuple[Mapping, Usage]] | Unavailable:
    """/proc/TID/smaps. The kernel walks every page for it; about 0.15 ms a mapping."""
    return _usages(f"/proc/{tid}/smaps")


def _usages(path: str) -> list[tuple[Mapping, Usage]] | Unavailable:
    return _parsed(path, parse_smaps)


def _parsed(path: str, parse: Callable[[bytes], _Found]) -> _Found | Unavailable:
    raw = _read(path)
    if isinstance(raw, Unavailable):
        return raw
    try:
        return parse(raw)
    except ValueError as problem:
        return Unavailable(0, f"{path}: {problem}")


def _read(path: str) -> bytes | Unavailable:
    raw = read_file(path, _LIMIT)
    if isinstance(raw, bytes) and len(raw) >= _LIMIT:
        return Unavailable(0, f"{path} is longer than {_LIMIT >> 20} MiB, so it was not read to its end")
    return raw


def _lines(raw: bytes) -> Iterator[tuple[int, bytes]]:
    # Not splitlines(): a name may hold \r, \v, \f and the like.
    for number, line in enumerate(raw.split(b"\n"), 1):
        if line:
            yield number, line


def _mapping(line: bytes, number: int) -> Mapping:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"line {number}: expected 'START-END rwxp OFFSET DEVICE INODE NAME', found {line[:80]!r}")
    start, end, permissions, offset, major, minor, inode, path = found.groups()
    return Mapping(
        Address(int(start, 16)), Address(int(end, 16)), permissions.decode(), int(offset, 16),
        int(major, 16), int(minor, 16), int(inode), (path or b"").replace(rb"\012", b"\n"),
    )  # fmt: skip
