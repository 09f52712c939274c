"""Two traces compared: what counts as a difference, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from coded import PTHREAD, Code, coded, pool
from happenings import FORK, Story, stories
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from forklore.abi.flags import CLONE_FILES, CLONE_NEWNET, CLONE_VFORK, CLONE_VM
from forklore.events import records as ev
from forklore.model.census import Act, Census, Ending, Execution, Maker, Manner, Refusal, census, count
from forklore.model.compare import Counted, EndsOtherwise, Made, Shared, compare
from forklore.sources.files import open_any

TRACES = Path(__file__).parents[3] / "traces"
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SPAWN = CLONE_VM | CLONE_VFORK
TOLD = (0, 1, 1, 1, 3, 3)
"""kcmp's answers: only the memory is one object."""
APART = (1, 1, 1, 1, 3, 3)


def counted(story: Story) -> Census:
    return count(story.header, story.events)


def build(
    tid: int = 100, *, jobs: int = 2, flags: int = FORK, kcmp: tuple[int, ...] | None = None, status: int = 0,
    pause: int = 0,
) -> Story:  # fmt: skip
    """make, which makes ``jobs`` children that become cc and end with ``status``."""
    story = Story()
    root = story.begin(tid)
    story.exec(root, "/usr/bin/make")
    for job in range(jobs):
        child = story.clone(root, tid + 1 + job, flags, kcmp=kcmp)
        for _ in range(pause):
            story.tell(ev.Note(t=story.t, what="x", why="later"))
        story.exec(child, "/usr/bin/cc", argv=["cc", "-c", f"{tid}.c"])
        story.exit(child, status)
    story.exit(root)
    return story.end()


def changes(old: Story, new: Story) -> tuple[object, ...]:
    return compare(counted(old), counted(new)).changes


def test_pids_times_and_arguments_are_no_differences() -> None:
    comparison = compare(counted(build()), counted(build(31_000, pause=3)))
    assert comparison.changes == ()
    assert (comparison.same_makers, comparison.same_executions) == (1, 2)
    assert comparison.not_compared == ()


def test_one_more_child_is_one_more_creation_and_exec() -> None:
    made, executed = changes(build(), build(jobs=3))
    manner = Manner("clone(CHILD_CLEARTID|CHILD_SETTID|SIGCHLD)")
    assert made == Made(Maker(b"make", "process"), ((manner, 2, 3),))
    assert executed == Counted(Execution(b"make", b"/usr/bin/cc"), 2, 3)


def test_other_flags_are_another_manner() -> None:
    (made, *shared) = changes(build(), build(flags=SPAWN))
    assert isinstance(made, Made)
    assert [(manner.call, before, now) for manner, before, now in made.manners] == [
        ("clone(CHILD_CLEARTID|CHILD_SETTID|SIGCHLD)", 2, 0),
        ("clone(VM|VFORK|SIGCHLD)", 0, 2),
    ]
    assert shared == [Shared(Maker(b"make", "process"), "mm", ("asked",), "none", "all")]


def test_what_is_shared_is_told_by_what_was_asked_and_what_was_seen() -> None:
    maker = Maker(b"make", "process")
    both = changes(build(kcmp=APART), build(flags=SPAWN, kcmp=TOLD))
    assert both[1:] == (Shared(maker, "mm", ("asked", "observed"), "none", "all"),)
    # A kernel that shares what was not asked for: the flags are the same.
    assert changes(build(kcmp=APART), build(kcmp=TOLD)) == (Shared(maker, "mm", ("observed",), "none", "all"),)


def test_new_namespaces_are_no_longer_shared() -> None:
    (_, shared) = changes(build(), build(flags=FORK | CLONE_NEWNET))
    assert shared == Shared(Maker(b"make", "process"), "net", ("asked",), "all", "none")


def test_what_one_of_them_did_not_observe_is_not_compared() -> None:
    comparison = compare(counted(build()), counted(build(kcmp=TOLD)))
    assert comparison.changes == ()
    assert comparison.not_compared == ("what was observed to be shared",)


def test_an_end_that_changed() -> None:
    (ended,) = changes(build(status=3), build())
    assert ended == EndsOtherwise(b"cc", ((Ending(code=3), 2, 0), (Ending(code=0), 0, 2)))


def test_an_end_that_is_not_known_is_no_difference() -> None:
    old = build(jobs=1)
    old.events = [event for event in old.events if not (isinstance(event, ev.Exit) and event.task == 2)]
    assert changes(old, build(jobs=1)) == ()
    assert changes(old, build(jobs=1, status=3)) == ()
    more = changes(old, build(jobs=2, status=3))
    assert more[-1] == EndsOtherwise(b"cc", ((Ending(code=3), 0, 2),))


def test_threads_end_as_they_happen_to() -> None:
    def story(status: int) -> Story:
        told = Story()
        root = told.begin()
        thread = told.thread(root, 101)
        told.exit(thread, status)
        told.exit(root)
        return told.end()

    assert changes(story(0), story(1)) == ()


def test_refusals_and_failed_execs_that_came_and_went() -> None:
    def story(*, refused: bool) -> Story:
        told = Story()
        root = told.begin()
        told.exec(root, "/bin/sh")
        if refused:
            told.fail(root, 11)
            told.exec_fail(root, "/usr/bin/nothing", 13)
            told.call(root, "unshare", CLONE_FILES, result=-1)
        else:
            told.exec_fail(root, "/a/tool")
            told.exec_fail(root, "/b/tool")
            told.call(root, "setns", 3, CLONE_NEWNET, target="net:[4026531840]")
        told.exit(root)
        return told.end()

    found = changes(story(refused=True), story(refused=False))
    refusal = Refusal(Maker(b"sh", "process"), Manner("clone(SIGHAND|SIGCHLD)"), 11)
    assert found == (
        Counted(refusal, 1, 0),
        Counted(Execution(b"sh", b"/usr/bin/nothing", 13), 1, 0),
        Counted(Execution(b"sh", b"tool", 2), 0, 1),
        Counted(Act(b"sh", "unshare(FILES)", 1), 1, 0),
        Counted(Act(b"sh", "setns(3, NEWNET) [net:[…]]"), 0, 1),
    )


def test_a_search_that_found_its_program_failed_nowhere() -> None:
    def story(*tried: str) -> Story:
        told = Story()
        root = told.begin()
        for path in tried:
            told.exec_fail(root, path)
        told.exec(root, "/c/tool")
        return told.end()

    assert changes(story("/a/tool", "/b/tool"), story("/a/tool")) == ()


def test_the_creator_is_what_it_ran_when_it_made_the_task() -> None:
    # The log has no times: that the first child was made before the exec is only in the order of its events.
    story = Story(times=False)
    root = story.begin()
    story.exec(root, "/bin/sh")
    story.clone(root, 101)
    story.exec(root, "/usr/bin/make")
    story.clone(root, 102)
    assert set(counted(story).made) == {Maker(b"sh", "process"), Maker(b"make", "process")}


def threads(*callers: str) -> Story:
    story = Story()
    root = story.begin(comm="pool")
    code = Code(story)
    for index, caller in enumerate(callers):
        stack = code.stack("__clone3", "pthread_create", caller, "main@pool.c:120")
        story.exit(pool(story, root, code, 101 + index, stack=stack))
    return story


def test_a_call_that_moved_to_another_line_is_the_same_site() -> None:
    assert changes(threads("start@pool.c:8"), threads("start@pool.c:9")) == ()
    first, second = changes(threads("start@pool.c:8"), threads("begin@pool.c:8"))
    assert isinstance(first, Made)
    assert isinstance(second, Made)
    assert first.maker == Maker(b"pool", "thread", "start")
    assert second.maker == Maker(b"pool", "thread", "begin")
    assert [(manner.library, before, now) for manner, before, now in first.manners] == [("pthread_create", 1, 0)]


def test_sites_are_not_compared_with_a_trace_that_has_none() -> None:
    bare = threads("start", "begin")
    bare.events = [
        ev.Create(**{name: getattr(event, name) for name in event.__struct_fields__} | {"stack": None, "runs": None})
        if isinstance(event, ev.Create) else event
        for event in bare.events
    ]  # fmt: skip
    comparison = compare(counted(threads("start", "begin")), counted(bare))
    assert comparison.changes == ()
    assert comparison.not_compared == ("which function made what, and by which library call",)
    assert compare(counted(bare), counted(bare)).not_compared == ()


@pytest.mark.parametrize("name", ["pipeline", "python", "make"])
def test_forklore_and_strace_tell_of_the_same_run(name: str) -> None:
    ours, theirs = (census(open_any(TRACES / f"{name}.{tool}")) for tool in ("forklore.jsonl", "strace.txt"))
    assert compare(ours, theirs).changes == ()
    assert compare(theirs, ours).changes == ()


@given(stories(8), st.data())
@QUICK
def test_a_trace_does_not_differ_from_itself(story: Story, data: st.DataObject) -> None:
    assume(not isinstance(story.events[-1], ev.End))
    for tid in (7, 8):
        story.clone3(1, tid, data.draw(st.sampled_from([PTHREAD, 0])), 0, **data.draw(coded(story)))
    assert changes(story, story) == ()


@given(stories(8), stories(8))
@QUICK
def test_the_other_way_round_is_as_long(first: Story, second: Story) -> None:
    there, back = changes(first, second), changes(second, first)
    assert len(there) == len(back)
