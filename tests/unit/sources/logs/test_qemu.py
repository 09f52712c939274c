"""Logs of QEMU's user mode: a real one, results that stand elsewhere, what is said to be unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_events import DATA, events_of, only, read, tree

from forklore.events.records import Create, Event, Exec, ExecFail, Exit, Fail, Gone, Note, Other
from forklore.model.build import build
from forklore.sources.files import open_any

FORK = "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|0x11,child_stack=0x0000000000000000,"
FORK += "parent_tidptr=0x0000000000000000,tls=0x0000000000000000,child_tidptr=0x0000004002848950)"


def log(tmp_path: Path, *lines: str) -> tuple[list[Event], list[str]]:
    first = '10 openat(-100,"/etc/ld.so.cache",O_RDONLY|O_CLOEXEC) = 3'
    return read(tmp_path / "log", "\n".join([first, *lines]) + "\n")


def test_a_program_of_many_calls() -> None:
    trace = open_any(DATA / "qemu-calls.log")
    events = events_of(trace)
    assert trace.header.source.tool == "qemu"
    made = {e.tid: (e.task, e.nr, e.args[0] if e.args else None) for e in only(events, Create)}
    fork, thread, spawn = 0x1200011, 0x3D0F00, 0x4111
    assert made == {
        26914: (1, 56, fork),
        26917: (2, 56, fork),
        26919: (1, 58, None),
        26921: (1, 56, thread),
        26923: (1, 56, fork),
        26925: (1, 56, spawn),
        26932: (1, 56, spawn),
        26938: (1, 56, fork),
        26941: (1, 56, fork),
    }
    assert [(e.args[0], e.errno) for e in only(events, Fail)] == [(0x811, 22), (0x20211, 22)]
    assert [(e.path, e.argv) for e in only(events, Exec)] == [
        ("/bin/true", ["true", "x y", 'a"b']),
        ("/bin/true", ["true"]),
    ]
    assert [(e.path, e.errno) for e in only(events, ExecFail)] == [("/nosuchprogram", 2)]
    ends = {e.task: e.status for e in only(events, Exit)}
    assert ends == {3: 4 << 8, 2: 3 << 8, 6: 9 << 8, 8: 127 << 8, 1: 7 << 8, 5: None}
    # The 0 that stands behind setsid and unshare can be that of a child that has written nothing yet.
    assert [(e.nr, e.result) for e in only(events, Other)] == [(272, None), (272, -22), (308, -9), (112, None)]
    kinds = [task.kind for task in build(trace.header, events).tasks.values()]
    assert kinds.count("thread") == 1
    assert [warning.partition(": ")[2].split(" (")[0] for warning in trace.warnings] == [
        "calls of clone3 that QEMU does not know",
        "a creation whose result the log does not show",
        "signals that ended one of several tasks",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        # On the line itself; the child's own 0 comes later, or before.
        [f"10 {FORK} = 11", " = 0", "11 set_robust_list(1,24,0,1,0,1) = -1 errno=38 (Function not implemented)"],
        [f"10 {FORK} = 0", "11 getpid() = 11", " = 11"],
        # Behind another's call.
        [f"10 {FORK}", "11 getpid() = 0", " = 11"],
        [f"10 {FORK}11 getpid() = 11", " = 11"],
        [f"10 {FORK} = 11 close(3) = 0", "11 close(3) = 0"],
        # As one number of several, while others wait.
        [f"10 {FORK} = 11", "11 read(0,0x1,1)10 getpid() = 10"],
    ],
)
def test_where_the_result_of_a_fork_can_stand(lines: list[str], tmp_path: Path) -> None:
    events, _ = log(tmp_path, *lines, "11 exit_group(3)", "10 exit_group(0)")
    assert tree(events) == {1: None, 2: 1}
    assert [(e.tid, e.args[0]) for e in only(events, Create)] == [(11, 0x1200011)]
    assert [(e.task, e.status) for e in only(events, Exit)] == [(2, 3 << 8), (1, 0)]


def test_a_number_behind_a_call_need_not_be_its_result(tmp_path: Path) -> None:
    """Another's read returns 832 there: no task has that pid, and the child that shows up is another."""
    first = [f"10 {FORK} = 11", "11 read(0,0x1,832)"]
    events, _ = log(tmp_path, *first, f"10 {FORK} = 832", "12 getpid() = 12", " = 12", "10 exit_group(0)")
    assert [e.tid for e in only(events, Create)] == [11, 12]


def test_two_that_can_have_made_it(tmp_path: Path) -> None:
    lines = [f"10 {FORK} = 11", f"11 {FORK}10 {FORK}", "12 getpid() = 12", " = 12"]
    events, warnings = log(tmp_path, *lines)
    assert tree(events) == {1: None, 2: 1, 3: None}
    assert any("a task whose creation the log does not show" in warning for warning in warnings)


def test_an_error_while_others_are_in_calls_is_told_with_a_note(tmp_path: Path) -> None:
    refused = FORK + " = -1 errno=11 (Resource temporarily unavailable)"
    events, _ = log(tmp_path, f"10 {refused}", f"10 {FORK} = 11", "11 read(0,0x1,1)", f"10 {refused}")
    assert [e.errno for e in only(events, Fail)] == [11, 11]
    assert [e.what for e in only(events, Note)] == ["result"]


def test_what_a_task_does_next_tells_whether_it_executed(tmp_path: Path) -> None:
    fails = " = -1 errno=2 (No such file or directory)"
    events, _ = log(
        tmp_path,
        '10 execve("/a/true",{"true",NULL})' + fails,
        '10 execve("/b/true",{"true",NULL})' + fails,
        "10 brk(NULL) = 0x0000004000005000",
        '10 execve("/bin/sh",{NULL})',
    )
    assert [(e.path, e.errno) for e in only(events, ExecFail)] == [("/a/true", 2)]
    assert [(e.path, e.argv) for e in only(events, Exec)] == [("/b/true", ["true"]), ("/bin/sh", [])]


def test_threads_have_their_process_pid(tmp_path: Path) -> None:
    thread = FORK.replace("CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|0x11", "CLONE_VM|CLONE_SIGHAND|CLONE_THREAD")
    events, _ = log(tmp_path, f"10 {thread} = 11", "10 exit(0)", "10 getpid() = 10", "10 exit_group(4)")
    assert tree(events) == {1: None, 2: 1}
    assert {e.task: e.status for e in only(events, Exit)} == {1: 4 << 8, 2: None}
    events, _ = log(tmp_path, f"10 {thread} = 11", "10 exit_group(4)")
    assert {e.task: e.status for e in only(events, Exit)} == {1: 4 << 8, 2: 4 << 8}
    events, _ = log(tmp_path, "10 exit(3)")
    assert {e.task: e.status for e in only(events, Exit)} == {1: 3 << 8}


def test_a_process_of_threads_is_never_alone(tmp_path: Path) -> None:
    """The tid of the thread stands behind the fork of another thread; the fork's child shows by itself."""
    thread = FORK.replace("CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|0x11", "CLONE_VM|CLONE_SIGHAND|CLONE_THREAD")
    events, _ = log(tmp_path, f"10 {thread}10 getpid() = 10", f"10 {FORK} = 11", "12 exit_group(9)", "10 exit_group(0)")
    assert [(e.tid, e.args[0]) for e in only(events, Create)] == [(12, 0x1200011)]
    assert {e.task: e.status for e in only(events, Exit)} == {1: 0, 2: 9 << 8}


def test_a_pid_can_stand_before_the_exit_of_another(tmp_path: Path) -> None:
    later = ["10 getpid() = 10", "11 getpid() = 11"]
    events, warnings = log(tmp_path, f"10 {FORK} = 11", *later, "10 exit_group(9)", *later, "10 exit_group(0)")
    assert {e.task: e.status for e in only(events, Exit)} == {1: 0}
    assert any("exits of a pid that makes more calls" in warning for warning in warnings)


def test_a_signal_that_ends_the_only_task(tmp_path: Path) -> None:
    killed = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped"
    events, _ = log(tmp_path, "--- SIGSEGV {si_signo=SIGSEGV, si_code=1, si_addr=0x0} ---", killed)
    assert [e.status for e in only(events, Exit)] == [11]
    events, warnings = log(tmp_path, f"10 {FORK} = 11", "11 getpid() = 11", killed)
    assert only(events, Exit) == []
    assert [e.task for e in only(events, Gone)] == [1, 2]
    assert any("signals that ended one of several tasks" in warning for warning in warnings)


def test_what_is_no_line_of_it(tmp_path: Path) -> None:
    events, warnings = log(
        tmp_path, "0 getpid() = 0", "9999999 getpid() = 1", "11904 clone(11908 rt_sigaction(CLONE_VM|", "x"
    )
    assert tree(events) == {1: None, 2: None}
    assert any("a task whose creation the log does not show" in warning for warning in warnings)
