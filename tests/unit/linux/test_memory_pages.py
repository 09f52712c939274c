"""Strings and pointer arrays out of a program's memory, with this process as the program."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux import memory
from forklore.linux.libc import fail, function
from forklore.linux.memory import PAGE_SIZE, Pages

OWN = Tid(os.getpid())
_mmap = function(
    "mmap", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
)
_munmap = function("munmap", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
LENGTH = 3 * PAGE_SIZE


class Mapped:
    """Three pages that can be written, and after them one that is not mapped."""

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.start = _mmap(None, LENGTH + PAGE_SIZE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        assert self.start not in (None, ctypes.c_void_p(-1).value)
        if _munmap(self.start + LENGTH, PAGE_SIZE) == -1:
            raise fail("munmap")
        self.end = Address(self.start + LENGTH)

    def put(self, offset: int, data: bytes) -> Address:
        assert offset + len(data) <= LENGTH
        ctypes.memmove(self.start + offset, data, len(data))
        return Address(self.start + offset)


@pytest.fixture(scope="module")
def pages() -> Iterator[Mapped]:
    mapped = Mapped()
    yield mapped
    assert _munmap(mapped.start, LENGTH) == 0


def unavailable(value: object) -> Unavailable:
    assert isinstance(value, Unavailable)
    return value


@given(offset=st.integers(0, LENGTH - 1), text=st.binary(max_size=300), limit=st.integers(0, 400))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_string_wherever_it_lies(pages: Mapped, offset: int, text: bytes, limit: int) -> None:
    text = text.replace(b"\0", b"x")[: LENGTH - 1 - offset]
    address = pages.put(offset, text + b"\0")
    assert Pages(OWN).string(address, limit) == text[:limit]


def test_a_string_across_all_pages_and_its_limit(pages: Mapped) -> None:
    text = bytes(1 + index % 255 for index in range(LENGTH - 1))
    address = pages.put(0, text + b"\0")
    assert Pages(OWN).string(address, 1 << 20) == text
    for limit in (0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE, LENGTH - 1):
        assert Pages(OWN).string(address, limit) == text[:limit]


def test_a_string_that_runs_into_unmapped_memory(pages: Mapped) -> None:
    address = pages.put(LENGTH - 4, b"long")
    problem = unavailable(Pages(OWN).string(address, 100))
    assert problem.errno == errno.EFAULT
    assert hex(pages.end) in problem.why
    # What is asked for ends before the hole, so nothing is missing.
    assert Pages(OWN).string(address, 4) == b"long"


@pytest.mark.parametrize("address", [0, 8, 1 << 47, (1 << 64) - PAGE_SIZE, (1 << 64) - 1])
def test_bad_pointers_are_values(address: int) -> None:
    assert unavailable(Pages(OWN).string(Address(address), 10)).errno == errno.EFAULT
    assert unavailable(Pages(OWN).pointers(Address(address), Arch.X86_64, 10)).errno == errno.EFAULT
    assert unavailable(memory.read(OWN, Address(address), 8)).errno == errno.EFAULT


@pytest.mark.parametrize(("arch", "size"), [(Arch.X86_64, 8), (Arch.X32, 4), (Arch.I386, 4), (Arch.AARCH64, 8)])
@pytest.mark.parametrize("offset", [0, PAGE_SIZE - 16, PAGE_SIZE - 3, PAGE_SIZE - 9])
def test_pointer_arrays(pages: Mapped, arch: Arch, size: int, offset: int) -> None:
    wanted = [index * 0x01010101 for index in range(1, 6)]
    address = pages.put(offset, b"".join(value.to_bytes(size, "little") for value in [*wanted, 0]))
    assert Pages(OWN).pointers(address, arch, 100) == (wanted, True)
    assert Pages(OWN).pointers(address, arch, 5) == (wanted, True)
    assert Pages(OWN).pointers(address, arch, 4) == (wanted[:4], False)
    assert Pages(OWN).pointers(address, arch, 0) == ([], False)


def test_a_pointer_array_without_an_end(pages: Mapped) -> None:
    pages.put(0, b"\xff" * LENGTH)
    problem = unavailable(Pages(OWN).pointers(Address(pages.end - 8), Arch.X86_64, 100))
    assert problem.errno == errno.EFAULT
    assert unavailable(Pages(OWN).pointers(Address(pages.end - 5), Arch.X86_64, 100)).errno == errno.EFAULT
    assert Pages(OWN).pointers(Address(pages.end - 8), Arch.X86_64, 0) == ([], False)


def test_each_page_is_read_once(pages: Mapped) -> None:
    address = pages.put(0, b"first\0")
    held = Pages(OWN)
    assert held.string(address, 10) == b"first"
    pages.put(0, b"other\0")
    assert held.string(address, 10) == b"first"
    assert Pages(OWN).string(address, 10) == b"other"


def test_reading_a_part(pages: Mapped) -> None:
    address = pages.put(LENGTH - 8, b"12345678")
    assert memory.read(OWN, address, 8) == b"12345678"
    assert memory.read_some(OWN, address, 64) == b"12345678"
    problem = unavailable(memory.read(OWN, address, 64))
    assert (problem.errno, problem.why) == (errno.EFAULT, f"only 8 of 64 bytes at {address:#x} are mapped")


def test_a_task_that_is_gone() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    assert unavailable(memory.read(Tid(pid), Address(8), 8)).errno == errno.ESRCH


def test_writing(pages: Mapped) -> None:
    address = pages.put(PAGE_SIZE - 3, b"......")
    memory.write(OWN, address, b"abcdef")
    assert memory.read_some(OWN, address, 6) == b"abcdef"
    with pytest.raises(OSError, match="process_vm_writev at 0x8") as caught:
        memory.write(OWN, Address(8), b"odd")
    assert caught.value.errno == errno.EFAULT


def test_bytes_and_a_window_by_one_call(pages: Mapped) -> None:
    at, start = pages.put(100, b"descriptor"), pages.put(PAGE_SIZE, b"stack")
    assert memory.with_window(OWN, at, 10, start, 5) == (b"descriptor", b"stack")
    near, window = memory.with_window(OWN, at, 10, Address(pages.end - 7), 64)
    assert (near, len(window)) == (b"descriptor", 7), "as much as is mapped of it"
    assert memory.with_window(OWN, pages.end, 10, start, 5) == (None, b"stack")
    assert memory.with_window(OWN, at, 10, pages.end, 5) == (b"descriptor", b"")
    assert memory.with_window(OWN, pages.end, 10, pages.end, 5) == (None, b"")
