"""What the programs write is read as they write it: held against the type information in the committed objects."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.linux.bpf.object import Types
from forklore.sources.bpf import raw
from forklore.sources.bpf.programs import programs

ARCHES = (Arch.X86_64, Arch.AARCH64, Arch.RISCV64)
SIZES = {"H": 2, "I": 4, "i": 4, "Q": 8, "q": 8}


def _fields(layout: str) -> Iterator[tuple[int, int]]:
    """Offset and size of each value of a layout; a string is one value."""
    offset = 0
    for count, code in re.findall(r"(\d*)([HIiQqs])", layout):
        if code == "s":
            yield offset, int(count)
            offset += int(count)
            continue
        for _ in range(int(count or 1)):
            yield offset, SIZES[code]
            offset += SIZES[code]


def _values(types: Types, number: int, at: int = 0) -> Iterator[tuple[int, int]]:
    """The same of a type in BTF, structs and arrays taken apart; an array of bytes is one value."""
    members, array = types.inside(number), types.element(number)
    if members is not None:
        for member in members:
            yield from _values(types, member.type, at + member.offset)
    elif array is not None and types.size(array[0]) > 1:
        for index in range(array[1]):
            yield from _values(types, array[0], at + index * types.size(array[0]))
    else:
        yield at, types.size(number)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("name", raw.formats(Arch.X86_64))
def test_a_layout_is_the_one_in_the_object(arch: Arch, name: str) -> None:
    types = Types(programs(arch).btf)
    number = types.struct(name)
    assert number is not None, f"no program for {arch} writes a struct {name}"
    ours = list(_fields(raw.formats(arch)[name]))
    theirs = list(_values(types, number))
    # set_tid is taken as bytes here and is an array of numbers there.
    if name in ("create", "returned"):
        where = next(index for index, (offset, size) in enumerate(ours) if size == 128 and ours[index - 1][1] == 128)
        offset, size = ours[where]
        ours[where : where + 1] = [(offset + 4 * index, 4) for index in range(size // 4)]
    assert ours == theirs
    assert struct.calcsize(raw.formats(arch)[name]) == types.size(number)


@pytest.mark.parametrize("arch", ARCHES)
@given(st.binary(max_size=1200), st.integers(0, 12))
def test_no_bytes_are_read_as_anything_but_a_record_or_an_error(arch: Arch, block: bytes, kind: int) -> None:
    reader = raw.Reader(arch)
    with suppress(ValueError):
        assert reader.read(memoryview(kind.to_bytes(2, "little") + block)).head.kind == kind


def test_a_path_is_put_together_from_the_names_on_the_way_up() -> None:
    assert raw.path_of(b"dash\0bin\0usr\0", deleted=False) == b"/usr/bin/dash"
    assert raw.path_of(b"memfd:guest\0", deleted=True) == b"/memfd:guest (deleted)"
    assert raw.path_of(b"", deleted=False) == b"/"


@pytest.mark.parametrize("arch", ARCHES)
def test_a_call_is_read_from_the_registers_of_each_arch(arch: Arch) -> None:
    words = [0] * raw.WORDS[arch]
    if arch is Arch.X86_64:
        words[15], words[14], words[13] = 435, 0x7000, 88
    elif arch is Arch.AARCH64:
        words[35], words[34], words[1] = 435, 0x7000, 88
    else:
        words[17], words[35], words[11] = 435, 0x7000, 88
    block = struct.pack(
        raw.formats(arch)["returned"], raw.Kind.RETURN, 0, 7, 1, 2, 3, 7, -22, *[0] * 6, *[0] * 19, *words,
        0, 0, 88, 0, 0, 0, 88, b"\x01", bytes(128),
    )  # fmt: skip
    record = raw.Reader(arch).read(memoryview(block))
    assert isinstance(record, raw.Return)
    assert (record.result, record.call.arch, record.call.nr, record.call.words[:2]) == (-22, arch, 435, (0x7000, 88))
    assert record.call.struct == b"\x01".ljust(88, b"\0")
    assert record.call.set_tid is None


@pytest.mark.parametrize("arch", ARCHES)
def test_frames_of_an_interpreter_come_behind_the_other_memory(arch: Arch) -> None:
    stack, own, descriptor, frames = b"S" * 16, b"O" * 32, b"D" * 64, (b"1" * 80, b"2" * 80)
    layout = raw.formats(arch)["create"]
    values: list[int | bytes] = [bytes(size) if size > 8 else 0 for _offset, size in _fields(layout)]
    values[0], values[15] = raw.Kind.CREATE, len(stack)
    values[-8:] = 0x7000, 0x9000, len(own), len(descriptor), len(frames), 80, raw.DEEPER, 0
    block = struct.pack(layout, *values)
    made = raw.Reader(arch).read(memoryview(block + stack + own + descriptor + b"".join(frames)))
    assert isinstance(made, raw.Create)
    assert (made.stack, made.beside) == (stack, ((0x7000, own), (0x9000, descriptor)))
    assert (made.frames, made.frames_end) == (frames, raw.DEEPER)
