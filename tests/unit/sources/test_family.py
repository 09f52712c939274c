"""Who belongs to which thread group, and who waits for whom, as calls and ends change it."""

from __future__ import annotations

import pytest

from forklore.abi.flags import CLONE_NEWPID, CLONE_PARENT, CLONE_THREAD, CLONE_VM
from forklore.abi.units import Pid, Tid
from forklore.sources.ptrace.options import Follow, Options
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Tracee

THREAD = CLONE_THREAD | CLONE_VM
TRACER = Pid(99)


def started(options: Options | None = None) -> tuple[Family, Tracee]:
    family = Family(options or Options())
    return family, family.add(Tid(100), Pid(100), TRACER, depth=0)


def test_a_fork_makes_a_group_and_a_thread_joins_one() -> None:
    family, root = started()
    child = family.born(root, Tid(101), 0)
    thread = family.born(child, Tid(102), THREAD)
    assert [task.id for task in (root, child, thread)] == [1, 2, 3]
    assert (child.group.tgid, child.group.parent) == (101, 100)
    assert thread.group is child.group
    assert root.group.children == {child.group}
    assert [task.depth for task in (root, child, thread)] == [0, 1, 2]
    assert set(family.live) == {100, 101, 102}
    assert set(family.groups) == {100, 101}


def test_a_child_of_a_thread_is_its_groups_child() -> None:
    family, root = started()
    thread = family.born(root, Tid(101), THREAD)
    child = family.born(thread, Tid(102), 0)
    assert child.group.parent == 100
    assert root.group.children == {child.group}


def test_clone_parent_makes_a_sibling() -> None:
    family, root = started()
    child = family.born(root, Tid(101), 0)
    sibling = family.born(child, Tid(102), CLONE_PARENT)
    assert sibling.group.parent == 100
    assert root.group.children == {child.group, sibling.group}
    assert child.group.children == set()
    of_root = family.born(root, Tid(103), CLONE_PARENT)
    assert of_root.group.parent == TRACER
    assert sibling.depth == 2  # below its creator, whoever waits for it


def test_clone_parent_says_nothing_about_a_thread() -> None:
    family, root = started()
    thread = family.born(root, Tid(101), THREAD | CLONE_PARENT)
    assert thread.group is root.group
    assert root.group.parent == TRACER


def test_only_the_leaders_end_is_the_groups() -> None:
    family, root = started()
    thread = family.born(root, Tid(101), THREAD)
    assert not family.forget(thread)
    assert not thread.alive
    assert family.groups[Pid(100)] is root.group
    assert family.forget(root)
    assert (family.live, family.groups) == ({}, {})


def test_an_ended_child_is_nobodys_orphan() -> None:
    family, root = started()
    gone, left = family.born(root, Tid(101), 0), family.born(root, Tid(102), 0)
    family.forget(gone)
    assert root.group.children == {left.group}
    family.forget(root)
    assert list(family.orphans(root.group)) == [left.group]
    family.forget(left)
    assert list(family.orphans(root.group)) == []


def test_orphans_are_handed_over() -> None:
    family, root = started()
    middle = family.born(root, Tid(101), 0)
    child = family.born(middle, Tid(102), 0)
    family.forget(middle)
    (orphan,) = family.orphans(middle.group)
    family.hand_over(orphan, Pid(100))
    assert child.group.parent == 100
    assert root.group.children == {child.group}
    # Its next parent is outside the trace.
    family.forget(root)
    family.hand_over(child.group, Pid(1))
    assert child.group.parent == 1
    assert family.forget(child)


def test_a_thread_takes_over_its_leaders_tid() -> None:
    family, root = started()
    thread = family.born(root, Tid(101), THREAD)
    child = family.born(root, Tid(102), 0)
    assert family.take_over(Tid(101), root) is thread
    assert (thread.tid, root.alive) == (100, False)
    assert set(family.live) == {100, 102}
    assert family.leader(Pid(100)) is thread
    # The group is the same: it still waits for its children, and ends with the thread.
    assert family.forget(thread)
    assert list(family.orphans(thread.group)) == [child.group]


def test_a_pid_that_is_used_again_is_another_task() -> None:
    family, root = started()
    first = family.born(root, Tid(101), 0)
    family.forget(first)
    second = family.born(root, Tid(101), 0)
    assert first.id != second.id
    assert first.group is not second.group
    assert family.leader(Pid(101)) is second
    # A group that waited for the first one is not waiting for the second.
    assert list(family.orphans(first.group)) == []
    assert root.group.children == {second.group}


def test_an_orphan_of_a_pid_that_is_used_again() -> None:
    family, root = started()
    parent = family.born(root, Tid(101), 0)
    child = family.born(parent, Tid(102), 0)
    family.forget(child)
    family.forget(parent)
    family.born(root, Tid(102), 0)
    assert list(family.orphans(parent.group)) == []


def test_tasks_without_a_seen_creation_join_the_group_they_name() -> None:
    family, root = started()
    thread = family.add(Tid(200), Pid(100), Pid(99), depth=1)
    stranger = family.add(Tid(300), Pid(300), Pid(100), depth=1)
    assert thread.group is root.group
    assert root.group.children == {stranger.group}


def test_namespaces() -> None:
    family, root = started()
    inner = family.born(root, Tid(101), CLONE_NEWPID)
    assert inner.nested
    assert family.born(inner, Tid(102), 0).nested
    assert not family.born(root, Tid(103), 0).nested
    root.parted = True  # as after unshare(CLONE_NEWPID): only the children are in it
    assert not root.nested
    assert family.born(root, Tid(104), 0).nested


@pytest.mark.parametrize(
    ("options", "process", "thread", "below"),
    [
        (Options(), True, True, True),
        (Options(follow=Follow.PROCESSES), True, False, True),
        (Options(follow=Follow.THREADS), False, True, False),
        (Options(follow=Follow.NONE), False, False, False),
        (Options(max_depth=1), True, True, False),
        (Options(max_depth=2, follow=Follow.PROCESSES), True, False, True),
    ],
)
def test_who_stays_traced(options: Options, process: bool, thread: bool, below: bool) -> None:
    family, root = started(options)
    child = family.born(root, Tid(101), 0)
    assert child.keep is process
    assert family.born(root, Tid(102), THREAD).keep is thread
    assert family.born(child, Tid(103), 0).keep is below


def test_a_child_has_its_creators_name() -> None:
    family, root = started()
    root.comm = b"make"
    assert family.born(root, Tid(101), 0).comm == b"make"


def test_numbers_are_never_used_again() -> None:
    family, root = started()
    assert family.next_id() == 2
    assert family.born(root, Tid(101), 0).id == 3
