"""Members of struct clone_args, read one by one and together, agree with the whole struct decoded."""

from __future__ import annotations

import struct
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi import clone_args
from forklore.abi.clone_args import FIELDS, OFFSETS, VER0, VER2, FieldName
from forklore.decode.clone_struct import Words, read_struct

NAMES = tuple(field.name for field in FIELDS)
BLOCKS = st.binary(min_size=VER0, max_size=VER2 + 16)


def test_the_names_are_those_of_the_headers() -> None:
    assert get_args(FieldName) == NAMES
    assert ("tail", *NAMES) == Words.__struct_fields__


@given(BLOCKS)
def test_a_member_is_what_the_decoded_struct_has(block: bytes) -> None:
    words, _ = read_struct(block, len(block))
    for name in NAMES:
        assert clone_args.field(block, name) == getattr(words, name)
        in_hex = bytes.fromhex(block.hex()[clone_args.hexadecimal(name)])
        assert int.from_bytes(in_hex, "little") == getattr(words, name)


@given(BLOCKS, st.sets(st.sampled_from(NAMES), min_size=1))
def test_members_read_together_are_those_read_alone(block: bytes, wanted: set[FieldName]) -> None:
    names = sorted(wanted, key=OFFSETS.__getitem__)
    assert clone_args.reader(*names)(block) == tuple(clone_args.field(block, name) for name in names)


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2**64 - 1)))
def test_what_is_packed_is_read_back(words: dict[str, int]) -> None:
    block = clone_args.pack(**words)
    assert len(block) == VER2
    assert {name: clone_args.field(block, name) for name in NAMES} == dict.fromkeys(NAMES, 0) | words


def test_a_name_that_is_no_members_is_an_error() -> None:
    with pytest.raises(struct.error):
        clone_args.pack(flag=1)
