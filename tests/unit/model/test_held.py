"""Whom a CLONE_VFORK child held and who ran on, from events written by hand."""

from __future__ import annotations

import json

import pytest
from happenings import MS, THREAD, Story, stories
from hypothesis import given, settings

from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import TaskId
from forklore.events import records as ev
from forklore.export.json_tree.tree import to_json
from forklore.model.tasks import Trace
from forklore.model.vfork_holds import Holding, VforkHold
from forklore.report.styled_lines import plain
from forklore.report.task_card import card_lines
from forklore.report.words.vfork_holds import vfork_lines, vfork_words


def released(story: Story, task: int, child: int, tid: int) -> None:
    story.tell(ev.VforkDone(t=story.t, task=task, child=child, tid=tid))


def held(trace: Trace, child: int) -> VforkHold:
    found = Holding(trace).of(trace.tasks[TaskId(child)])
    assert found is not None
    return found


def threads_and_vfork(end: str, *, times: bool = True) -> tuple[Trace, int]:
    """Four threads: one ends before the vfork, one calls it, one is made during it, one ends during it."""
    story = Story(times=times)
    root = story.begin(100)
    before, caller, beside = (story.thread(root, tid) for tid in (101, 102, 103))
    story.exit(before)
    child = story.vfork(caller, 110)
    during = story.thread(beside, 104)
    story.exit(beside)
    if end == "exec":
        released(story, caller, child, 110)
        story.exec(child, "/bin/true")
        story.exit(child)
    elif end == "creator":
        story.killed(caller, 9)
        story.exit(child)
    elif end:
        released(story, caller, child, 110)
        if end == "death":
            story.killed(child, 9)
        else:
            story.exit(child)
    if end:
        for task in (story.thread(root, 105), during, caller, root):
            if task != caller or end != "creator":
                story.exit(task)
    trace = story.end().trace(sharing=True)
    return trace, child


@pytest.mark.parametrize("end", ["exec", "exit", "death", "creator", ""])
def test_who_waited_until_what_and_who_ran_on(end: str) -> None:
    trace, child = threads_and_vfork(end)
    found = held(trace, child)
    assert (trace.tasks[found.thread].tid, found.borrows) == (102, True)
    assert found.ended_by == (end or None)
    assert found.ran_on is not None
    assert [trace.tasks[task].tid for task in found.ran_on] == [100, 103, 104], "neither those before nor after it"
    went_on = end in ("exec", "exit", "death")
    assert vfork_words(found, trace) == ("102 held 3.0 ms, 3 threads ran on" if went_on else "")
    lines = dict(vfork_lines(found, trace))
    assert lines["ran on"] == "100, 103, 104, of the same process"
    assert lines["held"].startswith("102, thread of 100: ")
    assert json.loads(to_json(trace))["tasks"][child - 1]["vfork"]["ran_on"] == list(found.ran_on)
    card = "\n".join(plain(line) for line in card_lines(trace, trace.tasks[TaskId(child)], 100, verbose=True))
    assert "While it held its creator (CLONE_VFORK)" in card


def test_a_log_without_times_does_not_tell_who_ran_on() -> None:
    trace, child = threads_and_vfork("exec", times=False)
    found = held(trace, child)
    assert (found.since, found.until, found.ran_on, found.ended_by) == (None, None, None, "exec")
    assert vfork_words(found, trace) == ""
    assert dict(vfork_lines(found, trace))["ran on"] == "not known: the log's times do not tell"


def test_a_single_thread_leaves_nobody_to_run_on() -> None:
    story = Story()
    root = story.begin()
    child = story.clone(root, 101, CLONE_VFORK, stop="vfork")
    released(story, root, child, 101)
    for task in (child, root):
        story.exit(task)
    trace = story.end().trace()
    since = trace.tasks[TaskId(child)].created
    assert held(trace, child) == VforkHold(TaskId(root), since, MS * 2, "exit", False, (), 0, MS)  # type: ignore[arg-type]
    assert vfork_words(held(trace, child), trace) == "100 held 1.0 ms"


def test_a_thread_that_is_made_by_vfork_does_not_run_on_beside_itself() -> None:
    story = Story()
    root = story.begin()
    child = story.clone(root, 101, THREAD | CLONE_VFORK | CLONE_VM, 0, stop="vfork")
    released(story, root, child, 101)
    for task in (child, root):
        story.exit(task)
    assert held(story.end().trace(), child).ran_on == ()


def test_a_thread_that_let_its_creator_go_has_left_though_its_end_is_told_later() -> None:
    story = Story()
    root = story.begin(100)
    first = story.clone(root, 101, THREAD | CLONE_VFORK | CLONE_VM, 0, stop="vfork")
    released(story, root, first, 101)
    second = story.clone(root, 102, THREAD | CLONE_VFORK | CLONE_VM, 0, stop="vfork")
    for task in (first, second):
        story.exit(task)
    released(story, root, second, 102)
    story.exit(root)
    trace = story.end().trace()
    assert (held(trace, first).ran_on, held(trace, second).ran_on) == ((), ())


def test_a_process_stays_the_same_when_a_thread_takes_over_by_exec() -> None:
    story = Story()
    root = story.begin(100)
    thread = story.thread(root, 101)
    story.tell(ev.Gone(t=story.t, task=root, why="superseded"))
    story.exec(thread, "/bin/a", former_tid=101)
    beside = story.thread(thread, 102)
    child = story.vfork(thread, 110)
    released(story, thread, child, 110)
    for task in (child, beside, thread):
        story.exit(task)
    assert held(story.end().trace(), child).ran_on == (beside,), "the leader that was superseded is gone"


@settings(max_examples=60)
@given(stories())
def test_of_any_story_it_says_only_what_can_be(story: Story) -> None:
    trace = story.trace()
    holding = Holding(trace)
    for task in trace.tasks.values():
        found = holding.of(task)
        asked = task.creation is not None and bool((task.creation.flags.raw or 0) & CLONE_VFORK)
        assert (found is not None) == (asked and task.creator is not None)
        if found is not None and found.ran_on is not None:
            assert not {task.id, found.thread} & set(found.ran_on)
            assert dict(vfork_lines(found, trace))
