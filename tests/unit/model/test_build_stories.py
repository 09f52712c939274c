"""Whatever a consistent file tells, the model takes it and keeps its promises."""

from __future__ import annotations

from collections import Counter

from happenings import Story, stories
from hypothesis import HealthCheck, given, settings

from forklore.events import records as ev
from forklore.events.check import Checker

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(stories())
@QUICK
def test_the_generator_makes_consistent_stories(story: Story) -> None:
    check = Checker()
    for event in story.events:
        check(event)


@given(stories())
@QUICK
def test_tasks_and_edges(story: Story) -> None:
    trace = story.trace()
    introduced = [
        event.child if isinstance(event, ev.Create) else event.task
        for event in story.events
        if isinstance(event, ev.Create | ev.Begin)
    ]
    assert list(trace.tasks) == introduced
    assert all(task.id == key for key, task in trace.tasks.items())
    children = Counter(child for task in trace.tasks.values() for child in task.children)
    for task in trace.tasks.values():
        if task.creator is None:
            assert children[task.id] == 0
            assert task in trace.roots
        else:
            assert children[task.id] == 1
            assert task.id in trace.tasks[task.creator].children
            assert task.creator < task.id
        for edge in (task.parent, task.leader, task.heir):
            assert edge is None or edge in trace.tasks
        assert task.parent != task.id
        assert task.kind in ("process", "thread", "task")


@given(stories())
@QUICK
def test_nothing_that_happened_is_lost(story: Story) -> None:
    trace = story.trace()
    tasks = trace.tasks.values()
    kinds = Counter(type(event) for event in story.events)
    assert len(trace.failures) == sum(len(task.failures) for task in tasks) == kinds[ev.Fail]
    assert sum(len(task.calls) for task in tasks) == kinds[ev.Other]
    assert sum(len(task.images) for task in tasks) == kinds[ev.Exec]
    assert sum(len(failed.paths) for task in tasks for failed in task.failed_execs) == kinds[ev.ExecFail]
    assert sum(len(task.stops) for task in tasks) == kinds[ev.GroupStop]
    assert sum(len(task.reapers) for task in tasks) == kinds[ev.Reparent]
    ended = {event.task for event in story.events if isinstance(event, ev.Exit)}
    assert {task.id for task in tasks if task.death is not None} == ended
    assert (trace.end_reason is None) == (kinds[ev.End] == 0)
    unnamed = sum(isinstance(event, ev.VforkDone) and event.child is None for event in story.events)
    assert len(trace.notes) == kinds[ev.Note] + unnamed


@given(stories())
@QUICK
def test_a_refusal_is_always_explained(story: Story) -> None:
    trace = story.trace()
    for failure in trace.failures:
        assert failure.reasons
    for task in trace.tasks.values():
        for call in task.calls:
            assert bool(call.reasons) == (call.result is not None and call.result < 0)
