"""Which object of each resource a task holds: kept once for all that began alike, and told for each."""

from __future__ import annotations

import tracemalloc

from happenings import Story

from forklore.abi.units import Nanoseconds, TaskId
from forklore.events import records as ev
from forklore.model.build import build
from forklore.model.holds import RESOURCES, First, Holdings

ONE, TWO, THREE, FOUR = map(TaskId, range(1, 5))
MM, MNT = RESOURCES.index("mm"), RESOURCES.index("mnt")
OWN: list[First] = [(None, "rule", None)] * len(RESOURCES)
T = Nanoseconds(1)


def of(holdings: Holdings, creator: TaskId, *shared: str) -> list[First]:
    """What a child begins with that shares these with its creator."""
    return [(holdings.enterable(creator, name) if name in shared else None, "kcmp", None) for name in RESOURCES]


def test_tasks_that_began_alike_share_what_they_share_and_nothing_else() -> None:
    holdings = Holdings()
    holdings.begin(ONE, T, OWN)
    firsts = holdings.begin(TWO, T, of(holdings, ONE, "mm", "mnt"))
    holdings.begin_alike(THREE, T, firsts)
    held = [holdings.holds(task) for task in (ONE, TWO, THREE)]
    for name in RESOURCES:
        groups = {holds[name][0].group for holds in held}
        assert len(groups) == (1 if name in ("mm", "mnt") else 3), name
    assert len({hold.group for holds in held for found in holds.values() for hold in found}) == 3 * len(RESOURCES) - 4
    assert {name for name, others in holdings.partners(TWO).items() if others == [ONE, THREE]} == {"mm", "mnt"}
    assert holdings.of_one_group() == {"mm", "mnt"}


def test_two_that_began_alike_and_alone_are_of_two_groups() -> None:
    holdings = Holdings()
    firsts = holdings.begin(ONE, T, OWN)
    for task in (TWO, THREE, FOUR):
        holdings.begin_alike(task, T, firsts)
    assert holdings.of_one_group() == set()


def test_a_move_ends_one_hold_and_begins_the_next() -> None:
    holdings = Holdings()
    holdings.begin(ONE, T, OWN)
    holdings.begin(TWO, T, of(holdings, ONE, "mm"))
    assert holdings.shared(ONE, "mm")
    assert holdings.shared(TWO, "mm")
    holdings.move(TWO, "mm", Nanoseconds(5), "exec", (None, "kcmp", None))
    before, after = holdings.holds(TWO)["mm"]
    assert (before.since, before.until, before.ended_by) == (1, 5, "exec")
    assert (after.since, after.until, after.ended_by) == (5, None, None)
    assert holdings.groups(TWO)[MM] == [before.group, after.group]
    assert not holdings.shared(ONE, "mm")
    holdings.end(TWO, Nanoseconds(9))
    holdings.end(TWO, Nanoseconds(10))  # told twice: it ended once
    (_, last), (alone,) = holdings.holds(TWO)["mm"], holdings.holds(TWO)["fs"]
    assert [(hold.until, hold.ended_by) for hold in (last, alone)] == [(9, "exit")] * 2


def test_an_inode_that_is_learned_changes_no_group_of_the_task_and_nothing_of_others() -> None:
    holdings = Holdings()
    firsts = holdings.begin(ONE, T, OWN)
    holdings.begin_alike(TWO, T, firsts)
    before = holdings.groups(ONE)
    assert holdings.learn(ONE, "mnt", 4026531832) == before[MNT][0]
    assert holdings.groups(ONE) == before
    assert (holdings.inode(ONE, "mnt"), holdings.inode(TWO, "mnt")) == (4026531832, None)


def test_a_group_that_all_have_left_is_entered_again() -> None:
    holdings = Holdings()
    group = holdings.new_group()
    entering: list[First] = [(group if name == "net" else None, "/proc", 7) for name in RESOURCES]
    for task in (ONE, TWO):
        holdings.begin(task, T, entering)
        assert not holdings.shared(task, "net")
        holdings.end(task, T)
    holdings.begin(THREE, T, entering)
    holdings.begin(FOUR, T, entering)
    assert holdings.shared(THREE, "net")
    holdings.forget(ONE)
    assert holdings.holds(ONE) == {}
    assert holdings.over(ONE)


def test_who_shares_what_costs_a_child_little_memory() -> None:
    def used(shape: str, n: int, sharing: bool) -> int:
        story = Story()
        root = story.begin(100)
        for tid in range(1000, 1000 + n):
            if shape == "threads":
                story.thread(root, tid)
                continue
            child = story.clone(root, tid, kcmp=(1, 2, 1, 2, 1, 2))
            if shape == "programs":
                story.exec(child, "/bin/p")
            if shape != "living":
                story.exit(child, 0)
        events: list[ev.Event] = story.end().events
        tracemalloc.start()
        try:
            trace = build(story.header, events, sharing=sharing)
            return tracemalloc.get_traced_memory()[0] if trace.tasks else 0
        finally:
            tracemalloc.stop()

    for shape in ("forks", "living", "threads", "programs"):
        used(shape, 50, True)  # what is kept from one trace to the next
        more = used(shape, 2000, True) - used(shape, 2000, False)
        assert more / 2000 < 400, f"{shape}: {more / 2000} bytes a child"
