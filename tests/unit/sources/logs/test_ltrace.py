"""ltrace logs: real ones of ltrace 0.7.3, the older form, the newer form, and output mixed into the lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_events import DATA, events_of, only, read, tree

from forklore.abi.units import Unavailable
from forklore.events.records import (
    Begin,
    Create,
    Event,
    Exec,
    ExecFail,
    Exit,
    Fail,
    Gone,
    Note,
    Other,
    VforkDone,
)
from forklore.sources.files import open_any

FORK = 0x1200011


def log(tmp_path: Path, *lines: str) -> tuple[list[Event], list[str]]:
    first = "10 SYS_brk(0) = 0x563999829000"
    return read(tmp_path / "log", "\n".join([first, *lines, "10 +++ exited (status 0) +++"]) + "\n")


def test_a_shell_with_its_output_mixed_in() -> None:
    trace = open_any(DATA / "ltrace-stderr-sh.log")
    events = events_of(trace)
    assert trace.header.source.tool == "ltrace"
    assert tree(events) == {1: None, 2: 1, 3: 1, 4: 1}
    assert {(e.nr, e.args[0], e.args[4]) for e in only(events, Create)} == {(56, FORK, None)}
    assert {e.path for e in only(events, Exec)} == {"/usr/bin/ls", "/usr/bin/head"}
    assert [e.status for e in only(events, Exit)] == [0, 0, 0, 0]
    assert trace.warnings == []


def test_failures_and_unsharing() -> None:
    events = events_of(open_any(DATA / "ltrace-calls.log"))
    assert [(e.nr, e.errno, type(e.struct)) for e in only(events, Fail)] == [
        (435, 22, Unavailable),
        (435, 22, Unavailable),
        (435, 14, Unavailable),
        (435, 22, Unavailable),
    ]
    calls = [(e.nr, e.args, e.result) for e in only(events, Other)]
    assert calls[0] == (272, (0x4000400,), 0)
    assert calls[3:5] == [(308, (0xFFFFFFFF, 0), -9), (436, (3, 0xFFFFFFFF, 4), 0)]
    vfork, clone = only(events, Create)
    assert (vfork.nr, vfork.args, clone.args) == (58, (), (0x80000191, 0, 0, 0, None))
    assert [e.child for e in only(events, VforkDone)] == [vfork.child]
    assert {e.task: e.status for e in only(events, Exit)}[vfork.child] == 11
    times = [e.t for e in events if not isinstance(e, Create)]
    assert times == sorted(times, key=lambda t: t or 0)
    assert times[0] == 0


def test_exec_by_a_thread() -> None:
    events = events_of(open_any(DATA / "ltrace-non-leader-exec.log"))
    (thread,) = only(events, Create)
    (exec_,) = only(events, Exec)
    assert (exec_.task, exec_.path, exec_.former_tid) == (thread.child, "/bin/true", thread.tid)
    assert [(e.task, e.why) for e in only(events, Gone)] == [(1, "superseded")]


@pytest.mark.parametrize(
    "call",
    [
        "SYS_clone(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967",
        "clone@SYS(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967",
        "SYS_56(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967",
        "SYS_clone(0x1200011, 0, 0, 0x7fe3cf8339d0, 0 <unfinished ...>\n10 <... SYS_clone resumed> ) = 5967",
        "clone@SYS(0x1200011, 0, 0, 0x7fe3cf8339d0, 0 <unfinished ...>\n10 <... clone@SYS resumed> ) = 5967",
    ],
)
def test_the_forms_of_a_call(call: str, tmp_path: Path) -> None:
    """In each, the library's fork around it is no creation of its own, and its return in the child is none."""
    lines = f"10 fork( <unfinished ...>\n10 {call}\n10 <... fork resumed> ) = 5967\n5967 <... fork resumed> ) = 0"
    events, warnings = log(tmp_path, lines)
    (create,) = only(events, Create)
    assert (create.nr, create.args, create.tid) == (56, (FORK, 0, 0, 0x7FE3CF8339D0, 0), 5967)
    assert tree(events) == {1: None, 2: 1}
    assert warnings == []


def test_without_system_calls_the_library_call_is_what_there_is(tmp_path: Path) -> None:
    """ltrace -f without -S."""
    events, _ = log(
        tmp_path,
        "10 fork( <unfinished ...>",
        "11 <... fork resumed> ) = 0",
        "10 <... fork resumed> ) = 11",
        "10 fork() = -1",
    )
    (create,) = only(events, Create)
    assert (create.nr, create.args, create.tid) == (None, (), 11)


def test_a_child_can_act_before_its_creator_returns(tmp_path: Path) -> None:
    events, warnings = log(
        tmp_path,
        "10 SYS_vfork(0x7f6b673be080, 0, 0, 8 <unfinished ...>",
        '11 SYS_execve("/bin/a", 0x1, 0x2) = -2',
        '11 SYS_execve("/bin/"..., 0x1, 0x2 <no return ...>',
        "11 --- Called exec() ---",
        "10 <... SYS_vfork resumed> ) = 11",
        "11 +++ killed by SIGKILL +++",
    )
    assert tree(events) == {1: None, 2: 1}
    assert [(e.task, e.path, e.errno) for e in only(events, ExecFail)] == [(2, "/bin/a", 2)]
    assert [(e.task, e.path) for e in only(events, Exec)] == [(2, "/bin/")]
    assert [e.what for e in only(events, Note)] == ["path"]
    assert [e.status for e in only(events, Exit)] == [9, 0]
    assert warnings == []


def test_output_within_a_record(tmp_path: Path) -> None:
    """The program wrote between the arguments of a call and its result, and before a record."""
    events, warnings = read(
        tmp_path / "log",
        "[pid 10] SYS_brk(0) = 0x5639\n"
        "[pid 10] SYS_clone(0x1200011, 0, 0, 0x7f2bhello\nworld)  = 11\n"
        "no newline[pid 11] SYS_setsid() = 11\n"
        'SYS_clone(1, 2, 3) = 12\n[pid 10] printf("[pid 10] SYS_fork() = 4") = 5\n'
        "[pid 11] +++ exited (status 4) +++\n",
    )
    (create,) = only(events, Create)
    assert create.args == (FORK, 0, 0, None, None)
    assert only(events, Other)[0].task == create.child
    assert [e.status for e in only(events, Exit)] == [4 << 8]
    assert warnings == [f"{tmp_path / 'log'}:5: lines that name a creation and are not understood"]


def test_one_process_without_pids(tmp_path: Path) -> None:
    log = "SYS_getpid() = 4711\nSYS_unshare(0x400, 0, 0, 0) = 0\n+++ exited (status 1) +++\n"
    events, _ = read(tmp_path / "log", log)
    assert only(events, Begin)[0].tid == 4711
    assert (only(events, Other)[0].args, only(events, Exit)[0].status) == ((0x400,), 256)


def test_an_interrupted_creation_counts_once(tmp_path: Path) -> None:
    events, _ = log(tmp_path, "10 SYS_clone(17, 0, 0, 0) = -513", "10 SYS_clone(17, 0, 0, 0) = 11")
    assert (len(only(events, Create)), len(only(events, Fail))) == (1, 0)


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        (["10 <... SYS_clone resumed> ) = 11"], "creations of which the log has only the end"),
        (["10 SYS_clone(17, 0", "10 SYS_getpid() = 10"], "creations cut off in the middle of the line"),
        (["10 SYS_clone(17, 0) = 99999999"], "creations that returned no possible pid"),
        (["10 --- Called exec() ---"], "programs executed without a call of it in the log"),
        (["9999999 SYS_clone(17) = 3"], "lines that name a creation and are not understood"),
        (["11 SYS_getpid() = 11"], "a task whose creation the log does not show"),
    ],
)
def test_what_is_not_understood_is_counted(lines: list[str], warning: str, tmp_path: Path) -> None:
    _, warnings = log(tmp_path, *lines)
    assert any(f": {warning}" in text for text in warnings)
