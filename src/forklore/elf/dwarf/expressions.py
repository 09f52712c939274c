"""DWARF expressions, as call-frame rules use them (DWARF 5, 2.5)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from forklore.elf import leb128

STEPS: Final = 500
"""Operations that an expression may take. Real ones take under twenty; only loops (DW_OP_skip, DW_OP_bra) take more."""

_DEPTH: Final = 64

Read = Callable[[int, int], bytes | None]
"""``read(address, size)``: that memory, or None where not all of it can be read."""


class _Unknown(Exception):  # noqa: N818 - not an error: the expression needs what is not known, or means nothing
    pass


def evaluate(
    expression: bytes, registers: Callable[[int], int | None], read: Read, start: int | None, *, bits: int = 64
) -> int | None:
    """The value that ``expression`` leaves, in ``bits`` bits; None where it has none.

    ``registers`` gives a register by its DWARF number (a dict's ``get`` will do). ``start`` is pushed first: the
    frame address, for the rule of a saved register (DWARF 5, 6.4.2.3). It has no value where it reads unreadable
    memory or an unknown register, divides by zero, takes from an empty stack, has an operation that makes no sense in
    a frame rule, or does not end within :data:`STEPS`.
    """
    try:
        return _Machine(expression, registers, read, bits).run([] if start is None else [start])
    except (_Unknown, IndexError, OverflowError, ZeroDivisionError, struct.error):
        return None


class _Machine:
    def __init__(
        self, code: bytes, registers: Callable[[int], int | None], read: Read, bits: int
    ) -> None:
        self.code = code
        self.registers = registers
        self.read = read
        self.bits = bits
        self.mask = (1 << bits) - 1
        self.at = 0

    def run(self, stack: list[int]) -> int:
        end = len(self.code)
        for _ in range(STEPS):
            if self.at == end:
                return stack[-1] & self.mask
            operation = self.code[self.at]
            self.at += 1
            self._do(operation, stack)
            if len(stack) > _DEPTH:
                raise _Unknown
        raise _Unknown

    def _do(self, operation: int, stack: list[int]) -> None:
        if 0x30 <= operation <= 0x4F:  # DW_OP_lit0 to 31
            stack.append(operation - 0x30)
        elif 0x70 <= operation <= 0x8F:  # DW_OP_breg0 to 31
            stack.append(self._based(operation - 0x70))
        elif operation == 0x92:  # DW_OP_bregx
            stack.append(self._based(self._unsigned()))
        elif operation in _CONSTANTS:
            layout = _CONSTANTS[operation]
            (value,) = layout.unpack_from(self.code, self.at)
            self.at += layout.size
            stack.append(value & self.mask)
        elif operation in _BINARY:
            right, left = stack.pop(), stack.pop()
            stack.append(_BINARY[operation](left, right) & self.mask)
        elif operation in _SIGNED:
            right, left = self._signed(stack.pop()), self._signed(stack.pop())
            stack.append(_SIGNED[operation](left, right) & self.mask)
        else:
            self._do_other(operation, stack)

    def _do_other(self, operation: int, stack: list[int]) -> None:
        match operation:
            case 0x03:  # DW_OP_addr
                size = self.bits // 8
                stack.append(int.from_bytes(self._take(size), "little"))
            case 0x06:  # DW_OP_deref
                stack.append(self._load(stack.pop(), self.bits // 8))
            case 0x94:  # DW_OP_deref_size
                stack.append(self._load(stack.pop(), self._take(1)[0]))
            case 0x10:  # DW_OP_constu
                stack.append(self._unsigned() & self.mask)
            case 0x11:  # DW_OP_consts
                stack.append(self._leb_signed() & self.mask)
            case 0x12:  # DW_OP_dup
                stack.append(stack[-1])
            case 0x13:  # DW_OP_drop
                stack.pop()
            case 0x14:  # DW_OP_over
                stack.append(stack[-2])
            case 0x15:  # DW_OP_pick
                stack.append(stack[-1 - self._take(1)[0]])
            case 0x16:  # DW_OP_swap
                stack[-1], stack[-2] = stack[-2], stack[-1]
            case 0x17:  # DW_OP_rot
                stack[-1], stack[-2], stack[-3] = stack[-2], stack[-3], stack[-1]
            case 0x19:  # DW_OP_abs
                stack.append(abs(self._signed(stack.pop())) & self.mask)
            case 0x1F:  # DW_OP_neg
                stack.append(-stack.pop() & self.mask)
            case 0x20:  # DW_OP_not
                stack.append(~stack.pop() & self.mask)
            case 0x23:  # DW_OP_plus_uconst
                stack.append(stack.pop() + self._unsigned() & self.mask)
            case 0x28:  # DW_OP_bra
                offset = int.from_bytes(self._take(2), "little", signed=True)
                if stack.pop():
                    self._jump(offset)
            case 0x2F:  # DW_OP_skip
                self._jump(int.from_bytes(self._take(2), "little", signed=True))
            case 0x96:  # DW_OP_nop
                pass
            case _:
                raise _Unknown

    def _jump(self, offset: int) -> None:
        self.at += offset
        if not 0 <= self.at <= len(self.code):
            raise _Unknown

    def _take(self, size: int) -> bytes:
        taken = self.code[self.at : self.at + size]
        if len(taken) < size:
            raise _Unknown
        self.at += size
        return taken

    def _unsigned(self) -> int:
        value, self.at = leb128.unsigned(self.code, self.at)
        return value

    def _leb_signed(self) -> int:
        value, self.at = leb128.signed(self.code, self.at)
        return value

    def _based(self, register: int) -> int:
        offset = self._leb_signed()
        value = self.registers(register)
        if value is None:
            raise _Unknown
        return value + offset & self.mask

    def _load(self, address: int, size: int) -> int:
        if not 1 <= size <= self.bits // 8:
            raise _Unknown
        got = self.read(address, size)
        if got is None or len(got) < size:
            raise _Unknown
        return int.from_bytes(got, "little")

    def _signed(self, value: int) -> int:
        return value - (1 << self.bits) if value >> (self.bits - 1) else value


def _shift(value: int, by: int) -> int:
    return 0 if by > 128 else value << by


_CONSTANTS: Final = {
    0x08: struct.Struct("<B"), 0x09: struct.Struct("<b"), 0x0A: struct.Struct("<H"), 0x0B: struct.Struct("<h"),
    0x0C: struct.Struct("<I"), 0x0D: struct.Struct("<i"), 0x0E: struct.Struct("<Q"), 0x0F: struct.Struct("<q"),
}  # fmt: skip
"""DW_OP_const1u to DW_OP_const8s."""

_BINARY: Final[dict[int, Callable[[int, int], int]]] = {
    0x1A: lambda left, right: left & right,
    0x1C: lambda left, right: left - right,
    0x1D: lambda left, right: left % right,
    0x1E: lambda left, right: left * right,
    0x21: lambda left, right: left | right,
    0x22: lambda left, right: left + right,
    0x24: _shift,
    0x25: lambda left, right: left >> min(right, 128),
    0x27: lambda left, right: left ^ right,
    0x29: lambda left, right: left == right,
    0x2E: lambda left, right: left != right,
}
"""DW_OP_and, minus, mod, mul, or, plus, shl, shr, xor, eq, ne."""

_SIGNED: Final[dict[int, Callable[[int, int], int]]] = {
    0x1B: lambda left, right: abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1),
    0x26: lambda left, right: left >> min(right & (1 << 64) - 1, 128),
    0x2A: lambda left, right: left >= right,
    0x2B: lambda left, right: left > right,
    0x2C: lambda left, right: left <= right,
    0x2D: lambda left, right: left < right,
}
"""DW_OP_div, shra, ge, gt, le, lt."""
