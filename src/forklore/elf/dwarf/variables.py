"""Names of bytes: which variable, member or element of a program a piece of its memory is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from forklore.elf.dwarf.abbrev import Abbreviation
from forklore.elf.dwarf.code import CodeIndex, scopes
from forklore.elf.dwarf.expressions import Read
from forklore.elf.dwarf.file import FAILURES, Budget, Input
from forklore.elf.dwarf.line_program import LineTable
from forklore.elf.dwarf.locations import FrameState, frame_address, static_address
from forklore.elf.dwarf.numbers import At, Tag
from forklore.elf.dwarf.types import Type, Types, render
from forklore.elf.dwarf.units import DebugEntry, Unit, Units, attribute_of, name_of, origins

__all__ = ["FoundVariable", "Named", "Type", "Variables", "name_range", "render"]

SECONDS: Final = 5.0
_VARIABLES: Final = frozenset({Tag.variable, Tag.formal_parameter})
_TYPES: Final = frozenset(
    {Tag.structure_type, Tag.class_type, Tag.union_type, Tag.enumeration_type, Tag.array_type, Tag.subroutine_type}
)
"""What no variable with an address is written below: a static member is defined outside its class."""
_PARTS: Final = 64
_DEPTH: Final = 24


class FoundVariable(Struct, frozen=True):
    """A variable in memory: ``size`` bytes at ``address``, of the file's numbering or of the run (see who gives it)."""

    name: str
    address: int
    size: int
    type: Type


class Named(Struct, frozen=True):
    """The part of a variable that a range of bytes lies in: ``path`` is ``total``, ``counts[3]`` or ``state.next``."""

    path: str
    address: int
    size: int
    type: Type


class Variables:
    """The variables of one ELF file with DWARF 2 to 5. The arguments are those of
    :class:`forklore.elf.dwarf.source.DwarfSource`; :attr:`problem` says why the last answer lacks something.
    """

    def __init__(self, source: Input, *, supplementary: Input | None = None, budget: float = SECONDS) -> None:
        self.problem: str | None = None
        self._budget = Budget(budget)
        self._types = Types()
        self._code: CodeIndex | None = None
        self._rest: Iterator[Unit] | None = None
        self._statics: list[tuple[int, int, int]] = []
        self._sorted = True
        self._known: dict[tuple[int, int], FoundVariable | None] = {}
        try:
            with self._budget.running():
                self._code = CodeIndex(Units(source, self._budget, supplementary))
        except FAILURES as problem:
            self.problem = str(problem) or type(problem).__name__

    def globals_at(self, address: int, size: int) -> list[FoundVariable]:
        """The global and static variables that have a byte in ``size`` bytes from ``address``, both of the ELF file.

        The first call reads the whole of the debug information, as far as the budget goes.
        """
        if self._code is None:
            return []
        self.problem = None
        try:
            with self._budget.running():
                self._read_statics(self._code.units)
        except FAILURES as problem:
            self.problem = str(problem) or type(problem).__name__
        if not self._sorted:
            self._statics.sort()
            self._sorted = True
        return list(self._overlapping(self._code.units, address, address + size))

    def declared(self, variable: FoundVariable) -> str | None:
        """Where a variable that :meth:`globals_at` gave is declared, ``log.c:12``; None where that is not said."""
        if self._code is None:
            return None
        places = ((unit, entry) for at, unit, entry in self._statics if at == variable.address)
        place = next((each for each in places if self._known.get(each) == variable), None)
        if place is None:
            return None
        try:
            with self._budget.running():
                return self._declared(self._code.units.at(place[0]), place[1])
        except FAILURES as problem:
            self.problem = str(problem) or type(problem).__name__
            return None

    def _declared(self, unit: Unit, offset: int) -> str | None:
        entry = unit.entry(offset)
        for each in () if entry is None else origins(entry):
            line, number = each.unit.number(each, At.decl_line), each.unit.number(each, At.decl_file)
            program = each.unit.number(each.unit.top, At.stmt_list)
            if line is not None and number is not None and program is not None:
                file = LineTable(each.unit, program, b"").file(number)
                return None if file is None else f"{file.rpartition('/')[2]}:{line}"
        return None

    def locals_at(
        self, pc: int, cfa: int | None, registers: dict[int, int], read: Read | None = None
    ) -> list[FoundVariable]:
        """The parameters and local variables in scope at ``pc`` (of the ELF file), with their run-time addresses.

        ``cfa`` is the canonical frame address of the frame and ``registers`` its registers by DWARF number, both at
        run time; ``read(address, size)`` gives memory. Those of functions inlined there are included, the innermost
        scope last. Left out: static ones (:meth:`globals_at` has them), those in registers, those optimised away. In a
        frame that made a call give its return address - 1.
        """
        if self._code is None:
            return []
        self.problem = None
        found: list[FoundVariable] = []
        state = FrameState(pc, cfa, registers, read)
        try:
            with self._budget.running():
                function = self._code.function(pc)
                if function is None:
                    return []
                for entry in scopes(function, pc, _VARIABLES):
                    address = frame_address(entry, function, state)
                    variable = None if address is None else self._variable(entry, address)
                    if variable is not None:
                        found.append(variable)
        except FAILURES as problem:
            self.problem = str(problem) or type(problem).__name__
        return found

    def _read_statics(self, units: Units) -> None:
        if self._rest is None:
            self._rest = units.headers()
        for unit in self._rest:
            if not unit.split and unit.signature is None:
                for _depth, offset, shape in unit.shapes(descend=_may_hold_variables):
                    if shape.tag == Tag.variable and At.location in shape.names:
                        self._static(unit, offset)

    def _static(self, unit: Unit, offset: int) -> None:
        entry = unit.entry(offset)
        address = None if entry is None else static_address(unit, entry)
        # A variable at 0 was dropped by the linker.
        if address:
            self._statics.append((address, unit.offset, offset))
            self._sorted = False

    def _overlapping(self, units: Units, low: int, high: int) -> Iterator[FoundVariable]:
        # A variable's size is known only once its type is read, so those before the range are asked one by one,
        # nearest first: the first that ends before it has nothing but padding and smaller ones in between.
        index = bisect_right(self._statics, (high, -1, -1))
        found = []
        for position in range(index - 1, max(index - 1 - (1 << 16), -1), -1):
            address, unit, offset = self._statics[position]
            variable = self._static_variable(units.at(unit), offset, address)
            if variable is None:
                continue
            if address + variable.size > low:
                found.append(variable)
            elif address < low:
                break
        unique = {(variable.name, variable.address, variable.size): variable for variable in reversed(found)}
        yield from unique.values()

    def _static_variable(self, unit: Unit, offset: int, address: int) -> FoundVariable | None:
        key = (unit.offset, offset)
        if key not in self._known:
            try:
                with self._budget.running():
                    entry = unit.entry(offset)
                    self._known[key] = None if entry is None else self._variable(entry, address)
            except FAILURES as problem:
                self.problem = str(problem) or type(problem).__name__
                return None
        return self._known[key]

    def _variable(self, entry: DebugEntry, address: int) -> FoundVariable | None:
        name = name_of(entry, linkage=False)
        if name is None or attribute_of(entry, At.type) is None:
            return None
        described = next(each for each in origins(entry) if At.type in each.attributes)
        type_ = self._types.of(described)
        return FoundVariable(name, address, type_.size, type_) if type_.size else None


def _may_hold_variables(_depth: int, _offset: int, shape: Abbreviation) -> bool:
    return shape.tag not in _TYPES


def name_range(variables: Sequence[FoundVariable], start: int, length: int) -> list[Named]:
    """The members and elements of ``variables`` that have a byte in ``length`` bytes from ``start``, by address.

    A part with more than 64 of them in the range is named as a whole. Of a union the first member that holds all of
    the range is taken, else the union itself.
    """
    found: list[Named] = []
    for variable in variables:
        whole = Named(variable.name, variable.address, variable.size, variable.type)
        if start < variable.address + variable.size and variable.address < start + length:
            found += _parts(whole, start, start + length, 0)
    return sorted(found, key=lambda named: (named.address, named.path))


def _parts(whole: Named, low: int, high: int, depth: int) -> list[Named]:
    below = None if depth >= _DEPTH else _pieces(whole, low, high)
    if below is None:
        return [whole]
    found: list[Named] = []
    for piece in below:
        found += _parts(piece, low, high, depth + 1)
        if len(found) > _PARTS:
            return [whole]
    return found or [whole]


def _pieces(whole: Named, low: int, high: int) -> list[Named] | None:
    """The direct parts of ``whole`` in a range; None where it is to be named as it is."""
    type_, element = whole.type, whole.type.element
    if type_.kind == "array" and element is not None and element.size and element.kind != "char":
        first = max(0, low - whole.address) // element.size
        last = min(type_.count, -(-(high - whole.address) // element.size))
        if last - first > _PARTS:
            return None
        return [
            Named(f"{whole.path}[{index}]", whole.address + index * element.size, element.size, element)
            for index in range(first, last)
        ]
    if type_.kind not in {"struct", "union"}:
        return None
    touched = [
        Named(f"{whole.path}.{member.name}" if member.name else whole.path, whole.address + member.offset,
              member.type.size, member.type)
        for member in type_.members
        if low < whole.address + member.offset + member.type.size and whole.address + member.offset < high
    ]  # fmt: skip
    if type_.kind == "union":
        inside = (max(low, whole.address), min(high, whole.address + whole.size))
        holding = [each for each in touched if each.address <= inside[0] and inside[1] <= each.address + each.size]
        return holding[:1] or None
    return touched
