"""The JSON object: its keys are the documented ones, in every task of every story, and its values are plain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coded import Code, coded, pool
from happenings import FORK, Story, number, stories
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forklore.abi.flags import CLONE_UNTRACED
from forklore.events import records as ev
from forklore.export.json_tree.tree import to_json
from forklore.model.tasks import Trace

PAGE = (Path(__file__).parents[3] / "docs/json.md").read_text()
SECTIONS = {
    title: re.findall(r"^\| `(\w+)` \|", text, re.M)
    for title, text in re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
}
DEATH_BY_SIGNAL = ["signal", "signal_name", "core", "sender", "address"]


def to_data(trace: Trace) -> Any:
    return json.loads(to_json(trace))


def objects(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the data with the section of the page that describes it."""
    yield "The object", data
    yield "header", data["header"]
    yield "end", data["end"]
    yield from (("note", note) for note in data["notes"])
    yield from (("module", module) for module in data["modules"])
    for stack in data["stacks"]:
        yield "stack", stack
        for frame in stack["frames"]:
            yield "frame", frame
            yield from places(frame["place"])
    for script in data["scripts"]:
        yield "script", script
        yield from (("script frame", frame) for frame in script["frames"])
    for failure in data["failures"]:
        yield "failure", failure
        yield "refused creation", failure["creation"]
        yield "attribution", failure["attribution"]
        yield from (("reason", reason) for reason in failure["reasons"])
    for task in data["tasks"]:
        yield "task", task
        if task["creation"] is not None:
            yield "creation", task["creation"]
        if task["exit"] is not None:
            yield "exit", task["exit"]
        if task["standing"] is not None:
            yield "standing", task["standing"]
        if task["sharing"] is not None:
            yield "sharing", task["sharing"]
            yield from (("answer", each) for each in task["sharing"]["at_creation"])
            yield from (("hold", each) for each in task["sharing"]["holds"])
            yield from (("change", each) for each in task["sharing"]["asked_again"])
        if task["attribution"] is not None:
            yield from attributed(task["attribution"])
        if task["runs"] is not None:
            yield "runs", task["runs"]
            yield from places(task["runs"]["fn_place"])
            yield from places(task["runs"]["routine_place"])
        yield from (("name", each) for each in task["names"])
        yield from (("exec", each) for each in task["execs"])
        yield from (("cow", each) for each in task["cow"])
        for record in task["borrowed"]:
            yield "borrowed", record
            yield from (("written", each) for each in record["changes"] if isinstance(record["changes"], list))
            yield from (("remapped", each) for each in record["remaps"])
            yield from (("not compared", each) for each in record["left_out"])
        for record in task["descriptors"]:
            yield "descriptors", record
            table = record["table"] if isinstance(record["table"], list) else []
            yield from (("held", each) for each in (*table, *record["creators_pipes"]))
        yield from (("failed exec", each) for each in task["failed_execs"])
        yield from (("stop", each) for each in task["stops"])
        yield from (("reaper", each) for each in task["reaper"])
        for call in task["calls"]:
            yield "call", call
            yield from (("reason", reason) for reason in call["reasons"])


def places(place: dict[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if place is not None:
        yield "place", place
        yield from (("line", line) for line in place["lines"])


def attributed(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "attribution", found
    sections = (("frame", "caller"), ("line", "caller_line"), ("script frame", "script"))
    yield from ((section, found[key]) for section, key in sections if found[key] is not None)


def check_keys(section: str, found: dict[str, Any]) -> None:
    keys = list(found)
    if section in ("header", "standing"):
        assert set(keys) <= set(SECTIONS[section])
    elif section == "exit":
        assert keys in (["code"], DEATH_BY_SIGNAL)
    elif section == "refused creation":
        assert keys == [key for key in SECTIONS["creation"] if key not in ("ptrace_event", "untraced_cleared")]
    else:
        assert keys == SECTIONS[section], section


@given(stories(), st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_keys_are_those_of_the_page_in_their_order(story: Story, draws: st.DataObject) -> None:
    if not isinstance(story.events[-1], ev.End):
        story.clone(1, 7, **draws.draw(coded(story)))
    data = to_data(story.trace(sharing=True))
    for section, found in objects(data):
        check_keys(section, found)


def test_the_page_has_a_section_for_each_object() -> None:
    full = full_story()
    seen = {section for section, _ in objects(to_data(full.trace(sharing=True)))} - {"refused creation"}
    assert seen == set(SECTIONS)
    assert set(SECTIONS["exit"]) == {"code", *DEATH_BY_SIGNAL}
    assert set(SECTIONS["header"]) == set(ev.Header.__struct_fields__)
    assert set(SECTIONS["standing"]) == {"kind", *ev.Standing.__struct_fields__}


def full_story() -> Story:
    story = Story(host="vm", uid=0, blind=[ev.Blind("a", "b")])
    root = story.begin(100, comm="sh")
    child = story.clone(
        root,
        101,
        FORK | CLONE_UNTRACED | 1 << 40,
        untraced_cleared=True,
        ns_tids=[101, 1],
        standing=ev.Standing(ppid=100, umask=18),
        kcmp=(1, 1, 0, 2, 4, -1),
    )
    story.exec_fail(child, "/a/ls")
    story.exec(
        child,
        "/b/ls",
        argv=[ev.text(b"\xff"), "-l"],
        exe=ev.Absent(13, "secret"),
        comm="ls",
        compared={"fs": (root, 0)},
    )
    story.call(child, "setns", 3, 0, result=-1, target="net:[4]")
    story.fail(root, 22, limits={"uid": 7})
    story.tell(ev.GroupStop(t=story.t, task=child, signal=20))
    story.tell(ev.Reparent(t=story.t, task=child, parent_tid=1))
    story.tell(ev.Signal(t=story.t, task=child, signal=11, code=1, address=16))
    pipe = ev.Held(fd=4, kind="pipe", target="pipe:[9]", flags=1, inode=9, same=-9)
    story.tell(ev.Descriptors(t=story.t, task=child, table=[pipe], creator=root, creators_pipes=[pipe]))
    wrote = ev.Written(16, 1, "heap", "[heap]", "05", "0a")
    gone, left = ev.Remapped(0, 9, "rw-p ", None), ev.NotCompared(0, 9, "", "big")
    story.tell(ev.Borrowed(t=story.t, task=child, creator=root, changes=[wrote], remaps=[gone], left_out=[left]))
    story.tell(ev.Cow(t=story.t, task=child, creator=root, moment="created", source="pagemap", common=9))
    story.killed(child, 0x8B)
    story.tell(ev.Note(t=story.t, what="x", why="y"))
    code = Code(story)
    thread = pool(story, root, code, 102, script=code.script(("f", "/a.py", 3)))
    story.tell(ev.Name(t=story.t, task=thread, comm="pool-1", how="prctl"))
    story.exit(root, 2)
    return story.end()


def test_a_whole_task() -> None:
    data = to_data(full_story().trace())
    assert data["format"] == {"name": "forklore-tree", "version": [1, 0]}
    root, child, _thread = data["tasks"]
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
    assert child["failed_execs"][0]["errno_names"] == ["ENOENT"]
    (call,) = child["calls"]
    assert (call["call"], call["result"], call["errno_name"], call["target"]) == (
        "setns(3, 0)", -1, "EPERM", "net:[4]",
    )  # fmt: skip
    assert child["exit"] == {"signal": 11, "signal_name": "SIGSEGV", "core": True, "sender": None, "address": 16}
    assert child["stops"] == [{"t": 6_000_000, "signal": "SIGTSTP", "resumed": None}]
    assert child["reaper"] == [{"t": 7_000_000, "tid": 1, "task": None}]


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
