"""Tasks fall into groups by an ordering, in a bounded number of comparisons, whatever fails on the way."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Tid, Unavailable
from forklore.decode.object_groups import Grouping, group, letter

DENIED = Unavailable(1, "EPERM: for the test")
GONE = Unavailable(3, "ESRCH: for the test")
objects_of = st.lists(st.integers(0, 12), max_size=60).map(lambda held: {Tid(i + 1): at for i, at in enumerate(held)})


def comparing(held: dict[Tid, int]) -> Callable[[Tid, Tid], int]:
    """kcmp(2) of tasks whose objects lie at these addresses."""
    return lambda a, b: (held[a] < held[b]) + 2 * (held[a] > held[b])


def most(tasks: int, groups: int) -> int:
    return tasks * (math.ceil(math.log2(groups)) + 1) if groups else 0


def partition(held: dict[Tid, int]) -> list[tuple[Tid, ...]]:
    found: dict[int, list[Tid]] = {}
    for tid, address in held.items():
        found.setdefault(address, []).append(tid)
    return [tuple(tids) for tids in found.values()]


@given(objects_of)
def test_groups_are_those_that_hold_one_object(held: dict[Tid, int]) -> None:
    found = group(held, comparing(held))
    assert [each.members for each in found.groups] == partition(held)
    assert [each.letter for each in found.groups] == [letter(i) for i in range(len(found.groups))]
    assert (found.unset, found.unknown) == ((), {})
    assert found.comparisons <= most(len(held), len(found.groups))


@given(objects_of, st.data())
def test_a_hint_changes_nothing_but_the_price(held: dict[Tid, int], data: st.DataObject) -> None:
    near = {tid: data.draw(st.sampled_from([*held])) for tid in held}
    found = group(held, comparing(held), near=near)
    assert [each.members for each in found.groups] == partition(held)
    assert found.comparisons <= most(len(held), len(found.groups)) + len(held)


@given(objects_of)
def test_tasks_without_an_object_are_no_group(held: dict[Tid, int]) -> None:
    control = Tid(1000)
    found = group(held, comparing({**held, control: 5}), without=control)
    assert found.unset == tuple(tid for tid, address in held.items() if address == 5)
    assert [each.members for each in found.groups] == [tids for tids in partition(held) if held[tids[0]] != 5]


@given(objects_of, st.sets(st.integers(1, 60)))
def test_a_task_that_may_not_be_looked_into_is_unknown_with_its_reason(held: dict[Tid, int], shut: set[int]) -> None:
    def compare(a: Tid, b: Tid) -> int | Unavailable:
        return DENIED if {a, b} & shut else comparing(held)(a, b)

    found = group(held, compare)
    assert found.unknown == {tid: DENIED for tid in held if tid in shut}
    assert [each.members for each in found.groups] == partition({t: at for t, at in held.items() if t not in shut})
    assert found.comparisons <= most(len(held), len(found.groups)) + 2 * len(held)


@given(objects_of)
def test_without_an_order_it_still_finds_the_groups(held: dict[Tid, int]) -> None:
    found = group(held, lambda a, b: 0 if held[a] == held[b] else 3)
    assert [each.members for each in found.groups] == partition(held)


@settings(max_examples=200)
@given(objects_of, st.lists(st.integers(0, 200), max_size=20))
def test_tasks_that_end_meanwhile_take_nobody_with_them(held: dict[Tid, int], deaths: list[int]) -> None:
    """One task more is gone after each of these comparisons; those that live to the end are grouped rightly."""
    dead: set[Tid] = set()
    asked = 0

    def compare(a: Tid, b: Tid) -> int | Unavailable:
        nonlocal asked
        asked += 1
        if asked in deaths:
            dead.add(Tid(asked % (len(held) + 1)))
        return GONE if {a, b} & dead else comparing(held)(a, b)

    found = group(held, compare)
    assert found.comparisons == asked
    groups = {tid: each.letter for each in found.groups for tid in each.members}
    assert set(groups) | set(found.unknown) == set(held)
    assert set(found.unknown) <= dead
    living = {tid: at for tid, at in held.items() if tid not in dead}
    for tids in partition(living):
        assert len({groups[tid] for tid in tids}) == 1
    for each in found.groups:
        assert len({held[tid] for tid in each.members if tid in living}) <= 1


@pytest.mark.parametrize(("tasks", "objects"), [(1009, 1), (211, 211), (1009, 211), (1009, 1009)])
def test_the_number_of_comparisons_is_bounded(tasks: int, objects: int) -> None:
    held = {Tid(i + 1): i * 7919 % objects for i in range(tasks)}
    found = group(held, comparing(held))
    assert len(found.groups) == objects
    assert found.comparisons <= tasks * math.ceil(math.log2(objects)) + tasks


def test_a_single_task_is_compared_with_itself() -> None:
    """A task that nobody may look into must not stand for a group only because it is the first."""
    assert group([Tid(1)], lambda _a, _b: DENIED) == Grouping((), (), {Tid(1): DENIED}, 1)
    assert group([Tid(1)], lambda _a, _b: 0).comparisons == 1


def test_a_refusal_that_neither_task_explains_is_not_taken_for_a_difference() -> None:
    found = group([Tid(1), Tid(2)], lambda a, b: 0 if a == b else DENIED)
    assert found.unknown == {Tid(2): DENIED}
    assert [each.members for each in found.groups] == [(Tid(1),)]


def test_letters_go_on_after_z() -> None:
    assert [letter(i) for i in (0, 1, 25, 26, 27, 51, 52, 701, 702)] == [
        "A", "B", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA",
    ]  # fmt: skip
