"""The sharing table and the task card, from events written by hand."""

from __future__ import annotations

import pytest
from happenings import Story, number, stories
from hypothesis import given

from forklore.abi.flags import CLONE_INTO_CGROUP, CLONE_IO, CLONE_VFORK, CLONE_VM
from forklore.abi.resources import NAMESPACES
from forklore.abi.units import TaskId, Unavailable
from forklore.decode.object_groups import letter
from forklore.decode.sharing import fates
from forklore.events import records as ev
from forklore.model.sharing import object_answers
from forklore.report.sharing_table import table_lines
from forklore.report.styled_lines import plain
from forklore.report.task_card import NoSuchTaskError, card_lines, find


@pytest.mark.parametrize(("number", "wanted"), [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA"), (702, "AAA")])
def test_letters_go_on_after_z(number: int, wanted: str) -> None:
    assert letter(number) == wanted


def test_two_nulls_are_never_called_shared() -> None:
    answers = {a.resource: a for a in object_answers(CLONE_VM | CLONE_IO, (0, 1, 1, 2, 4, 4))}
    assert answers["mm"].observed == "shared"
    assert answers["files"].observed == "separate"
    assert answers["io"].observed == "both-unset"
    assert answers["io"].sentence is not None, "CLONE_IO was asked for and shared nothing"
    assert answers["sysvsem"].sentence is None, "nobody asked"


def test_what_could_not_be_compared_is_unknown_with_its_reason() -> None:
    answers = object_answers(CLONE_VM | CLONE_VFORK, (-1,) * 6)
    assert {a.observed for a in answers} == {"unknown"}
    assert all(a.reason == "EPERM from kcmp(2)" for a in answers)


def test_shared_against_the_flags_is_said() -> None:
    (mm, *_) = object_answers(0, (0, 1, 1, 1, 4, 4))
    assert mm.observed == "shared"
    assert mm.sentence is not None


def vfork_and_exec() -> Story:
    """A vfork child that borrows memory, executes, and ends; kcmp saw the memory shared and then not."""
    story = Story()
    root = story.begin()
    child = story.create(root, 101, nr=number("vfork"), args=(0,) * 6, stop="vfork", kcmp=(0, 1, 1, 2, 4, 4))
    story.exec(child, "/bin/true", compared={"mm": (root, 1)})
    story.exit(child)
    story.exit(root)
    return story.end()


def test_borrowed_memory_ends_with_exec() -> None:
    trace = vfork_and_exec().trace(sharing=True)
    sharing = trace.sharing
    assert sharing is not None
    borrowed, own = sharing.holdings.holds(TaskId(2))["mm"]
    assert borrowed.group == sharing.holdings.holds(TaskId(1))["mm"][0].group
    assert borrowed.ended_by == "exec"
    assert borrowed.until is not None
    assert own.group != borrowed.group
    assert own.ended_by == "exit"
    (change,) = sharing.changes[TaskId(2)]
    assert (change.shared, change.cause, change.other) == (False, "exec", 1)


def test_the_table_has_a_letter_for_each_object() -> None:
    lines = [plain(line).split() for line in table_lines(vfork_and_exec().trace(sharing=True), 80)]
    assert lines[0] == ["task", "mm", "files", "fs", "sighand", "sysvsem", "io"]
    assert lines[1][1:] == ["make", "A", "A", "A", "A", "A", "A"] or lines[1][-6:] == ["A"] * 6
    assert lines[2][-6:] == ["A→B", "B", "B", "B", "·", "·"]


def test_the_card_says_where_each_claim_comes_from() -> None:
    trace = vfork_and_exec().trace(sharing=True)
    text = " ".join(" ".join(plain(line).split()) for line in card_lines(trace, find(trace, "101"), 80, verbose=True))
    assert "[kcmp: one object; CLONE_VM]" in text
    assert "[kcmp: two objects; no CLONE_FILES]" in text
    assert "of its own since exec" in text


def test_the_card_begins_with_what_matters_and_has_the_rules_on_request() -> None:
    story = Story()
    root = story.begin()
    child = story.clone(root, 101)
    story.exec(child, "/bin/cc", argv=["cc", "-c", "a b.c", "x" * 3000], argc=9)
    trace = story.trace(sharing=True)
    cards = [card_lines(trace, find(trace, "101"), 80, verbose=verbose) for verbose in (False, True)]
    short, whole = ([plain(line) for line in card] for card in cards)
    assert "  copied  memory; stack; descriptor table; root, cwd, umask; signal handlers;" in short
    assert not [line for line in short if "blocked signals" in line]
    assert [line for line in whole if "blocked signals           the same signals are blocked" in line]
    assert [line for line in short if line.startswith("  $ cc -c 'a b.c' xxx")]
    assert "… (8 args)" in " ".join(line.strip() for line in short)
    assert sum(line.count("x") for line in whole) > 3000 > sum(line.count("x") for line in short)


def test_no_title_of_a_card_touches_its_text() -> None:
    story = Story()
    story.clone(story.begin(), 101, 0)
    trace = story.trace(sharing=True)
    for columns in (40, 80):
        lines = [plain(line) for line in card_lines(trace, find(trace, "101"), columns, verbose=True)]
        for title in {fate.title for fate in fates(trace.tasks[TaskId(2)].creation)}:  # type: ignore[arg-type]
            assert [line for line in lines if line == f"  {title}" or line.startswith(f"  {title}  ")], title
            assert max(map(len, lines)) <= columns


def test_a_pending_pid_namespace_is_explained() -> None:
    story = Story()
    spaces = dict.fromkeys(("mnt", "uts", "ipc", "net", "pid", "time", "user", "cgroup"), 1)
    root = story.begin(standing=ev.Standing(namespaces=spaces))
    story.clone(root, 101, kcmp=(1, 1, 1, 1, 4, 4), standing=ev.Standing(namespaces={**spaces, "pid": 2}))
    sharing = story.end().trace(sharing=True).sharing
    assert sharing is not None
    answers = {answer.resource: answer for answer in sharing.answers[TaskId(2)]}
    assert answers["pid"].observed == "separate"
    assert "unshare(CLONE_NEWPID)" in (answers["pid"].sentence or "")
    assert answers["uts"].observed == "shared"
    assert answers["uts"].sentence is None


def test_the_cgroup_is_not_the_cgroup_namespace() -> None:
    spaces: dict[str, int | Unavailable] = dict.fromkeys(NAMESPACES, 1)
    story = Story()
    root = story.begin(standing=ev.Standing(namespaces=spaces))
    story.clone3(root, 101, CLONE_INTO_CGROUP, standing=ev.Standing(namespaces=spaces))
    trace = story.end().trace(sharing=True)
    text = " ".join(" ".join(plain(line).split()) for line in card_lines(trace, find(trace, "101"), 80, verbose=True))
    assert "directory is descriptor 0 [by CLONE_INTO_CGROUP]" in text
    assert "the child is in the caller's cgroup namespace [/proc: one object; no CLONE_NEWCGROUP]" in text


@given(stories())
def test_whatever_happens_every_hold_is_consistent(story: Story) -> None:
    trace = story.trace(sharing=True)
    assert trace.sharing is not None
    for task in trace.tasks:
        for holds in trace.sharing.holdings.holds(task).values():
            assert all(hold.ended_by is not None for hold in holds[:-1]), "a task holds one object at a time"


def test_a_card_needs_a_task_that_is_there() -> None:
    story = Story()
    story.begin()
    trace = story.trace()
    with pytest.raises(NoSuchTaskError, match="no task of this trace has the tid 99"):
        find(trace, "99")
    with pytest.raises(NoSuchTaskError, match="is no task"):
        find(trace, "make")
    with pytest.raises(NoSuchTaskError, match="has #1 to #1"):
        find(trace, "#7")
    with pytest.raises(ValueError, match="without its sharing"):
        card_lines(trace, find(trace, "#1"), 80, verbose=True)


def test_what_surprises_in_very_many_tasks_alike_is_told_once() -> None:
    story = Story()
    root = story.begin()
    for tid in range(1000, 1300):
        story.clone(root, tid, kcmp=(0, 2, 1, 2, 1, 2))
    lines = [plain(line) for line in table_lines(story.end().trace(sharing=True), None)]
    (told,) = [line for line in lines if line.startswith("! ")]
    assert told.startswith("! mm of 1000 1001 1002 1003 1004 and 295 more tasks: shared, though")
