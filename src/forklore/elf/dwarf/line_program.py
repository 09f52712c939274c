"""The line table of a compilation unit, in arrays (DWARF standard, section 6.2)."""

from __future__ import annotations

import posixpath
from array import array
from bisect import bisect_right
from typing import Final

from forklore.abi.text import as_text
from forklore.elf.dwarf.file import BrokenDwarf, cstring
from forklore.elf.dwarf.numbers import Form, Line, LineContent
from forklore.elf.dwarf.units import Unit
from forklore.elf.leb128 import signed as sleb
from forklore.elf.leb128 import unsigned as uleb

_CHECK_EVERY: Final = 4096
_ADDRESS: Final = (1 << 64) - 1
_LINE: Final = (1 << 32) - 1


class LineTable:
    """The rows of one line program: address, file and line, in sequences that do not overlap."""

    def __init__(self, unit: Unit, offset: int, directory: bytes) -> None:
        self._unit = unit
        self._files: list[tuple[bytes, int]] = []
        self._directories: list[bytes] = []
        self._addresses = array("Q")
        self._lines = array("I")
        self._in_files = array("I")
        self._sequences: list[tuple[int, int, int, int]] = []
        self._directory = directory
        _Program(unit, offset, self._files, self._directories).run(
            self._addresses, self._lines, self._in_files, self._sequences
        )
        self._first_file = self._directories_from = 0 if _version(unit, offset) >= 5 else 1
        self._sequences.sort()
        self._starts = array("Q", [low for low, *_ in self._sequences])

    def at(self, address: int) -> tuple[str | None, int | None] | None:
        """File and line of the instruction at ``address``; None where no sequence covers it."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        low, high, first, end = self._sequences[index]
        if not low <= address < high:
            return None
        row = bisect_right(self._addresses, address, first, end) - 1
        return self.file(self._in_files[row]), self._lines[row] or None

    def file(self, number: int) -> str | None:
        """The path of a file by its number in this table: as given, or below its directory, as DWARF says."""
        index = number - self._first_file
        if not 0 <= index < len(self._files):
            return None
        name, directory = self._files[index]
        return as_text(posixpath.join(self._directory, self._in_directory(directory), name))

    def _in_directory(self, number: int) -> bytes:
        index = number - self._directories_from
        return self._directories[index] if 0 <= index < len(self._directories) else b""


def _version(unit: Unit, offset: int) -> int:
    wide = unit.word("debug_line", offset, 4) == 0xFFFFFFFF
    return unit.word("debug_line", offset + (12 if wide else 4), 2)


class _Program:
    """A line program: its header, read on creation, and its state machine."""

    def __init__(
        self, unit: Unit, offset: int, files: list[tuple[bytes, int]], directories: list[bytes]
    ) -> None:
        self.unit = unit
        self.data = unit.file.section("debug_line")
        self.files, self.directories = files, directories
        size, wide = self._word(offset, 4), False
        at = offset + 4
        if size == 0xFFFFFFFF:
            size, wide = self._word(at, 8), True
            at += 8
        self.offset_size = 8 if wide else 4
        self.end = at + size
        if self.end > len(self.data):
            raise BrokenDwarf(f"the line program at {offset:#x} ends behind its section")
        unit.file.need("debug_line", at, size)
        version = self._word(at, 2)
        at += 2
        if not 2 <= version <= 5:
            raise BrokenDwarf(f"the line program at {offset:#x} is of version {version}")
        at += 2 if version >= 5 else 0
        length = self._word(at, self.offset_size)
        at += self.offset_size
        self.start = at + length
        self.unit_length = self.data[at]
        at += 2 if version >= 4 else 1
        self.line_base = int.from_bytes(self.data[at + 1 : at + 2], "little", signed=True)
        self.line_range, self.opcode_base = self.data[at + 2], self.data[at + 3]
        if not self.line_range or not self.opcode_base:
            raise BrokenDwarf(f"the line program at {offset:#x} has no range of lines or of opcodes")
        self.operands = bytes(self.data[at + 4 : at + 3 + self.opcode_base])
        at += 3 + self.opcode_base
        if version >= 5:
            self._tables(at)
        else:
            self._old_tables(at)

    def run(
        self, addresses: array[int], lines: array[int], in_files: array[int], sequences: list[tuple[int, int, int, int]]
    ) -> None:
        """Append the rows, and (low, high, first row, row after the last) for each sequence."""
        data, check, end = bytes(self.data[self.start : self.end]), self.unit.units.budget.check, self.end - self.start
        base, line_base, line_range, step = self.opcode_base, self.line_base, self.line_range, self.unit_length
        all_ones = (255 - base) // line_range * step
        plain = frozenset(index + 1 for index, count in enumerate(self.operands) if not count and index)
        plain -= {Line.const_add_pc}
        at = count = 0
        address, file, line, first = 0, 1, 1, len(addresses)
        while at < end:
            count += 1
            if not count % _CHECK_EVERY:
                check()
            opcode = data[at]
            at += 1
            if opcode >= base:
                advance = opcode - base
                address += advance // line_range * step
                line += line_base + advance % line_range
            elif opcode == 0:
                length, at = uleb(data, at)
                extended, after = data[at], at + length
                if extended == Line.set_address:
                    address = int.from_bytes(data[at + 1 : after], self.unit.file.order) & _ADDRESS
                elif extended == Line.define_file:
                    self._old_file(self.start + at + 1)
                elif extended == Line.end_sequence:
                    self._close(addresses, first, address, lines, in_files, sequences)
                    address, file, line, first = 0, 1, 1, len(addresses)
                at = max(after, at + 1)
                continue
            elif opcode == Line.advance_pc:
                by, at = uleb(data, at)
                address += by * step
                continue
            elif opcode == Line.advance_line:
                by = data[at]
                if by < 0x80:
                    line += by - 0x80 if by & 0x40 else by
                    at += 1
                else:
                    by, at = sleb(data, at)
                    line += by
                continue
            elif opcode == Line.set_file:
                file, at = uleb(data, at)
                continue
            elif opcode in plain:
                continue
            elif opcode == Line.set_column and data[at] < 0x80:
                at += 1
                continue
            elif opcode == Line.const_add_pc:
                address += all_ones
                continue
            elif opcode == Line.fixed_advance_pc:
                address += int.from_bytes(data[at : at + 2], self.unit.file.order)
                at += 2
                continue
            elif opcode != Line.copy:
                for _ in range(self.operands[opcode - 1]):
                    at = uleb(data, at)[1]
                continue
            addresses.append(address & _ADDRESS)
            lines.append(line & _LINE)
            in_files.append(file & _LINE)

    def _close(
        self, addresses: array[int], first: int, end: int, lines: array[int], in_files: array[int],
        sequences: list[tuple[int, int, int, int]],
    ) -> None:  # fmt: skip
        # A sequence at 0 belongs to code that the linker dropped: no code of a linked file is there, its header is.
        if first == len(addresses) or not addresses[first] or end > _ADDRESS:
            del addresses[first:], lines[first:], in_files[first:]
            return
        rows = range(first, len(addresses))
        if any(addresses[row] > addresses[row + 1] for row in rows[:-1]):
            order = sorted(rows, key=addresses.__getitem__)
            for column in (addresses, lines, in_files):
                column[first:] = array(column.typecode, [column[row] for row in order])
        sequences.append((addresses[first], end, first, len(addresses)))

    def _word(self, at: int, size: int) -> int:
        return self.unit.word("debug_line", at, size)

    def _old_tables(self, at: int) -> None:
        while self.data[at]:
            directory, at = cstring(self.data, at)
            self.directories.append(directory)
        at += 1
        while self.data[at]:
            at = self._old_file(at)

    def _old_file(self, at: int) -> int:
        name, at = cstring(self.data, at)
        directory, at = uleb(self.data, at)
        self.files.append((name, directory))
        return uleb(self.data, uleb(self.data, at)[1])[1]

    def _tables(self, at: int) -> None:
        directories, at = self._table(at)
        self.directories.extend(name for name, _ in directories)
        files, at = self._table(at)
        self.files.extend(files)

    def _table(self, at: int) -> tuple[list[tuple[bytes, int]], int]:
        columns = []
        width = self.data[at]
        at += 1
        for _ in range(width):
            content, at = uleb(self.data, at)
            form, at = uleb(self.data, at)
            columns.append((content, form))
        length, at = uleb(self.data, at)
        if length and not columns:
            raise BrokenDwarf("a table of files without columns")
        rows = []
        for index in range(length):
            if not index % _CHECK_EVERY:
                self.unit.units.budget.check()
            name, directory = b"", 0
            for content, form in columns:
                value, at = self._value(form, at)
                if content == LineContent.path:
                    name = self.unit.raw_string(form, value)
                elif content == LineContent.directory_index and isinstance(value, int):
                    directory = value
            rows.append((name, directory))
        return rows, at

    def _value(self, form: int, at: int) -> tuple[int | bytes, int]:
        if form == Form.string:
            return cstring(self.data, at)
        if form in {Form.line_strp, Form.strp, Form.strp_sup}:
            return self._word(at, self.offset_size), at + self.offset_size
        if form in {Form.udata, Form.strx}:
            return uleb(self.data, at)
        if form == Form.block:
            length, at = uleb(self.data, at)
            return bytes(self.data[at : at + length]), at + length
        size = _SIZES.get(form)
        if size is None:
            raise BrokenDwarf(f"a table of files with the form {form:#x}")
        return self._word(at, size), at + size


_SIZES: Final = {
    Form.data1: 1, Form.data2: 2, Form.data4: 4, Form.data8: 8, Form.data16: 16,
    Form.strx1: 1, Form.strx2: 2, Form.strx3: 3, Form.strx4: 4,
}  # fmt: skip
