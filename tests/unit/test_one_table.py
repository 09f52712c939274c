"""The table of resources against everybody who tells of them: for every flag of every call, all say the same."""

from __future__ import annotations

import json
import re
from functools import reduce
from operator import or_
from typing import Any, Final

import pytest
from happenings import Story
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.flags import CLONE, CLONE3, CLONE_NNP, CLOSE_RANGE, SETNS, UNSHARE, Flag, Vocabulary
from forklore.abi.resources import APART, BY_KEY, NAMESPACES, OBJECTS, TABLE
from forklore.abi.units import TaskId
from forklore.decode.calls import Call, Unshare
from forklore.decode.creation import Creation
from forklore.decode.sharing import fates, shared_names, unshare_fates
from forklore.decode.unsharing import ended_by, exec_ends, set_for_children
from forklore.events.parts import COMPARED
from forklore.export.json_tree.tree import to_json
from forklore.linux.namespaces import NAMES
from forklore.linux.observe import Pair
from forklore.model.holds import RESOURCES
from forklore.model.tasks import Trace
from forklore.report.sharing_table import table_lines
from forklore.report.styled_lines import plain
from forklore.report.tree.fold import TreeRow
from forklore.report.tree.label import Detail, task_parts

ROOT, CHILD, GRANDCHILD = TaskId(1), TaskId(2), TaskId(3)


def created(call: str, flags: int) -> Trace:
    """A creation that nobody looked at: all that is known of it are its flags."""
    story = Story()
    root = story.begin()
    make = story.clone3 if call == "clone3" else story.clone
    make(root, 101, flags)
    return story.end().trace(sharing=True)


def as_json(trace: Trace, number: TaskId) -> dict[str, Any]:
    (task,) = [task for task in json.loads(to_json(trace))["tasks"] if task["id"] == number]
    assert isinstance(task, dict)
    return task


def decoded(creation: Creation) -> dict[str, bool]:
    """Of each resource of the table whether parent and child have one in common, as ``explain`` says."""
    told = {fate.resource: fate.outcome for fate in fates(creation)}
    return {each.key: told[each.key] == ("shared" if each.shared_by else "inherited") for each in TABLE}


def modelled(trace: Trace) -> dict[str, bool]:
    """The same by the groups of tasks that the model finds."""
    sharing = trace.sharing
    assert sharing is not None
    groups = {
        key: [sharing.holdings.holds(task)[BY_KEY[key].name][0].group for task in (ROOT, CHILD)]
        for key, each in BY_KEY.items()
        if each.name in RESOURCES and each.kind in ("object", "namespace")
    }
    return {
        **{key: ours == theirs for key, (ours, theirs) in groups.items()},
        "thread": trace.tasks[ROOT].leader == trace.tasks[CHILD].leader,
    }


def answered(trace: Trace) -> dict[str, bool]:
    """The same by what the JSON of a trace says was asked for; what was observed by rule must not be anything else."""
    child = as_json(trace, CHILD)
    answers: list[dict[str, Any]] = child["sharing"]["at_creation"]
    keys = {each.name: each.key for each in TABLE if each.kind in ("object", "namespace")}
    for answer in answers:
        assert answer["source"] == ("rule" if answer["resource"] in NAMESPACES else "flag")
        if answer["source"] == "rule":
            assert answer["observed"] == ("shared" if answer["asked"] else "separate")
    return {keys[answer["resource"]]: answer["asked"] for answer in answers}


_SHARES: Final = re.compile(r"shares (.*)")
_NEW: Final = re.compile(r"new (.*) namespaces?")


def named(trace: Trace) -> dict[str, bool]:
    """The same by the words of a line of the tree."""
    texts = [plain(part) for part in task_parts(TreeRow([trace.tasks[CHILD]]), trace, Detail.FULL)]
    shared = {word for text in texts if (found := _SHARES.fullmatch(text)) for word in found[1].split()}
    new = {word for text in texts if (found := _NEW.fullmatch(text)) for word in found[1].split()}
    return {
        **{each.key: each.name in shared for each in TABLE if each.shared_by},
        **{each.key: each.name not in new for each in NAMESPACES.values()},
    }


def agree(call: str, flags: int) -> None:
    trace = created(call, flags)
    creation = trace.tasks[CHILD].creation
    assert creation is not None
    told = decoded(creation)
    raw = creation.flags.raw or 0
    assert told == {
        each.key: bool(raw & each.shared_by) if each.shared_by else not raw & each.new_by for each in TABLE
    }
    for others in (modelled(trace), answered(trace), named(trace)):
        assert others.items() <= told.items()
    child = as_json(trace, CHILD)
    assert tuple(child["creation"]["shares"]) == shared_names(creation)
    # What a tracer has to look at: a child that is elsewhere than its creator.
    elsewhere = [key for key, common in told.items() if not common and not BY_KEY[key].shared_by]
    assert bool(raw & APART & ~CLONE_NNP) == bool(elsewhere)


def each_flag(*calls: Vocabulary) -> pytest.MarkDecorator:
    several = [(call, flag) for call in calls for flag in call.flags]
    names = [f"{call.name} {flag.name}" for call, flag in several]
    return pytest.mark.parametrize(("call", "flag"), several, ids=names)


def together(call: Vocabulary) -> st.SearchStrategy[int]:
    """Any of a call's flags, also those that the kernel does not take together."""
    return st.sets(st.sampled_from(call.flags)).map(lambda flags: reduce(or_, (flag.value for flag in flags), 0))


@each_flag(CLONE, CLONE3)
def test_a_flag_of_a_creation_means_the_same_to_all(call: Vocabulary, flag: Flag) -> None:
    agree(call.name, flag.value)


@given(together(CLONE))
def test_flags_of_clone_together_mean_the_same_to_all(flags: int) -> None:
    agree("clone", flags)


@given(together(CLONE3))
def test_flags_of_clone3_together_mean_the_same_to_all(flags: int) -> None:
    agree("clone3", flags)


SHARED: Final = reduce(or_, (each.shared_by for each in OBJECTS.values()))
BEFORE: Final[dict[str, tuple[int, ...]]] = {"unshare": (), "setns": (3,), "close_range": (3, 9)}
"""The arguments before the flags."""


def moved(call: str, flags: int, target: str | None = None) -> tuple[Call, Trace]:
    """A child that shares all that a process can, makes a call that nobody observes, and forks."""
    story = Story()
    child = story.clone(story.begin(), 101, SHARED)
    story.call(child, call, *BEFORE[call], flags, target=target)
    story.clone(child, 102, 0)
    trace = story.end().trace(sharing=True)
    return trace.tasks[CHILD].calls[0].call, trace


def ended(trace: Trace, call: str) -> set[str]:
    """The resources that the model has end by the call, as the JSON names them; the table of letters has the same."""
    child = as_json(trace, CHILD)
    found = {hold["resource"] for hold in child["sharing"]["holds"] if hold["ended_by"] == call}
    lines = [plain(line) for line in table_lines(trace, None)]
    columns, cells = lines[0].split()[1:], next(line for line in lines if line.startswith("101")).split()
    assert {name for name, cell in zip(columns, cells[-len(columns):], strict=True) if "→" in cell} == found
    return found


def agree_on_the_end(call: str, flags: int) -> None:
    made, trace = moved(call, flags)
    told = set(ended_by(made))
    now = {(each.key, end.action) for each in TABLE for end in each.ends if end.when == "now"}
    assert {(key, call) for key in told} <= now
    assert ended(trace, call) == {BY_KEY[key].name for key in told}
    later = set(set_for_children(made))
    if isinstance(made, Unshare):
        assert {fate.resource for fate in unshare_fates(made)} == told | later
    sharing = trace.sharing
    assert sharing is not None
    holds = sharing.holdings.holds
    answers = {answer.resource: answer.observed for answer in sharing.answers[GRANDCHILD]}
    for name, each in NAMESPACES.items():
        assert answers[name] == ("separate" if each.key in later else "shared")
        common = holds(CHILD)[name][-1].group == holds(GRANDCHILD)[name][-1].group
        assert common == (each.key not in later)


@each_flag(UNSHARE, SETNS, CLOSE_RANGE)
def test_what_a_flag_ends_is_the_same_to_all(call: Vocabulary, flag: Flag) -> None:
    agree_on_the_end(call.name, flag.value)


@given(st.sampled_from((UNSHARE, SETNS, CLOSE_RANGE)), st.data())
def test_what_flags_end_together_is_the_same_to_all(call: Vocabulary, data: st.DataObject) -> None:
    agree_on_the_end(call.name, data.draw(together(call)))


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_descriptor_says_what_setns_without_a_type_enters(name: str) -> None:
    made, trace = moved("setns", 0, f"{name}:[17]")
    assert set(ended_by(made)) == set()
    typed, _ = moved("setns", reduce(or_, (end.flags for end in NAMESPACES[name].ends if end.action == "setns")))
    assert ended(trace, "setns") == {BY_KEY[key].name for key in ended_by(typed)}
    sharing = trace.sharing
    assert sharing is not None
    own = sharing.holdings.holds(CHILD)[name][-1].inode
    assert own == (None if "setns" in NAMESPACES[name].later else 17)


def test_what_exec_ends_is_the_same_to_all() -> None:
    story = Story()
    child = story.clone(story.begin(), 101, SHARED)
    story.exec(child, "/bin/true")
    assert ended(story.end().trace(sharing=True), "exec") == set(exec_ends()) - {"thread"}
    assert {each.key for each in TABLE if any(end.action == "exec" and end.when == "now" for end in each.ends)} == set(
        exec_ends()
    )


def test_children_of_one_task_enter_one_namespace_that_it_made_for_them() -> None:
    story = Story()
    root = story.begin()
    story.call(root, "unshare", NAMESPACES["pid"].new_by)
    first, second = story.clone(root, 101), story.clone(root, 102)
    sharing = story.end().trace(sharing=True).sharing
    assert sharing is not None
    assert set(sharing.holdings.partners(TaskId(first))["pid"]) == {second}
    (answer,) = [answer for answer in sharing.answers[TaskId(first)] if answer.resource == "pid"]
    assert (answer.asked, answer.observed, answer.how) == (True, "separate", "rule")
    assert "unshare(CLONE_NEWPID)" in (answer.sentence or "")


@pytest.mark.parametrize(("kernel", "enters"), [("6.1.100", False), ("6.2.0", True), (None, True)])
def test_an_exec_enters_the_time_namespace_that_was_made_for_children(kernel: str | None, enters: bool) -> None:
    story = Story(kernel=kernel)
    root = story.begin()
    story.call(root, "unshare", NAMESPACES["time"].new_by)
    child = story.clone(root, 101)
    story.exec(root, "/bin/true")
    second = story.clone(root, 102)
    sharing = story.end().trace(sharing=True).sharing
    assert sharing is not None
    assert set(sharing.holdings.partners(TaskId(child))["time"]) == ({root, second} if enters else {second})


def test_every_flag_of_the_table_is_one_of_a_creation() -> None:
    for each in TABLE:
        for flags in (each.shared_by, each.new_by):
            assert not flags & ~CLONE3.mask
        assert len({end.action for end in each.ends}) == len(each.ends)
    shared = [each.shared_by for each in TABLE if each.shared_by]
    assert len(set(shared)) == len(shared)
    assert all(flag.bit_count() == 1 for flag in shared)


def test_keys_and_names_have_a_stated_relation() -> None:
    assert len(BY_KEY) == len(TABLE)
    assert {each.key.removesuffix("_ns") for each in TABLE} == {each.name for each in TABLE}
    assert COMPARED == tuple(OBJECTS) == Pair.__struct_fields__
    assert {name.removesuffix("_for_children") for name in NAMES} == set(NAMESPACES)
    assert {name for name in NAMES if name.endswith("_for_children")} == {"pid_for_children", "time_for_children"}
