"""Call-frame information of an ELF file: .eh_frame_hdr, .eh_frame and .debug_frame, looked up one address at a time.

Formats: Linux Standard Base Core, "DWARF Extensions"; DWARF 5, 6.4.1. Everything is read in place, in the file.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.elf import leb128
from forklore.elf.cfi.rules import Factors, FrameRule, Malformed, Program, Row, rule_of
from forklore.elf.dwarf.registers import NUMBERS

Content = bytes | mmap | memoryview
Section = tuple[int, int, int]
"""Offset in the file, address, size."""

MOST_INDEXED: Final = 100_000
"""Entries read of a section that has no search table. Those behind them have no rules."""

_MOST_REMEMBERED: Final = 50_000
_LONGEST_PROGRAM: Final = 1 << 16
_FEW: Final = 32
"""Bytes that are looked at before it is known how long a thing is."""
_ABSENT: Final = 0xFF  # DW_EH_PE_omit
_PCREL, _DATAREL, _ALIGNED = 0x10, 0x30, 0x50
_INDIRECT: Final = 0x80
_FIXED: Final = {
    0x02: struct.Struct("<H"), 0x03: struct.Struct("<I"), 0x04: struct.Struct("<Q"),
    0x0A: struct.Struct("<h"), 0x0B: struct.Struct("<i"), 0x0C: struct.Struct("<q"),
}  # fmt: skip
_WORDS: Final = {32: struct.Struct("<I"), 64: struct.Struct("<Q")}
_BROKEN: Final = (struct.error, IndexError, OverflowError, Malformed)


class _Table(Struct, frozen=True):
    """The binary search table of an .eh_frame_hdr."""

    offset: int
    count: int
    entry: struct.Struct
    """An initial location and the address of its FDE."""
    base: int
    """What the numbers in it are relative to."""


class _Cie(Struct, frozen=True):
    return_register: int
    factors: Factors
    encoding: int
    """Of the pointers in its FDEs."""
    augmented: bool
    signal: bool
    segment: int
    """Bytes of a segment selector before the initial location; 0 but in .debug_frame."""
    instructions: bytes


class _Fde(Struct, frozen=True):
    cie: _Cie
    start: int
    end: int
    body: int
    """File offset of what follows the address range."""
    limit: int
    """File offset of its end."""
    debug: bool
    """In .debug_frame."""


class FrameTable:
    """The call-frame rules of one file.

    ``data`` is the content of the file. The sections are where .eh_frame_hdr, .eh_frame and .debug_frame lie in it.
    ``further`` is asked once, for a table of more rules, when an address has none in these sections: that of a
    .debug_frame that is compressed or in another file has the section's content as ``data``. Addresses are those of
    the ELF file. .eh_frame_hdr's table is searched where there is one; other sections are indexed when first asked,
    up to :data:`MOST_INDEXED` entries. What is broken has no rules.

    ``need`` has bytes of ``data`` read, by their offset and size, before they are looked at.
    ``holds`` is asked whether what .debug_frame says of a function holds, by its first address and the one behind it.
    An exception may pass where .eh_frame has a rule; .debug_frame has one for whatever an assembler was told to name.
    """

    def __init__(
        self,
        data: Content,
        *,
        bits: int,
        eh_frame_hdr: Section | None,
        eh_frame: Section | None,
        debug_frame: Section | None,
        arch: Arch,
        further: Callable[[], FrameTable | None] | None = None,
        holds: Callable[[int, int], bool] | None = None,
        need: Callable[[int, int], None] | None = None,
    ) -> None:
        self._data = data
        self._need: Callable[[int, int], None] = need or (lambda _offset, _size: None)
        self._bits = bits
        self._word = _WORDS[bits]
        self._entry = struct.Struct("<II" + 2 * self._word.format[1:])
        self._mask = (1 << bits) - 1
        self._arch = arch
        self._stack_pointer = NUMBERS[arch].sp
        self._header = eh_frame_hdr
        self._eh_frame = eh_frame
        self._debug_frame = debug_frame
        self._ask_further = further
        self._further: FrameTable | None = None
        self._holds = holds
        self._cies: dict[int, _Cie] = {}
        self._indexes: dict[bool, tuple[array[int], array[int]]] = {}
        self._table = self._search_table()
        self.rules: dict[int, FrameRule | None] = {}
        """What :meth:`rule_at` has answered so far, for callers in a hurry."""

    def rule_at(self, address: int) -> FrameRule | None:
        """The rule that holds at ``address``; None where there is none.

        Of a frame that made a call the address is the return address less 1: the call may be the last instruction of
        its function. Of the innermost frame, and of one that a signal interrupted, it is the pc itself.
        """
        try:
            return self.rules[address]
        except KeyError:
            if len(self.rules) >= _MOST_REMEMBERED:
                self.rules.clear()
        try:
            fde = self._find(address)
            rule = None if fde is None else self._run(fde, address)
        except _BROKEN:
            fde = rule = None
        if rule is not None and fde is not None and fde.debug and self._popped(rule):
            rule = None
        if fde is None and (further := self._more()) is not None:
            rule = further.rule_at(address)
        self.rules[address] = rule
        return rule

    def function_start(self, address: int) -> int | None:
        """Where the piece of code begins whose rules cover ``address``: a function, or a part split off from one."""
        try:
            fde = self._find(address)
        except _BROKEN:
            fde = None
        if fde is not None:
            return fde.start
        further = self._more()
        return None if further is None else further.function_start(address)

    # Finding the entry

    def _more(self) -> FrameTable | None:
        if self._ask_further is not None:
            ask, self._ask_further = self._ask_further, None
            self._further = ask()
        return self._further

    def _find(self, address: int) -> _Fde | None:
        fde = None
        if self._table is not None:
            fde = self._search(self._table, address)
        elif self._eh_frame is not None:
            fde = self._look_up(False, self._eh_frame, address)
        if fde is None and self._debug_frame is not None:
            fde = self._look_up(True, self._debug_frame, address)
            if fde is not None and self._holds is not None and not self._holds(fde.start, fde.end):
                return None
        return fde

    def _search_table(self) -> _Table | None:
        if self._header is None:
            return None
        offset, start, size = self._header
        data = self._data
        self._need(offset, _FEW)
        try:
            version, pointer, count, table = data[offset], data[offset + 1], data[offset + 2], data[offset + 3]
            fixed = self._word if table & 0x0F == 0 else _FIXED.get(table & 0x0F)
            # Relative to each entry's own place would be allowed; no linker makes that.
            if version != 1 or _ABSENT in (count, table) or fixed is None or table & 0xF0 not in (0, _DATAREL):
                return None
            frames, at = self._pointer(pointer, offset + 4, start + 4)
            entries, at = self._pointer(count, at, start + at - offset)
        except _BROKEN:
            return None
        entry = struct.Struct(fixed.format[:1] + fixed.format[1:] * 2)
        room = min(offset + size, len(data)) - at
        if self._eh_frame is None and frames is not None:
            # Without section headers: both are in one segment, so they are as far apart in the file as in memory.
            place = frames - start + offset
            self._eh_frame = (place, frames, len(data) - place) if 0 <= place < len(data) else None
        if self._eh_frame is None or entries is None or not 0 < entries <= room // entry.size:
            return None
        return _Table(at, entries, entry, start if table & 0xF0 == _DATAREL else 0)

    def _search(self, table: _Table, address: int) -> _Fde | None:
        data, read, size = self._data, table.entry.unpack_from, table.entry.size
        wanted = address - table.base
        low, high = 0, table.count
        while low < high:
            middle = (low + high) >> 1
            self._need(table.offset + middle * size, size)
            if read(data, table.offset + middle * size)[0] <= wanted:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return None
        assert self._eh_frame is not None
        offset, start, length = self._eh_frame
        self._need(table.offset + (low - 1) * size, size)
        place = read(data, table.offset + (low - 1) * size)[1] + table.base - start
        if not 0 <= place < length:
            raise Malformed("the search table leads out of .eh_frame")
        return self._covering(self._fde(offset + place, self._eh_frame, debug=False), address)

    def _look_up(self, debug: bool, section: Section, address: int) -> _Fde | None:
        index = self._indexes.get(debug)
        if index is None:
            index = self._indexes[debug] = self._index(section, debug=debug)
        starts, offsets = index
        place = bisect_right(starts, address) - 1
        if place < 0:
            return None
        return self._covering(self._fde(offsets[place], section, debug=debug), address)

    @staticmethod
    def _covering(fde: _Fde | None, address: int) -> _Fde | None:
        return fde if fde is not None and fde.start <= address < fde.end else None

    def _index(self, section: Section, *, debug: bool) -> tuple[array[int], array[int]]:
        found: list[tuple[int, int]] = []
        plain: dict[int, bool] = {}
        for offset in self._entries(section):
            try:
                start = self._plain_start(offset, section, plain) if debug else None
                if start is None:
                    fde = self._fde(offset, section, debug=debug)
                    start = 0 if fde is None or fde.start >= fde.end else fde.start
            except _BROKEN:
                continue
            if start > 0:  # discarded functions are left with 0
                found.append((start, offset))
        found.sort()
        return array("Q", (start for start, _ in found)), array("Q", (offset for _, offset in found))

    def _plain_start(self, offset: int, section: Section, plain: dict[int, bool]) -> int | None:
        """The initial location of an FDE in .debug_frame, without making an object of it; None where that is needed.

        ``plain``: CIEs by their offset, and whether the addresses in their FDEs are words.
        """
        self._need(offset, self._entry.size)
        length, pointer, start, size = self._entry.unpack_from(self._data, offset)
        if length == 0xFFFFFFFF or pointer == 0xFFFFFFFF:
            return None
        known = plain.get(pointer)
        if known is None:
            cie = self._cie(section[0] + pointer, debug=True)
            known = plain[pointer] = cie.encoding == 0 and cie.segment == 0
        if not known:
            return None
        return int(start) if size else 0

    def _entries(self, section: Section) -> Iterator[int]:
        at, _, size = section
        end = min(at + size, len(self._data))
        for _ in range(MOST_INDEXED):
            if at + 4 > end:
                return
            body, limit, _ = self._length(at)
            if limit <= body or limit > end:
                return
            yield at
            at = limit

    # Reading it

    def _length(self, at: int) -> tuple[int, int, int]:
        """Of the entry at ``at``: where its content begins, where it ends, bytes of an offset in it."""
        self._need(at, _FEW)
        (length,) = _FIXED[0x03].unpack_from(self._data, at)
        if length != 0xFFFFFFFF:
            return at + 4, at + 4 + length, 4
        (length,) = _FIXED[0x04].unpack_from(self._data, at + 4)
        return at + 12, at + 12 + length, 8

    def _fde(self, at: int, section: Section, *, debug: bool) -> _Fde | None:
        """The FDE at a file offset; None for a CIE."""
        body, limit, size = self._length(at)
        if limit > len(self._data) or limit < body + size:
            raise Malformed("an entry goes on beyond the end of the file")
        self._need(body, min(limit - body, 2 * _LONGEST_PROGRAM))
        layout = _FIXED[0x04] if debug and size == 8 else _FIXED[0x03]
        (pointer,) = layout.unpack_from(self._data, body)
        if debug:
            if pointer == (1 << 8 * layout.size) - 1:
                return None
            cie = self._cie(section[0] + pointer, debug=True)
        else:
            if pointer == 0:
                return None
            cie = self._cie(body - pointer, debug=False)
        at = body + layout.size + cie.segment
        shift = section[1] - section[0]
        start, at = self._pointer(cie.encoding, at, at + shift)
        length, at = self._pointer(cie.encoding & 0x0F, at, 0)
        if start is None or length is None:
            return None
        return _Fde(cie, start, start + length, at, limit, debug)

    def _cie(self, at: int, *, debug: bool) -> _Cie:
        cie = self._cies.get(at)
        if cie is None:
            if len(self._cies) >= _MOST_REMEMBERED:
                self._cies.clear()
            cie = self._cies[at] = self._read_cie(at, debug=debug)
        return cie

    def _read_cie(self, at: int, *, debug: bool) -> _Cie:
        data = self._data
        at, limit, size = self._length(at)
        self._need(at, min(max(limit - at, _FEW), 2 * _LONGEST_PROGRAM))
        at += size if debug else 4
        version = data[at]
        text_end = min(at + 1 + 16, limit)
        augmentation = bytes(data[at + 1 : text_end]).partition(b"\0")[0]
        at += 2 + len(augmentation)
        if version not in (1, 3, 4) or limit > len(data):
            raise Malformed(f"a CIE of version {version}")
        segment, encoding = 0, 0
        if version == 4:
            encoding = {4: 0x03, 8: 0x04}.get(data[at], 0)
            segment = data[at + 1]
            at += 2
        if augmentation.startswith(b"eh"):  # gcc 2: a pointer to its exception table
            at += self._word.size
            augmentation = augmentation[2:]
        code, at = leb128.unsigned(data, at)
        factor, at = leb128.signed(data, at)
        column, at = (data[at], at + 1) if version == 1 else leb128.unsigned(data, at)
        augmented = augmentation.startswith(b"z")
        if augmented:
            length, at = leb128.unsigned(data, at)
            encoding = self._encoding(augmentation, at, encoding)
            at += length
        elif augmentation:
            raise Malformed(f"a CIE with the augmentation {augmentation!r}")
        if not at <= limit <= at + _LONGEST_PROGRAM:
            raise Malformed("a CIE of a senseless length")
        fixed = self._word if encoding & 0x0F == 0 else _FIXED.get(encoding & 0x0F, self._word)
        return _Cie(
            column, Factors(code, factor, fixed), encoding, augmented, b"S" in augmentation, segment,
            bytes(data[at:limit]),
        )  # fmt: skip

    def _encoding(self, augmentation: bytes, at: int, encoding: int) -> int:
        for letter in augmentation[1:]:
            if letter == ord("R"):
                return self._data[at]
            if letter == ord("P"):
                _, at = self._pointer(self._data[at] & ~_INDIRECT, at + 1, 0)
            elif letter == ord("L"):
                at += 1
            elif letter not in b"SBG":  # signal frame; aarch64: signed with key B, with memory tags
                break
        return encoding

    def _pointer(self, encoding: int, at: int, address: int) -> tuple[int | None, int]:
        """A DW_EH_PE_* pointer and where the next thing begins; ``address`` is its own. None where it means nothing."""
        data = self._data
        kind, base = encoding & 0x0F, encoding & 0x70
        if base == _ALIGNED:
            step = -address % self._word.size
            at, address, kind = at + step, address + step, 0
        if kind == 0x01:
            value, end = leb128.unsigned(data, at)
        elif kind == 0x09:
            value, end = leb128.signed(data, at)
        else:
            layout = self._word if kind in (0, 0x08) else _FIXED.get(kind)
            if layout is None:
                raise Malformed(f"a pointer with the encoding {encoding:#x}")
            (value,) = layout.unpack_from(data, at)
            end = at + layout.size
        if base == _PCREL:
            value += address
        elif base == _DATAREL:
            # Only the search table has those on Linux; elsewhere they would be relative to the GOT.
            if self._header is None:
                return None, end
            value += self._header[1]
        elif base not in (0, _ALIGNED):
            return None, end  # relative to the text, to the function: of no meaning on Linux
        if encoding & _INDIRECT:
            return self._indirect(value & self._mask), end
        return value & self._mask, end

    def _indirect(self, address: int) -> int | None:
        """The pointer stored at an address that lies in one of the sections: elsewhere it is only known at run time."""
        for section in (self._header, self._eh_frame):
            if section is not None and section[1] <= address < section[1] + section[2]:
                place = address - section[1] + section[0]
                self._need(place, self._word.size)
                (value,) = self._word.unpack_from(self._data, place)
                return int(value)
        return None

    # Running it

    def _popped(self, rule: FrameRule) -> bool:
        # Go's assembler writes such rules for code that keeps its return address in a register meanwhile, which it
        # cannot be told (syscall/asm_linux_amd64.s: rawVforkSyscall).
        below = rule.cfa_offset + rule.return_offset < 0
        return below and rule.quick is not None and rule.cfa_register == self._stack_pointer

    def _run(self, fde: _Fde, address: int) -> FrameRule:
        cie, at = fde.cie, fde.body
        if cie.augmented:
            length, at = leb128.unsigned(self._data, at)
            at += length
        if not at <= fde.limit <= at + _LONGEST_PROGRAM:
            raise Malformed("an FDE of a senseless length")
        row = Row()
        Program(cie.factors, row, None, fde.start, fde.start).run(cie.instructions)
        Program(cie.factors, row, row.copy(), fde.start, address).run(bytes(self._data[at : fde.limit]))
        return rule_of(row, cie.return_register, self._stack_pointer, signal=cie.signal)
