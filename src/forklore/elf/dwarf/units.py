"""The units of .debug_info and their debugging entries, read one by one (DWARF standard, section 7.5).

A pass over a whole unit skips attributes by a plan made once per abbreviation: a unit can have 100,000 entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from forklore.abi.text import as_text
from forklore.elf.dwarf.abbrev import (
    BLOCK,
    CONST,
    FIXED,
    INDIRECT,
    SIZED,
    SLEB,
    STRING,
    ULEB,
    Abbreviation,
    Abbreviations,
)
from forklore.elf.dwarf.file import BrokenDwarf, Budget, DebugFile, Input, cstring
from forklore.elf.dwarf.numbers import At, Form, UnitType
from forklore.elf.leb128 import signed as sleb
from forklore.elf.leb128 import unsigned as uleb

_LOCAL_REFERENCES: Final = frozenset({Form.ref1, Form.ref2, Form.ref4, Form.ref8, Form.ref_udata})
_OTHER_FILE: Final = frozenset({Form.ref_sup4, Form.ref_sup8, Form.GNU_ref_alt})
_STRING_INDEXES: Final = frozenset({Form.strx, Form.strx1, Form.strx2, Form.strx3, Form.strx4, Form.GNU_str_index})
ADDRESS_INDEXES: Final = frozenset(
    {Form.addrx, Form.addrx1, Form.addrx2, Form.addrx3, Form.addrx4, Form.GNU_addr_index}
)
_CHAIN: Final = 16
_CHECK_EVERY: Final = 2048
_TABLES: Final = 128
_HEADER: Final = 64
_OWN_ENTRY: Final = 1 << 12
"""Bytes that a unit's own entry takes at most, as a rule."""


class Attribute(NamedTuple):
    """``value`` as it is in the file: a number, or the bytes of a block or of a string written in place."""

    form: int
    value: int | bytes


Descend = Callable[[int, int, Abbreviation], bool]
"""Whether to read what is below an entry, given its depth, offset and shape."""


class DebugEntry(NamedTuple):
    """A debugging information entry."""

    unit: Unit
    offset: int
    tag: int
    children: bool
    attributes: dict[int, Attribute]


class Units:
    """All units of one file and the entries in them, with the supplementary file that dwz may have split off."""

    def __init__(self, source: Input, budget: Budget, supplementary: Input | None = None) -> None:
        self.file = DebugFile(source, budget)
        self.budget = budget
        self.supplementary = None if supplementary is None else Units(supplementary, budget)
        self._at: dict[tuple[str, int], Unit] = {}
        self._abbreviations: dict[tuple[int, int, int, int], Abbreviations] = {}
        self._signatures: dict[int, Unit] | None = None

    def at(self, offset: int, section: str = "debug_info") -> Unit:
        """The unit whose header is at ``offset``."""
        unit = self._at.get((section, offset))
        if unit is None:
            unit = self._at[section, offset] = Unit(self, section, offset)
        return unit

    def headers(self, section: str = "debug_info") -> Iterator[Unit]:
        """Every unit in file order; nothing but their headers is read."""
        offset, end = 0, len(self.file.section(section))
        while offset < end:
            self.budget.check()
            unit = self.at(offset, section)
            yield unit
            offset = unit.end

    def holding(self, offset: int) -> Unit:
        """The unit that an offset of .debug_info lies in."""
        for unit in self.headers():
            if unit.offset <= offset < unit.end:
                return unit
        raise BrokenDwarf(f"a reference to {offset:#x}, which is in no unit")

    def signed(self, signature: int) -> Unit:
        """The type unit with a signature."""
        if self._signatures is None:
            every = [*self.headers(), *self.headers("debug_types")]
            self._signatures = {unit.signature: unit for unit in every if unit.signature is not None}
        return self._signatures[signature]

    def abbreviations(self, unit: Unit) -> Abbreviations:
        """The table of abbreviations of a unit; units often share one."""
        key = (unit.abbreviations_at, unit.version, unit.address_size, unit.offset_size)
        table = self._abbreviations.get(key)
        if table is None:
            if len(self._abbreviations) >= _TABLES:
                del self._abbreviations[next(iter(self._abbreviations))]
            table = self._abbreviations[key] = Abbreviations(
                self.file.section("debug_abbrev"), unit.abbreviations_at,
                version=unit.version, address_size=unit.address_size, offset_size=unit.offset_size,
            )  # fmt: skip
        return table


class Unit:
    """A unit: its header (DWARF standard, 7.5.1) and its entries. Offsets are into the section it lies in."""

    def __init__(self, units: Units, section: str, offset: int) -> None:
        self.units = units
        self.file = units.file
        self.section = section
        self.data = units.file.section(section)
        self.offset = offset
        units.file.need(section, offset, _HEADER)
        size, self.offset_size, at = self._length(offset)
        self.end = at + size
        if self.end > len(self.data):
            raise BrokenDwarf(f"the unit at {offset:#x} ends at {self.end:#x}, behind its section")
        self.version = self._word(at, 2)
        at += 2
        if not 2 <= self.version <= 5:
            raise BrokenDwarf(f"the unit at {offset:#x} is of DWARF version {self.version}")
        kind = UnitType.compile
        if self.version >= 5:
            kind, self.address_size = self.data[at], self.data[at + 1]
            self.abbreviations_at = self._word(at + 2, self.offset_size)
            at += 2 + self.offset_size
        else:
            self.abbreviations_at = self._word(at, self.offset_size)
            self.address_size = self.data[at + self.offset_size]
            at += self.offset_size + 1
            kind = UnitType.type if section == "debug_types" else kind
        self.split = kind in {UnitType.skeleton, UnitType.split_compile, UnitType.split_type}
        self.signature: int | None = None
        self.type_at = 0
        if kind in {UnitType.type, UnitType.split_type}:
            self.signature = self._word(at, 8)
            self.type_at = offset + self._word(at + 8, self.offset_size)
            at += 8 + self.offset_size
        elif self.split:
            at += 8
        self.first = at
        if self.address_size not in {4, 8}:
            raise BrokenDwarf(f"the unit at {offset:#x} has addresses of {self.address_size} bytes")
        self._top: DebugEntry | None = None
        self._there = at
        """Up to where its entries are there to be looked at."""

    def _need(self, end: int) -> None:
        if self._there < end:
            self.file.need(self.section, self._there, end - self._there)
            self._there = end

    @property
    def top(self) -> DebugEntry:
        """The entry of the unit itself."""
        if self._top is None:
            entry = self.entry(self.first)
            if entry is None:
                raise BrokenDwarf(f"the unit at {self.offset:#x} is empty")
            self._top = entry
            self.split = self.split or At.dwo_name in entry.attributes or At.GNU_dwo_name in entry.attributes
        return self._top

    def entry(self, at: int) -> DebugEntry | None:
        """The entry at an offset; None for the end of a list of children."""
        data = self.data
        if not self.first <= at < self.end:
            raise BrokenDwarf(f"an entry at {at:#x}, outside its unit {self.offset:#x}-{self.end:#x}")
        # The unit's own entry is all that is asked of most of them.
        self._need(self.end if at > self.first else min(self.end, at + _OWN_ENTRY))
        code, position = uleb(data, at)
        if code == 0:
            return None
        shape = self.units.abbreviations(self).get(code)
        attributes = {}
        for name, form, how, size, constant in shape.attributes:
            attributes[name], position = self._attribute(form, how, size, constant, position)
        if self._there < position <= self.end:
            self._need(self.end)
            return self.entry(at)
        if position > self.end:
            raise BrokenDwarf(f"the entry at {at:#x} ends behind its unit")
        return DebugEntry(self, at, shape.tag, shape.children, attributes)

    def shapes(
        self, at: int | None = None, descend: Descend | None = None
    ) -> Iterator[tuple[int, int, Abbreviation]]:
        """Depth, offset and shape of each entry from ``at`` to the end of its subtree; of the whole unit by default.

        ``descend`` is asked, with the same three, about each entry that says where its next sibling is; where it says
        no, the entries below are not read.
        """
        data, end, get, check = self.data, self.end, self.units.abbreviations(self).get, self.units.budget.check
        position = self.first if at is None else at
        self._need(end)
        depth = count = 0
        while position < end:
            count += 1
            if not count % _CHECK_EVERY:
                check()
            start = position
            code = data[position]
            position += 1
            if code >= 0x80:
                code, position = uleb(data, start)
            if code == 0:
                depth -= 1
                if depth <= 0:
                    return
                continue
            shape = get(code)
            yield depth, start, shape
            if descend is not None and shape.skippable and depth and not descend(depth, start, shape):
                position = self._sibling(start)
                continue
            for how, size in shape.plan:
                if how == FIXED:
                    position += size
                elif how == BLOCK:
                    size, position = uleb(data, position)
                    position += size
                elif how <= SLEB:
                    while data[position] >= 0x80:
                        position += 1
                    position += 1
                elif how == STRING:
                    position = cstring(data, position)[1]
                elif how == SIZED:
                    position += size + self._word(position, size)
                else:
                    position = self._attribute(Form.indirect, how, 0, 0, position)[1]
            if shape.children:
                depth += 1
            elif depth == 0:
                return

    def children(self, parent: DebugEntry) -> Iterator[DebugEntry]:
        """The entries right below one, and none of theirs."""
        if not parent.children:
            return
        for depth, offset, _shape in self.shapes(parent.offset, lambda depth, _offset, _shape: not depth):
            if depth == 1:
                entry = self.entry(offset)
                if entry is not None:
                    yield entry

    def number(self, entry: DebugEntry, name: int) -> int | None:
        """A constant attribute; None where it is missing or not a plain number."""
        attribute = entry.attributes.get(name)
        return attribute.value if attribute is not None and isinstance(attribute.value, int) else None

    def string(self, entry: DebugEntry, name: int) -> str | None:
        """A text attribute."""
        attribute = entry.attributes.get(name)
        return None if attribute is None else as_text(self.raw_string(attribute.form, attribute.value))

    def raw_string(self, form: int, value: int | bytes) -> bytes:
        """The bytes of a text in any of its forms; empty where it is in a supplementary file that is not there."""
        if isinstance(value, bytes):
            return value
        if form == Form.strp:
            return self.file.string("debug_str", value)
        if form == Form.line_strp:
            return self.file.string("debug_line_str", value)
        if form in {Form.strp_sup, Form.GNU_strp_alt}:
            other = self.units.supplementary
            return b"" if other is None else other.file.string("debug_str", value)
        if form in _STRING_INDEXES:
            base = self._base(At.str_offsets_base, default=2 * self.offset_size if self.version >= 5 else 0)
            at = base + value * self.offset_size
            return self.file.string("debug_str", self.word("debug_str_offsets", at, self.offset_size))
        raise BrokenDwarf(f"a text of form {form:#x}")

    def address(self, attribute: Attribute) -> int:
        """An address attribute, looked up in .debug_addr where it is an index."""
        if not isinstance(attribute.value, int):
            raise BrokenDwarf("an address that is a block")
        return self.indexed_address(attribute.value) if attribute.form in ADDRESS_INDEXES else attribute.value

    def indexed_address(self, index: int) -> int:
        """An entry of .debug_addr."""
        base = self._base(At.addr_base, At.GNU_addr_base, default=8 if self.version >= 5 else 0)
        return self.word("debug_addr", base + index * self.address_size, self.address_size)

    def listed(self, section: str, base_name: int, index: int) -> int:
        """The offset in .debug_rnglists or .debug_loclists of the list with an index."""
        base = self._base(base_name, default=12 if self.offset_size == 4 else 20)
        return base + self.word(section, base + index * self.offset_size, self.offset_size)

    def referred(self, entry: DebugEntry, name: int) -> DebugEntry | None:
        """The entry that an attribute refers to; None where it has none, or in a file that is not there."""
        attribute = entry.attributes.get(name)
        if attribute is None or not isinstance(attribute.value, int):
            return None
        form, value = attribute.form, attribute.value
        if form in _LOCAL_REFERENCES:
            return self.entry(self.offset + value)
        if form == Form.ref_addr:
            return self.units.holding(value).entry(value)
        if form == Form.ref_sig8:
            unit = self.units.signed(value)
            return unit.entry(unit.type_at)
        if form in _OTHER_FILE:
            other = self.units.supplementary
            return None if other is None else other.holding(value).entry(value)
        raise BrokenDwarf(f"a reference of form {form:#x}")

    def word(self, section: str, at: int, size: int) -> int:
        """A number in another section of the file."""
        if at >= 0:
            self.file.need(section, at, size)
        piece = self.file.section(section)[at : at + size] if at >= 0 else b""
        if len(piece) != size:
            raise BrokenDwarf(f"offset {at:#x} of .{section} is behind its end")
        return int.from_bytes(piece, self.file.order)

    def _sibling(self, at: int) -> int:
        entry = self.entry(at)
        attribute = None if entry is None else entry.attributes[At.sibling]
        if attribute is None or attribute.form not in _LOCAL_REFERENCES or not isinstance(attribute.value, int):
            raise BrokenDwarf(f"the entry at {at:#x} has a sibling in another unit")
        following = self.offset + attribute.value
        if not at < following <= self.end:
            raise BrokenDwarf(f"the entry at {at:#x} has its next sibling at {following:#x}")
        return following

    def _base(self, *names: int, default: int) -> int:
        # While the unit's own entry is being read no base is known; nothing there is looked up before it is whole.
        for name in names:
            found = self.number(self.top, name)
            if found is not None:
                return found
        return default

    def _length(self, at: int) -> tuple[int, int, int]:
        size = self._word(at, 4)
        return (self._word(at + 4, 8), 8, at + 12) if size == 0xFFFFFFFF else (size, 4, at + 4)

    def _word(self, at: int, size: int) -> int:
        piece = self.data[at : at + size]
        if len(piece) != size:
            raise BrokenDwarf(f".{self.section} ends inside a number, at {at:#x}")
        return int.from_bytes(piece, self.file.order)

    def _attribute(self, form: int, how: int, size: int, constant: int, at: int) -> tuple[Attribute, int]:
        data = self.data
        if how == FIXED:
            return Attribute(form, int.from_bytes(data[at : at + size], self.file.order)), at + size
        if how == INDIRECT:
            form, at = uleb(data, at)
            how, size = self.units.abbreviations(self).reading(form)
            if how in {INDIRECT, CONST}:
                raise BrokenDwarf("an indirect form that leads to another one")
            return self._attribute(form, how, size, 0, at)
        if how == ULEB:
            number, at = uleb(data, at)
            return Attribute(form, number), at
        if how == SLEB:
            number, at = sleb(data, at)
            return Attribute(form, number), at
        if how == STRING:
            raw, at = cstring(data, at)
            return Attribute(form, raw), at
        if how in {SIZED, BLOCK}:
            length, at = (self._word(at, size), at + size) if how == SIZED else uleb(data, at)
            if at + length > self.end:
                raise BrokenDwarf(f"a block of {length} bytes at {at:#x}, behind its unit")
            return Attribute(form, bytes(data[at : at + length])), at + length
        return Attribute(form, constant if how == CONST else 1), at


def origins(entry: DebugEntry) -> Iterator[DebugEntry]:
    """An entry and those that it completes: its abstract origin, its declaration. Bounded, for they can form a loop."""
    found: DebugEntry | None = entry
    for _ in range(_CHAIN):
        if found is None:
            return
        yield found
        unit = found.unit
        found = unit.referred(found, At.abstract_origin) or unit.referred(found, At.specification)


def attribute_of(entry: DebugEntry, name: int) -> tuple[Unit, Attribute] | None:
    """An attribute of an entry or of those that it completes, with the unit to read it in."""
    for each in origins(entry):
        if name in each.attributes:
            return each.unit, each.attributes[name]
    return None


def name_of(entry: DebugEntry, *, linkage: bool) -> str | None:
    """The name of an entry or of those that it completes: with ``linkage`` the mangled one where there is one."""
    chain = list(origins(entry))
    wanted = (At.linkage_name, At.MIPS_linkage_name, At.name) if linkage else (At.name,)
    for name in wanted:
        for each in chain:
            found = each.unit.string(each, name)
            if found:
                return found
    return None

