"""An object file with BPF programs, taken apart: programs, maps, variables, and what is to be fixed when it is loaded.

Pure. clang makes it and ``bpftool gen object`` completes its type information; libbpf's own way of loading it is
what this follows (the kernel's documentation: bpf/libbpf, bpf/btf, bpf/llvm_reloc).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

_HEADER: Final = struct.Struct("<16xHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQ")
_EM_BPF: Final = 247
_SHT_SYMTAB, _SHT_NOBITS, _SHT_REL = 2, 8, 9
_STT_OBJECT, _STT_FUNC = 1, 2
_BTF_MAGIC: Final = 0xEB9F
_CORE_RELO: Final = 16
_FUNC_INFO: Final = 8


class BadObjectError(ValueError):
    """A file that is no object with BPF programs, or one that needs what this loader does not do."""


class Section(Struct, frozen=True):
    """A section: where it is known by ``number``, and its bytes (none of one that only takes room)."""

    number: int
    name: str
    type: int
    size: int
    data: bytes
    link: int
    info: int


class Reference(Struct, frozen=True):
    """An instruction that loads the address of a map or of a variable."""

    offset: int
    """In bytes from the program's first instruction."""
    map: str
    """The map's name; of a variable, the section that it is in."""
    inside: int | None
    """Where in the map's value the variable lies; None for the map itself."""


class Program(Struct, frozen=True):
    """A program, by what it is attached to."""

    name: str
    section: str
    """``tp_btf/task_newtask``, ``fexit/…``, ``iter/task``, ``tracepoint/…``."""
    instructions: bytes
    references: tuple[Reference, ...]
    relocations: bytes
    """struct bpf_core_relo records, their offsets counted from the program's first instruction."""
    functions: bytes
    """struct bpf_func_info records: of the program itself and of what it gives to bpf_loop, which follows it."""


class Map(Struct, frozen=True):
    """A map as ``SEC(".maps")`` declares it: sizes in bytes."""

    name: str
    type: int
    key: int = 0
    value: int = 0
    entries: int = 0
    flags: int = 0


class Variable(Struct, frozen=True):
    """A global variable."""

    section: str
    offset: int
    size: int


class BpfObject(Struct, frozen=True):
    """All of it."""

    programs: dict[str, Program]
    maps: dict[str, Map]
    variables: dict[str, Variable]
    read_only: bytes
    """What .rodata holds before anything is set."""
    room: int
    """Bytes of .bss."""
    btf: bytes


def read_object(raw: bytes) -> BpfObject:
    """Take an object apart. Raises BadObjectError."""
    try:
        return _read(raw)
    except (struct.error, IndexError, UnicodeDecodeError, KeyError, OverflowError, RecursionError) as problem:
        raise BadObjectError(f"the object ends early or points outside itself ({problem!r})") from problem


def _read(raw: bytes) -> BpfObject:
    if raw[:6] != b"\x7fELF\x02\x01":
        raise BadObjectError("no 64-bit little-endian ELF file")
    kind, machine, *_rest = _HEADER.unpack_from(raw)
    if machine != _EM_BPF or kind != 1:
        raise BadObjectError(f"an ELF file of type {kind} for machine {machine}, not an object for BPF ({_EM_BPF})")
    sections = list(_sections(raw))
    by_name = {section.name: section for section in sections}
    table = next((section for section in sections if section.type == _SHT_SYMTAB), None)
    if table is None:
        raise BadObjectError("it has no symbols")
    symbols = list(_symbols(table.data, sections[table.link].data))
    types = Types(by_name[".BTF"].data)
    extension = _Extension(by_name[".BTF.ext"].data, types)
    variables = {
        name: Variable(sections[number].name, value, size)
        for name, kind, number, value, size in symbols
        if kind == _STT_OBJECT and sections[number].name in (".rodata", ".bss")
    }
    programs = {}
    for name, kind, number, value, size in symbols:
        if kind == _STT_FUNC:
            programs[name] = _program(name, sections, symbols, extension, _Part(number, value, size))
    maps = {each.name: each for each in types.maps()}
    read_only = by_name[".rodata"].data if ".rodata" in by_name else b""
    room = by_name[".bss"].size if ".bss" in by_name else 0
    return BpfObject(programs, maps, variables, read_only, room, by_name[".BTF"].data)


def _sections(raw: bytes) -> Iterator[Section]:
    _, _, _, _, _, start, _, _, _, _, size, count, names = _HEADER.unpack_from(raw)
    headers = [_SECTION.unpack_from(raw, start + number * size) for number in range(count)]
    strings = raw[headers[names][4] : headers[names][4] + headers[names][5]]
    for number, (name, kind, _, _, offset, length, link, info, _, _) in enumerate(headers):
        data = b"" if kind == _SHT_NOBITS else raw[offset : offset + length]
        if kind != _SHT_NOBITS and len(data) != length:
            raise BadObjectError(f"section {number} ends behind the file")
        yield Section(number, _string(strings, name), kind, length, data, link, info)


def _string(strings: bytes, offset: int) -> str:
    end = strings.find(b"\0", offset)
    if end < 0:
        raise BadObjectError("a name lies outside of the strings")
    return strings[offset:end].decode()


def _symbols(data: bytes, strings: bytes) -> Iterator[tuple[str, int, int, int, int]]:
    for name, info, _other, section, value, size in _SYMBOL.iter_unpack(data):
        yield _string(strings, name), info & 15, section, value, size


class _Part(Struct, frozen=True):
    """A function: section, and where it lies there, in bytes."""

    section: int
    start: int
    size: int


_CODE: Final = ".text"
_PSEUDO_FUNC: Final = 4
_Symbols = list[tuple[str, int, int, int, int]]


def _program(name: str, sections: list[Section], symbols: _Symbols, extension: _Extension, main: _Part) -> Program:
    """The program and every function that it leads to, one after another, as the kernel wants them."""
    code = bytearray()
    placed: dict[_Part, int] = {}
    callbacks: list[tuple[int, _Part]] = []
    references: list[Reference] = []
    relocations: list[bytes] = []
    functions: list[bytes] = []
    waiting = [main]
    while waiting:
        part = waiting.pop()
        if part in placed:
            continue
        base = placed[part] = len(code)
        section = sections[part.section]
        code += section.data[part.start : part.start + part.size]
        functions.append(struct.pack("<II", base // 8, extension.function(section.name, part.start)))
        relocations += extension.relocations(section.name, part.start, part.size, base)
        for found in _references(sections, symbols, extension, part):
            if isinstance(found, Reference):
                references.append(Reference(found.offset + base, found.map, found.inside))
            else:
                callbacks.append((found[0] + base, found[1]))
                waiting.append(found[1])
    for offset, part in callbacks:
        code[offset + 1] = code[offset + 1] & 0xF | _PSEUDO_FUNC << 4
        struct.pack_into("<i", code, offset + 4, (placed[part] - offset) // 8 - 1)
    section = sections[main.section]
    return Program(name, section.name, bytes(code), tuple(references), b"".join(relocations), b"".join(functions))


def _references(
    sections: list[Section], symbols: _Symbols, extension: _Extension, part: _Part
) -> Iterator[Reference | tuple[int, _Part]]:
    """What a function refers to: a map, a variable, or another function, from an offset in it."""
    code = sections[part.section].data
    for section in sections:
        if section.type != _SHT_REL or section.info != part.section:
            continue
        for offset, info in _RELOCATION.iter_unpack(section.data):
            at = offset - part.start
            if not 0 <= at < part.size:
                continue
            name, _kind, number, value, _size = symbols[info >> 32]
            target = sections[number].name
            if info & 0xFFFFFFFF != 1 or target not in (".maps", ".rodata", ".bss", _CODE):
                raise BadObjectError(
                    f"{sections[part.section].name} refers to {name or target} in a way that is not known"
                )
            (added,) = struct.unpack_from("<I", code, offset + 4)
            if target == _CODE:
                start, size = extension.extent(_CODE, value + added, sections[number].size)
                yield at, _Part(number, start, size)
            elif target == ".maps":
                yield Reference(at, name, None)
            else:
                yield Reference(at, target, value + added)


_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _VAR, _DATASEC = 1, 2, 3, 4, 5, 6, 8, 14, 15
_MODIFIERS: Final = frozenset({_TYPEDEF, 9, 10, 11, 18})
_SIZED: Final = frozenset({_INT, _STRUCT, _UNION, _ENUM, 16, 19})
_MORE: Final = {_INT: 4, _ARRAY: 12, _VAR: 4, 17: 4}
"""Bytes behind a type's head; of these, so many for each of its members."""
_EACH: Final = {_STRUCT: 12, _UNION: 12, _ENUM: 8, 13: 8, _DATASEC: 12, 19: 12}


class Member(Struct, frozen=True):
    """A member of a struct, where it lies in bytes, and its type."""

    name: str
    offset: int
    type: int


class Types:
    """BTF: types by number."""

    def __init__(self, data: bytes) -> None:
        magic, _, _, header, types, length, strings, strings_length = struct.unpack_from("<HBBIIIII", data)
        if magic != _BTF_MAGIC:
            raise BadObjectError("type information that does not begin as BTF does")
        self._strings = data[header + strings : header + strings + strings_length]
        self._data = data
        self._at = [0]
        offset, end = header + types, header + types + length
        while offset < end:
            self._at.append(offset)
            _, info, _ = struct.unpack_from("<III", data, offset)
            kind, count = info >> 24 & 31, info & 0xFFFF
            offset += 12 + _MORE.get(kind, 0) + count * _EACH.get(kind, 0)

    def string(self, offset: int) -> str:
        """A string of theirs."""
        return _string(self._strings, offset)

    def _head(self, number: int) -> tuple[int, int, int, int]:
        name, info, size = struct.unpack_from("<III", self._data, self._at[number])
        return name, info >> 24 & 31, info & 0xFFFF, size

    def _plain(self, number: int) -> int:
        for _ in self._at:
            _, kind, _, other = self._head(number)
            if kind not in _MODIFIERS:
                return number
            number = other
        raise BadObjectError("a type that leads back to itself")

    def size(self, number: int) -> int:
        """Bytes of a type."""
        number = self._plain(number)
        _, kind, _, size = self._head(number)
        if kind in _SIZED:
            return size
        if kind == _PTR:
            return 8
        if kind == _ARRAY:
            element, _, count = self._array(number)
            return count * self.size(element)
        raise BadObjectError(f"a type of kind {kind} has no size")

    def _array(self, number: int) -> tuple[int, int, int]:
        element, index, count = struct.unpack_from("<III", self._data, self._at[number] + 12)
        return element, index, count

    def members(self, number: int) -> list[Member]:
        """Those of a struct."""
        _, _, count, _ = self._head(number)
        start = self._at[number] + 12
        found = (struct.unpack_from("<III", self._data, start + 12 * index) for index in range(count))
        return [Member(self.string(name), (offset & 0xFFFFFF) // 8, kind) for name, kind, offset in found]

    def struct(self, name: str) -> int | None:
        """The number of the struct of a name."""
        heads = ((number, self._head(number)) for number in range(1, len(self._at)))
        found = (number for number, (at, kind, _, _) in heads if kind == _STRUCT and self.string(at) == name)
        return next(found, None)

    def element(self, number: int) -> tuple[int, int] | None:
        """The type and the number of the elements of an array; None of what is none."""
        plain = self._plain(number)
        if self._head(plain)[1] != _ARRAY:
            return None
        element, _, count = self._array(plain)
        return element, count

    def inside(self, number: int) -> list[Member] | None:
        """The members of what is a struct; None of what is none."""
        plain = self._plain(number)
        return self.members(plain) if self._head(plain)[1] == _STRUCT else None

    def maps(self) -> Iterator[Map]:
        """What SEC(".maps") declares: a number stands as the length of an array that a member points to."""
        for number in range(1, len(self._at)):
            name, kind, count, _ = self._head(number)
            if kind != _DATASEC or self.string(name) != ".maps":
                continue
            for index in range(count):
                (variable,) = struct.unpack_from("<I", self._data, self._at[number] + 12 + 12 * index)
                yield self._map(variable)

    def _map(self, variable: int) -> Map:
        name, _, _, kind = self._head(variable)
        found = {"type": 0, "max_entries": 0, "map_flags": 0, "key": 0, "value": 0, "key_size": 0, "value_size": 0}
        for member in self.members(self._plain(kind)):
            if member.name not in found:
                raise BadObjectError(f"the map {self.string(name)} declares {member.name}, which is not known")
            _, _, _, pointed = self._head(self._plain(member.type))
            is_type = member.name in ("key", "value")
            found[member.name] = self.size(pointed) if is_type else self._array(self._plain(pointed))[2]
        return Map(
            self.string(name), found["type"], found["key"] or found["key_size"], found["value"] or found["value_size"],
            found["max_entries"], found["map_flags"],
        )  # fmt: skip


class _Extension:
    """.BTF.ext: which function begins where, and which instructions depend on the layout of the kernel's structs."""

    def __init__(self, data: bytes, types: Types) -> None:
        magic, _, _, header = struct.unpack_from("<HBBI", data)
        if magic != _BTF_MAGIC:
            raise BadObjectError(".BTF.ext does not begin as it must")
        offsets = struct.unpack_from("<IIIIII", data, 8)
        self._functions = self._records(data, header + offsets[0], offsets[1], types, _FUNC_INFO)
        self._relocations = self._records(data, header + offsets[4], offsets[5], types, _CORE_RELO)

    @staticmethod
    def _records(data: bytes, start: int, length: int, types: Types, wanted: int) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        if not length:
            return found
        (size,) = struct.unpack_from("<I", data, start)
        if size < wanted:
            raise BadObjectError(f".BTF.ext has records of {size} bytes where {wanted} are needed")
        offset, end = start + 4, start + length
        while offset < end:
            name, count = struct.unpack_from("<II", data, offset)
            offset += 8
            records = [data[offset + index * size :][:wanted] for index in range(count)]
            found.setdefault(types.string(name), []).extend(records)
            offset += count * size
        return found

    def relocations(self, section: str, start: int, size: int, to: int) -> Iterator[bytes]:
        """Of the function that begins at ``start`` and is put ``to`` bytes behind the beginning of its program."""
        for record in self._relocations.get(section, ()):
            (offset,) = struct.unpack_from("<I", record)
            if start <= offset < start + size:
                yield struct.pack("<I", offset - start + to) + record[4:]

    def function(self, section: str, start: int) -> int:
        """The number of the function that begins at ``start``."""
        for record in self._functions.get(section, ()):
            offset, number = struct.unpack("<II", record)
            if offset == start:
                return int(number)
        raise BadObjectError(f"{section} has a function at {start} that its type information does not know")

    def extent(self, section: str, start: int, end: int) -> tuple[int, int]:
        """Where the function that begins at ``start`` lies: up to the next one, or the section's ``end``."""
        self.function(section, start)
        offsets = (struct.unpack_from("<I", record)[0] for record in self._functions[section])
        return start, min((offset for offset in offsets if offset > start), default=end) - start
