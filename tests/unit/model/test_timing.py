"""How many tasks there were side by side, and what they took together."""

from __future__ import annotations

from happenings import Story, stories, task
from hypothesis import HealthCheck, given, settings

from forklore.events import records as ev
from forklore.model.timing import cpu_of, most_at_once


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
