"""Descriptors after an exec, and pipes by both ends: what is said of them, and of whom."""

from __future__ import annotations

from typing import Any

from happenings import Story, stories, task
from hypothesis import HealthCheck, given, settings

from forklore.abi.units import Nanoseconds, TaskId, Unavailable
from forklore.events import records as ev
from forklore.model.pipes import PipeHolder, pipes
from forklore.report.descriptors import descriptor_lines
from forklore.report.styled_lines import plain
from forklore.report.words import descriptors

READ, WRITE = 0, 1


def pipe(fd: int, flags: int, inode: int = 9, **more: Any) -> ev.Held:
    return ev.Held(fd=fd, kind="pipe", target=f"pipe:[{inode}]", flags=flags, inode=inode, **more)


def hanging() -> Story:
    """A reader waits for the end of a pipe whose write end a helper holds without knowing it."""
    story = Story()
    reader = story.begin(100, comm="reader")
    helper = story.clone(reader, 101)
    story.exec(helper, "/bin/helper", comm="helper")
    table = [pipe(1, WRITE, 7), pipe(4, WRITE, same=0, creators_cloexec=False)]
    theirs = [pipe(3, READ), pipe(4, WRITE)]
    story.tell(ev.Descriptors(t=story.t, task=helper, table=table, creator=reader, creators_pipes=theirs))
    return story


def view(story: Story, columns: int = 200) -> str:
    return "\n".join(map(plain, descriptor_lines(story.trace(), columns)))


def test_who_holds_which_end() -> None:
    story = hanging()
    found = {found.name: found for found in pipes(story.trace())}
    t = 3_000_000
    assert [(each.task, each.fd, each.t, each.executed) for each in found["pipe:[9]"].readers] == [(1, 3, t, False)]
    ends = [(TaskId(1), 4, Nanoseconds(t), False), (TaskId(2), 4, Nanoseconds(t), True)]
    assert found["pipe:[9]"].writers == [PipeHolder(*end) for end in ends]
    assert found["pipe:[7]"].readers == []


def test_the_view_names_who_keeps_a_reader_waiting() -> None:
    story = hanging()
    story.exit(1)
    assert "  101 helper\n    4     pipe:[9], write end; the same open file as 100's 4, open there" in view(story)
    assert "    read by     ~100 reader (by 3, ended at 4.0 ms)\n    written by  101 helper (by 4), ~100" in view(story)
    assert "nobody that was looked at" in view(story)


def test_what_the_program_was_started_with_is_left_out() -> None:
    story = Story()
    root = story.begin(100, comm="sh", how="root")
    handed = [pipe(1, WRITE, 7), pipe(9, READ, 8)]
    story.tell(ev.Descriptors(t=story.t, task=root, table=handed))
    child = story.clone(root, 101)
    story.exec(child, "/bin/cat", comm="cat")
    story.tell(ev.Descriptors(t=story.t, task=child, table=[*handed, pipe(3, READ, 6)]))
    shown = view(story)
    assert "  101 cat\n    3     pipe:[6], read end" in shown
    assert "Not shown: 1 descriptor that the program was started with (-v)." in shown
    assert "pipe:[7]" not in shown
    assert "pipe:[8]" not in shown
    whole = "\n".join(map(plain, descriptor_lines(story.trace(), 200, verbose=True)))
    assert "  101 cat\n    9     pipe:[8], read end" in whole
    assert "  pipe:[7]\n    read by     nobody that was looked at\n    written by  100 sh (by 1), 101 cat" in whole


def test_a_later_look_counts() -> None:
    story = hanging()
    story.exec(2, "/bin/again")
    story.tell(ev.Descriptors(t=story.t, task=2, table=[]))
    (only,) = pipes(story.trace())
    assert [holder.task for holder in only.writers] == [1]
    assert view(story).startswith("Beyond 0, 1 and 2 after the last exec of each task\n  none")


def test_nothing_recorded_is_not_nothing_held() -> None:
    story = Story()
    story.begin()
    assert view(story).startswith("No descriptors were recorded")


def test_what_could_not_be_read_says_so() -> None:
    story = hanging()
    story.tell(ev.Descriptors(t=story.t, task=2, table=Unavailable(13, "EACCES: no")))
    assert "not known: EACCES: no" in view(story)


def test_where_a_descriptor_comes_from() -> None:
    trace = hanging().trace()
    (record,) = task(trace, 2).descriptors

    def origin(**how: Any) -> str:
        return descriptors.origin(pipe(4, WRITE, **how), record, trace)

    assert origin(same=0, creators_cloexec=True) == "the same open file as 100's 4, close-on-exec there"
    assert origin(same=-9) == "100 has no 4 at this moment"
    assert origin(same=2) == "not what 100 has at 4"
    assert origin(same=-1) == "not compared with 100's: EPERM"
    outside = ev.Descriptors(t=0, task=2, table=[])
    assert descriptors.origin(pipe(4, WRITE), outside, trace).startswith("not compared: ")


def test_what_the_program_was_started_with_is_no_doing_of_its_own() -> None:
    story = Story()
    root = story.begin()
    given = ev.Held(fd=10, kind="file", target="/x", inode=3)
    story.tell(ev.Descriptors(t=story.t, task=root, table=[given]))
    but = descriptors.given(story.trace())
    assert descriptors.held_words([ev.Descriptors(t=0, task=1, table=[given])], but) == ""
    more = ev.Descriptors(t=0, task=1, table=[given, *(pipe(fd, READ) for fd in range(3, 8))], left_out=2)
    assert descriptors.held_words([more], but) == "holds 7 descriptors beyond 0-2: 5 × pipe"


@given(stories())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_story_can_be_shown_and_steers_no_terminal(story: Story) -> None:
    assert all(plain(line).isprintable() for line in descriptor_lines(story.trace(), 60))
