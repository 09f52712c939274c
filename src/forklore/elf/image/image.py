"""An ELF file as the kernel maps it: its segments, sections, notes and links, without reading the whole of it.

Headers are taken apart here rather than by pyelftools: a tracer looks into a file while a task stands still, and
importing pyelftools and walking the sections of a large program with it costs a tenth of a second. Every count and
offset comes from a stranger, so each is held against the size of the file before it is used.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi.arch import Arch
from forklore.abi.units import Address, Unavailable
from forklore.linux.files import strangers_file
from forklore.linux.files.strangers_file import Pages, StrangersFile

_MACHINES: Final = {(62, 64): Arch.X86_64, (62, 32): Arch.X32, (3, 32): Arch.I386,
                    (183, 64): Arch.AARCH64, (243, 64): Arch.RISCV64}
_KINDS: Final = {0: "none", 1: "rel", 2: "exec", 3: "dyn", 4: "core"}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE, _PT_GNU_EH_FRAME = 1, 2, 3, 4, 0x6474E550
_PF_X = 1
_SHT_NOTE, _SHT_NOBITS = 7, 8
_SHF_COMPRESSED = 0x800
_NT_GNU_BUILD_ID = 3
_DT_FLAGS_1, _DF_1_NODELETE, _DF_1_PIE = 0x6FFFFFFB, 0x8, 0x08000000
# DT_HASH, DT_STRTAB, DT_SYMTAB, DT_VERSYM, DT_GNU_HASH
_MOVED: Final = frozenset({4, 5, 6, 0x6FFFFFF0, 0x6FFFFEF5})

_MAX_SEGMENTS = 4096
_MAX_SECTIONS = 1 << 16
_MAX_DYNAMIC = 4096
_MAX_NOTES = 1024
_MAX_BUILD_ID = 64
_MAX_SECTION_NAME = 64
_MAX_LINK_NAME = 4096
_HEADER = 64


class _Layout(Struct, frozen=True):
    header: struct.Struct
    segment: struct.Struct
    section: struct.Struct
    dynamic: struct.Struct


_FIELDS: Final = {
    32: ("HHIIIIIHHHHHH", "IIIIIIII", "10I", "iI"),
    64: ("HHIQQQIHHHHHH", "IIQQQQQQ", "IIQQQQIIQQ", "qQ"),
}
_LAYOUTS: Final = {
    (bits, order): _Layout(*(struct.Struct(order + fields) for fields in every))
    for bits, every in _FIELDS.items() for order in "<>"
}


class Load(Struct, frozen=True, gc=False):
    """A PT_LOAD segment: sizes and offset in bytes, ``address`` in the file's own numbering."""

    offset: int
    address: Address
    file_size: int
    memory_size: int
    executable: bool


class Section(Struct, frozen=True, gc=False):
    """A section, or what a program header says in its place (then ``number`` is 0).

    ``size`` is that of the bytes in the file, cut where the file ends; ``memory_size`` is what the header says, which
    a debug file keeps for code that it has no bytes of. ``compressed``: SHF_COMPRESSED, or a name in ``.zdebug_*``.
    """

    name: str
    number: int
    type: int
    offset: int
    address: Address
    size: int
    memory_size: int
    link: int
    compressed: bool


class ElfImage:
    """An ELF file. :meth:`open` and :meth:`of_bytes` make one.

    Of a large one only what is asked for is read: who looks into ``data`` tells :meth:`need` first, or takes
    :meth:`read`.
    """

    def __init__(self, content: Pages | bytes, header: _Header) -> None:
        self._pages = content if isinstance(content, Pages) else None
        self.data: Final = content.data if isinstance(content, Pages) else content
        self.need: Final[Callable[[int, int], None]] = _read_already if self._pages is None else self._pages.need
        """Have so many bytes at an offset in ``data``; :attr:`whole` tells whether they could be read."""
        self.machine: Final = header.machine
        """e_machine, by which :attr:`arch` is told where forklore decodes it."""
        self.arch: Final = None if header.order == ">" else _MACHINES.get((header.machine, header.bits))
        self.bits: Final = header.bits
        self.kind: Final = _KINDS.get(header.kind, "other")
        self.size: Final = len(self.data)
        self._header = header
        self._layout = _LAYOUTS[header.bits, header.order]
        segments = list(self._segments())
        self.loads: Final = tuple(load for kind, load, _ in segments if kind == _PT_LOAD)
        self._eh_frame_hdr = next((load for kind, load, _ in segments if kind == _PT_GNU_EH_FRAME), None)
        self._interp = next((load for kind, load, _ in segments if kind == _PT_INTERP), None)
        self._sections: dict[str, Section] | None = None
        self._numbered: list[Section] = []
        self.dynamic: Final = self._read_dynamic([load for kind, load, _ in segments if kind == _PT_DYNAMIC])
        """DT_* tag: value, the first of each (see :meth:`offset_of` for values that are addresses)."""
        notes = [(load, align) for kind, load, align in segments if kind == _PT_NOTE]
        self.build_id: Final = self._read_build_id(notes)
        """NT_GNU_BUILD_ID in hexadecimal."""

    @classmethod
    def open(
        cls, source: str | os.PathLike[str] | StrangersFile, *, big_endian: bool = False
    ) -> ElfImage | Unavailable:
        """The file at a path, or one that is open already, which is the image's from then on.

        ``big_endian``: also one of those machines, none of which forklore decodes: its headers and notes can be asked.
        """
        file = strangers_file.open_file(source) if isinstance(source, str | os.PathLike) else source
        if isinstance(file, Unavailable):
            return file
        try:
            found = cls._of(strangers_file.content(file), big_endian)
        except OSError as problem:
            found = Unavailable(problem.errno or 0, problem.strerror or "could not be read")
        if isinstance(found, Unavailable):
            file.close()
        return found

    @classmethod
    def of_bytes(cls, data: bytes, *, big_endian: bool = False) -> ElfImage | Unavailable:
        """An ELF file that is in memory: the vdso as read from a task, a decompressed section."""
        return cls._of(data, big_endian)

    @classmethod
    def of_segments(cls, content: Pages) -> ElfImage | Unavailable:
        """An ELF file of which only what its segments hold can be read: as it lies in a task's memory.

        It has no sections. What the program writes to is as it is by now.
        """
        content.need(0, _HEADER)
        header = _read_header(content.data[:_HEADER], big_endian=False)
        return header if isinstance(header, Unavailable) else cls(content, replace(header, sections=0))

    @classmethod
    def _of(cls, content: Pages | bytes, big_endian: bool) -> ElfImage | Unavailable:
        if isinstance(content, Pages):
            content.need(0, _HEADER)
        start = content.data[:_HEADER] if isinstance(content, Pages) else content[:_HEADER]
        header = _read_header(start, big_endian)
        return header if isinstance(header, Unavailable) else cls(content, header)

    def loaded_at(self, bias: int) -> None:
        """Have in :attr:`dynamic` what the file has, of an image that was read from memory: glibc's dynamic linker
        adds to its addresses what they are moved by (elf/get-dynamic-info.h: elf_get_dynamic_info)."""
        for tag in _MOVED & self.dynamic.keys():
            value = self.dynamic[tag]
            if self.offset_of(value) is None and self.offset_of(value - bias) is not None:
                self.dynamic[tag] = value - bias

    @property
    def whole(self) -> bool:
        """Whether all that was needed could be read: a file can be cut short while it is looked into."""
        return self._pages is None or not self._pages.cut

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file, fewer at its end; zeros where it was cut short since it was opened."""
        self.need(offset, size)
        return self.data[offset : offset + size]

    def pieces(self) -> Iterator[bytes]:
        """All of its bytes, one after the other, and none of them kept. OSError."""
        return iter((bytes(self.data),)) if self._pages is None else self._pages.pieces()

    def close(self) -> None:
        """Let go of the file. Nothing can be asked of the image, or of what was made from it, after that."""
        if self._pages is not None:
            self._pages.close()

    @property
    def program(self) -> bool:
        """Whether it was made to be executed: ET_EXEC, or a position-independent executable."""
        return self.kind == "exec" or bool(self.dynamic.get(_DT_FLAGS_1, 0) & _DF_1_PIE)

    @property
    def stays(self) -> bool:
        """Whether what has it mapped keeps it until it executes: the program, and what dlclose(3) leaves.

        glibc's libc.so.6 is one, and told by its PT_INTERP, which other libraries lack.
        """
        return self.program or self._interp is not None or bool(self.dynamic.get(_DT_FLAGS_1, 0) & _DF_1_NODELETE)

    @property
    def interpreter(self) -> bytes | None:
        """PT_INTERP: the path of the dynamic linker that the kernel starts for it."""
        place = self._interp
        if place is None:
            return None
        return self.read(place.offset, min(place.file_size, _MAX_LINK_NAME)).partition(b"\0")[0]

    def address_of(self, file_offset: int) -> Address | None:
        """The file's own address of a byte of it, where a PT_LOAD has it mapped; None where none has.

        mmap takes whole pages, so a segment brings in what stands around it in its first and last page. A byte that
        two segments bring in belongs to the one that holds it, and failing that to the executable one.
        """
        for load in self.loads:
            if load.offset <= file_offset < load.offset + load.file_size:
                return _moved(load, file_offset)
        page = mmap.PAGESIZE
        around = [load for load in self.loads
                  if load.file_size and load.offset // page <= file_offset // page
                  and file_offset // page <= (load.offset + load.file_size - 1) // page]
        best = max(around, key=lambda load: load.executable, default=None)
        return None if best is None else _moved(best, file_offset)

    def offset_of(self, address: int) -> int | None:
        """Where in the file the byte at one of its own addresses is; None for one that it has no byte for."""
        for load in self.loads:
            if load.address <= address < load.address + load.file_size:
                offset = address - load.address + load.offset
                return offset if offset < self.size else None
        return None

    def executable(self, address: int) -> Load | None:
        """The executable segment that an address of the file lies in."""
        return next((load for load in self.loads
                     if load.executable and load.address <= address < load.address + load.memory_size), None)

    def section(self, name: str) -> Section | None:
        """A section by its name, the first of several; ``.debug_*`` is found as ``.zdebug_*`` too."""
        named = self._named_sections()
        found = named.get(name)
        if found is None and name.startswith(".debug_"):
            return named.get(".z" + name[1:])
        return found

    def section_number(self, number: int) -> Section | None:
        """A section by its index, as a symbol's st_shndx and a section's ``link`` give it."""
        self._named_sections()
        return self._numbered[number] if 0 <= number < len(self._numbered) else None

    def segment_eh_frame_hdr(self) -> Section | None:
        """``.eh_frame_hdr`` by PT_GNU_EH_FRAME, which files without section headers have too."""
        load = self._eh_frame_hdr
        if load is None or load.offset >= self.size:
            return None
        size = min(load.file_size, self.size - load.offset)
        return Section(".eh_frame_hdr", 0, 1, load.offset, load.address, size, load.memory_size, 0, False)

    def bytes_of(self, section: Section, limit: int) -> bytes:
        """The first ``limit`` bytes of a section as the file has them."""
        return self.read(section.offset, min(section.size, limit))

    def debug_link(self) -> tuple[str, int] | None:
        """``.gnu_debuglink``: the name of the separate debug file and the CRC-32 of all its bytes."""
        content = self._content(".gnu_debuglink")
        name, end, _ = content.partition(b"\0")
        at = (len(name) + 4) & ~3
        if not name or not end or len(content) < at + 4:
            return None
        return os.fsdecode(name), int.from_bytes(content[at:at + 4], "little")

    def _content(self, name: str) -> bytes:
        section = self.section(name)
        return b"" if section is None else self.bytes_of(section, _MAX_LINK_NAME + _MAX_BUILD_ID)

    def _segments(self) -> Iterator[tuple[int, Load, int]]:
        header, layout = self._header, self._layout.segment
        for fields in self._records(header.segments, header.segment_size, header.segment_count, layout, _MAX_SEGMENTS):
            if self.bits == 64:
                kind, flags, offset, address, _, file_size, memory_size, align = fields
            else:
                kind, offset, address, _, file_size, memory_size, flags, align = fields
            yield kind, Load(offset, Address(address), file_size, memory_size, bool(flags & _PF_X)), align

    def _records(self, offset: int, size: int, count: int, layout: struct.Struct,
                 limit: int) -> Iterator[tuple[int, ...]]:
        if offset <= 0 or size != layout.size:
            return iter(())
        room = max(self.size - offset, 0) // size
        return layout.iter_unpack(self.read(offset, min(count, room, limit) * size))

    def _named_sections(self) -> dict[str, Section]:
        if self._sections is None:
            self._numbered = self._read_sections()
            self._sections = {}
            for section in self._numbered:
                self._sections.setdefault(section.name, section)
        return self._sections

    def _read_sections(self) -> list[Section]:
        header, layout = self._header, self._layout.section
        count, names = header.section_count, header.names
        first = next(self._records(header.sections, header.section_size, 1, layout, 1), None)
        if first is None:
            return []
        # More than 65279 sections: section 0 holds what has no room in the header (elf(5), e_shnum and e_shstrndx).
        count = count or first[5]
        names = first[6] if names == 0xFFFF else names
        raw = list(self._records(header.sections, header.section_size, count, layout, _MAX_SECTIONS))
        at, end = (raw[names][4], raw[names][4] + raw[names][5]) if names < len(raw) else (0, 0)
        return [self._section(number, fields, at, end) for number, fields in enumerate(raw)]

    def _section(self, number: int, fields: tuple[int, ...], names: int, names_end: int) -> Section:
        name_at, kind, flags, address, offset, size, link = fields[:7]
        start = names + name_at
        raw = self.read(start, min(_MAX_SECTION_NAME, names_end - start)) if start < names_end else b""
        name = raw.partition(b"\0")[0].decode("ascii", "replace")
        held = 0 if kind == _SHT_NOBITS else max(0, min(size, self.size - offset))
        compressed = bool(flags & _SHF_COMPRESSED) or name.startswith(".zdebug_")
        return Section(name, number, kind, offset, Address(address), held, size, link, compressed)

    def _read_dynamic(self, places: list[Load]) -> dict[int, int]:
        tags: dict[int, int] = {}
        layout = self._layout.dynamic
        for place in places[:1]:
            count = place.file_size // layout.size
            for tag, value in self._records(place.offset, layout.size, count, layout, _MAX_DYNAMIC):
                if tag == 0:
                    break
                tags.setdefault(tag, value)
        return tags

    def _read_build_id(self, places: list[tuple[Load, int]]) -> str | None:
        for place, align in places:
            found = self._build_id_in(place.offset, place.file_size, align)
            if found is not None:
                return found
        # A debug file's program headers may still point where the notes were in the program.
        for section in self._named_sections().values():
            if section.type == _SHT_NOTE:
                found = self._build_id_in(section.offset, section.size, 4)
                if found is not None:
                    return found
        return None

    def _build_id_in(self, offset: int, size: int, align: int) -> str | None:
        end = min(offset + size, self.size)
        round_up = 7 if align == 8 else 3
        for _ in range(_MAX_NOTES):
            if offset + 12 > end:
                return None
            name_size, size, kind = struct.unpack(self._header.order + "III", self.read(offset, 12))
            at = offset + ((12 + name_size + round_up) & ~round_up)
            if kind == _NT_GNU_BUILD_ID and name_size == 4 and self.read(offset + 12, 4) == b"GNU\0":
                fits = 0 < size <= _MAX_BUILD_ID and at + size <= end
                return self.read(at, size).hex() if fits else None
            offset = (at + size + round_up) & ~round_up
        return None


class _Header(Struct, frozen=True):
    bits: int
    order: str
    kind: int
    machine: int
    segments: int
    segment_size: int
    segment_count: int
    sections: int
    section_size: int
    section_count: int
    names: int


def _moved(load: Load, file_offset: int) -> Address | None:
    address = load.address + file_offset - load.offset
    return Address(address) if address >= 0 else None


def _read_already(_offset: int, _size: int) -> None:
    """All of it is there."""


def _read_header(start: bytes, big_endian: bool) -> _Header | Unavailable:
    if not start:
        return Unavailable(0, "an empty file, not ELF")
    if start[:4] != b"\x7fELF":
        return Unavailable(0, "not an ELF file")
    bits = {1: 32, 2: 64}.get(start[4]) if len(start) > 5 else None
    if bits is None:
        return Unavailable(0, "a broken ELF file: neither 32 nor 64 bits")
    order = {1: "<", 2: ">"}.get(start[5])
    if order is None:
        return Unavailable(0, "a broken ELF file: neither little- nor big-endian")
    if order == ">" and not big_endian:
        return Unavailable(0, "not a little-endian ELF file, and forklore decodes no big-endian machine")
    layout = _LAYOUTS[bits, order].header
    if len(start) < 16 + layout.size:
        return Unavailable(0, f"a broken ELF file: it ends after {len(start)} bytes, inside its header")
    (kind, machine, _, _, segments, sections, _, _, segment_size, segment_count,
     section_size, section_count, names) = layout.unpack_from(start, 16)
    return _Header(bits, order, kind, machine, segments, segment_size, segment_count,
                   sections, section_size, section_count, names)
