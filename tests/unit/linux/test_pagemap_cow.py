"""Counting pages on snapshots made by hand, against a model that keeps every page in a dictionary."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Tid, Unavailable
from forklore.linux.memory import PAGE_SIZE
from forklore.linux.pages.cow import (
    NONE,
    OWN,
    SHARED,
    SWAPPED,
    CountSource,
    CowSnapshot,
    Span,
    common,
    compare,
    grouped,
    over,
)
from forklore.linux.pages.pagemap import FRAME, PageRun

Page = tuple[int, int]
"""What it is, and its frame."""
PAGES = st.dictionaries(
    st.integers(0, 40), st.tuples(st.sampled_from((SHARED, OWN, SWAPPED)), st.integers(1, 6)), max_size=30
)
CUTS = st.sets(st.integers(1, 40), max_size=4)


def snapshot(pages: dict[int, Page], cuts: set[int], *, frames: bool) -> CowSnapshot:
    edges = [0, *sorted(cuts), 41]
    spans = []
    for first, last in pairwise(edges):
        found = [pages.get(number, (NONE, 0)) for number in range(first, last)]
        # A flag bit in each entry, so that entries of one frame differ.
        raw = struct.pack(f"<{len(found)}Q", *(frame | kind << 56 for kind, frame in found))
        if any(kind for kind, _frame in found):
            spans.append(Span(first * PAGE_SIZE, bytes(kind for kind, _frame in found), raw if frames else None))
    kinds = [kind for kind, _frame in pages.values()]
    return CowSnapshot(
        tid=Tid(1), source=CountSource.PAGEMAP, shared=kinds.count(SHARED), huge=0, swapped=kinds.count(SWAPPED),
        left_out=0, zero_told=True, spans=tuple(spans),
    )  # fmt: skip


def shared(pages: dict[int, Page]) -> dict[int, int]:
    return {number: frame for number, (kind, frame) in pages.items() if kind == SHARED}


@given(PAGES, PAGES, PAGES, CUTS, CUTS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_against_a_dictionary(
    child: dict[int, Page], creator: dict[int, Page], later: dict[int, Page], cuts: set[int], others: set[int],
    frames: bool,
) -> None:
    base = common(snapshot(child, cuts, frames=frames), snapshot(creator, others, frames=frames))
    left, right = shared(child), shared(creator)
    expected = {number for number in left.keys() & right if not frames or left[number] == right[number]}
    assert base.pages == len(expected)
    assert {span.start // PAGE_SIZE + at for span in base.spans for at, one in enumerate(span.pages) if one} == expected

    change = compare(base, snapshot(later, others, frames=frames))
    now = {number: later.get(number, (NONE, 0)) for number in expected}
    copied = {
        number for number, (kind, frame) in now.items() if frames and kind in (SHARED, OWN) and frame != left[number]
    }
    parted = {number for number, (kind, _frame) in now.items() if kind == OWN} | copied
    assert change.parted == len(parted)
    assert change.still == sum(kind == SHARED and number not in copied for number, (kind, _frame) in now.items())
    assert change.swapped == sum(kind == SWAPPED for kind, _frame in now.values())
    assert change.still + change.parted + change.swapped + change.gone == base.pages
    if frames or not base.pages:
        assert change.copied == len(copied)
    else:
        assert isinstance(change.copied, Unavailable)


@given(PAGES, CUTS, st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_a_range_over_spans(pages: dict[int, Page], cuts: set[int], first: int, count: int) -> None:
    spans = snapshot(pages, cuts, frames=True).spans
    found = [pages.get(number, (NONE, 0)) for number in range(first, first + count)]
    assert list(over(spans, first * PAGE_SIZE, count)) == [kind for kind, _frame in found]
    words = struct.unpack(f"<{count}Q", over(spans, first * PAGE_SIZE, count, frames=True))
    assert [word & FRAME for word in words] == [frame for _kind, frame in found]


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 600_000)), max_size=6))
@settings(max_examples=100, deadline=None)
def test_groups_hold_every_region_once_and_stay_small(sizes: list[tuple[int, int]]) -> None:
    regions, at = [], 0
    for gap, pages in sizes:
        start = at + gap * PAGE_SIZE
        at = start + pages * PAGE_SIZE
        regions.append(PageRun(start, at, huge=False))
    groups = list(grouped(regions))
    assert sum(r.end - r.start for group in groups for r in group) == sum(r.end - r.start for r in regions)
    for group in groups:
        assert group[-1].end - group[0].start <= PAGE_SIZE << 18
        assert all(a.end <= b.start for a, b in pairwise(group))


def sums(shared_pages: int) -> CowSnapshot:
    return CowSnapshot(
        tid=Tid(1), source=CountSource.SMAPS, shared=shared_pages, huge=0, swapped=0, left_out=0, zero_told=True,
        spans=(),
    )  # fmt: skip


def test_sums_of_smaps_are_an_estimate_that_says_so() -> None:
    base = common(sums(70), sums(80))
    assert (base.source, base.pages, base.exact, base.same_frames) == (CountSource.SMAPS, 70, False, None)
    change = compare(base, sums(30))
    assert (change.source, change.still, change.parted, change.exact) == (CountSource.SMAPS, 30, 40, False)
    assert isinstance(change.copied, Unavailable)
    grown = compare(base, sums(90))  # a child of its own since
    assert (grown.still, grown.parted) == (70, 0)
