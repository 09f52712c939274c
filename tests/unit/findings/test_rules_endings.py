"""How tasks end: each rule by what shows it and by what looks like it and is right."""

from __future__ import annotations

import signal
from typing import Any

from coded import Code
from happenings import MS, Story
from judged import checked, found, ids, one

from forklore.events import records as ev


def killed(story: Story, task: int, number: int, **told: Any) -> None:
    story.tell(ev.Signal(t=story.t, task=task, signal=number, **{"code": 0, **told}))
    story.killed(task, number)


def test_a_crash_has_its_function_and_line() -> None:
    story = Story()
    root = story.begin(100)
    story.exec(root, "/bin/parser")
    code = Code(story)
    where = code.stack("parse@src/a.c:7", "main@src/a.c:20")
    killed(story, root, signal.SIGSEGV, code=1, address=16, stack=where)
    crash = one(story, "crash")
    assert crash.severity == "error"
    assert crash.first.text == "100 parser crashed: SIGSEGV at 0x10 in parse, a.c:7"
    assert crash.first.where is not None
    assert (crash.first.site, crash.first.where.line, crash.first.where.file) == ("a.c:7", 7, "src/a.c")


def test_abort_is_a_crash_and_an_abort_by_another_is_none() -> None:
    story = Story()
    root = story.begin(100)
    killed(story, root, signal.SIGABRT, code=-6, sender=100)
    assert ids(story) == {"crash"}
    sent = Story()
    killed(sent, sent.begin(100), signal.SIGSEGV, sender=100)
    assert ids(sent) == {"killed"}, "it sent it itself"
    other = Story()
    root = other.begin(100)
    child = other.clone(root, 101)
    killed(other, child, signal.SIGABRT, sender=100)
    other.exit(root)
    assert ids(other) == {"killed"}


def test_a_crash_of_a_process_with_threads_is_told_once() -> None:
    story = Story()
    root = story.begin(100)
    thread = story.thread(root, 101)
    code = Code(story)
    where = code.stack("worker@a.c:9", "start_thread")
    killed(story, thread, signal.SIGSEGV, address=0, stack=where)
    story.killed(root, signal.SIGSEGV)
    crash = one(story, "crash")
    assert (crash.count, crash.first.tasks, crash.first.site) == (1, (thread,), "a.c:9")


def test_who_killed_whom_and_how_bad_that_is() -> None:
    story = Story()
    root = story.begin(100, comm="timeout")
    child = story.clone(root, 101)
    story.exec(child, "/bin/sleep")
    killed(story, child, signal.SIGTERM, sender=100)
    by_parent = one(story, "killed")
    assert (by_parent.severity, by_parent.first.text) == ("note", "101 sleep was ended by SIGTERM from 100 timeout")
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"sender": 4711}, "warning", "from 4711, which was not traced"),
        ({"by": "tracer", "sender": 99}, "note", "from forklore, which ends what is left when a trace does"),
        ({"by": "oom"}, "error", "nobody in sight sent it, and the OOM killer ended something meanwhile"),
        ({}, "warning", "who sent it was not seen"),
        ({"by": "call", "sender": 100}, "note", "from 100 timeout"),
    ]
    for told, severity, words in cases:
        story = Story()
        root = story.begin(100, comm="timeout")
        child = story.clone(root, 101)
        story.exec(child, "/bin/sleep")
        killed(story, child, signal.SIGKILL, **told)
        by = one(story, "killed")
        assert by.severity == severity
        assert words in by.first.text
        assert by.first.sure == (told.get("by") != "oom")


def test_who_ends_because_its_reader_left_was_killed_by_nobody() -> None:
    story = Story()
    root = story.begin(100)
    yes = story.clone(root, 101)
    killed(story, yes, signal.SIGPIPE, sender=101)
    story.exit(root)
    assert ids(story) == set()


def outlived(by: int, *, session: bool = False, tracer: bool = False) -> Story:
    story = Story()
    root = story.begin(100, comm="sh")
    child = story.clone(root, 101)
    if session:
        story.call(child, "setsid", result=101)
    story.exec(child, "/bin/sleep")
    story.exit(root)
    story._t += by
    if tracer:
        killed(story, child, signal.SIGKILL, by="tracer", sender=9)
    else:
        story.exit(child)
    return story.end()


def test_what_is_left_behind() -> None:
    left = one(outlived(300 * MS), "left-behind")
    assert left.severity == "warning"
    assert left.first.text == "101 sleep, which never left its session, lived on for 301 ms after 100 sh had ended"
    daemon = one(outlived(300 * MS, session=True), "left-behind")
    assert daemon.severity == "note"
    assert "101 sleep, a daemon by setsid, lived on" in daemon.first.text
    ended = one(outlived(1, tracer=True), "left-behind")
    assert "was still there at the end of the trace" in ended.first.text


def test_what_ends_with_the_program_is_not_left_behind() -> None:
    assert ids(outlived(50 * MS)) == set()
    story = Story()  # attached to: nothing of it is the program that was run
    first = story.begin(100, how="attached")
    story.begin(200, how="attached")
    story.exit(first)
    story._t += 1000 * MS
    assert found(story.end(), "left-behind") == []


def test_who_was_let_go_before_the_program_ended_is_not_said_to_be_left() -> None:
    def let_go(*, before: bool) -> Story:
        story = Story()
        root = story.begin(100)
        child = story.clone(root, 101)
        if before:
            story.gone(child, "released")
        story.exit(root)
        if not before:
            story.gone(child, "released")
        return story.end()

    assert found(let_go(before=True), "left-behind") == [], "as the init of a pid namespace that crashes"
    assert found(let_go(before=False), "left-behind") != [], "it lived at the end of the trace"


def test_an_exec_that_fails_and_nobody_notices() -> None:
    def story_of(code: int, *, later: bool = False) -> Story:
        story = Story()
        root = story.begin(100)
        child = story.clone(root, 101)
        story.exec_fail(child, "/opt/tool", 2)
        if later:
            story.exec(child, "/usr/bin/tool")
        story.exit(child, code)
        story.exit(root)
        return story

    unnoticed = one(story_of(0), "exec-failed-unnoticed")
    assert unnoticed.severity == "warning"
    assert "could not execute /opt/tool (ENOENT), and ended with exit status 0 all the same" in unnoticed.first.text
    assert found(story_of(127), "exec-failed-unnoticed") == []
    assert found(story_of(0, later=True), "exec-failed-unnoticed") == []


def test_without_times_what_is_left_behind_is_said_not_to_be_judged() -> None:
    story = Story(times=False, source=ev.Source("ltrace"), clock=ev.Clock(None, None))
    story.exit(story.begin(100, how="log"))
    assert ("left-behind", "the log has no times") in [(rule.id, why) for rule, why in checked(story).not_judged]


def ended(how: ev.ReapHow, stood: int) -> Story:
    story = Story()
    root = story.begin(100, comm="server")
    child = story.clone(root, 101)
    story.exec(child, "/bin/job")
    story.exit(child)
    since = story._t
    story._t += stood
    if how in ("left", "stands"):
        since = story._t
    story.tell(ev.Reap(t=story.t, task=child, how=how, since=since, parent_tid=100, parent=root))
    if how != "stands":
        story.exit(root)
    return story.end()


def test_a_child_that_nobody_waits_for() -> None:
    never = one(ended("left", 3000 * MS), "never-waited")
    assert never.severity == "warning"
    assert never.first.text == "101 job was a zombie for 3.0 s: 100 server ended without having waited for it"
    assert one(ended("left", 200 * MS), "never-waited").severity == "note"
    assert one(ended("stands", 5 * MS), "never-waited").severity == "warning"
    for right in (ended("left", 1 * MS), ended("waited", 3000 * MS), ended("at once", 0), ended("unknown", 3000 * MS)):
        assert ids(right) == set()


def test_a_child_that_is_waited_for_late() -> None:
    story = ended("waited", 20)
    late = Story()
    root = late.begin(100, comm="server")
    child = late.clone(root, 101)
    late.exit(child)
    late._t += 30_000 * MS
    late.tell(ev.Reap(t=late.t, task=child, how="waited", since=late._t - MS, parent_tid=100, parent=root))
    late.exit(root)
    assert one(late, "zombie-stood-long").severity == "note"
    assert found(story, "zombie-stood-long") == []


def test_a_parent_that_ignores_how_children_end() -> None:
    lost = one(ended("ignored", 0), "sigchld-ignored")
    assert (lost.severity, lost.first.text) == (
        "note", "how 101 job ended is lost: 100 server ignores SIGCHLD",
    )  # fmt: skip
