"""Pages of this process: written, only read, never touched. And what the probes claim of them."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator

import pytest

from forklore.abi.units import Tid, Unavailable
from forklore.linux.memory import PAGE_SIZE
from forklore.linux.pages.pagemap import EXCLUSIVE, FILE, PRESENT, Pagemap, PageRun, flags, open_pagemap, probe

OWN = Tid(os.getpid())


@pytest.fixture
def pagemap() -> Iterator[Pagemap]:
    opened = open_pagemap(OWN)
    assert not isinstance(opened, Unavailable)
    with opened as entered:
        yield entered


def mapped(pages: int, flags: int = mmap.MAP_PRIVATE) -> tuple[mmap.mmap, int]:
    memory = mmap.mmap(-1, pages * PAGE_SIZE, flags=flags | mmap.MAP_ANONYMOUS)
    if flags == mmap.MAP_PRIVATE:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_written_read_and_untouched(pagemap: Pagemap) -> None:
    memory, address = mapped(3)
    memory[0] = 1
    assert memory[PAGE_SIZE] == 0
    written, _read, untouched = flags(pagemap.entries(address, 3))
    assert written & (PRESENT | FILE | EXCLUSIVE) == PRESENT | EXCLUSIVE
    assert untouched == 0


def test_shared_memory_is_no_anonymous_memory(pagemap: Pagemap) -> None:
    memory, address = mapped(1, mmap.MAP_SHARED)
    memory[0] = 1
    (flag,) = flags(pagemap.entries(address, 1))
    assert flag & (PRESENT | FILE) == PRESENT | FILE


def test_entries_behind_the_address_space_are_zeros(pagemap: Pagemap) -> None:
    assert pagemap.entries(1 << 62, 3) == bytes(24)


def test_scan_finds_the_written_pages_only(pagemap: Pagemap) -> None:
    if probe().scan is not True:
        pytest.skip("this kernel has no PAGEMAP_SCAN (Linux 6.7)")
    memory, address = mapped(8)
    for page in (1, 2, 5):
        memory[page * PAGE_SIZE] = 1
    assert memory[3 * PAGE_SIZE] == 0
    at = [address + page * PAGE_SIZE for page in range(8)]
    assert pagemap.anonymous(address, at[7]) == [
        PageRun(at[1], at[3], huge=False),
        PageRun(at[5], at[6], huge=False),
    ]


def test_more_regions_than_one_call_returns(pagemap: Pagemap) -> None:
    if probe().scan is not True:
        pytest.skip("this kernel has no PAGEMAP_SCAN (Linux 6.7)")
    memory, address = mapped(2 * 5003)
    for page in range(5003):
        memory[2 * page * PAGE_SIZE] = 1
    found = pagemap.anonymous(address, address + len(memory))
    assert [(region.start - address) // PAGE_SIZE for region in found] == list(range(0, 2 * 5003, 2))


def test_a_process_that_is_not_there() -> None:
    answer = open_pagemap(Tid(1 << 30))
    assert isinstance(answer, Unavailable)
    assert answer.errno == 2


def test_probes_leave_nothing_behind_and_agree_with_each_other() -> None:
    before = os.listdir("/proc/self/fd")
    first, second = probe(), probe()
    assert os.listdir("/proc/self/fd") == before
    assert first == second
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_bit_56_works_wherever_pagemap_can_be_read() -> None:
    answer = probe().exclusive
    assert answer is True  # Linux 4.2


def test_soft_dirty_is_not_believed_without_the_kernels_support(pagemap: Pagemap) -> None:
    # With CONFIG_MEM_SOFT_DIRTY a new mapping is dirty from the start; without, the bit is never set.
    memory, address = mapped(1)
    memory[0] = 1
    assert probe().soft_dirty is bool(pagemap.entries(address, 1)[6] & 0x80)
