"""Call-frame information: how entries are found, how their pointers are written, what their instructions mean."""

from __future__ import annotations

import mmap
import struct
import time

import pytest
from frame_writer import (
    SECTION,
    cie,
    eh_frame,
    eh_frame_table,
    fde,
    search_table,
    sleb,
    table,
    uleb,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.elf.cfi import frame_table
from forklore.elf.cfi.rules import BY_EXPRESSION, FrameRule, ValueAt

PUSHED = b"\x41\x0e\x10\x86\x02"  # after one byte: CFA is rsp+16, rbp at cfa-16


def ruled(program: bytes, at: int = 0, head: bytes | None = None) -> FrameRule | None:
    """The rule ``at`` bytes into a function with that program."""
    return eh_frame_table([(0x5000, 0x100, program)], head=head).rule_at(0x5000 + at)


def rule(program: bytes, at: int = 0, head: bytes | None = None) -> FrameRule:
    found = ruled(program, at, head)
    assert found is not None
    return found


@pytest.mark.parametrize("header", [True, False])
def test_an_address_is_found_in_the_function_that_covers_it(header: bool) -> None:
    found = eh_frame_table([(0x5000, 0x10, PUSHED), (0x5020, 0x8, b""), (0x4000, 0x100, b"")], header=header)
    expected = {0x3FFF: None, 0x4000: 0x4000, 0x40FF: 0x4000, 0x4100: None, 0x4FFF: None, 0x5000: 0x5000,
                0x500F: 0x5000, 0x5010: None, 0x5020: 0x5020, 0x5027: 0x5020, 0x5028: None}  # fmt: skip
    assert {address: found.function_start(address) for address in expected} == expected
    assert {address: found.rule_at(address) is not None for address in expected} == {
        address: start is not None for address, start in expected.items()
    }


def test_the_rule_changes_with_the_location() -> None:
    before, after = rule(PUSHED, 0), rule(PUSHED, 1)
    assert (before.cfa_register, before.cfa_offset, before.quick, before.return_offset) == (7, 8, (), -8)
    assert (after.cfa_register, after.cfa_offset, after.quick, after.return_offset) == (7, 16, ((6, -16),), -8)


def test_a_rule_is_found_once() -> None:
    found = eh_frame_table([(0x5000, 0x10, PUSHED)])
    assert found.rule_at(0x5004) is found.rule_at(0x5004)
    assert set(found.rules) == {0x5004}


@pytest.mark.parametrize(
    ("program", "register", "location"),
    [
        (b"\x83\x03", 3, (ValueAt.OFFSET, -24, b"")),
        (b"\x05" + uleb(200) + uleb(300), 200, (ValueAt.OFFSET, -2400, b"")),
        (b"\x11\x03" + sleb(-2), 3, (ValueAt.OFFSET, 16, b"")),
        (b"\x2f\x03\x02", 3, (ValueAt.OFFSET, 16, b"")),
        (b"\x14\x03\x02", 3, (ValueAt.VALUE, -16, b"")),
        (b"\x15\x03" + sleb(-2), 3, (ValueAt.VALUE, 16, b"")),
        (b"\x09\x10\x05", 16, (ValueAt.REGISTER, 5, b"")),
        (b"\x07\x10", 16, (ValueAt.UNDEFINED, 0, b"")),
        (b"\x10\x03\x02\x77\x08", 3, (ValueAt.EXPRESSION, 0, b"\x77\x08")),
        (b"\x16\x03\x02\x77\x08", 3, (ValueAt.VALUE_EXPRESSION, 0, b"\x77\x08")),
        (b"\x83\x03\x08\x03", 3, None),  # same_value
        (b"\x90\x05\xd0", 16, (ValueAt.OFFSET, -8, b"")),  # restore
        (b"\x90\x05\x06\x10", 16, (ValueAt.OFFSET, -8, b"")),  # restore_extended
        (b"\x83\x03\xc3", 3, None),
        (b"\x0a\x83\x03\x0b", 3, None),  # remember_state, restore_state
        (b"\x83\x03\x0a\x83\x04\x0b", 3, (ValueAt.OFFSET, -24, b"")),
        (b"\x2e\x10\x2d\x2c\x83\x03", 3, (ValueAt.OFFSET, -24, b"")),  # args_size, negate_ra_state
    ],
)
def test_what_an_instruction_says_of_a_register(
    program: bytes, register: int, location: tuple[ValueAt, int, bytes] | None
) -> None:
    assert rule(program).saved.get(register) == location


@pytest.mark.parametrize(
    ("program", "cfa"),
    [
        (b"\x0c\x06\x20", (6, 32, b"")),
        (b"\x12\x06" + sleb(-4), (6, 32, b"")),
        (b"\x0d\x06", (6, 8, b"")),
        (b"\x0e" + uleb(0x1234), (7, 0x1234, b"")),
        (b"\x13" + sleb(-3), (7, 24, b"")),
        (b"\x0a\x0e\x20\x0b", (7, 8, b"")),
    ],
)
def test_what_an_instruction_says_of_the_frame_address(program: bytes, cfa: tuple[int, int, bytes]) -> None:
    found = rule(program)
    assert (found.cfa_register, found.cfa_offset, found.cfa_expression) == cfa


def test_a_frame_address_can_be_an_expression() -> None:
    found = rule(b"\x0f\x02\x77\x08")
    assert (found.cfa_register, found.cfa_expression, found.quick) == (BY_EXPRESSION, b"\x77\x08", None)


@pytest.mark.parametrize(
    ("advance", "length"),
    [(b"\x44", 4), (b"\x02\x80", 0x80), (b"\x03\x80\x00", 0x80), (b"\x04\x80\x00\x00\x00", 0x80)],
)
def test_each_advance_ends_what_held_before(advance: bytes, length: int) -> None:
    program = advance + b"\x0e\x10"
    assert [rule(program, at).cfa_offset for at in (0, length - 1, length)] == [8, 8, 16]


def test_set_loc_is_written_as_the_pointers_are() -> None:
    # Pointers of the FDE are absolute here, and so is the operand.
    content = cie(extra=b"\x04")
    place = len(content)
    content += fde(place, 0, struct.pack("<QQ", 0x5000, 0x100), b"\x01" + struct.pack("<Q", 0x5010) + b"\x0e\x10")
    found = table(content, eh_frame=(0, SECTION, len(content)))
    offsets = [located.cfa_offset for at in (0x500F, 0x5010) if (located := found.rule_at(at)) is not None]
    assert offsets == [8, 16]


def test_undefined_return_address_is_the_outermost_frame() -> None:
    assert rule(b"\x07\x10").undefined_ra
    assert not rule(b"").undefined_ra


def test_a_signal_frame_says_so() -> None:
    found = rule(b"", head=cie(b"zRS"))
    assert found.signal
    assert found.quick is None


@pytest.mark.parametrize(
    ("augmentation", "extra"),
    [
        (b"zR", b"\x1b"),
        (b"zPLR", b"\x9b\x01\x02\x03\x04\x1b\x1b"),  # personality pcrel indirect sdata4, lsda
        (b"zPR", b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x1b"),  # absolute personality
        (b"zLRS", b"\xff\x1b"),
        (b"zRB", b"\x1b"),
        (b"zRG", b"\x1b"),
        (b"zR\xff", b"\x1b"),  # unknown letters behind what is needed
    ],
)
def test_augmentations(augmentation: bytes, extra: bytes) -> None:
    assert rule(PUSHED, 1, head=cie(augmentation, extra)).cfa_offset == 16


@pytest.mark.parametrize(
    ("encoding", "pointers"),
    [
        (0x00, struct.pack("<QQ", 0x5000, 0x100)),
        (0x01, uleb(0x5000) + uleb(0x100)),
        (0x02, struct.pack("<HH", 0x5000, 0x100)),
        (0x03, struct.pack("<II", 0x5000, 0x100)),
        (0x04, struct.pack("<QQ", 0x5000, 0x100)),
        (0x09, sleb(0x5000) + sleb(0x100)),
        (0x0B, struct.pack("<ii", 0x5000, 0x100)),
        (0x0C, struct.pack("<qq", 0x5000, 0x100)),
        (0x1B, None),
        (0x1C, None),
        (0x3B, struct.pack("<ii", 0x5000 - 0x1000, 0x100)),  # relative to .eh_frame_hdr
        (0x9B, "indirect"),
    ],
)
def test_pointer_encodings(encoding: int, pointers: bytes | str | None) -> None:
    content = cie(extra=bytes([encoding]))
    place = len(content)
    if pointers is None:
        pointers = struct.pack("<ii" if encoding == 0x1B else "<qq", 0x5000 - (SECTION + place + 8), 0x100)
    if isinstance(pointers, str):  # what it points to is a pointer at the end of the section
        pointers = struct.pack("<ii", 0, 0x100)
        content += fde(place, 0, pointers, PUSHED)
        content = content[: place + 8] + struct.pack("<i", len(content) - place - 8) + content[place + 12 :]
        content += struct.pack("<Q", 0x5000)
    else:
        content += fde(place, 0, pointers, PUSHED)
    # A header without a search table: it is what data-relative pointers are relative to.
    data = b"\x01\xff\xff\xff" + content
    found = table(data, eh_frame_hdr=(0, 0x1000, 4), eh_frame=(4, SECTION, len(content)))
    located = found.rule_at(0x5001)
    assert found.function_start(0x5001) == 0x5000
    assert located is not None
    assert located.cfa_offset == 16


@pytest.mark.parametrize("encoding", [0x20, 0x2B, 0x40, 0x07, 0x0F, 0x60, 0xFF])
def test_pointers_without_a_meaning_are_no_rules(encoding: int) -> None:
    content = cie(extra=bytes([encoding]))
    content += fde(len(content), 0, struct.pack("<QQ", 0x5000, 0x100), PUSHED)
    assert table(content, eh_frame=(0, SECTION, len(content))).rule_at(0x5001) is None


@pytest.mark.parametrize("version", [1, 3, 4])
def test_debug_frame_is_asked_where_eh_frame_has_nothing(version: int) -> None:
    content = cie(b"", b"", version=version, identity=0xFFFFFFFF)
    content += fde(0, 0, struct.pack("<QQ", 0x7000, 0x100), PUSHED, augmented=False, debug=True)
    frame, _ = eh_frame([(0x5000, 0x100, b"")])
    found = table(frame + content, eh_frame=(0, SECTION, len(frame)), debug_frame=(len(frame), 0, len(content)))
    assert [found.function_start(address) for address in (0x5001, 0x7001, 0x8000)] == [0x5000, 0x7000, None]


def test_further_rules_are_asked_for_once_and_only_when_needed() -> None:
    content = cie(b"", b"", version=3, identity=0xFFFFFFFF)
    content += fde(0, 0, struct.pack("<QQ", 0x7000, 0x100), PUSHED, augmented=False, debug=True)
    asked = 0

    def further() -> frame_table.FrameTable:
        nonlocal asked
        asked += 1
        return table(content, debug_frame=(0, 0, len(content)))

    frame, _ = eh_frame([(0x5000, 0x100, b"")])
    found = frame_table.FrameTable(
        frame, bits=64, arch=Arch.X86_64, eh_frame_hdr=None, eh_frame=(0, SECTION, len(frame)), debug_frame=None,
        further=further,
    )  # fmt: skip
    assert found.function_start(0x5001) == 0x5000
    assert found.rule_at(0x5001) is not None
    assert asked == 0
    assert found.function_start(0x7001) == 0x7000
    assert [found.rule_at(address) is not None for address in (0x7001, 0x8000, 0x8001)] == [True, False, False]
    assert asked == 1


def test_a_return_address_that_was_taken_off_the_stack_has_no_rule_in_debug_frame() -> None:
    popped = b"\x41\x0e\x00\x41\x0e\x08"  # after one byte: CFA is rsp; after two: rsp+8
    content = cie(b"", b"", version=3, identity=0xFFFFFFFF)
    content += fde(0, 0, struct.pack("<QQ", 0x7000, 0x100), popped, augmented=False, debug=True)
    found = table(content, debug_frame=(0, 0, len(content)))
    assert [found.rule_at(0x7000 + at) is not None for at in (0, 1, 2)] == [True, False, True]


def test_without_section_headers_the_search_table_finds_eh_frame() -> None:
    content, places = eh_frame([(0x5000, 0x10, PUSHED)])
    data = search_table([0x5000], places).ljust(0x1000, b"\0") + content
    found = table(data, eh_frame_hdr=(0, 0x1000, 20))
    assert found.function_start(0x5008) == 0x5000


def test_32_bit_addresses_wrap() -> None:
    content = cie(column=8, initial=b"\x0c\x04\x04\x88\x01")
    place = SECTION + len(content) + 8
    content += fde(len(content), 0, struct.pack("<II", (0xF0000000 - place) & 0xFFFFFFFF, 0x100), b"")
    found = table(content, bits=32, arch=Arch.I386, eh_frame=(0, SECTION, len(content)))
    assert found.function_start(0xF0000004) == 0xF0000000


def test_the_content_can_be_a_mapped_file() -> None:
    content, _ = eh_frame([(0x5000, 0x10, PUSHED)])
    with mmap.mmap(-1, len(content)) as mapped:
        mapped[:] = content
        found = table(mapped, eh_frame=(0, SECTION, len(content)))
        assert found.function_start(0x5000) == 0x5000


@pytest.mark.parametrize(
    "program",
    [
        b"\x0b",  # restores what was not remembered
        b"\x0a" * 100,
        b"\x1d",
        b"\x0f\x7f",  # a block beyond the end
        b"\x0e" + b"\x80" * 30,
        b"".join(b"\x07" + uleb(number) for number in range(1000)),
    ],
)
def test_a_broken_program_is_no_rule(program: bytes) -> None:
    assert ruled(program) is None


def test_lengths_beyond_all_files_are_no_rules() -> None:
    huge = b"\xff" * 11 + b"\x01"
    content = cie()
    pointers = struct.pack("<ii", 0x5000 - SECTION - len(content) - 8, 0x100)
    content += fde(len(content), 0, pointers, huge, augmented=False)
    found = table(content, eh_frame=(0, SECTION, len(content)))
    assert (found.function_start(0x5001), found.rule_at(0x5001)) == (0x5000, None)


@pytest.mark.parametrize("count", [0x7FFFFFFF, 3, 0])
def test_a_search_table_that_does_not_fit_is_not_used(count: int) -> None:
    content, places = eh_frame([(0x5000, 0x10, PUSHED)])
    search = bytearray(search_table([0x5000], places))
    search[8:12] = struct.pack("<I", count)
    found = table(
        bytes(search) + content, eh_frame_hdr=(0, 0x1000, len(search)), eh_frame=(len(search), SECTION, len(content))
    )
    assert found.function_start(0x5000) == 0x5000  # by way of .eh_frame


def test_an_index_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_table, "MOST_INDEXED", 11)  # of which one is the CIE
    found = eh_frame_table([(0x5000 + 16 * number, 16, b"") for number in range(20)], header=False)
    starts = [found.function_start(0x5000 + 16 * number) for number in range(20)]
    assert [start is not None for start in starts] == [True] * 10 + [False] * 10


@settings(max_examples=150, deadline=2000)
@given(st.binary(max_size=300), st.booleans(), st.integers(0, 400))
def test_random_sections_give_answers(data: bytes, header: bool, address: int) -> None:
    all_of_it = (0, 0, len(data))
    found = table(data, eh_frame_hdr=all_of_it if header else None, eh_frame=all_of_it, debug_frame=all_of_it)
    found.rule_at(address)
    found.function_start(address)


@settings(max_examples=300, deadline=2000)
@given(st.binary(max_size=400))
def test_random_programs_give_answers(program: bytes) -> None:
    ruled(program, 0x80)


@settings(max_examples=200, deadline=2000)
@given(st.data())
def test_damaged_sections_give_answers(data: st.DataObject) -> None:
    content, places = eh_frame([(0x5000, 0x10, PUSHED), (0x6000, 0x20, PUSHED * 3)])
    search = search_table([0x5000, 0x6000], places)
    whole = bytearray(search + content)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    found = table(
        bytes(whole), eh_frame_hdr=(0, 0x1000, len(search)), eh_frame=(len(search), SECTION, len(content))
    )
    for address in (0x5001, 0x6001):
        found.rule_at(address)
        found.function_start(address)


def test_the_longest_program_ends_soon() -> None:
    began = time.perf_counter()
    assert ruled(b"\x0a\x0b" * 30000) is not None
    assert ruled(b"\x00" * 70000) is None
    assert time.perf_counter() - began < 2
