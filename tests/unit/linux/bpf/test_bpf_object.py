"""Objects with BPF programs: the committed ones are whole, and no bytes make the reader fail in a way of their own."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.linux.bpf.calls import MapType
from forklore.linux.bpf.object import BadObjectError, BpfObject, Types, read_object
from forklore.sources.bpf.programs import FOLDER, programs

ARCHES = (Arch.X86_64, Arch.AARCH64, Arch.RISCV64)
RAW = (FOLDER / "forklore-x86_64.bpf.o").read_bytes()
LD_IMM64 = 0x18
PSEUDO_FUNC = 4


@pytest.mark.parametrize("arch", ARCHES)
def test_each_arch_has_the_same_programs_maps_and_variables(arch: Arch) -> None:
    found, here = programs(arch), programs(Arch.X86_64)
    assert found.programs.keys() == here.programs.keys()
    assert {name: each.section for name, each in found.programs.items()} == {
        name: each.section for name, each in here.programs.items()
    }
    assert found.maps.keys() == here.maps.keys()
    assert found.variables.keys() == here.variables.keys()
    assert found.maps["ring"].type == MapType.RINGBUF
    assert (found.maps["tasks"].key, found.maps["tasks"].value) == (8, 16)


@pytest.mark.parametrize("arch", ARCHES)
def test_what_is_to_be_fixed_is_where_it_can_be(arch: Arch) -> None:
    source = programs(arch)
    for program in source.programs.values():
        code = program.instructions
        for reference in program.references:
            assert code[reference.offset] == LD_IMM64
            assert reference.map in source.maps or reference.map in (".rodata", ".bss")
            if reference.inside is not None:
                assert reference.inside < (source.room if reference.map == ".bss" else len(source.read_only))
        for offset, _type, _access, _kind in struct.iter_unpack("<IIII", program.relocations):
            assert offset % 8 == 0
            assert offset < len(code)
        starts = [start for start, _number in struct.iter_unpack("<II", program.functions)]
        assert starts[0] == 0
        assert starts == sorted(set(starts))


def test_what_is_given_to_bpf_loop_follows_its_program() -> None:
    program = programs(Arch.X86_64).programs["sched_prepare_exec"]
    starts = {start for start, _number in struct.iter_unpack("<II", program.functions)}
    assert len(starts) > 1
    led_to = set()
    for at in range(0, len(program.instructions), 8):
        code, registers, _offset, number = struct.unpack_from("<BBhi", program.instructions, at)
        if code == LD_IMM64 and registers >> 4 == PSEUDO_FUNC:
            led_to.add(at // 8 + number + 1)
    assert led_to == starts - {0}


def test_variables_hold_what_the_source_says() -> None:
    source = programs(Arch.X86_64)
    wake = source.variables["wake_bytes"]
    assert int.from_bytes(source.read_only[wake.offset : wake.offset + wake.size], "little") == 1 << 20
    assert source.variables["lost"].size == 16 * 8


def test_a_struct_is_found_by_its_name() -> None:
    types = Types(programs(Arch.X86_64).btf)
    number = types.struct("head")
    assert number is not None
    assert [(member.name, member.offset) for member in types.members(number)] == [
        ("kind", 0), ("cpu", 2), ("tid", 4), ("time", 8), ("number", 16), ("task", 24), ("tgid", 28),
    ]  # fmt: skip
    assert types.size(number) == 32
    assert types.struct("no such struct") is None


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no 64-bit"),
        (b"\x7fELF\x01\x01", "no 64-bit"),
        (RAW[:40], "ends early"),
        (RAW[:18] + b"\x3e\0" + RAW[20:], "for machine 62"),
        (Path("/proc/self/exe").read_bytes()[:4096], "for machine"),
    ],
)
def test_what_is_no_object_is_refused_in_words(raw: bytes, why: str) -> None:
    with pytest.raises(BadObjectError, match=why):
        read_object(raw)


@given(st.lists(st.tuples(st.integers(0, len(RAW) - 1), st.integers(0, 255)), max_size=8), st.integers(0, len(RAW)))
def test_damage_is_told_in_words(changes: list[tuple[int, int]], end: int) -> None:
    damaged = bytearray(RAW[:end] if end % 3 else RAW)
    for where, value in changes:
        if where < len(damaged):
            damaged[where] = value
    with suppress(BadObjectError):
        assert isinstance(read_object(bytes(damaged)), BpfObject)
