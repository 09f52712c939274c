"""How many tasks there were side by side, and what they took together."""

from __future__ import annotations

from itertools import pairwise

from happenings import MS, Story, stories, task
from hypothesis import HealthCheck, given, settings

from forklore.events import records as ev
from forklore.model.timing import alone, at_once, cpu_of, most_at_once, own_cpu, programs


def ends(story: Story, number: int, cpu: int | None) -> None:
    story.tell(ev.Exit(t=story.t, task=number, status=0, cpu=cpu, peak=None if cpu is None else 1))


def test_side_by_side() -> None:
    story = Story()
    root = story.begin(100)
    for tid in (101, 102):
        story.exit(story.clone(root, tid))
    first, second = story.clone(root, 103), story.clone(root, 104)
    story.thread(root, 105)
    story.exit(first)
    story.exit(second)
    assert most_at_once(story.trace().tasks.values()) == 3


def test_without_times_it_is_not_known() -> None:
    story = Story(times=False)
    story.clone(story.begin(100), 101)
    assert most_at_once(story.trace().tasks.values()) is None


@given(stories())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_of_any_trace(story: Story) -> None:
    tasks = story.trace().tasks.values()
    most = most_at_once(tasks)
    assert most is None or most <= sum(task.kind == "process" for task in tasks)


def test_what_a_parent_waited_for_is_in_its_own() -> None:
    story = Story()
    root = story.begin(100)
    middle = story.clone(root, 101)
    orphan = story.clone(middle, 102)
    ends(story, middle, 500)
    story.tell(ev.Reparent(t=story.t, task=orphan, parent_tid=1))
    ends(story, orphan, 30)
    ends(story, root, 700)
    trace = story.end().trace()
    assert task(trace, middle).cpu == 500
    assert cpu_of(trace.tasks.values()) == 730


def test_of_logs_it_is_not_told() -> None:
    story = Story()
    root = story.begin(100)
    ends(story, root, None)
    assert cpu_of(story.trace().tasks.values()) is None


def test_a_process_without_its_children() -> None:
    story = Story()
    root = story.begin(100)
    ends(story, story.clone(root, 101), 200)
    orphan = story.clone(root, 102)
    story.tell(ev.Reparent(t=story.t, task=orphan, parent_tid=1))
    ends(story, orphan, 1000)
    ends(story, root, 700)
    assert own_cpu(story.end().trace()) == {root: 500, 2: 200, orphan: 1000}


def test_a_parent_that_ignores_its_children() -> None:
    # With SIGCHLD ignored nothing of a child is in its parent's sum, which is less than the child's here.
    story = Story()
    root = story.begin(100)
    ends(story, story.clone(root, 101), 900)
    ends(story, root, 700)
    assert own_cpu(story.end().trace()) == {2: 900}


def test_what_was_seen_of_the_zombies_counts() -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101)
    ends(story, child, 200)
    story.tell(ev.Reap(t=story.t, task=child, how="ignored", since=0, parent_tid=100, parent=root))
    ends(story, root, 700)
    assert own_cpu(story.end().trace()) == {root: 700, child: 200}


def test_over_time() -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101)
    story.exit(child)
    story.exit(root)
    story.tell(ev.Note(t=99 * MS, what="", why=""))  # the tracer goes on for a while
    bins = at_once(story.trace(), 3)
    assert bins is not None
    assert [(each.since / MS, each.until / MS, each.most, each.mean) for each in bins] == [
        (0, 1, 1, 1.0), (1, 2, 2, 2.0), (2, 3, 1, 1.0),
    ]  # fmt: skip


def test_programs_by_their_runs() -> None:
    story = Story()
    root = story.begin(100, comm="sh")
    for tid in (101, 102):
        child = story.clone(root, tid)
        story.exec(child, "/bin/cc")
        story.exec(child, "/lib/cc1")
        ends(story, child, 5)
    story.clone(root, 103)  # goes on in sh, to the end of the trace
    story.exit(root)
    found = {each.name: (each.count, each.wall / MS, each.cpu) for each in programs(story.end().trace())}
    assert found == {b"sh": (2, 12, None), b"cc": (2, 4, None), b"cc1": (2, 2, 10)}


def test_alone_is_without_a_child() -> None:
    story = Story()
    root = story.begin(100)
    thread = story.thread(root, 101)
    first, second = story.clone(root, 102), story.clone(thread, 103)
    story.exit(first)
    story.exit(second)
    story.exit(root)
    # From 0 to 6 ms, with the first child from 2 to 4 and the thread's from 3 to 5.
    assert alone(story.end().trace()) == {root: 3 * MS, first: 2 * MS, second: 2 * MS}


@given(stories())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bins_cover_the_time(story: Story) -> None:
    trace = story.trace()
    bins = at_once(trace, 7)
    if bins is None:
        return
    assert max(each.most for each in bins) == most_at_once(trace.tasks.values())
    assert all(before.until == after.since for before, after in pairwise(bins))
    assert all(0 <= each.mean <= each.most for each in bins)
