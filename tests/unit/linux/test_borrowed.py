"""Finding changed bytes, in which part of memory they lie, and how mappings changed: without any process."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Address
from forklore.linux.mappings import Mappings, parse
from forklore.linux.pages.vfork_memory import Before, Bounds, MemoryPart, _Listing, differences, remapped, subtract

MAPS = b"""\
400000-402000 rw-p 00000000 fe:00 7   /bin/program
402000-403000 rw-p 00000000 00:00 0
500000-502000 rw-p 00000000 00:00 0   [heap]
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
7ffe00000000-7ffe00010000 rw-p 00000000 00:00 0   [stack]
"""
SP = Address(0x7FFE0000F000)


def before(maps: Mappings | None = None, sp: Address = SP, child_stack: Bounds | None = None) -> Before:
    return Before(maps or parse(MAPS), sp, child_stack, (), (), (), 1)


@given(st.binary(min_size=1, max_size=80), st.data())
@settings(max_examples=200, deadline=None)
def test_every_differing_byte_is_in_one_range(old: bytes, data: st.DataObject) -> None:
    new = bytearray(old)
    for at in data.draw(st.sets(st.integers(0, len(old) - 1))):
        new[at] ^= data.draw(st.integers(0, 255))
    found = list(differences(old, new))
    differ = {at for at in range(len(old)) if old[at] != new[at]}
    assert {at for first, last in found for at in range(first, last)} >= differ
    for first, last in found:
        assert {first, last - 1} <= differ
        inside = sorted(differ & set(range(first, last)))
        assert all(b - a <= 8 for a, b in pairwise(inside))
    assert all(b[0] - a[1] >= 8 for a, b in pairwise(found))


def bounds(size: int) -> st.SearchStrategy[list[Bounds]]:
    edges = st.lists(st.integers(0, size), max_size=12, unique=True).map(sorted)
    return edges.map(lambda found: list(zip(found[::2], found[1::2], strict=False)))


@given(bounds(60), bounds(60))
@settings(max_examples=200, deadline=None)
def test_subtracting_ranges(regions: list[Bounds], known: list[Bounds]) -> None:
    left = {at for first, last in regions for at in range(first, last)}
    covered = {at for first, last in known for at in range(first, last)}
    found = list(subtract(regions, known))
    points = [at for first, last in found for at in range(first, last)]
    assert points == sorted(left - covered)
    assert all(first < last for first, last in found)


def listed(start: int, old: bytes, new: bytes, **how: object) -> list[tuple[int, int, MemoryPart]]:
    listing = _Listing(before(**how))  # type: ignore[arg-type]
    listing.add(start, memoryview(old), bytearray(new))
    return [(change.start, change.length, change.where) for change in listing.changes]


@pytest.mark.parametrize(
    ("address", "where"),
    [
        (0x400010, MemoryPart.DATA),
        (0x402010, MemoryPart.BSS),
        (0x500010, MemoryPart.HEAP),
        (0x7F0000000010, MemoryPart.ANONYMOUS),
        (SP - 8, MemoryPart.DEAD_STACK),
        (0x7FFE00000010, MemoryPart.DEAD_STACK),
        (SP, MemoryPart.LIVE_STACK),
    ],
)
def test_where_a_change_lies(address: int, where: MemoryPart) -> None:
    assert listed(address, b"a", b"b") == [(address, 1, where)]
    assert where.harmless == (where is MemoryPart.DEAD_STACK)


def test_a_change_across_the_stack_pointer_is_two() -> None:
    assert listed(SP - 3, b"abcdef", b"uvwxyz") == [(SP - 3, 3, MemoryPart.DEAD_STACK), (SP, 3, MemoryPart.LIVE_STACK)]


def test_the_stack_that_the_call_gave_is_the_childs() -> None:
    stack = (0x7F0000001000, 0x7F0000002000)
    assert listed(stack[0] - 2, b"abcd", b"wxyz", child_stack=stack) == [
        (stack[0] - 2, 2, MemoryPart.ANONYMOUS),
        (stack[0], 2, MemoryPart.CHILD_STACK),
    ]
    assert MemoryPart.CHILD_STACK.harmless


def test_a_threads_stack_reaches_only_so_far_down() -> None:
    sp = Address(0x7F0000080000)
    assert listed(sp - 16, b"a", b"b", sp=sp)[0][2] is MemoryPart.DEAD_STACK
    assert listed(sp - (1 << 18) - 1, b"a", b"b", sp=sp)[0][2] is MemoryPart.ANONYMOUS
    assert listed(sp, b"a", b"b", sp=sp)[0][2] is MemoryPart.LIVE_STACK


def test_pieces_that_adjoin_make_one_change_of_which_the_beginning_is_kept() -> None:
    listing = _Listing(before())
    for index in range(3):
        listing.add(0x500000 + 200 * index, memoryview(b"o" * 200), bytearray(b"n" * 200))
    (change,) = listing.changes
    assert (change.start, change.length, change.old, change.new) == (0x500000, 600, b"o" * 256, b"n" * 256)


def test_more_ranges_than_are_listed_are_counted() -> None:
    listing = _Listing(before())
    old = bytes(16 * 5000)
    new = bytearray(b"\1" + bytes(15)) * 5000
    listing.add(0x7F0000000000, memoryview(old), new)
    assert (len(listing.changes), listing.more) == (4096, 5000 - 4096)


AFTER = b"""\
400000-401000 rw-p 00000000 fe:00 7   /bin/program
401000-402000 r--p 00001000 fe:00 7   /bin/program
402000-403000 rw-p 00000000 00:00 0
500000-523000 rw-p 00000000 00:00 0   [heap]
7ffd00000000-7ffe00010000 rw-p 00000000 00:00 0   [stack]
"""


def test_mappings_that_came_went_and_changed() -> None:
    found = [
        (r.start, r.end, r.before and r.before.permissions, r.after and r.after.permissions)
        for r in remapped(before(), parse(AFTER))
    ]
    assert found == [
        (0x401000, 0x402000, "rw-p", "r--p"),
        (0x502000, 0x523000, None, "rw-p"),
        (0x7F0000000000, 0x7F0000100000, "rw-p", None),
    ]


def test_no_difference_in_equal_mappings_however_they_are_split() -> None:
    split = MAPS.replace(
        b"400000-402000 rw-p 00000000 fe:00 7   /bin/program",
        b"400000-401000 rw-p 00000000 fe:00 7   /bin/program\n401000-402000 rw-p 00001000 fe:00 7   /bin/program",
    )
    assert list(remapped(before(), parse(split))) == []
