"""What the programs about sharing claim when nobody traces them: the truth that forklore's report is measured by.

Each program finds out by an effect whether two tasks share a resource, and fails by itself where the kernel does
otherwise than documented. Here what they say is held against clone(2), unshare(2), setns(2), close_range(2),
execve(2) and vfork(2), so that a program that proves the wrong thing, or nothing, does not go unnoticed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from programs import BARE, musl_forks
from tracing import SKIPPED, Done, Line, Program, bare

NAMESPACES = {
    "newcgroup": "cgroup_ns", "newipc": "ipc_ns", "newnet": "net_ns", "newns": "mnt_ns", "newpid": "pid_ns",
    "newuser": "user_ns", "newuts": "uts_ns",
}  # fmt: skip
SHARED_BY_FLAG = {
    "files": "files", "fs": "fs", "parent": "parent", "sighand": "sighand", "sysvsem": "sysvsem", "thread": "thread",
    "vm": "mm",
}  # fmt: skip
ENDED_BY_EXECVE = {"mm", "files", "sighand", "time_ns"}
"""Of what a child shares, and the time namespace that it made for its children."""
ORDINARY_USER = 65534

Claim = tuple[str, str, str]
"""When, which resource, and ``yes`` or ``no``."""


def cases(prefix: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(name, arguments) for name in BARE if name.startswith(prefix) for arguments in BARE[name]]


def ids(pairs: Iterable[tuple[str, tuple[str, ...]]]) -> list[str]:
    return [" ".join((name, *arguments)) for name, arguments in pairs]


def run(path: Path, *arguments: str, **how: int | list[int]) -> Done:
    """A run that ended well; a skip where the machine forbids what the program needs."""
    done = bare(path, *arguments, cwd="/", stdin=subprocess.DEVNULL, **how)
    if done.status == SKIPPED:
        pytest.skip(f"{path.name} {' '.join(arguments)}: {done.line('skip')['reason']}")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-1].startswith("ok")
    return done


def claims(done: Done) -> list[Claim]:
    return [(line["when"], line["resource"], line["answer"]) for line in done.lines("shared")]


def yes(whether: bool) -> str:
    return "yes" if whether else "no"


FLAGS = [case for case in cases("flag_") if case[0] not in ("flag_clear_sighand", "flag_io", "flag_newtime")]


@pytest.mark.parametrize(("name", "arguments"), FLAGS, ids=ids(FLAGS))
def test_a_flag_decides(name: str, arguments: tuple[str, ...], program: Program) -> None:
    done = run(program(name), *arguments)
    flag = name.removeprefix("flag_")
    resource = NAMESPACES.get(flag) or SHARED_BY_FLAG[flag]
    answer = yes((arguments[0] == "with") != (flag in NAMESPACES))
    assert set(claims(done)) == {("created", resource, answer)}
    assert done.line("ok")["set"] == yes(arguments[0] == "with")


@pytest.mark.parametrize("arguments", BARE["flag_io"], ids=" ".join)
def test_clone_io_shares_what_is_there(arguments: tuple[str, ...], program: Program) -> None:
    flag, context = arguments[:2]
    when = "created" if context == "set" else "both-unset"
    answer = yes(flag == "with" and context == "set")
    assert claims(run(program("flag_io"), *arguments)) == [(when, "io", answer)]


@pytest.mark.parametrize("arguments", BARE["flag_newtime"], ids=" ".join)
def test_a_new_time_namespace_waits_for_an_execve(arguments: tuple[str, ...], program: Program) -> None:
    same = yes(arguments[0] == "without")
    assert claims(run(program("flag_newtime"), *arguments)) == [
        ("created", "time_ns", same),  # memory of its own
        ("created", "time_ns", "yes"),  # borrowed memory
        ("created", "time_for_children", same),
        ("created", "time_ns", "yes"),
        ("after-execve", "time_ns", same),
        ("after-execve", "time_ns", same),
    ]


@pytest.mark.parametrize("arguments", BARE["flag_clear_sighand"], ids=" ".join)
def test_clear_sighand_keeps_what_is_ignored(arguments: tuple[str, ...], program: Program) -> None:
    handlers = run(program("flag_clear_sighand"), *arguments).line("handlers")
    assert handlers["usr1"] == ("default" if arguments[0] == "with" else "caught")
    assert handlers["usr2"] == "ignored"


def resource(word: str) -> str:
    """The resource that a ``later_*`` program is told as a word."""
    return f"{word}_ns" if f"{word}_ns" in {*NAMESPACES.values(), "time_ns"} else word


@pytest.mark.parametrize("arguments", BARE["later_unshare"], ids=" ".join)
def test_unshare_ends_it(arguments: tuple[str, ...], program: Program) -> None:
    said = claims(run(program("later_unshare"), *arguments))
    if arguments[0] == "pid":
        before, kept, after = said
        assert (before, after) == (("before", "pid_for_children", "yes"), ("after", "pid_for_children", "no"))
        assert kept == ("after", "pid_ns", "yes")
    elif arguments[0] == "time":
        assert said[:2] == [("before", "time_ns", "yes"), ("after", "time_ns", "yes")]
        assert said[2:] == [("after", "time_for_children", "no")]
    else:
        what = resource(arguments[0])
        assert said == [("before", what, "yes"), ("after", what, "no")]


@pytest.mark.parametrize("arguments", BARE["later_setns"], ids=" ".join)
def test_setns_goes_from_one_to_another(arguments: tuple[str, ...], program: Program) -> None:
    done = run(program("later_setns"), *arguments)
    what = "pid_for_children" if arguments[0] == "pid" else resource(arguments[0])
    lines = [line for line in done.lines("shared") if line["resource"] == what]
    creator = done.line("ok")["pid"]
    assert [(line["when"], line["pid"] == creator, line["answer"]) for line in lines] == [
        ("before", True, "yes"),
        ("before", False, "no"),
        ("after", True, "no"),
        ("after", False, "yes"),
    ]
    others = [claim for claim in claims(done) if claim[1] != what]
    assert others == ([("after", "pid_ns", "yes")] if arguments[0] == "pid" else [])


@pytest.mark.parametrize("arguments", BARE["later_close_range"], ids=lambda words: " ".join(words) or "self")
def test_close_range_ends_sharing_of_descriptors(arguments: tuple[str, ...], program: Program) -> None:
    assert claims(run(program("later_close_range"), *arguments)) == [
        ("before", "files", "yes"),
        ("after", "files", "no"),
    ]


@pytest.mark.parametrize("arguments", BARE["later_exec"], ids=" ".join)
def test_execve_ends_some(arguments: tuple[str, ...], program: Program) -> None:
    done = run(program("later_exec"), *arguments)
    what = resource(arguments[0])
    after = ("after", what, yes(what not in ENDED_BY_EXECVE))
    assert claims(done) == ([after] if what == "sysvsem" else [("before", what, "yes"), after])


@pytest.mark.parametrize("arguments", BARE["later_exit"], ids=" ".join)
def test_the_last_partner_keeps_it(arguments: tuple[str, ...], program: Program) -> None:
    done = run(program("later_exit"), *arguments)
    what = arguments[0]
    left = {"files": ["no", "yes"], "sysvsem": ["yes"]}.get(what, [])
    assert [answer for when, _, answer in claims(done) if when == "creator-left"] == left
    ended = [answer for when, _, answer in claims(done) if when == "one-ended"]
    assert ended == ([] if left else ["yes"])
    assert [line["resource"] for line in done.lines("gone")] == ([what] if left else [])


@pytest.mark.parametrize(
    ("name", "arguments", "variables"),
    [
        ("textbook_fork", (), {"stack": (5, 5), "data": (7, 7), "heap": (11, 11)}),
        ("textbook_vfork", (), {"stack": (5, 10), "data": (7, 12), "heap": (11, 16)}),
        ("textbook_thread", (), {"value": (5, 10)}),
    ],
)
def test_textbook_variables(
    name: str, arguments: tuple[str, ...], variables: dict[str, tuple[int, int]], program: Program
) -> None:
    done = run(program(name), *arguments)
    for variable, (old, new) in variables.items():
        assert f"main: {variable} {old} -> {new}" in done.out.splitlines()
    changed = all(old != new for old, new in variables.values())
    assert ("created", "mm", yes(changed)) in claims(done)


def test_textbook_fork_shares_the_open_file(program: Program) -> None:
    done = run(program("textbook_fork"))
    assert "child: read ab at offset 0" in done.out
    assert "main: read cd at offset 2" in done.out
    assert ("created", "open_file", "yes") in claims(done)


@pytest.mark.parametrize(("argument", "writer"), [("vm", "the child"), ("copy", "main")])
def test_textbook_clone_passes_a_buffer(argument: str, writer: str, program: Program) -> None:
    done = run(program("textbook_clone"), argument)
    assert done.out.splitlines()[2] == f'main: buffer is "written by {writer}"'
    assert claims(done) == [("created", "mm", yes(argument == "vm"))]


@pytest.mark.parametrize("arguments", BARE["vfork_writes"], ids=" ".join)
def test_a_vfork_child_writes_where_it_borrows(arguments: tuple[str, ...], program: Program) -> None:
    done = run(program("vfork_writes"), *arguments)
    places = done.lines("place")
    assert [(place["what"], place.number("size")) for place in places] == [
        ("stack", 20), ("static", 12), ("heap", 24), ("mapped", 96),
    ]  # fmt: skip
    spans = sorted((place.number("address"), place.number("address") + place.number("size")) for place in places)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    for place in places:
        assert (place["wrote"] != place["old"]) == (arguments[0] != "none")
        assert place["seen"] == (place["wrote"] if arguments[0] == "vfork" else place["old"])


@pytest.mark.parametrize("arguments", BARE["cow_pages"], ids=lambda words: " ".join(words) or "default")
def test_pages_that_a_fork_leaves_in_common(arguments: tuple[str, ...], program: Program) -> None:
    done = run(program("cow_pages"), *arguments)
    cow, pagemap = done.line("cow"), done.line("pagemap")
    asked = [int(word) for word in arguments[:3]]
    assert [cow.number(name) for name in ("pages", "child_wrote", "parent_wrote")][: len(asked)] == asked
    own = cow.number("child_wrote") + cow.number("parent_wrote")
    assert cow.number("common") == cow.number("pages") - own
    assert [pagemap.number("parent_has"), pagemap.number("child_has")] == [own, own]


def test_an_execve_hands_on_what_is_not_close_on_exec(program: Program) -> None:
    done = run(program("fds_leak"))

    def descriptors(lines: Iterable[Line]) -> list[tuple[str, str]]:
        return [(line["fd"], line["kind"]) for line in lines]

    opened = done.lines("opened")
    assert {line["kind"] for line in opened if line["cloexec"] == "yes"} >= {"file", "pipe-write", "socket"}
    leaked = [line for line in opened if line["cloexec"] == "no"]
    assert {line["kind"] for line in leaked} == {"file", "pipe-read", "pipe-write", "socket", "device"}
    assert descriptors(done.lines("holds")) == descriptors(leaked)
    assert {line["pid"] for line in done.lines("holds")} == {done.line("ok")["child"]}


def test_a_leaked_write_end_keeps_a_pipe_open(program: Program) -> None:
    done = run(program("fds_pipe_hang"))
    leaked, hang = done.line("leaked"), done.line("hang")
    assert (leaked["fd"], leaked["pid"]) == (hang["held_fd"], hang["child"])


ABOUT_SHARING = [case for prefix in ("textbook_", "flag_", "later_") for case in cases(prefix)]
AS_CALLER = [
    case for case in ABOUT_SHARING if case[1][1:][-1:] != ("user",) and case != ("later_close_range", ("user",))
]
"""Without those that become an ordinary user by themselves."""


@pytest.mark.parametrize(("name", "arguments"), AS_CALLER, ids=ids(AS_CALLER))
def test_an_ordinary_user_sees_the_same(name: str, arguments: tuple[str, ...], program: Program) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests ran as an ordinary user already")
    path = program(name)
    as_root = run(path, *arguments)
    as_user = run(path, *arguments, user=ORDINARY_USER, group=ORDINARY_USER, extra_groups=[])
    assert claims(as_user) == claims(as_root)


@pytest.mark.parametrize("how", [{"libc": "musl"}, {"static": True}, {"m32": True}], ids=["musl", "static", "m32"])
@pytest.mark.parametrize("name", sorted({name for name, _ in ABOUT_SHARING}))
def test_other_builds_say_the_same(name: str, how: dict[str, str | bool], program: Program) -> None:
    if name == "textbook_vfork" and "libc" in how and (why := musl_forks()):
        pytest.skip(why)
    arguments = BARE[name][0]
    assert claims(run(program(name, **how), *arguments)) == claims(run(program(name), *arguments))
