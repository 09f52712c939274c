"""The types of variables: their size, their parts, and how bytes of them read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Final

from msgspec import Struct

from forklore.elf.dwarf.file import BrokenDwarf
from forklore.elf.dwarf.numbers import At, Encoding, Tag
from forklore.elf.dwarf.units import DebugEntry, Unit, name_of

_DEPTH: Final = 24
_MEMBERS: Final = 4096
_TEXT: Final = 64
_HEX: Final = 32

_KINDS: Final = {
    Encoding.boolean: "bool", Encoding.float: "float", Encoding.signed: "signed", Encoding.unsigned: "unsigned",
    Encoding.signed_char: "char", Encoding.unsigned_char: "char", Encoding.UTF: "utf", Encoding.address: "pointer",
}  # fmt: skip
_WRAPPERS: Final = {
    Tag.const_type: "const ", Tag.volatile_type: "volatile ", Tag.restrict_type: "", Tag.atomic_type: "_Atomic ",
    Tag.typedef: "",
}  # fmt: skip
_POINTERS: Final = {
    Tag.pointer_type: " *", Tag.reference_type: " &", Tag.rvalue_reference_type: " &&", Tag.ptr_to_member_type: " ::*",
}
_RECORDS: Final = {
    Tag.structure_type: "struct ", Tag.class_type: "class ", Tag.union_type: "union ", Tag.enumeration_type: "enum ",
}
_FLOATS: Final = {4: "f", 8: "d"}


class Member(Struct, frozen=True):
    """A part of a struct, class or union, ``offset`` bytes in. The name is empty for a base class or anonymous part."""

    name: str
    offset: int
    type: Type


class Type(Struct, frozen=True):
    """A type. ``kind``: signed, unsigned, char, utf, bool, float, pointer, enum, bits (a bit field), array, struct,
    union or unknown. ``size`` is in bytes, 0 where it is not known."""

    kind: str
    name: str
    size: int
    members: tuple[Member, ...] = ()
    element: Type | None = None
    """Of an array; of a bit field the type that it reads as."""
    count: int = 0
    """Elements of an array; bits of a bit field."""
    shift: int = 0
    """Of a bit field: how many lower bits are not its own."""
    values: tuple[tuple[int, str], ...] = ()
    """Names of an enum's values."""


class Types:
    """The types of one file. Each is read once; one that contains itself has an unknown part."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str, int], Type] = {}
        self._depth = 0

    def of(self, entry: DebugEntry) -> Type:
        """The type that an entry's DW_AT_type names."""
        target = entry.unit.referred(entry, At.type)
        return Type("unknown", "void", 0) if target is None else self._type(target)

    def _type(self, entry: DebugEntry) -> Type:
        key = (id(entry.unit.units), entry.unit.section, entry.offset)
        known = self._known.get(key)
        if known is not None:
            return known
        if self._depth >= _DEPTH:
            return Type("unknown", "…", 0)
        entry.unit.units.budget.check()
        self._known[key] = Type("unknown", "…", 0)
        self._depth += 1
        try:
            found = self._read(entry)
        except BaseException:
            del self._known[key]
            raise
        finally:
            self._depth -= 1
        self._known[key] = found
        return found

    def _read(self, entry: DebugEntry) -> Type:
        unit, tag = entry.unit, entry.tag
        if At.specification in entry.attributes or At.declaration not in entry.attributes:
            name = name_of(entry, linkage=False) or ""
        else:
            name = unit.string(entry, At.name) or ""
        size = unit.number(entry, At.byte_size) or 0
        if tag == Tag.base_type:
            return Type(_KINDS.get(unit.number(entry, At.encoding) or 0, "unknown"), name, size)
        if tag in _POINTERS:
            return Type("pointer", self._target_name(entry) + _POINTERS[tag], size or unit.address_size)
        if tag in _WRAPPERS:
            inner = self.of(entry)
            return _renamed(inner, name or _WRAPPERS[tag] + inner.name)
        if tag == Tag.enumeration_type:
            return Type("enum", _RECORDS[tag] + name, size, values=tuple(_enumerators(entry)))
        if tag == Tag.array_type:
            return self._array(entry)
        if tag in _RECORDS:
            kind = "union" if tag == Tag.union_type else "struct"
            return Type(kind, (_RECORDS[tag] + name).strip(), size, members=tuple(self._members(entry)))
        return Type("unknown", name or "?", size)

    def _target_name(self, entry: DebugEntry) -> str:
        # Only names are followed through pointers: what they point to can lead back here.
        words: list[str] = []
        target = entry.unit.referred(entry, At.type)
        for _ in range(_DEPTH):
            if target is None:
                return "".join(words) + "void"
            name = target.unit.string(target, At.name)
            if name:
                return "".join(words) + _RECORDS.get(target.tag, "") + name
            if target.tag in _POINTERS:
                return "".join(words) + self._target_name_of_pointer(target)
            if target.tag not in _WRAPPERS:
                return "".join(words) + ("(*)()" if target.tag == Tag.subroutine_type else "?")
            words.append(_WRAPPERS[target.tag])
            target = target.unit.referred(target, At.type)
        return "…"

    def _target_name_of_pointer(self, entry: DebugEntry) -> str:
        if self._depth >= _DEPTH:
            return "…"
        self._depth += 1
        try:
            return self._target_name(entry) + _POINTERS[entry.tag]
        finally:
            self._depth -= 1

    def _array(self, entry: DebugEntry) -> Type:
        dimensions = (child for child in entry.unit.children(entry) if child.tag == Tag.subrange_type)
        counts = [_count(child) for child in islice(dimensions, _DEPTH)]
        innermost = built = self.of(entry)
        for depth in range(len(counts) - 1, -1, -1):
            name = innermost.name + "".join(f"[{count or ''}]" for count in counts[depth:])
            built = Type("array", name, built.size * counts[depth], element=built, count=counts[depth])
        return built

    def _members(self, entry: DebugEntry) -> Iterator[Member]:
        unit = entry.unit
        for index, child in enumerate(unit.children(entry)):
            if index >= _MEMBERS:
                return
            if child.tag not in {Tag.member, Tag.inheritance} or At.external in child.attributes:
                continue
            type_ = self.of(child)
            offset = unit.number(child, At.data_member_location) or 0
            name = "" if child.tag == Tag.inheritance else unit.string(child, At.name) or ""
            width = unit.number(child, At.bit_size)
            if width is None:
                yield Member(name, offset, type_)
                continue
            yield _bit_field(unit, child, name, offset, width, type_)


def _bit_field(unit: Unit, entry: DebugEntry, name: str, offset: int, width: int, type_: Type) -> Member:
    start = unit.number(entry, At.data_bit_offset)
    if start is None:
        # Before DWARF 4 the bits were counted from the most significant one of the storage.
        storage = unit.number(entry, At.byte_size) or type_.size
        start = 8 * (offset + storage) - (unit.number(entry, At.bit_offset) or 0) - width
    if width > 1024 or start < 0:
        raise BrokenDwarf(f"a bit field of {width} bits at bit {start}")
    shift = start % 8
    field = Type("bits", f"{type_.name}:{width}", (shift + width + 7) // 8, element=type_, count=width, shift=shift)
    return Member(name, start // 8, field)


def _enumerators(entry: DebugEntry) -> Iterator[tuple[int, str]]:
    for index, child in enumerate(entry.unit.children(entry)):
        if index >= _MEMBERS:
            return
        value = entry.unit.number(child, At.const_value)
        if child.tag == Tag.enumerator and value is not None:
            yield value, entry.unit.string(child, At.name) or ""


def _count(subrange: DebugEntry) -> int:
    """Elements of a dimension; 0 where that is decided at run time."""
    unit = subrange.unit
    count = unit.number(subrange, At.count)
    if count is None:
        upper = unit.number(subrange, At.upper_bound)
        count = 0 if upper is None else upper - (unit.number(subrange, At.lower_bound) or 0) + 1
    return count if 0 < count < 1 << 40 else 0


def _renamed(type_: Type, name: str) -> Type:
    return Type(
        type_.kind, name, type_.size, type_.members, type_.element, type_.count, type_.shift, type_.values
    )


def render(type_: Type, raw: bytes) -> str:
    """The value of all bytes of a variable of a scalar type or a small array of char, little-endian, else hexadecimal.

    What comes back has no control characters and no bytes above ASCII, whatever the program wrote.
    """
    if len(raw) != type_.size or not raw:
        return _hex(raw)
    number = int.from_bytes(raw, "little")
    match type_.kind:
        case "signed":
            return str(int.from_bytes(raw, "little", signed=True))
        case "unsigned":
            return str(number)
        case "bool":
            return {0: "false", 1: "true"}.get(number, str(number))
        case "char" if len(raw) == 1:
            return f"{number} {_quoted(raw, chr(39))}"
        case "utf":
            return f"U+{number:04X}"
        case "float" if len(raw) in _FLOATS:
            return repr(struct.unpack(f"<{_FLOATS[len(raw)]}", raw)[0])
        case "pointer":
            return f"{number:#x}"
        case "enum":
            return _enum(type_, raw)
        case "bits":
            return _bits(type_, number)
        case "array" if type_.element is not None and type_.element.kind == "char" and type_.element.size == 1:
            return _quoted(raw.rstrip(b"\0"), '"') if len(raw) <= _TEXT else _hex(raw)
    return _hex(raw)


def _enum(type_: Type, raw: bytes) -> str:
    names = dict(type_.values)
    signed = int.from_bytes(raw, "little", signed=True)
    number = int.from_bytes(raw, "little")
    # Values are written as short as possible, so a negative one may appear in either reading.
    return names.get(signed) or names.get(number) or str(signed)


def _bits(type_: Type, storage: int) -> str:
    value = storage >> type_.shift & (1 << type_.count) - 1
    base = type_.element
    if base is not None and base.kind == "signed" and value >> (type_.count - 1):
        value -= 1 << type_.count
    if base is not None and base.kind == "enum":
        return dict(base.values).get(value) or str(value)
    return str(value)


def _quoted(raw: bytes, mark: str) -> str:
    plain = {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\", ord(mark): f"\\{mark}"}
    inner = "".join(plain.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in raw)
    return f"{mark}{inner}{mark}"


def _hex(raw: bytes) -> str:
    return f"{raw[:_HEX].hex(' ')} …" if len(raw) > _HEX else raw.hex(" ")
