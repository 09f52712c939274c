"""The place of a new task, against the assignments of kernel/fork.c: copy_process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.flags import CLONE_PARENT, CLONE_THREAD, CLONE_VM
from forklore.decode.lineage import Lineage, lineage


def test_a_process_is_its_creators_child() -> None:
    assert lineage(0, 30, 20, 10) == Lineage(False, 30, 20)
    assert lineage(CLONE_VM, 30, 20, None) == Lineage(False, 30, 20)


def test_a_sibling_is_the_child_of_its_creators_parent() -> None:
    assert lineage(CLONE_PARENT, 30, 20, 10) == Lineage(False, 30, 10)
    assert lineage(CLONE_PARENT, 30, 20, None) == Lineage(False, 30, None)


def test_a_thread_joins_its_creators_group_with_or_without_clone_parent() -> None:
    assert lineage(CLONE_THREAD, 30, 20, 10) == Lineage(True, 20, 10)
    assert lineage(CLONE_THREAD | CLONE_PARENT, 30, 20, 10) == Lineage(True, 20, 10)


class KernelTask:
    """The pointers of a task_struct that say where it belongs."""

    def __init__(self, pid: int, current: KernelTask | None, flags: int = 0) -> None:
        self.pid = pid
        self.tgid: int
        self.group_leader: KernelTask
        self.real_parent: KernelTask | None
        if current is not None and flags & CLONE_THREAD:
            self.group_leader, self.tgid = current.group_leader, current.tgid
        else:
            self.group_leader, self.tgid = self, pid
        if current is not None and flags & (CLONE_PARENT | CLONE_THREAD):
            self.real_parent = current.real_parent
        else:
            self.real_parent = current

    @property
    def ppid(self) -> int | None:
        return None if self.real_parent is None else self.real_parent.tgid


FLAGS = st.lists(st.sampled_from([CLONE_THREAD, CLONE_PARENT, CLONE_VM])).map(lambda flags: sum(set(flags)))


@given(st.lists(st.tuples(st.integers(0, 50), FLAGS), max_size=30))
def test_whatever_is_made_stands_where_the_kernel_has_it(creations: list[tuple[int, int]]) -> None:
    kernel = [KernelTask(1, None)]
    ours: list[Lineage[int]] = [Lineage(False, 1, None)]
    for pid, (creator, flags) in enumerate(creations, start=2):
        who = creator % len(kernel)
        kernel.append(KernelTask(pid, kernel[who], flags))
        ours.append(lineage(flags, pid, ours[who].group, ours[who].parent))
    for theirs, found in zip(kernel, ours, strict=True):
        assert (found.group, found.parent) == (theirs.tgid, theirs.ppid)
        assert found.group == theirs.group_leader.pid
        assert found.thread == (theirs.group_leader is not theirs)
