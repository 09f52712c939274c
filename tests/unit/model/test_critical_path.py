"""What had to be done one after the other, who waited for whom, and what would be gained."""

from __future__ import annotations

from itertools import pairwise

import pytest
from happenings import MS, Story, stories, task
from hypothesis import HealthCheck, given, settings

from forklore.abi.units import TaskId
from forklore.events import records as ev
from forklore.model.critical_path import CriticalPath, by_program, critical_path, savings
from forklore.model.tasks import Trace
from forklore.model.waits import Untimed, waits


def path_of(trace: Trace) -> CriticalPath:
    path = critical_path(trace)
    assert isinstance(path, CriticalPath)
    return path


def steps(trace: Trace) -> list[tuple[int, float, str, bool]]:
    """Task, ms, what it came after, whether that is sure."""
    return [(step.task, step.length / MS, step.after, step.sure) for step in path_of(trace).steps]


def idle(story: Story, ms: int) -> None:
    story._t += ms * MS


def test_a_creator_waits_for_its_vfork_child() -> None:
    story = Story()
    root = story.begin(100)
    child = story.vfork(root, 101)
    story.exec(child, "/bin/slow")
    story.tell(ev.VforkDone(t=story.t, task=root, child=child, tid=101))
    story.exit(root)
    story.exit(child)
    assert steps(story.end().trace()) == [(1, 1, "start", True), (2, 1, "created", True), (1, 2, "vfork", True)]


def test_a_parent_waits_for_the_child_that_ended_last() -> None:
    story = Story()
    root = story.begin(100)
    quick, slow = story.clone(root, 101), story.clone(root, 102)
    story.exit(quick)
    idle(story, 10)
    story.exit(slow)
    story.exit(root)
    assert steps(story.end().trace()) == [(1, 2, "start", True), (3, 12, "created", True), (1, 1, "wait", False)]


def reaped(story: Story, task: int, parent: int, how: ev.ReapHow) -> None:
    ended = story._t - MS
    story.tell(ev.Reap(t=story.t, task=task, how=how, since=ended, parent_tid=100, parent=parent))


@pytest.mark.parametrize(("how", "after"), [
    ("waited", ("wait", True)), ("at once", ("wait", True)), ("unknown", ("wait", False)), ("ignored", None),
    ("left", None), ("stands", None),
])  # fmt: skip
def test_a_zombie_tells_whether_it_was_waited_for(
    how: ev.ReapHow, after: tuple[str, bool] | None
) -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101)
    idle(story, 10)
    story.exit(child)
    reaped(story, child, root, how)
    story.exit(root)
    found = steps(story.end().trace())
    assert [step[2:] for step in found if step[0] == root][1:] == ([] if after is None else [after])


def test_what_was_taken_after_the_moment_is_told_by_time() -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101)
    idle(story, 10)
    story.exit(child)
    story.clone(root, 102)
    reaped(story, child, root, "waited")
    story.exit(root)
    assert steps(story.end().trace())[2][2:] == ("wait", False)


def test_an_orphan_is_waited_for_by_nobody_in_sight() -> None:
    story = Story()
    root = story.begin(100)
    middle = story.clone(root, 101)
    orphan = story.clone(middle, 102)
    story.exit(middle)
    story.tell(ev.Reparent(t=story.t, task=orphan, parent_tid=1))
    story.exit(orphan)
    story.exit(root)
    path = path_of(story.end().trace())
    assert orphan not in {step.task for step in path.steps}


def test_a_reader_waits_for_the_last_writer_of_its_pipe() -> None:
    story = Story()
    root = story.begin(100)
    writer, reader = story.clone(root, 101), story.clone(root, 102)
    for number, flags in ((writer, 1), (reader, 0)):
        story.exec(number, "/bin/p")
        held = [ev.Held(fd=3, kind="pipe", target="pipe:[7]", flags=flags, inode=7, cloexec=False)]
        story.tell(ev.Descriptors(t=story.t, task=number, table=held, creator=root))
    idle(story, 20)
    story.exit(writer)
    story.exit(reader)
    story.exit(root)
    # The exec of the writer and what follows is one program's, and comes after its creation.
    assert [step[::2] for step in steps(story.end().trace())] == [
        (1, "start"), (2, "created"), (3, "pipe"), (1, "wait"),
    ]  # fmt: skip


def test_a_thread_that_ends_with_its_process_is_not_waited_for() -> None:
    story = Story()
    root = story.begin(100)
    thread = story.thread(root, 101)
    story.exit(thread)
    story.exit(root)
    assert steps(story.end().trace()) == [(1, 3, "start", True)]


def test_a_thread_that_ended_before_its_creator_went_on_is() -> None:
    story = Story()
    root = story.begin(100)
    thread = story.thread(root, 101)
    idle(story, 5)
    story.exit(thread)
    story.exit(story.clone(root, 102))
    idle(story, 5)
    story.exit(root)
    assert [step[::2] for step in steps(story.end().trace())][:3] == [(1, "start"), (2, "created"), (1, "join")]


def test_what_outlived_the_program_is_counted() -> None:
    story = Story()
    root = story.begin(100)
    daemon = story.clone(root, 101)
    story.exit(root)
    story.exit(daemon)
    path = path_of(story.end().trace())
    assert (path.end, path.outlived) == (root, 1)


@pytest.mark.parametrize(("story", "why"), [
    (Story(times=False), "no times"),
    (Story(clock=ev.Clock(5, 7, resolution=1_000_000_000)), "too coarse"),
])  # fmt: skip
def test_why_it_is_not_known(story: Story, why: str) -> None:
    story.clone(story.begin(100), 101)
    found = critical_path(story.end().trace())
    assert isinstance(found, Untimed)
    assert why in found.why


def test_a_trace_without_a_task() -> None:
    assert isinstance(critical_path(Story().end().trace()), Untimed)


def two_compilers() -> Trace:
    """Two side by side, of 30 and of 10 ms, and a linker of 5 after them."""
    story = Story()
    root = story.begin(100, comm="make")
    slow, quick = story.clone(root, 101), story.clone(root, 102)
    story.exec(slow, "/bin/cc")
    story.exec(quick, "/bin/cc")
    idle(story, 5)
    story.exit(quick)
    idle(story, 20)
    story.exit(slow)
    linker = story.clone(root, 103)
    story.exec(linker, "/bin/ld")
    idle(story, 3)
    story.exit(linker)
    story.exit(root)
    return story.end().trace()


def test_what_would_be_gained() -> None:
    trace = two_compilers()
    path = path_of(trace)
    saved = {each.task: (each.on_path / MS, each.saved / MS) for each in savings(trace, path, 5)}
    # Without the slow compiler the quick one is what is waited for: not all of its 30 ms are gained.
    assert saved[TaskId(2)] == (30, 21)
    assert saved[TaskId(4)] == (5, 5)
    assert [(name, ms / MS) for name, ms, _ in by_program(path)] == [(b"cc", 30), (b"ld", 5), (b"make", 3)]


def test_all_of_a_program_at_once() -> None:
    story = Story()
    root = story.begin(100, comm="sh")
    for tid in (101, 102):
        child = story.clone(root, tid)
        story.exec(child, "/bin/cc")
        story.exit(child)
    story.exit(root)
    trace = story.end().trace()
    found = savings(trace, path_of(trace), 5)
    assert [(each.saved / MS, each.task) for each in found if each.program == b"cc"] == [(4, None), (2, 2), (2, 3)]


@given(stories())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_of_any_trace(story: Story) -> None:
    trace = story.trace()
    found = waits(trace)
    path = critical_path(trace)
    assert isinstance(path, Untimed) == (isinstance(found, Untimed) or not trace.tasks)
    if isinstance(path, Untimed) or isinstance(found, Untimed):
        return
    # Every moment comes after what has a lower number, and not before it in time.
    for number, moment in enumerate(found.moments):
        others = [wait.moment for wait in found.waits.get(number, ())]
        others += [] if moment.before is None else [moment.before]
        assert all(other < number and found.moments[other].t <= moment.t for other in others)
    # The chain has no gap, each of its steps is in the life of its task, and nothing gains more than there is.
    for before, after in pairwise(path.steps):
        assert before.until == after.since
        assert before.length > 0
    for step in path.steps:
        created = task(trace, step.task).created
        assert created is not None
        assert created <= step.since
    for saving in savings(trace, path, 3):
        assert 0 <= saving.saved <= path.length
        assert saving.on_path <= path.length
