"""Where in the source an address of a program is: its line, and the functions inlined there."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from forklore.elf.dwarf.code import CodeIndex, scopes
from forklore.elf.dwarf.file import FAILURES, Budget, Input
from forklore.elf.dwarf.line_program import LineTable
from forklore.elf.dwarf.numbers import At, Tag
from forklore.elf.dwarf.units import DebugEntry, Unit, Units, name_of

SECONDS: Final = 2.0
"""What all cold answers from one file may take together, by default."""

_INLINED: Final = frozenset({Tag.inlined_subroutine})
_RUST_SHIM: Final = "_ZN4core3ops8function6FnOnce40call_once$u7b$"
"""What calls a boxed closure, mangled in the older way: whose it is, only the name in the debug information tells."""


class SourcePlace(Struct, frozen=True):
    """A function and the place in it. ``function`` is the name that the linker sees, mangled for C++ and Rust."""

    function: str | None
    file: str | None
    """As the compiler was given it, below the directory that it ran in where that is relative."""
    line: int | None


class DwarfSource:
    """The source of one ELF file with DWARF 2 to 5: the program itself or its separate debug file.

    ``source`` is the file's bytes (they must outlive this object) or its path; ``supplementary`` the file that
    .gnu_debugaltlink names (:attr:`supplementary_link`), without which names that dwz moved there are unknown.
    ``budget`` is in seconds, for all answers together; what was read before it ended is still answered.
    """

    def __init__(self, source: Input, *, supplementary: Input | None = None, budget: float = SECONDS) -> None:
        self.problem: str | None = None
        """Why the last empty answer was empty, where that was not for want of debug information."""
        self.supplementary_link: tuple[bytes, bytes] | None = None
        """Path and build-id of the file that dwz moved common entries to."""
        self._budget = Budget(budget)
        self._code: CodeIndex | None = None
        self._tables: dict[int, LineTable | None] = {}
        try:
            with self._budget.running():
                units = Units(source, self._budget, supplementary)
                self.supplementary_link = units.file.supplementary_link
                self._code = CodeIndex(units)
        except FAILURES as problem:
            self.problem = _reason(problem)

    def at(self, address: int) -> tuple[SourcePlace, ...]:
        """Where an address of the ELF file is: the functions inlined there, innermost first, then the function itself.

        Give the return address - 1 of a call. Empty where the file does not tell: :attr:`problem` says why if it is
        broken, of a kind that is not read (split DWARF), or took too long.
        """
        if self._code is None:
            return ()
        self.problem = None
        try:
            with self._budget.running():
                return self._at(self._code, address)
        except FAILURES as problem:
            self.problem = _reason(problem)
            return ()

    def _at(self, code: CodeIndex, address: int) -> tuple[SourcePlace, ...]:
        unit = code.unit(address)
        if unit is None:
            return ()
        top = unit.top
        if unit.split:
            self.problem = "the debug information is in a .dwo file (-gsplit-dwarf), which is not read"
            return ()
        table = self._table(unit, top)
        found = None if table is None else table.at(address)
        file, line = found or (None, None)
        function = code.function(address)
        if function is None:
            return () if found is None else (SourcePlace(None, file, line),)
        answer = []
        for inlined in reversed(list(scopes(function, address, _INLINED))):
            answer.append(SourcePlace(_name(inlined), file, line))
            number = unit.number(inlined, At.call_file)
            file = None if table is None or number is None else table.file(number)
            line = unit.number(inlined, At.call_line) or None
        return (*answer, SourcePlace(_name(function), file, line))

    def _table(self, unit: Unit, top: DebugEntry) -> LineTable | None:
        if unit.offset not in self._tables:
            offset = unit.number(top, At.stmt_list)
            directory = top.attributes.get(At.comp_dir)
            where = b"" if directory is None else unit.raw_string(directory.form, directory.value)
            self._tables[unit.offset] = None if offset is None else LineTable(unit, offset, where)
        return self._tables[unit.offset]


def _name(entry: DebugEntry) -> str | None:
    name = name_of(entry, linkage=True)
    if name is not None and name.startswith(_RUST_SHIM):
        return name_of(entry, linkage=False) or name
    return name


def _reason(problem: Exception) -> str:
    return f"{problem}" if str(problem) else type(problem).__name__
