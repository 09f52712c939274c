"""Call-frame rules: what to do at an address to find the caller's frame (DWARF 5, 6.4)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from msgspec import Struct

from forklore.elf import leb128

_MOST_REGISTERS: Final = 256
_DEEPEST_REMEMBERED: Final = 32


class ValueAt(IntEnum):
    """Where a frame's caller has the value of a register (DWARF 5, 6.4.1)."""

    OFFSET = 0
    """In memory, at the CFA plus a number."""
    VALUE = 1
    """It is the CFA plus a number."""
    REGISTER = 2
    """In another register."""
    EXPRESSION = 3
    """In memory, at the address that an expression gives."""
    VALUE_EXPRESSION = 4
    """An expression gives it."""
    UNDEFINED = 5
    """It is lost; for the return address: there is no caller."""


Location = tuple[ValueAt, int, bytes]
"""How, then the number or register, then the expression; what does not apply is 0 or empty."""

_OFFSET: Final = ValueAt.OFFSET
BY_EXPRESSION: Final = -1
"""In the place of a register's number: the CFA is computed."""


class FrameRule(Struct, frozen=True, kw_only=True):
    """How to get from a frame to its caller's.

    The canonical frame address (CFA) is what the stack pointer was before the call: ``cfa_register`` plus
    ``cfa_offset``, or what ``cfa_expression`` gives where ``cfa_register`` is :data:`BY_EXPRESSION`.
    """

    cfa_register: int
    cfa_offset: int = 0
    cfa_expression: bytes = b""
    return_register: int
    """The register that stands for the return address in ``saved``."""
    saved: dict[int, Location] = {}
    """The registers that have changed, by DWARF number; the others are still what they were."""
    signal: bool = False
    """A signal trampoline: the caller was interrupted at its pc, it made no call."""
    undefined_ra: bool = False
    """The outermost frame."""
    quick: tuple[tuple[int, int], ...] | None = None
    """Where CFA, return address and all else are plain offsets: the other registers and theirs to the CFA."""
    return_offset: int = 0
    """With ``quick``: where the return address is, from the CFA."""


def rule_of(row: Row, return_register: int, stack_pointer: int, *, signal: bool) -> FrameRule:
    """A row of the table as a rule. Registers are DWARF numbers."""
    saved = row.registers
    home = saved.get(return_register)
    undefined = home is not None and home[0] is ValueAt.UNDEFINED
    plain = (
        home is not None
        and not signal
        and row.cfa_register != BY_EXPRESSION
        and stack_pointer not in saved
        and all(location[0] is _OFFSET for location in saved.values())
    )
    return FrameRule(
        cfa_register=row.cfa_register,
        cfa_offset=row.cfa_offset,
        cfa_expression=row.cfa_expression,
        return_register=return_register,
        saved=dict(saved),
        signal=signal,
        undefined_ra=undefined,
        quick=tuple((register, location[1]) for register, location in saved.items() if register != return_register)
        if plain
        else None,
        return_offset=home[1] if plain and home is not None else 0,
    )


class Malformed(Exception):  # noqa: N818 - what the file is, not what went wrong here
    """Call-frame information that means nothing."""


class Row:
    """The rules that hold at one location while a program runs."""

    __slots__ = ("cfa_expression", "cfa_offset", "cfa_register", "registers")

    def __init__(self) -> None:
        self.cfa_register = BY_EXPRESSION
        self.cfa_offset = 0
        self.cfa_expression = b""
        self.registers: dict[int, Location] = {}

    def copy(self) -> Row:
        """Another with the same rules."""
        other = Row()
        other.become(self)
        return other

    def become(self, other: Row) -> None:
        """Take over another's rules."""
        self.cfa_register = other.cfa_register
        self.cfa_offset = other.cfa_offset
        self.cfa_expression = other.cfa_expression
        self.registers = dict(other.registers)


class Factors(Struct, frozen=True):
    """What a CIE says about its programs."""

    code: int
    data: int
    address: struct.Struct
    """Of DW_CFA_set_loc's operand, where that is a plain address."""


class Program:
    """Runs call-frame instructions up to a location (DWARF 5, 6.4.2)."""

    def __init__(self, factors: Factors, row: Row, initial: Row | None, location: int, target: int) -> None:
        """``initial`` is the row that DW_CFA_restore goes back to; None while a CIE's own instructions run."""
        self.row = row
        self._code_factor = factors.code
        self._data_factor = factors.data
        self._address = factors.address
        self._initial = initial
        self._location = location
        self._target = target
        self._remembered: list[Row] = []
        self._code = b""
        self._at = 0

    def run(self, code: bytes) -> None:
        """Change the row by the instructions that come before the target.

        Raises Malformed, IndexError or struct.error for what is not such a program.
        """
        self._code = code
        self._at = 0
        end = len(code)
        while self._at < end:
            operation = code[self._at]
            self._at += 1
            high = operation & 0xC0
            if high == 0x40:  # DW_CFA_advance_loc
                self._location += (operation & 0x3F) * self._code_factor
            elif high == 0x80:  # DW_CFA_offset
                self._set(operation & 0x3F, (_OFFSET, self._unsigned() * self._data_factor, b""))
            elif high == 0xC0:  # DW_CFA_restore
                self._restore(operation & 0x3F)
            elif operation <= 0x04:
                self._advance(operation)
            elif 0x0C <= operation <= 0x0F or operation in (0x12, 0x13):
                self._frame_address(operation)
            else:
                self._register(operation)
            if self._location > self._target:
                return

    def _advance(self, operation: int) -> None:
        if operation == 0x00:  # DW_CFA_nop
            return
        if operation == 0x01:  # DW_CFA_set_loc
            (self._location,) = self._address.unpack(self._take(self._address.size))
            return
        size = 1 << (operation - 0x02)  # DW_CFA_advance_loc1, 2, 4
        self._location += int.from_bytes(self._take(size), "little") * self._code_factor

    def _frame_address(self, operation: int) -> None:
        row = self.row
        if operation in (0x0C, 0x12):  # DW_CFA_def_cfa, DW_CFA_def_cfa_sf
            row.cfa_register = self._unsigned()
            row.cfa_offset = self._unsigned() if operation == 0x0C else self._signed() * self._data_factor
        elif operation == 0x0D:  # DW_CFA_def_cfa_register
            row.cfa_register = self._unsigned()
        elif operation == 0x0E:  # DW_CFA_def_cfa_offset
            row.cfa_offset = self._unsigned()
        elif operation == 0x13:  # DW_CFA_def_cfa_offset_sf
            row.cfa_offset = self._signed() * self._data_factor
        else:  # DW_CFA_def_cfa_expression
            row.cfa_register = BY_EXPRESSION
            row.cfa_expression = self._block()

    def _register(self, operation: int) -> None:
        match operation:
            case 0x05:  # DW_CFA_offset_extended
                self._set(self._unsigned(), (_OFFSET, self._unsigned() * self._data_factor, b""))
            case 0x06:  # DW_CFA_restore_extended
                self._restore(self._unsigned())
            case 0x07:  # DW_CFA_undefined
                self._set(self._unsigned(), (ValueAt.UNDEFINED, 0, b""))
            case 0x08:  # DW_CFA_same_value
                self.row.registers.pop(self._unsigned(), None)
            case 0x09:  # DW_CFA_register
                self._set(self._unsigned(), (ValueAt.REGISTER, self._unsigned(), b""))
            case 0x0A:  # DW_CFA_remember_state
                if len(self._remembered) == _DEEPEST_REMEMBERED:
                    raise Malformed(f"more than {_DEEPEST_REMEMBERED} remembered states")
                self._remembered.append(self.row.copy())
            case 0x0B:  # DW_CFA_restore_state
                if not self._remembered:
                    raise Malformed("a state is restored that none remembered")
                self.row.become(self._remembered.pop())
            case 0x10:  # DW_CFA_expression
                self._set(self._unsigned(), (ValueAt.EXPRESSION, 0, self._block()))
            case 0x11:  # DW_CFA_offset_extended_sf
                self._set(self._unsigned(), (_OFFSET, self._signed() * self._data_factor, b""))
            case 0x14:  # DW_CFA_val_offset
                self._set(self._unsigned(), (ValueAt.VALUE, self._unsigned() * self._data_factor, b""))
            case 0x15:  # DW_CFA_val_offset_sf
                self._set(self._unsigned(), (ValueAt.VALUE, self._signed() * self._data_factor, b""))
            case 0x16:  # DW_CFA_val_expression
                self._set(self._unsigned(), (ValueAt.VALUE_EXPRESSION, 0, self._block()))
            case 0x2C | 0x2D:  # DW_CFA_AARCH64_negate_ra_state(_with_pc): every return address there is masked
                pass
            case 0x2E:  # DW_CFA_GNU_args_size: only for landing pads
                self._unsigned()
            case 0x2F:  # DW_CFA_GNU_negative_offset_extended
                self._set(self._unsigned(), (_OFFSET, -self._unsigned() * self._data_factor, b""))
            case _:
                raise Malformed(f"{operation:#x} is no call-frame instruction")

    def _set(self, register: int, location: Location) -> None:
        registers = self.row.registers
        if len(registers) >= _MOST_REGISTERS:
            raise Malformed(f"rules for more than {_MOST_REGISTERS} registers")
        registers[register] = location

    def _restore(self, register: int) -> None:
        if self._initial is None:
            raise Malformed("a CIE restores a register")
        before = self._initial.registers.get(register)
        if before is None:
            self.row.registers.pop(register, None)
        else:
            self.row.registers[register] = before

    def _take(self, size: int) -> bytes:
        taken = self._code[self._at : self._at + size]
        if len(taken) < size:
            raise Malformed("an instruction goes on beyond the end")
        self._at += size
        return taken

    def _block(self) -> bytes:
        return self._take(self._unsigned())

    def _unsigned(self) -> int:
        value, self._at = leb128.unsigned(self._code, self._at)
        return value

    def _signed(self) -> int:
        value, self._at = leb128.signed(self._code, self._at)
        return value
