"""Copy-on-write pages of real forks, against programs and mappings whose every write is known."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest
from held import Held, forked, in_child
from tracing import Line, Program, said

from forklore.abi.units import Tid, Unavailable
from forklore.linux.memory import PAGE_SIZE
from forklore.linux.pages import pagemap
from forklore.linux.pages.contents import Checksums, Sums, changed, checksums
from forklore.linux.pages.cow import (
    NONE,
    OWN,
    SHARED,
    Common,
    CountSource,
    CowChange,
    CowSnapshot,
    Span,
    _from_smaps,
    common,
    compare,
    over,
    snapshot,
)
from forklore.linux.tracing.wait import Kind

ME = Tid(os.getpid())
NOBODY = 65534
MAP_NORESERVE = 0x4000
"""Python's mmap names it from 3.13 on."""


def taken(tid: Tid) -> CowSnapshot:
    found = snapshot(tid)
    assert isinstance(found, CowSnapshot)
    return found


def only(base: Common, address: int, pages: int) -> Common:
    """The common pages of one mapping."""
    marks = over(base.spans, address, pages)
    framed = all(span.frames is not None for span in base.spans)
    frames = over(base.spans, address, pages, frames=True) if framed else None
    return Common(base.source, marks.count(1), base.exact, base.same_frames, (Span(address, marks, frames),))


class Pages(Held):
    """Runs cow_pages; looks at both when the child is made, and again before it ends or executes."""

    def __init__(self) -> None:
        super().__init__()
        self.base: Common | None = None
        self.line: Line | None = None
        self.changes: dict[str, CowChange] = {}
        self.written: dict[str, int | Unavailable] = {}

    def created(self, creator: Tid, child: Tid, how: Kind) -> None:
        assert how is Kind.FORK
        self.tasks = {"child": child, "creator": creator}
        self.base = common(taken(child), taken(creator))
        sums = checksums(child, self.base)
        assert isinstance(sums, Checksums)
        assert sums.left_out == 0
        self.sums = sums

    def executing(self, tid: Tid) -> None:
        self.look(tid)

    def exiting(self, tid: Tid) -> None:
        self.look(tid)

    def look(self, tid: Tid) -> None:
        if self.base is None or tid != self.tasks["child"] or self.changes:
            return
        (self.line,) = (line for line in said(self.said()) if line.word == "cow")
        address, count = self.line.number("address"), self.line.number("pages")
        self.own = only(self.base, address, count)
        sums = _only_sums(self.sums, address, count)
        for name, task in self.tasks.items():
            now = taken(task)
            self.changes[name] = compare(self.own, now)
            self.written[name] = changed(task, sums, now)


def _only_sums(sums: Checksums, address: int, pages: int) -> Checksums:
    end = address + pages * PAGE_SIZE
    runs = []
    for run in sums.runs:
        first = max(0, (address - run.start) // PAGE_SIZE)
        last = min(len(run.sums), (end - run.start) // PAGE_SIZE)
        if first < last:
            runs.append(Sums(run.start + first * PAGE_SIZE, run.sums[first:last]))
    return Checksums(tuple(runs), 0)


def check(program: Path, arguments: tuple[str, ...], *, framed: bool) -> None:
    run = Pages()
    assert run.run(program, *arguments) == 0, run.out
    line = run.line
    assert line is not None
    total, by = line.number("pages"), {"child": line.number("child_wrote"), "creator": line.number("parent_wrote")}
    # Before Linux 6.7 a page that was only read may be among them, for all that pagemap tells.
    told = pagemap.probe().scan is True
    assert (run.own.pages, run.own.exact, run.own.source) == (total, told, CountSource.PAGEMAP)
    for name, change in run.changes.items():
        assert (change.parted, change.still) == (sum(by.values()), total - sum(by.values()))
        assert (change.swapped, change.gone) == (0, 0)
        assert run.written[name] == by[name]
        if framed:
            assert change.copied == by[name]
        else:
            assert isinstance(change.copied, Unavailable)


ARGUMENTS = [("101", "23", "7"), ("101", "0", "0", "exec"), ("53", "53", "0", "exec"), ("211", "1", "210")]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
def test_each_sides_copies_are_counted_to_the_page(program: Program, arguments: tuple[str, ...]) -> None:
    check(program("cow_pages"), arguments, framed=pagemap.probe().frames is True)


def test_without_frame_numbers_contents_tell_who_changed_what(program: Program) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user; as an ordinary user the test before this one shows the same")
    path = program("cow_pages")
    in_child(lambda: check(path, ("101", "23", "7"), framed=False), uid=NOBODY)


def mapped(size: int, advice: int, flags: int = 0) -> tuple[mmap.mmap, int]:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)
    memory.madvise(advice)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_pages_that_were_only_read_are_not_common() -> None:
    memory, address = mapped(11 * PAGE_SIZE, mmap.MADV_NOHUGEPAGE)
    memory[3 * PAGE_SIZE] = 1
    assert sum(memory[page * PAGE_SIZE] for page in range(11)) == 1
    with forked() as child:
        found = taken(child)
        if not found.zero_told:
            pytest.skip("before Linux 6.7 pagemap does not tell the zero page from a common one")
        assert list(over(found.spans, address, 11)) == [NONE] * 3 + [SHARED] + [NONE] * 7


def test_a_terabyte_of_nothing_costs_nothing() -> None:
    if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2":
        pytest.skip("vm.overcommit_memory is 2: no mapping larger than the machine")
    if pagemap.probe().scan is not True:
        pytest.skip("this kernel has no PAGEMAP_SCAN (Linux 6.7): every page is looked at, up to the limit")
    memory, address = mapped(1 << 40, mmap.MADV_NOHUGEPAGE, MAP_NORESERVE)
    places = [0, 1 << 39, (1 << 40) - PAGE_SIZE]
    for place in places:
        memory[place] = 1
    found = taken(ME)
    assert found.left_out == 0
    assert [over(found.spans, address + place, 1)[0] for place in places] == [OWN] * 3
    assert over(found.spans, address + PAGE_SIZE, 1)[0] == NONE


def test_huge_pages_are_said_to_be_inexact() -> None:
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not enabled.exists() or "[never]" in enabled.read_text():
        pytest.skip("transparent huge pages are off")
    memory, address = mapped(4 << 20, mmap.MADV_HUGEPAGE)
    for offset in range(0, 4 << 20, PAGE_SIZE):
        memory[offset] = 1
    with forked() as child:
        found = taken(child)
        if not found.huge:
            pytest.skip("the kernel found no huge page to give")
        assert not found.exact
        assert not common(found, taken(ME)).exact
        assert over(found.spans, address, (4 << 20) // PAGE_SIZE).count(SHARED) == (4 << 20) // PAGE_SIZE


def test_a_limit_is_kept_and_said() -> None:
    with forked() as child:  # it stands still
        found = snapshot(child, limit=100)
    assert isinstance(found, CowSnapshot)
    # What is read along between the regions is no page that counts.
    assert sum(len(span.pages) - span.pages.count(NONE) for span in found.spans) == 100
    assert not found.exact
    assert found.left_out > 0


def test_looking_does_not_copy() -> None:
    memory, address = mapped(64 * PAGE_SIZE, mmap.MADV_NOHUGEPAGE)
    memory[:] = bytes(range(256)) * (len(memory) // 256)
    with forked() as child:
        base = only(common(taken(child), taken(ME)), address, 64)
        assert base.pages == 64
        sums = checksums(child, base)
        assert isinstance(sums, Checksums)
        assert sum(len(run.sums) for run in sums.runs) == 64
        assert compare(base, taken(child)).still == 64


def test_memory_that_is_given_up_is_gone() -> None:
    memory, address = mapped(16 * PAGE_SIZE, mmap.MADV_NOHUGEPAGE)
    memory[:] = b"x" * len(memory)
    with forked() as child:
        base = only(common(taken(child), taken(ME)), address, 16)
        memory.madvise(mmap.MADV_DONTNEED, 0, 5 * PAGE_SIZE)
        mine, its = compare(base, taken(ME)), compare(base, taken(child))
    assert (mine.still, mine.parted, mine.gone) == (11, 0, 5)
    assert (its.still, its.parted, its.gone) == (11, 5, 0)
    if base.same_frames:
        assert its.copied == 0


def test_smaps_counts_what_pagemap_counts() -> None:
    memory, _address = mapped(64 * PAGE_SIZE, mmap.MADV_NOHUGEPAGE)
    memory[:] = b"x" * len(memory)
    with forked() as child:
        # In this order: what this process writes in between parts pages, and joins none.
        estimate = _from_smaps(child, Unavailable(0, "not tried"))
        exact = taken(child)
        assert isinstance(estimate, CowSnapshot)
        assert estimate.source is CountSource.SMAPS
        assert exact.shared <= estimate.shared
        assert not estimate.exact


def test_another_users_process_is_unavailable_with_the_reason() -> None:
    def look() -> None:
        found = snapshot(Tid(1))
        assert isinstance(found, Unavailable)
        assert found.errno in (1, 13)
        assert "/proc/1/" in found.why

    if os.getuid() == 0:
        in_child(look, uid=NOBODY)
    else:
        look()
