"""The JSON object: it is what its schema says in every story, and tells of each part of the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import validity
from coded import Code, coded, pool
from happenings import FORK, Story, number, stories
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from struct_docs import ARRAYS, OBJECTS, is_struct, members, name, options, reachable, words

from forklore.abi.flags import CLONE_UNTRACED, CLONE_VFORK, CLONE_VM
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.export.json_tree.tree import TreeObject, to_json
from forklore.model.tasks import Trace

PAGE = (Path(__file__).parents[3] / "docs/json.md").read_text()


def to_data(trace: Trace) -> Any:
    return json.loads(to_json(trace))


@given(stories(), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace_is_what_the_schema_says(story: Story, draws: st.DataObject) -> None:
    if not isinstance(story.events[-1], ev.End):
        story.clone(1, 7, **draws.draw(coded(story)))
    validity.check(to_data(story.trace(sharing=draws.draw(st.booleans()))))


def test_the_schema_takes_no_other_document() -> None:
    good = to_data(full_story().trace(sharing=True))
    validity.check(good)
    wrongs = [("kind", "job"), ("tid", "1"), ("execs", {}), ("creator", 0), ("exit", {"core": 1}), ("more", 1)]
    for key, wrong in wrongs:
        with pytest.raises(AssertionError, match=r"\$\.tasks\[0\]"):
            validity.check({**good, "tasks": [{**good["tasks"][0], key: wrong}]})
    with pytest.raises(AssertionError, match="'end' is a required property"):
        validity.check({key: value for key, value in good.items() if key != "end"})


def objects(kind: Any, value: Any) -> Iterator[tuple[type[Struct], dict[str, Any]]]:
    """Every object of a value of this type, with the record that it is one of."""
    for option in options(kind):
        origin, arguments = get_origin(option), get_args(option)
        if is_struct(option) and isinstance(value, dict):
            keys = {member.name: member for member in members(option)}
            tag = option.__struct_config__.tag_field
            if {name for name, member in keys.items() if member.required} <= value.keys() - {tag} <= keys.keys():
                yield option, value
                for name in value.keys() - {tag}:
                    yield from objects(keys[name].type, value[name])
        elif origin in OBJECTS and isinstance(value, dict):
            for each in value.values():
                yield from objects(arguments[1], each)
        elif origin in ARRAYS and isinstance(value, list):
            for each in value:
                yield from objects(arguments[0], each)
        elif origin is Annotated:
            yield from objects(arguments[0], value)


def test_a_full_story_has_every_object_and_every_key() -> None:
    found: dict[type[Struct], set[str]] = {}
    for struct, value in objects(TreeObject, to_data(full_story().trace(sharing=True))):
        found.setdefault(struct, set()).update(value)
    for struct in reachable(TreeObject):
        keys = {member.name for member in members(struct)}
        missing = keys - found.get(struct, set())
        assert missing == set(), struct


@pytest.mark.parametrize("struct", reachable(TreeObject), ids=name)
def test_every_word_of_a_closed_list_is_told(struct: type[Struct]) -> None:
    for member in members(struct):
        assert {word for word in words(member.type) if f"`{word}`" not in member.doc} == set(), member.name
        assert member.doc, member.name


STANDING = ev.Standing(
    ppid=100, pgrp=100, session=100, exit_signal=17, no_new_privs=False, seccomp=0, seccomp_filters=0, umask=18,
    namespaces={"mnt": 4, "net": Unavailable(13, "secret")}, cgroups=["0::/"],
)  # fmt: skip


def full_story() -> Story:
    known: dict[str, Any] = {"arch": "x86_64", "boot_id": "4e08", "options": {"follow": "all"}, "continues": "t.1"}
    known["clock"] = ev.Clock(5, 7, 1000)
    story = Story(host="vm", uid=0, blind=[ev.Blind("a", "b")], limits={"pids_max": 9}, **known)
    root = story.begin(100, comm="sh")
    child = story.clone(
        root,
        101,
        FORK | CLONE_UNTRACED | 1 << 40,
        untraced_cleared=True,
        ns_tids=[101, 1],
        standing=STANDING,
        kcmp=(1, 1, 0, 2, 4, -1),
    )
    story.exec_fail(child, "/a/ls", argv=["ls", "-l"], argc=5000)
    story.exec(
        child,
        "/b/ls",
        argv=[ev.text(b"\xff"), "-l"],
        exe=Unavailable(13, "secret"),
        comm="ls",
        at=ev.ExecAt(fd=3, directory="/b", path="ls", flags=0x101),
        set_id=ev.SetId(0, None, 1, 2),
        compared={"fs": (root, 0)},
    )
    story.call(child, "setns", 3, 0, result=-1, target="net:[4]")
    story.fail(root, 22, limits={"uid": 7})
    story.tell(ev.GroupStop(t=story.t, task=child, signal=20))
    story.tell(ev.Reparent(t=story.t, task=child, parent_tid=1))
    story.tell(ev.Reap(t=story.t, task=child, how="left", since=0, parent_tid=1, parent=root))
    story.tell(ev.Signal(t=story.t, task=child, signal=11, code=1, address=16))
    pipe = ev.Held(fd=4, kind="pipe", target="pipe:[9]", flags=1, inode=9, same=-9)
    story.tell(ev.Descriptors(t=story.t, task=child, table=[pipe], creator=root, creators_pipes=[pipe]))
    variable = ev.Variable("count", "main", "5", "10")
    wrote = ev.Written(16, 1, "heap", "[heap]", "05", "0a", [variable])
    gone, left = ev.Remapped(0, 9, "rw-p ", None), ev.NotCompared(0, 9, "", "big")
    story.tell(ev.Borrowed(t=story.t, task=child, creator=root, changes=[wrote], remaps=[gone], left_out=[left]))
    story.tell(ev.Cow(t=story.t, task=child, creator=root, moment="created", source="pagemap", common=9))
    story.killed(child, 0x8B)
    story.tell(ev.Note(t=story.t, what="x", why="y"))
    code = Code(story)
    thread = pool(story, root, code, 102, script=code.script(("f", "/a.py", 3)))
    story.tell(ev.Name(t=story.t, task=thread, comm="pool-1", how="prctl"))
    story.clone(root, 103, CLONE_VM | CLONE_VFORK)
    story.exit(root, 2)
    return story.end()


def test_a_whole_task() -> None:
    data = to_data(full_story().trace())
    assert data["format"] == {"name": "forklore-tree", "version": [1, 0]}
    root, child, *_ = data["tasks"]
    assert (root["exit"], root["creation"], root["kind"]) == ({"code": 2}, None, "process")
    assert (child["creator"], child["parent"], child["leader"], child["heir"]) == (1, 1, 2, None)
    assert (child["ns_tids"], child["comm"], child["t_created"]) == ([101, 1], "ls", 1_000_000)
    creation = child["creation"]
    assert (creation["call"], creation["arch"], creation["exit_signal"], creation["exit_signal_name"]) == (
        "clone", "x86_64", 17, "SIGCHLD",
    )  # fmt: skip
    assert creation["flags"] == ["CLONE_CHILD_CLEARTID", "CLONE_UNTRACED", "CLONE_CHILD_SETTID"]
    assert creation["args"][0] == FORK | CLONE_UNTRACED | 1 << 40 | 17
    assert "0x10000000000" in creation["problems"][0]
    assert creation["untraced_cleared"]
    (image,) = child["execs"]
    assert image["argv"] == [{"kind": "opaque", "hex": "ff"}, "-l"]
    assert image["exe"] == {"unavailable": "secret", "errno": 13}
    assert image["at"] == {
        "fd": 3, "directory": "/b", "path": "ls", "flags": ["AT_SYMLINK_NOFOLLOW"], "flags_raw": 0x101,
    }  # fmt: skip
    (failed,) = child["failed_execs"]
    assert failed["errno_names"] == ["ENOENT"]
    assert (failed["argv"], failed["argc"], failed["at"]) == (["ls", "-l"], 5000, None)
    (call,) = child["calls"]
    assert (call["call"], call["result"], call["errno_name"], call["target"]) == (
        "setns(3, 0)", -1, "EPERM", "net:[4]",
    )  # fmt: skip
    assert child["exit"] == {
        "signal": 11, "signal_name": "SIGSEGV", "core": True, "sender": None, "by": None, "stack": None, "address": 16,
    }  # fmt: skip
    assert child["stops"] == [{"t": 6_000_000, "signal": "SIGTSTP", "resumed": None}]
    assert child["reaper"] == [{"t": 7_000_000, "tid": 1, "task": None}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2**53 - 1, 9007199254740991), (2**53, "0x20000000000000"), (2**64 - 1, "0xffffffffffffffff")],
)
def test_a_word_that_readers_of_json_would_round_is_text(value: int, shown: int | str) -> None:
    story = Story()
    root = story.begin(100)
    story.fail(root, 22, args=(value, 0, 0, 0, 0, 0), limits={"rlimit_nproc": value})
    story.clone(root, 101, FORK, runs=ev.Runs(how="clone", fn=value, arg=value))
    story.tell(ev.Signal(t=story.t, task=root, signal=11, code=1, address=value))
    story.tell(ev.Descriptors(t=story.t, task=2, table=[ev.Held(fd=4, kind="file", target="/x", inode=value)]))
    story.killed(root, 11)
    data = to_data(story.end().trace())
    (failure,), (root_, child) = data["failures"], data["tasks"]
    assert (failure["creation"]["args"][0], failure["limits"]["rlimit_nproc"]) == (shown, shown)
    assert (child["runs"]["fn"], child["runs"]["arg"], root_["exit"]["address"]) == (shown, shown, shown)
    assert child["descriptors"][0]["table"][0]["inode"] == shown


def test_who_made_a_task_and_what_it_runs() -> None:
    data = to_data(full_story().trace())
    thread = data["tasks"][2]
    (stack,), (script,) = data["stacks"], data["scripts"]
    assert (thread["stack"], thread["script"]) == (stack["id"], script["id"])
    assert [frame["place"]["symbol"] for frame in stack["frames"]] == [
        "__clone3", "pthread_create", "start_pool", "main",
    ]  # fmt: skip
    assert (stack["end"], script["frames"][0]) == ("outermost", {"function": "f", "file": "/a.py", "line": 3})
    attribution = thread["attribution"]
    assert (attribution["chain"], attribution["source"], attribution["sure"]) == (["pthread_create"], "stack", True)
    assert attribution["caller"] == stack["frames"][2]
    assert attribution["caller_line"] == {"function": "start_pool", "file": "pool.c", "line": 88}
    assert attribution["script"] == script["frames"][0]
    assert (thread["runs"]["how"], thread["runs"]["routine_place"]["function"]) == ("nptl", "worker")
    modules = {module["id"]: module["path"] for module in data["modules"]}
    assert modules[stack["frames"][0]["place"]["module"]].endswith("libc.so.6")
    assert thread["names"] == [{"t": thread["names"][0]["t"], "comm": "pool-1", "source": "prctl"}]
    assert data["tasks"][0]["attribution"] is None


def test_failures_come_with_reasons() -> None:
    (failure,) = to_data(full_story().trace())["failures"]
    assert (failure["task"], failure["errno"], failure["errno_name"]) == (1, 22, "EINVAL")
    assert failure["limits"] == {"uid": 7}
    assert failure["creation"]["flags"] == failure["flags"] == ["CLONE_SIGHAND"]
    first = failure["reasons"][0]
    assert (first["rule"], first["certain"]) == ("sighand-without-vm", True)
    assert first["text"]
    assert first["advice"]
    assert first["source"].startswith("kernel/fork.c")


def test_what_is_not_known_is_null() -> None:
    story = Story(times=False)
    root = story.begin(100)
    story.create(root, 101, nr=number("clone3"), args=(None, None))
    data = to_data(story.trace())
    creation = data["tasks"][1]["creation"]
    assert (creation["flags_raw"], creation["exit_signal"], creation["args"]) == (None, None, [None, None])
    assert data["tasks"][1]["t_created"] is None
    assert data["end"] == {"t": None, "reason": None}


@given(stories())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace_is_valid_json_of_valid_utf8_without_control_characters(story: Story) -> None:
    raw = to_json(story.trace())
    assert raw.endswith(b"\n")
    text = raw.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    json.loads(text)


def test_the_example_of_the_page_names_real_keys() -> None:
    (filter_,) = re.findall(r"jq -r '(.*)'", PAGE)
    assert set(re.findall(r"\.([a-z_]+)", filter_)) == {"tasks", "kind", "tid", "comm"}
