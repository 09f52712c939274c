"""Which unit, which function and which scopes of it cover an address.

Units are found by .debug_aranges, else by the ranges of their own entries; functions by one pass over their unit.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from forklore.elf.dwarf.abbrev import Abbreviation
from forklore.elf.dwarf.file import BrokenDwarf
from forklore.elf.dwarf.numbers import At, Form, RangeList, Tag
from forklore.elf.dwarf.units import ADDRESS_INDEXES, DebugEntry, Descend, Unit, Units
from forklore.elf.leb128 import unsigned as uleb

Range = tuple[int, int]
"""First address and the one after the last."""

_NESTED: Final = 64
_PER_UNIT: Final = 1 << 20
_CHECK_EVERY: Final = 1024
_SCOPES: Final = frozenset({Tag.subprogram, Tag.inlined_subroutine, Tag.lexical_block})


class Intervals:
    """Ranges with a number each; ranges can nest."""

    def __init__(self, entries: Iterable[tuple[int, int, int]]) -> None:
        # Wide before narrow, so that walking backwards meets the innermost first. Nothing is at 0 in a linked file but
        # code that the linker dropped.
        ordered = sorted((low, -high, number) for low, high, number in entries if 0 < low < high)
        self._low = array("Q", [low for low, _, _ in ordered])
        self._high = array("Q", [-high for _, high, _ in ordered])
        self._number = [number for _, _, number in ordered]

    def __len__(self) -> int:
        return len(self._number)

    def at(self, address: int) -> int | None:
        """The number of the innermost range that covers ``address``."""
        index = bisect_right(self._low, address) - 1
        for each in range(index, max(index - _NESTED, -1), -1):
            if address < self._high[each]:
                return self._number[each]
        return None


class CodeIndex:
    """The units and functions of a file by address."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self._listed: Intervals | None = None
        self._listed_units: set[int] = set()
        self._walked: Intervals | None = None
        self._walk: list[tuple[int, int, int]] = []
        self._rest: Iterator[Unit] | None = None
        self._functions: dict[int, Intervals] = {}
        self._nested: dict[int, Intervals] = {}

    def unit(self, address: int) -> Unit | None:
        """The unit whose code includes ``address``."""
        if self._listed is None:
            entries = list(_address_ranges(self.units))
            self._listed_units = {unit for _, _, unit in entries}
            self._listed = Intervals(entries)
        found = self._listed.at(address)
        if found is None:
            found = self._without_list().at(address)
        return None if found is None else self.units.at(found)

    def function(self, address: int) -> DebugEntry | None:
        """The function that covers ``address``: its DW_TAG_subprogram with code, not the inlined ones in it."""
        unit = self.unit(address)
        if unit is None:
            return None
        # Functions inside functions and classes are rare; entries below those are read only where the others miss.
        for known, descend in ((self._functions, _into_namespaces), (self._nested, None)):
            if unit.offset not in known:
                known[unit.offset] = Intervals(_functions(unit, descend))
            offset = known[unit.offset].at(address)
            if offset is not None:
                return unit.entry(offset)
        return None

    def _without_list(self) -> Intervals:
        # Kept between calls, so that a budget that ends here loses nothing and a second file walk is never made.
        if self._walked is None:
            if self._rest is None:
                self._rest = self.units.headers()
            for unit in self._rest:
                if unit.offset not in self._listed_units:
                    self._walk.extend((low, high, unit.offset) for low, high in ranges(unit.top))
            self._walked = Intervals(self._walk)
        return self._walked


def ranges(entry: DebugEntry) -> list[Range]:
    """The addresses of an entry, from its low_pc and high_pc or its list of ranges; empty where it has none."""
    unit, attributes = entry.unit, entry.attributes
    listed = attributes.get(At.ranges)
    if listed is not None and isinstance(listed.value, int):
        return list(_listed(unit, listed.form, listed.value))
    if At.low_pc not in attributes or At.high_pc not in attributes:
        return []
    low = unit.address(attributes[At.low_pc])
    high = attributes[At.high_pc]
    if not isinstance(high.value, int):
        return []
    absolute = high.form == Form.addr or high.form in ADDRESS_INDEXES
    return [(low, unit.address(high) if absolute else low + high.value)]


def base_address(unit: Unit) -> int:
    """What offsets in the unit's lists of ranges and locations are counted from."""
    low = unit.top.attributes.get(At.low_pc)
    return 0 if low is None else unit.address(low)


def inside(entry: DebugEntry, address: int) -> bool:
    """Whether the code of an entry includes ``address``."""
    return any(low <= address < high for low, high in ranges(entry))


def scopes(function: DebugEntry, address: int, wanted: frozenset[int]) -> Iterator[DebugEntry]:
    """The entries below ``function`` with a tag of ``wanted`` in the scopes that cover ``address``, outermost first.

    Scopes are the function, lexical blocks and inlined functions; a block without addresses is as wide as its parent.
    """
    unit = function.unit
    below: dict[int, bool] = {}
    hidden: int | None = None

    def descend(_depth: int, offset: int, _shape: Abbreviation) -> bool:
        return below.get(offset, False)

    for depth, offset, shape in unit.shapes(function.offset, descend):
        if not depth or (hidden is not None and depth > hidden):
            continue
        hidden = depth
        below.clear()
        scope = shape.tag in _SCOPES
        if not scope and shape.tag not in wanted:
            continue
        entry = unit.entry(offset)
        if entry is None or (scope and not _covers(entry, address)):
            continue
        if scope:
            hidden, below[offset] = None, True
        if shape.tag in wanted:
            yield entry


def _covers(entry: DebugEntry, address: int) -> bool:
    if entry.tag == Tag.subprogram:
        return False
    placed = At.low_pc in entry.attributes or At.ranges in entry.attributes
    return inside(entry, address) if placed else entry.tag == Tag.lexical_block


def _into_namespaces(_depth: int, _offset: int, shape: Abbreviation) -> bool:
    return shape.tag in {Tag.namespace, Tag.module}


def _functions(unit: Unit, descend: Descend | None) -> Iterator[tuple[int, int, int]]:
    for _depth, offset, shape in unit.shapes(descend=descend):
        if shape.tag == Tag.subprogram and (At.low_pc in shape.names or At.ranges in shape.names):
            entry = unit.entry(offset)
            if entry is not None:
                for low, high in ranges(entry):
                    yield low, high, offset


def _address_ranges(units: Units) -> Iterator[tuple[int, int, int]]:
    """The entries of .debug_aranges (DWARF standard, 6.1.2): first address, end, offset of the unit."""
    file = units.file
    data = file.section("debug_aranges")
    at = 0
    while at + 12 <= len(data):
        units.budget.check()
        start, wide = at, bytes(data[at : at + 4]) == b"\xff\xff\xff\xff"
        size = 8 if wide else 4
        at += 4 if wide else 0
        end = at + size + int.from_bytes(data[at : at + size], file.order)
        at += size + 2
        offset = int.from_bytes(data[at : at + size], file.order)
        at += size
        address_size, segment_size = data[at], data[at + 1]
        if address_size not in {4, 8} or segment_size or end > len(data):
            raise BrokenDwarf(f".debug_aranges has a set at {start:#x} that makes no sense")
        step = 2 * address_size
        at = start + -(-(at + 2 - start) // step) * step
        while at + step <= end:
            low = int.from_bytes(data[at : at + address_size], file.order)
            length = int.from_bytes(data[at + address_size : at + step], file.order)
            if low and length:
                yield low, min(low + length, (1 << 64) - 1), offset
            at += step
        at = end


def _listed(unit: Unit, form: int, value: int) -> Iterator[Range]:
    if unit.version < 5:
        return _old_list(unit, value)
    return _list(unit, unit.listed("debug_rnglists", At.rnglists_base, value) if form == Form.rnglistx else value)


def _list(unit: Unit, at: int) -> Iterator[Range]:
    data, word, size = unit.file.section("debug_rnglists"), unit.word, unit.address_size
    base = base_address(unit)
    for count in range(_PER_UNIT):
        if not count % _CHECK_EVERY:
            unit.units.budget.check()
        kind = data[at]
        at += 1
        if kind == RangeList.end_of_list:
            return
        if kind in {RangeList.base_address, RangeList.start_end, RangeList.start_length}:
            first, at = word("debug_rnglists", at, size), at + size
        else:
            first, at = uleb(data, at)
            if kind in {RangeList.base_addressx, RangeList.startx_endx, RangeList.startx_length}:
                first = unit.indexed_address(first)
        if kind in {RangeList.base_address, RangeList.base_addressx}:
            base = first
            continue
        if kind == RangeList.start_end:
            second, at = word("debug_rnglists", at, size), at + size
        else:
            second, at = uleb(data, at)
        if kind == RangeList.offset_pair:
            first, second = base + first, base + second
        elif kind == RangeList.startx_endx:
            second = unit.indexed_address(second)
        elif kind in {RangeList.startx_length, RangeList.start_length}:
            second += first
        elif kind != RangeList.start_end:
            raise BrokenDwarf(f".debug_rnglists has an entry of kind {kind}")
        yield first, second


def _old_list(unit: Unit, at: int) -> Iterator[Range]:
    size, base = unit.address_size, base_address(unit)
    largest = (1 << 8 * size) - 1
    for count in range(_PER_UNIT):
        if not count % _CHECK_EVERY:
            unit.units.budget.check()
        first = unit.word("debug_ranges", at, size)
        second = unit.word("debug_ranges", at + size, size)
        at += 2 * size
        if not first and not second:
            return
        if first == largest:
            base = second
        else:
            yield base + first, base + second
