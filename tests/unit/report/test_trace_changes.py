"""The comparison of two traces in words, as Markdown and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from happenings import FORK, Story, stories
from hypothesis import HealthCheck, given, settings

from forklore.abi.flags import CLONE_FILES, CLONE_VFORK, CLONE_VM
from forklore.model.census import Act, Ending, Execution, Maker, Manner, Refusal, count
from forklore.model.compare import Change, Counted, EndsOtherwise, Made, Shared, TraceComparison, compare
from forklore.report import trace_changes
from forklore.report.trace_changes import say

PAGE = (Path(__file__).parents[3] / "docs/diff.md").read_text()
MAKER = Maker(b"make", "process", "start_job")
VFORK, CLONE3 = Manner("vfork()"), Manner("clone3(VM|VFORK, exit SIGCHLD)", "posix_spawn")

SAID: list[tuple[Change, str]] = [
    (Made(MAKER, ((VFORK, 3, 0), (CLONE3, 0, 3))),
     "make in start_job (3 processes) moved from vfork() to posix_spawn as clone3(VM|VFORK, exit SIGCHLD)"),
    (Made(MAKER, ((VFORK, 1, 0), (CLONE3, 0, 3))),
     ("make in start_job no longer makes processes by vfork() (was 1);"
      " now makes 3 processes by posix_spawn as clone3(VM|VFORK, exit SIGCHLD)")),
    (Made(Maker(b"", "thread"), ((VFORK, 1, 3),)), "the command makes 3 threads by vfork() (was 1)"),
    (Shared(MAKER, "files", ("asked", "observed"), "none", "all"),
     "make in start_job now shares files with the processes that it makes (asked and observed)"),
    (Shared(MAKER, "net", ("asked",), "all", "none"),
     "make in start_job no longer shares net with the processes that it makes (asked)"),
    (Shared(MAKER, "fs", ("observed",), "all", "some"),
     "make in start_job shares fs with some of the processes that it makes (observed; was with all)"),
    (Counted(Refusal(MAKER, VFORK, 11), 0, 2), "make in start_job now is refused vfork() with EAGAIN (twice)"),
    (Counted(Execution(b"sh", b"/bin/\x1b[31m"), 1, 0), "sh no longer executes /bin/\\x1b[31m (was once)"),
    (Counted(Execution(b"sh", b"cc", 2), 4, 1), "sh fails to execute cc with ENOENT once (was 4 times)"),
    (Counted(Act(b"sh", "setsid()"), 0, 1), "sh now calls setsid()"),
    (Counted(Act(b"sh", "unshare(NEWNET)", 1), 1, 0), "sh is no longer refused unshare(NEWNET) with EPERM (was once)"),
    (EndsOtherwise(b"sh", ((Ending(code=3), 1, 0), (Ending(signal=6, core=True), 0, 1))),
     "sh ended otherwise: exit 3 once before, never now; SIGABRT (core dumped) never before, once now"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), SAID)
def test_every_change_is_a_sentence(change: Change, sentence: str) -> None:
    said = say(change)
    assert f"{said.who} {said.text}" == sentence


def comparison(flags: int, *, jobs: int = 2) -> TraceComparison:
    def told(flags: int, jobs: int) -> Story:
        story = Story()
        root = story.begin()
        story.exec(root, "/usr/bin/make")
        for job in range(jobs):
            story.clone(root, 101 + job, flags)
        return story.end()

    sides = (told(FORK, 2), told(flags, jobs))
    old, new = (count(story.header, story.events) for story in sides)
    return compare(old, new)


def test_the_text_has_totals_changes_and_what_is_as_before() -> None:
    assert trace_changes.text(("a\x1b", "b"), comparison(FORK | CLONE_FILES, jobs=3)).splitlines() == [
        "a\\x1b -> b:",
        "  3 processes, now 4",
        (
            "  make no longer makes processes by clone(CHILD_CLEARTID|CHILD_SETTID|SIGCHLD) (was 2);"
            " now makes 3 processes by clone(FILES|CHILD_CLEARTID|CHILD_SETTID|SIGCHLD)"
        ),
        "  make now shares files with the processes that it makes (asked)",
        "  1 executed program unchanged",
    ]
    assert trace_changes.text(("a", "b"), comparison(FORK)).splitlines()[1:] == [
        "  3 processes",
        "  1 place where tasks are made and 1 executed program unchanged",
    ]


def test_the_same_change_of_several_programs_is_told_once() -> None:
    def told(flags: int) -> Story:
        story = Story()
        root = story.begin()
        for name in ("/bin/make", "/bin/cc"):
            story.exec(root, name)
            story.clone(root, 101, flags)
        return story.end()

    sides = (told(FORK), told(CLONE_VM | CLONE_VFORK))
    old, new = (count(story.header, story.events) for story in sides)
    text = trace_changes.text(("a", "b"), compare(old, new))
    assert "  make (1 process) and cc (1 process): moved from clone(" in text
    assert "  make and cc: now shares mm with the processes that it makes (asked)\n" in text


def test_markdown_shows_names_as_they_are() -> None:
    lines = trace_changes.markdown(("a_b", "<b>"), comparison(FORK | CLONE_FILES)).splitlines()
    assert lines[:2] == ["# a\\_b → \\<b\\>", ""]
    assert "clone(FILES\\|CHILD\\_CLEARTID" in lines[3]
    assert all(line.startswith("- ") for line in lines[2:])


def test_the_json_form_is_what_the_page_says() -> None:
    data = json.loads(trace_changes.to_json(("a", "b"), comparison(FORK | CLONE_FILES)))
    assert data["format"] == {"name": "forklore-trace-diff", "version": [1, 1]}
    assert (data["old"]["name"], data["new"]["processes"]) == ("a", 3)
    made, shared = data["changes"]
    assert made["about"] == "made"
    assert [(each["before"], each["now"]) for each in made["manners"]] == [(2, 0), (0, 2)]
    assert (shared["about"], shared["resource"], shared["before"], shared["now"]) == ("shared", "files", "none", "all")
    assert set(data) <= documented()


def documented() -> set[str]:
    """The keys that the page names."""
    return set(re.findall(r"`(\w+)`", PAGE))


@pytest.mark.parametrize("change", [change for change, _ in SAID])
def test_every_key_of_a_change_is_documented(change: Change) -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(keys, value.values()))
        return set[str]().union(*map(keys, value)) if isinstance(value, list) else set()

    data = trace_changes.change_data(change)
    assert keys(data) <= documented()
    assert data["about"] in documented()
    assert data["text"] == f"{say(change).who} {say(change).text}"


@given(stories(8), stories(8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_shown_raw(first: Story, second: Story) -> None:
    old, new = (count(story.header, story.events) for story in (first, second))
    found = compare(old, new)
    for shown in (trace_changes.text(("a", "b"), found), trace_changes.markdown(("a", "b"), found)):
        assert all(line.isprintable() for line in shown.splitlines())
        assert len(shown.splitlines()) >= 2
    json.loads(trace_changes.to_json(("a", "b"), found))
