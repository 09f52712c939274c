"""Where glibc keeps a thread's routine: from the installed library, from a file made here, and from broken ones."""

import ctypes
import ctypes.util
import struct
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Unavailable
from forklore.elf.image.image import ElfImage
from forklore.elf.image.thread_descriptors import PthreadLayout, descriptor, layout_from_image

ROUTINE, TID, SIZE = b"_thread_db_pthread_start_routine", b"_thread_db_pthread_tid", b"_thread_db_sizeof_pthread"


def published(routine: tuple[int, int, int], tid: tuple[int, int, int], size: int) -> Mapping[bytes, bytes]:
    return {ROUTINE: struct.pack("<III", *routine), TID: struct.pack("<III", *tid), SIZE: struct.pack("<I", size)}


def described(library: Mapping[bytes, bytes]) -> PthreadLayout | Unavailable:
    """As a library would have it whose symbols lie one after the other from address 4096 on."""
    addresses: dict[bytes, int] = {}
    data = b""
    for name, value in library.items():
        addresses[name] = 4096 + len(data)
        data += value
    return descriptor(addresses.get, lambda address, size: data[address - 4096 : address - 4096 + size])


def test_the_words_of_debians_glibc() -> None:
    found = described(published((64, 1, 1592), (32, 1, 720), 2368))
    assert found == PthreadLayout(start_routine=1592, tid=720, size=2368, pointer=8)
    assert found.arg == 1600


def test_a_32_bit_library_has_short_pointers() -> None:
    found = described(published((32, 1, 552), (32, 1, 104), 1216))
    assert isinstance(found, PthreadLayout)
    assert (found.start_routine, found.arg) == (552, 556)


def test_the_installed_library_publishes_the_layout_that_this_process_runs_with() -> None:
    library = ctypes.CDLL(None)
    try:
        words = (ctypes.c_uint32 * 3).in_dll(library, ROUTINE.decode())
    except ValueError:
        pytest.skip("Python's C library publishes no thread descriptors: not glibc, or older than 2.34")
    with open("/proc/self/maps", encoding="ascii") as maps:
        path = next(line.split()[5] for line in maps if "/libc.so" in line or "/libc-2" in line)
    image = ElfImage.open(path)
    assert isinstance(image, ElfImage)
    found = layout_from_image(image)
    assert isinstance(found, PthreadLayout)
    assert (8 * found.pointer, 1, found.start_routine) == tuple(words)
    assert found.size == ctypes.c_uint32.in_dll(library, SIZE.decode()).value
    # The tid of this very thread is there: pthread_self() is the address of its descriptor.
    library.pthread_self.restype = ctypes.c_void_p
    tid = ctypes.c_int.from_address(library.pthread_self() + found.tid).value
    assert tid == library.gettid()


def test_a_program_without_them_says_so() -> None:
    image = ElfImage.open("/proc/self/exe")
    assert isinstance(image, ElfImage)
    found = layout_from_image(image)
    assert isinstance(found, Unavailable)
    assert "no symbol _thread_db_pthread_start_routine" in found.why


@pytest.mark.parametrize("missing", [ROUTINE, TID, SIZE])
def test_each_missing_symbol_is_named(missing: bytes) -> None:
    library = {k: v for k, v in published((64, 1, 1592), (32, 1, 720), 2368).items() if k != missing}
    found = described(library)
    assert isinstance(found, Unavailable)
    assert missing.decode() in found.why


@pytest.mark.parametrize(
    ("routine", "tid", "size", "word"),
    [
        ((64, 1, 2368), (32, 1, 720), 2368, "no pointer"),
        ((64, 1, 2360), (32, 1, 720), 2368, "no pointer"),  # without room for the argument
        ((64, 2, 1592), (32, 1, 720), 2368, "no pointer"),
        ((63, 1, 1592), (32, 1, 720), 2368, "no pointer"),
        ((64, 1, 1593), (32, 1, 720), 2368, "no pointer"),
        ((64, 1, 1592), (64, 1, 720), 2368, "no thread id"),
        ((64, 1, 1592), (32, 1, 2366), 2368, "no thread id"),
        ((64, 1, 1592), (32, 1, 2**31), 2368, "no thread id"),
        ((64, 1, 1592), (32, 1, 720), 2**32 - 1, "no size"),
        ((64, 1, 0), (32, 1, 0), 0, "no size"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    routine: tuple[int, int, int], tid: tuple[int, int, int], size: int, word: str
) -> None:
    found = described(published(routine, tid, size))
    assert isinstance(found, Unavailable)
    assert word in found.why


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([ROUTINE, TID, SIZE]), st.binary(max_size=16)))
def test_any_bytes_give_a_layout_inside_the_descriptor_or_a_reason(library: dict[bytes, bytes]) -> None:
    found = described(library)
    if isinstance(found, PthreadLayout):
        assert found.arg + found.pointer <= found.size
        assert found.tid + 4 <= found.size
    else:
        assert found.why
