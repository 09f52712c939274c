"""Text of perf trace: calls as strace prints them, but for their arguments, with tracepoints in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_events import DATA, events_of, only, read, tree

from forklore.abi.units import TaskId, Unavailable
from forklore.events import records as ev
from forklore.model.build import built
from forklore.sources.files import open_any


def call(tid: int, t: float, text: str, took: float | None = 0.01) -> str:
    return f"{t:10.3f} ({'' if took is None else f'{took:6.3f} ms':9}): sh/{tid} {text}\n"


def test_a_real_one() -> None:
    trace = open_any(DATA / "perf_trace-takeover.log")
    events = events_of(trace)
    assert (trace.header.source.tool, trace.warnings) == ("perf trace", [])
    assert sorted(tree(events).values(), key=str) == [1, 1, 1, None]
    assert [e.errno for e in only(events, ev.Fail)] == [22] * 4
    assert [e.path for e in only(events, ev.Exec)] == ["./takeover", "/usr/bin/true", "./takeover"]
    assert [e.why for e in only(events, ev.Gone)] == ["superseded"]
    assert [e.status for e in only(events, ev.Exit)][-1] == 5 << 8
    shown = built(open_any(DATA / "perf_trace-takeover.log"))
    thread = shown.tasks[TaskId(3)].creation
    assert thread is not None
    assert (thread.call, thread.flags.raw, thread.exit_signal) == ("clone3", 0x3D0F00, None)


def test_arguments_that_are_left_out_are_zero(tmp_path: Path) -> None:
    log = call(10, 1, "clone(clone_flags: VM|VFORK|0x11)", 1.5) .rstrip("\n") + "  = 11 (sh)\n"
    events, _ = read(tmp_path / "log", log)
    (create,) = only(events, ev.Create)
    assert (create.args, create.tid, create.t) == ((0x4111, 0, 0, 0, 0), 11, 1_000_000)
    (done,) = only(events, ev.VforkDone)
    assert done.t == 2_500_000


def test_a_child_may_be_written_before_the_call_that_made_it(tmp_path: Path) -> None:
    log = (
        call(10, 0.5, "execve(filename: 0x1, argv: 0x2, envp: 0x3) = 0")
        + "         ? (         ): sh/11  ... [continued]: vfork()) = 0\n"
        + call(10, 1, "vfork() ...", None)
        + call(11, 2, "exit_group() = ?", None)
        + call(10, 1, " ... [continued]: vfork()) = 11", 2)
    )
    events, warnings = read(tmp_path / "log", log)
    assert (tree(events), warnings) == ({1: None, 2: 1}, [])
    assert [e.status for e in only(events, ev.Exit)] == [0]
    (image,) = only(events, ev.Exec)
    assert isinstance(image.path, Unavailable)


def test_a_path_that_perf_copied(tmp_path: Path) -> None:
    events, _ = read(tmp_path / "log", call(10, 1, 'execve(filename: "/bin/a\\tb", argv: 0x1) = 0'))
    assert [e.path for e in only(events, ev.Exec)] == ["/bin/a\tb"]


def test_an_interrupted_creation_is_made_once(tmp_path: Path) -> None:
    error = "= -1 (unknown) (INTERNAL ERROR: strerror_r(513, [buf], 128)=22)"
    events, warnings = read(tmp_path / "log", call(10, 1, f"fork() {error}") + call(10, 2, "fork() = 11"))
    assert ([e.tid for e in only(events, ev.Create)], only(events, ev.Fail), warnings) == ([11], [], [])


@pytest.mark.parametrize(
    ("printed", "args"),
    [("unshare(unshare_flags: NEWUTS)", (0x4000000,)), ("unshare(unshare_flags: 1024)", (1024,)),
     ("setns(fd: 3</proc/1/ns/uts>, flags: NEWUTS)", (3, 0x4000000)), ("setns(fd: 3)", (3, 0))],
)  # fmt: skip
def test_calls_that_change_what_is_shared(printed: str, args: tuple[int, ...], tmp_path: Path) -> None:
    events, _ = read(tmp_path / "log", call(10, 1, f"{printed} = 0"))
    assert [(e.args, e.result) for e in only(events, ev.Other)] == [(args, 0)]


def test_an_exec_that_no_line_of_the_log_makes_is_told_with_a_note(tmp_path: Path) -> None:
    log = call(10, 1, "fork() = 11") + call(10, 2, " ... [continued]: execve()) = 0")
    events, _ = read(tmp_path / "log", log)
    assert [e.task for e in only(events, ev.Exec)] == [1]
    assert [note.what for note in only(events, ev.Note)] == ["exec"]


def test_lines_of_a_program_without_a_pid(tmp_path: Path) -> None:
    events, _ = read(tmp_path / "log", "     1.000 ( 0.010 ms): fork() = 11\n     2.000 ( 0.010 ms): fork() = 12\n")
    assert [e.tid for e in only(events, ev.Create)] == [11, 12]


def test_an_order_that_is_not_that_of_time_is_told(tmp_path: Path) -> None:
    points = [call(10, t, "sched:sched_process_wait(pid: 1)", None) for t in (5, 1)]
    events, _ = read(tmp_path / "log", call(10, 0.5, "fork() = 11") + "".join(points))
    assert [(note.what, "--sort-events" in note.why) for note in only(events, ev.Note)] == [("order", True)]
