"""Attributes of objects in the memory of an interpreter: as each version keeps them, and in memory of any content."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cpython_layouts import Image, layout_named

from forklore.elf.cpython._layouts import LAYOUTS
from forklore.elf.cpython.attributes import Attributes
from forklore.elf.cpython.layout import CPythonLayout
from forklore.elf.cpython.objects import ObjectMemory, Objects, UnreadableError

NAMES = frozenset({b"_name", b"_target"})
WITH_LOCK = [name for name in LAYOUTS if not name.endswith("t")]


def reader(image: Image) -> Attributes:
    memory = ObjectMemory(image.read)
    return Attributes(image.layout, memory, Objects(image.layout, memory, None))


def keys_of(image: Image, names: list[str], values: list[int], *, general: bool) -> int:
    """A table of names, with their values in it where there are any."""
    layout = image.layout
    hashed = general or layout.minor < 11
    entries = b"".join(
        struct.pack("<3Q" if hashed else "<2Q", *([7] if hashed else []), image.text(name), value)
        for name, value in zip(names, values or [0] * len(names), strict=True)
    )
    if layout.minor < 11:
        return image.data(struct.pack("<5Q", 1, 8, 0, 0, len(names)) + bytes(8) + entries)
    head = bytearray(layout.keys_indices)
    head[layout.keys_index_bytes], head[layout.keys_kind] = 3, 0 if general else 1
    struct.pack_into("<Q", head, layout.keys_count, len(names))
    return image.data(bytes(head) + bytes(8) + entries)


def dict_of(image: Image, keys: int, values: int = 0) -> int:
    made = image.room(64)
    image.put(made + image.layout.dict_keys, keys)
    image.put(made + image.layout.dict_values, values)
    return made


def object_of(image: Image) -> tuple[int, int]:
    """An object of 16 bytes, and the words before it and its type."""
    layout, type_ = image.layout, image.room(1024)
    made = image.room(256) + 64
    image.put(made + layout.object_type, type_)
    image.put(type_ + layout.type_size, 16)
    image.put(type_ + layout.type_dict, 16)
    return made, type_


def hang(image: Image, address: int, dict_: int) -> None:
    image.put(address + 16 if image.layout.minor < 11 else address - 24, dict_)


@pytest.mark.parametrize("name", WITH_LOCK)
@pytest.mark.parametrize("general", [False, True])
def test_an_object_with_a_dict(name: str, general: bool) -> None:
    image = Image(layout_named(name))
    address, _type = object_of(image)
    hang(image, address, dict_of(image, keys_of(image, ["a", "_target", "_name", "b"], [1, 2, 3, 4], general=general)))
    assert reader(image).of(address, NAMES) == {b"_target": 2, b"_name": 3}


@pytest.mark.parametrize("name", WITH_LOCK)
def test_an_object_that_has_its_names_in_common_with_others(name: str) -> None:
    image = Image(layout_named(name))
    layout = image.layout
    address, type_ = object_of(image)
    keys = keys_of(image, ["_name", "a", "_target"], [], general=False)
    values = bytes(layout.values_first) + struct.pack("<3Q", 5, 6, 0)  # one is not set
    if layout.minor < 11:
        hang(image, address, dict_of(image, keys, image.data(values)))
    else:
        image.put(type_ + layout.type_keys, keys)
        if layout.minor == 11:
            image.put(address - 32, image.data(values))
        elif layout.minor == 12:
            image.put(address - 24, image.data(values) - 1)
        else:
            image.write(address + 16, values)
    assert reader(image).of(address, NAMES) == {b"_name": 5}


def test_without_the_lock_it_is_not_known() -> None:
    image = Image(layout_named("3.14t"))
    with pytest.raises(UnreadableError, match="without the global interpreter lock"):
        reader(image).of(object_of(image)[0], NAMES)


@given(st.sampled_from(WITH_LOCK), st.binary(min_size=64, max_size=512), st.integers(0, 1 << 64))
def test_memory_of_any_content(name: str, junk: bytes, address: int) -> None:
    layout: CPythonLayout = layout_named(name)
    page = (junk * (4096 // len(junk) + 1))[:4096]
    memory = ObjectMemory(lambda _address, size: page[:size])
    attributes = Attributes(layout, memory, Objects(layout, memory, None))
    try:
        found = attributes.of(address, NAMES)
    except UnreadableError:
        return
    assert set(found) <= NAMES
