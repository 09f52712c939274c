"""Losses are counted by the programs and placed by the numbers: in the end both say the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forklore.sources.bpf.loss import Gaps
from forklore.sources.bpf.raw import Kind

KINDS = 16


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 10), st.booleans()), max_size=80))
def test_as_many_numbers_are_missing_as_were_counted(records: list[tuple[bool, int, bool]]) -> None:
    """``records``: whether it is lost, its kind, and whether it changes places with the one before in the ring."""
    gaps, counted, told = Gaps(), [0] * KINDS, 0
    ring: list[int] = []
    for number, (lost, kind, swapped) in enumerate(records):
        if lost:
            counted[kind] += 1
        elif swapped and ring:
            ring.insert(-1, number)
        else:
            ring.append(number)
    for number in ring:
        if gaps.saw(number) and (loss := gaps.lost(counted)) is not None:
            told += loss.count
    assert gaps.unseen(len(records)) == sum(counted)
    last = gaps.lost(counted)
    assert told + (last.count if last else 0) == sum(counted)
    assert gaps.lost(counted) is None


def test_two_that_changed_places_are_no_loss() -> None:
    gaps = Gaps()
    assert [gaps.saw(number) for number in (0, 2, 1, 3)] == [False, True, False, False]
    assert gaps.unseen(4) == 0


def test_a_loss_is_told_by_kind_and_once() -> None:
    gaps, counted = Gaps(), [0] * KINDS
    counted[Kind.CREATE], counted[Kind.EXIT] = 3, 2
    loss = gaps.lost(counted)
    assert loss is not None
    assert (loss.count, str(loss)) == (5, "3 creations, 2 ends")
    counted[Kind.CREATE] = 4
    loss = gaps.lost(counted)
    assert loss is not None
    assert str(loss) == "1 creations"
