"""DWARF expressions of call-frame rules."""

from __future__ import annotations

import pytest
from frame_writer import sleb, uleb
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.elf.dwarf.expressions import evaluate

MEMORY = bytes(range(64))
TOP = (1 << 64) - 1


def read(address: int, size: int) -> bytes | None:
    got = MEMORY[address : address + size] if address >= 0 else b""
    return got if len(got) == size else None


def value(
    *parts: bytes, start: int | None = None, registers: dict[int, int] | None = None, bits: int = 64
) -> int | None:
    return evaluate(b"".join(parts), (registers or {}).get, read, start, bits=bits)


def lit(number: int) -> bytes:
    return bytes([0x30 + number])


MINUS_7 = b"\x09\xf9"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (b"\x03" + (0x1122).to_bytes(8, "little"), 0x1122),
        (lit(8) + b"\x06", 0x0F0E0D0C0B0A0908),
        (lit(8) + b"\x94\x02", 0x0908),
        (b"\x08\xff", 255), (b"\x09\xff", TOP), (b"\x0a\xff\xff", 65535), (b"\x0b\xff\xff", TOP),
        (b"\x0c\xff\xff\xff\xff", (1 << 32) - 1), (b"\x0d\xff\xff\xff\xff", TOP),
        (b"\x0e" + b"\xff" * 8, TOP), (b"\x0f" + b"\xfe" + b"\xff" * 7, TOP - 1),
        (b"\x10" + uleb(1000), 1000), (b"\x11" + sleb(-2), TOP - 1),
        (lit(3) + b"\x12\x22", 6),  # dup plus
        (lit(3) + lit(4) + b"\x13", 3),  # drop
        (lit(3) + lit(4) + b"\x14", 3),  # over
        (lit(3) + lit(4) + lit(5) + b"\x15\x02", 3),  # pick
        (lit(3) + lit(4) + b"\x16", 3),  # swap
        (lit(1) + lit(2) + lit(3) + b"\x17", 2),  # rot: 3 1 2
        (MINUS_7 + b"\x19", 7), (lit(12) + lit(10) + b"\x1a", 8), (MINUS_7 + lit(2) + b"\x1b", TOP - 2),
        (lit(3) + lit(5) + b"\x1c", TOP - 1), (lit(17) + lit(5) + b"\x1d", 2), (lit(17) + lit(5) + b"\x1e", 85),
        (lit(1) + b"\x1f", TOP), (lit(0) + b"\x20", TOP), (lit(8) + lit(1) + b"\x21", 9),
        (lit(8) + lit(1) + b"\x22", 9), (lit(8) + b"\x23" + uleb(300), 308), (lit(1) + lit(4) + b"\x24", 16),
        (lit(1) + b"\x10" + uleb(1 << 62) + b"\x24", 0), (lit(16) + lit(2) + b"\x25", 4),
        (MINUS_7 + lit(1) + b"\x26", TOP - 3), (lit(12) + lit(10) + b"\x27", 6),
        (lit(1) + b"\x28\x01\x00" + lit(5) + lit(6), 6), (lit(0) + b"\x28\x01\x00" + lit(5), 5),
        (b"\x2f\x01\x00" + lit(1) + lit(2), 2),
        (lit(4) + lit(4) + b"\x29", 1), (MINUS_7 + lit(4) + b"\x2a", 0), (lit(4) + MINUS_7 + b"\x2b", 1),
        (MINUS_7 + lit(4) + b"\x2c", 1), (MINUS_7 + lit(4) + b"\x2d", 1), (lit(4) + lit(4) + b"\x2e", 0),
        (lit(9) + b"\x96", 9),
        (b"\x77\x7c", 96), (b"\x92\x07\x04", 104),
    ],
)  # fmt: skip
def test_operations(expression: bytes, expected: int) -> None:
    assert value(expression, registers={7: 100}) == expected


def test_the_rule_of_a_plt() -> None:
    # rsp + 8 + ((rip & 15) >= 11) * 8: what ld writes for the entries of a procedure linkage table
    plt = bytes.fromhex("770880003f1a3b2a332422")
    assert [value(plt, registers={7: 1000, 16: pc}) for pc in (0x1020, 0x102A, 0x102B)] == [1008, 1008, 1016]


def test_the_frame_address_is_there_from_the_start() -> None:
    assert value(b"\x23\x08", start=100) == 108
    assert value(b"\x23\x08") is None


def test_values_have_the_width_of_an_address() -> None:
    assert value(b"\x09\xff", bits=32) == 0xFFFFFFFF
    assert value(lit(4), b"\x06", bits=32) == 0x07060504


@pytest.mark.parametrize(
    "expression",
    [
        b"", b"\x22", lit(1) + b"\x22", lit(1) + lit(0) + b"\x1b", lit(1) + lit(0) + b"\x1d", b"\x08", b"\x0e\x01",
        b"\x08\xff\x06", lit(8) + b"\x94\x09", lit(8) + b"\x94\x00", b"\x75\x00", b"\x2f\x00\x80", b"\x2f\x01\x00",
        b"\x9c", b"\xe0", b"\x10" + b"\x80" * 20, lit(1) * 100,
    ],
)  # fmt: skip
def test_no_value(expression: bytes) -> None:
    assert value(expression) is None


def test_a_loop_ends() -> None:
    assert value(b"\x2f\xfd\xff") is None


@settings(max_examples=300, deadline=1000)
@given(st.binary(max_size=200), st.none() | st.integers(0, TOP))
def test_random_expressions_end(expression: bytes, start: int | None) -> None:
    found = value(expression, start=start, registers={number: number for number in range(17)})
    assert found is None or 0 <= found <= TOP
