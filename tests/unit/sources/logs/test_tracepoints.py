"""Tracepoints as text: perf script, tracefs, trace-cmd and bpftrace tell of the same tasks in the same way."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_events import DATA, events_of, only, read, tree

from forklore.abi.flags import CLONE_SIGHAND, CLONE_THREAD, CLONE_VFORK, CLONE_VM
from forklore.abi.units import TaskId, Unavailable
from forklore.events import records as ev
from forklore.model.build import built
from forklore.sources.files import open_any

REAL = ["perf_script", "tracefs", "bpftrace"]
THREAD = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD


def line(tid: int, t: float, event: str, comm: str = "sh") -> str:
    return f"{comm:>16}-{tid:<7} [000] ..... {t:.6f}: {event}\n"


def made(tid: int, t: float, child: int, flags: int) -> str:
    return line(tid, t, f"task_newtask: pid={child} comm=sh clone_flags={flags:x} oom_score_adj=0")


def ended(tid: int, t: float) -> str:
    return line(tid, t, f"sched_process_exit: comm=sh pid={tid} prio=120 group_dead=true")


@pytest.mark.parametrize("name", REAL)
def test_a_real_one(name: str) -> None:
    trace = open_any(DATA / f"{name}-takeover.log")
    assert trace.header.source.tool == name.replace("_", " ")
    events = events_of(trace)
    assert trace.warnings == []
    root, child, *threads = sorted(tree(events))
    assert tree(events) == {root: None, child: root, threads[0]: root, threads[1]: root}
    assert [(e.task, e.errno) for e in only(events, ev.Fail)] == [(root, 22)] * 4
    assert [(e.task, e.result) for e in only(events, ev.Other)] == [(root, -22)]
    assert [e.path for e in only(events, ev.Exec)][-2:] == ["/usr/bin/true", "./takeover"]
    assert [e.errno for e in only(events, ev.ExecFail)] == [2]
    assert [(e.task, e.child) for e in only(events, ev.VforkDone)] == [(root, child)]
    assert [(e.task, e.why) for e in only(events, ev.Gone)] == [(root, "superseded")]
    assert [e.former_tid for e in only(events, ev.Exec)][-1] == only(events, ev.Create)[-1].tid
    assert [e.status for e in only(events, ev.Exit)][-1] == 5 << 8


@pytest.mark.parametrize("name", REAL)
def test_flags_of_clone3_are_those_that_the_kernel_acted_on(name: str) -> None:
    trace = built(open_any(DATA / f"{name}-takeover.log"))
    thread = trace.tasks[TaskId(3)]
    assert thread.kind == "thread"
    assert thread.creation is not None
    assert thread.creation.call == "clone3"
    assert thread.creation.flags.raw == 0x3D0F00
    assert thread.creation.exit_signal == (0 if name == "bpftrace" else None)


def test_the_words_of_clone_are_those_of_its_own_tracepoint(tmp_path: Path) -> None:
    log = line(10, 1, "sys_clone(clone_flags: 0x1200011, newsp: 0, parent_tidptr: 0, child_tidptr: 0x7f10, tls: 0)")
    events, _ = read(tmp_path / "log", log + made(10, 1.1, 11, 0x1200000) + line(10, 1.2, "sys_clone -> 0xb"))
    (create,) = only(events, ev.Create)
    assert (create.args, create.flags, create.t) == ((0x1200011, 0, 0, 0x7F10, 0), None, 100_000_000)


def test_without_task_newtask_what_was_made_is_not_known(tmp_path: Path) -> None:
    fork = line(10, 1, "sched_process_fork: comm=sh pid=10 child_comm=sh child_pid=11")
    events, _ = read(tmp_path / "log", fork + ended(11, 2) + ended(10, 3))
    (create,) = only(events, ev.Create)
    assert (create.nr, create.args, create.flags) == (None, (), None)
    assert built(open_any(tmp_path / "log")).tasks[TaskId(2)].kind == "task"


def test_with_both_a_task_is_made_once(tmp_path: Path) -> None:
    fork = line(10, 1, "sched_process_fork: comm=sh pid=10 child_comm=sh child_pid=11")
    events, _ = read(tmp_path / "log", made(10, 1, 11, 0) + fork + ended(11, 2))
    assert len(only(events, ev.Create)) == 1


def test_a_pid_that_is_lower_than_its_creator_s_is_the_machine_s_own(tmp_path: Path) -> None:
    events, _ = read(tmp_path / "log", made(5000, 1, 7, 0) + ended(7, 2))
    (create,) = only(events, ev.Create)
    assert (create.tid, create.ns_tids) == (7, None)


def test_a_leader_ends_for_others_when_its_last_thread_has(tmp_path: Path) -> None:
    log = made(10, 1, 11, 0) + made(11, 2, 12, THREAD) + ended(11, 3) + ended(12, 4) + ended(10, 5)
    events, _ = read(tmp_path / "log", log)
    assert [(e.task, e.t) for e in only(events, ev.Exit)] == [
        (3, 3_000_000_000), (2, 3_000_000_000), (1, 4_000_000_000)
    ]  # fmt: skip


def test_what_exit_was_given_is_the_status_and_without_it_the_status_is_not_known(tmp_path: Path) -> None:
    told = line(10, 1, "sys_exit_group(error_code: 3)") + ended(10, 2)
    assert [e.status for e in only(read(tmp_path / "a", told)[0], ev.Exit)] == [3 << 8]
    assert [e.status for e in only(read(tmp_path / "b", ended(10, 2))[0], ev.Exit)] == [None]


def test_the_status_that_a_script_prints(tmp_path: Path) -> None:
    log = line(10, 1, "sched_process_exit: comm=sh pid=10 prio=120 exit_code=0x8b")
    assert [e.status for e in only(read(tmp_path / "log", log)[0], ev.Exit)] == [0x8B]


def test_vfork_without_its_return_says_nothing_of_how_long_it_held(tmp_path: Path) -> None:
    events, _ = read(tmp_path / "log", made(10, 1, 11, CLONE_VM | CLONE_VFORK) + ended(11, 2))
    assert only(events, ev.VforkDone) == []


def test_a_name_that_an_exec_brings_is_the_exec_s(tmp_path: Path) -> None:
    named = line(10, 1, "task_rename: pid=10 oldcomm=sh newcomm=a b oom_score_adj=0")
    executed = line(10, 2, "sched_process_exec: filename=/bin/a b pid=1 old_pid=2 pid=10 old_pid=10", "a b")
    events, _ = read(tmp_path / "log", named + executed + named.replace("a b", "me") + ended(10, 4))
    (image,) = only(events, ev.Exec)
    assert (image.path, image.comm) == ("/bin/a b pid=1 old_pid=2", "a b")
    assert isinstance(image.argv, Unavailable)
    assert [e.comm for e in only(events, ev.Name)] == ["me"]


@pytest.mark.parametrize(
    "lost", ["CPU:1 [LOST 12 EVENTS]\n", "Lost 12 events\n", "sh 1 [000] 1.000000: PERF_RECORD_LOST lost 12\n"]
)
def test_lost_events_are_told(lost: str, tmp_path: Path) -> None:
    events, _ = read(tmp_path / "log", made(10, 1, 11, 0) + lost + ended(11, 2))
    assert [(note.what, note.why) for note in only(events, ev.Note)] == [
        ("events", "the tool could not keep 12 of them")
    ]


def test_lines_of_other_tracepoints_are_passed_over(tmp_path: Path) -> None:
    other = line(99, 1, "sched_switch: prev_comm=sh prev_pid=99 ==> next_comm=x next_pid=7")
    other += line(99, 1, "sys_read(fd: 3, buf: 0x7f, count: 5)")
    events, warnings = read(tmp_path / "log", other + ended(10, 2))
    assert (tree(events), warnings) == ({1: None}, [])


def test_one_that_is_damaged_is_counted(tmp_path: Path) -> None:
    _, warnings = read(tmp_path / "log", ended(10, 1) + line(10, 2, "task_newtask: pid=zero comm=sh"))
    assert warnings == [f"{tmp_path / 'log'}:2: lines that name a tracepoint of tasks and are not understood"]


def test_forms_of_trace_cmd_and_of_pid_and_tid(tmp_path: Path) -> None:
    report = (
        "cpus=2\n sh-10    [001]   100.000001: sys_enter_vfork:      \n"
        " sh-10    [001]   100.000002: task_newtask:         pid=11 comm=sh clone_flags=4100 oom_score_adj=0\n"
        " sh-10    [001]   100.000009: sys_exit_vfork:       0xb\n"
    )
    events, _ = read(tmp_path / "log", report)
    assert [(e.nr, e.tid) for e in only(events, ev.Create)] == [(58, 11)]
    script = (
        "  my shell    9/10   [001] 100.000001:       task:task_newtask: pid=11 comm=my shell clone_flags=4100"
        " oom_score_adj=0\n"
    )
    events, _ = read(tmp_path / "log", script)
    (begin,) = only(events, ev.Begin)
    assert (begin.tid, begin.comm) == (10, "my shell")
