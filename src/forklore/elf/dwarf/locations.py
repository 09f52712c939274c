"""Where a variable is in memory: location expressions and lists (DWARF standard, sections 2.5 and 2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from forklore.elf.dwarf.code import base_address
from forklore.elf.dwarf.expressions import Read, evaluate
from forklore.elf.dwarf.file import BrokenDwarf
from forklore.elf.dwarf.numbers import At, Form, LocationList, Op, RangeList
from forklore.elf.dwarf.units import Attribute, DebugEntry, Unit
from forklore.elf.leb128 import signed as sleb
from forklore.elf.leb128 import unsigned as uleb

_ENTRIES: Final = 1 << 16
_CHECK_EVERY: Final = 1024
_IN_OTHER_SECTION: Final = frozenset({Form.sec_offset, Form.loclistx, Form.data4, Form.data8})


class FrameState(Struct, frozen=True):
    """What locations in a call frame depend on: ``pc`` in the file's numbering, the rest at run time."""

    pc: int
    cfa: int | None
    registers: dict[int, int]
    """By DWARF number."""
    read: Read | None


def static_address(unit: Unit, entry: DebugEntry) -> int | None:
    """The address, in the file's numbering, of a variable that has one place for the whole run."""
    location = entry.attributes.get(At.location)
    if location is None or not isinstance(location.value, bytes):
        return None
    fixed = _fixed(unit, location.value)
    if fixed is None:
        return None
    address, rest = fixed
    return evaluate(rest, lambda _: None, lambda *_: None, address, bits=8 * unit.address_size) if rest else address


def frame_address(entry: DebugEntry, function: DebugEntry, state: FrameState) -> int | None:
    """The run-time address of a variable in a frame of ``function``; None in a register, optimised away or static."""
    location = entry.attributes.get(At.location)
    expression = None if location is None else _expression(entry.unit, location, state.pc)
    if not expression or expression[0] in {Op.addr, Op.addrx, Op.GNU_addr_index}:
        return None
    if expression[0] != Op.fbreg:
        return _value(entry.unit, expression, state)
    offset, at = sleb(memoryview(expression), 1)
    base = _frame_base(function, state)
    return None if base is None else _evaluate(entry.unit, expression[at:], state, base + offset)


def _frame_base(function: DebugEntry, state: FrameState) -> int | None:
    base = function.attributes.get(At.frame_base)
    expression = None if base is None else _expression(function.unit, base, state.pc)
    if not expression:
        return None
    # A frame base that is a register means what is in it, unlike a variable's location.
    if Op.reg0 <= expression[0] <= Op.reg31:
        return state.registers.get(expression[0] - Op.reg0)
    if expression[0] == Op.regx:
        return state.registers.get(uleb(memoryview(expression), 1)[0])
    return _value(function.unit, expression, state)


def _value(unit: Unit, expression: bytes, state: FrameState) -> int | None:
    if expression[0] != Op.call_frame_cfa:
        return _evaluate(unit, expression, state, None)
    return None if state.cfa is None else _evaluate(unit, expression[1:], state, state.cfa)


def _evaluate(unit: Unit, expression: bytes, state: FrameState, start: int | None) -> int | None:
    read = state.read or (lambda _address, _size: None)
    return evaluate(expression, state.registers.get, read, start, bits=8 * unit.address_size)


def _fixed(unit: Unit, expression: bytes) -> tuple[int, bytes] | None:
    """The address that an expression begins with, and the rest of it."""
    if not expression:
        return None
    if expression[0] == Op.addr:
        end = 1 + unit.address_size
        if len(expression) < end:
            return None
        return int.from_bytes(expression[1:end], unit.file.order), expression[end:]
    if expression[0] in {Op.addrx, Op.GNU_addr_index}:
        index, at = uleb(memoryview(expression), 1)
        return unit.indexed_address(index), expression[at:]
    return None


def _expression(unit: Unit, location: Attribute, pc: int) -> bytes | None:
    """The expression that holds at ``pc``."""
    if isinstance(location.value, bytes):
        return location.value
    if location.form not in _IN_OTHER_SECTION:
        return None
    if unit.version < 5:
        entries = _old_list(unit, location.value)
    elif location.form == Form.loclistx:
        entries = _list(unit, unit.listed("debug_loclists", At.loclists_base, location.value))
    else:
        entries = _list(unit, location.value)
    default = None
    for span, expression in entries:
        if span is None:
            default = expression
        elif span[0] <= pc < span[1]:
            return expression
    return default


def _list(unit: Unit, at: int) -> Iterator[tuple[tuple[int, int] | None, bytes]]:
    """The entries of a list in .debug_loclists: addresses, None for the default, and expression."""
    data, size, base = unit.file.section("debug_loclists"), unit.address_size, base_address(unit)
    for count in range(_ENTRIES):
        if not count % _CHECK_EVERY:
            unit.units.budget.check()
        kind = data[at]
        at += 1
        first = second = 0
        if kind == RangeList.end_of_list:
            return
        if kind == LocationList.GNU_view_pair:
            at = uleb(data, uleb(data, at)[1])[1]
            continue
        if kind in {LocationList.base_address, LocationList.start_end, LocationList.start_length}:
            first, at = unit.word("debug_loclists", at, size), at + size
        elif kind != LocationList.default_location:
            first, at = uleb(data, at)
            first = first if kind == RangeList.offset_pair else unit.indexed_address(first)
        if kind in {LocationList.base_address, RangeList.base_addressx}:
            base = first
            continue
        if kind == LocationList.start_end:
            second, at = unit.word("debug_loclists", at, size), at + size
        elif kind != LocationList.default_location:
            second, at = uleb(data, at)
        length, at = uleb(data, at)
        if at + length > len(data):
            raise BrokenDwarf(f".debug_loclists has an expression of {length} bytes at {at:#x}, behind its end")
        expression, at = bytes(data[at : at + length]), at + length
        if kind == LocationList.default_location:
            yield None, expression
        elif kind == RangeList.offset_pair:
            yield (base + first, base + second), expression
        elif kind == RangeList.startx_endx:
            yield (first, unit.indexed_address(second)), expression
        elif kind in {RangeList.startx_length, LocationList.start_length}:
            yield (first, first + second), expression
        elif kind == LocationList.start_end:
            yield (first, second), expression
        else:
            raise BrokenDwarf(f".debug_loclists has an entry of kind {kind}")


def _old_list(unit: Unit, at: int) -> Iterator[tuple[tuple[int, int] | None, bytes]]:
    data, size, base = unit.file.section("debug_loc"), unit.address_size, base_address(unit)
    largest = (1 << 8 * size) - 1
    for count in range(_ENTRIES):
        if not count % _CHECK_EVERY:
            unit.units.budget.check()
        first, second = unit.word("debug_loc", at, size), unit.word("debug_loc", at + size, size)
        at += 2 * size
        if not first and not second:
            return
        if first == largest:
            base = second
            continue
        length = unit.word("debug_loc", at, 2)
        yield (base + first, base + second), bytes(data[at + 2 : at + 2 + length])
        at += 2 + length
