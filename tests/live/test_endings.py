"""How tasks end, who inherits whom, and that forklore ends as its program ended."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, Program, Trace_, bare, run, until_event

import forklore
from forklore.events import records as ev
from forklore.model.attribution import outside_library
from forklore.model.names import function_name


def test_a_leader_that_ends_before_its_threads(program: Program, traced: Trace_) -> None:
    # The leader stays a zombie until its last thread is gone and reports last; the status is the process's.
    run = traced(program("leader_exits_first"), "7")
    assert run.status == 7
    line = run.line("child")
    child = run.task(line.number("pid"))
    assert run.creator(child).tid == line.number("creator")
    assert run.creator(child).kind == "thread"
    assert run.parent(child).tid == line.number("parent") == run.root.tid
    assert run.root.death is not None
    assert run.root.death.code == 7
    assert run.root.ended == max(task.ended or 0 for task in run.trace.tasks.values())
    assert run.task(run.line("thread").number("tid")).kind == "thread"


def test_a_thread_that_ends_the_process(program: Program, traced: Trace_) -> None:
    run = traced(program("threads_exit_group"), "7")
    assert run.status == 7
    parked = [run.task(line.number("tid")) for line in run.lines("parked")]
    assert len(parked) == 5
    assert len(run.created()) == 6
    assert all(task.kind == "thread" and task.death is not None for task in parked)
    assert run.root.death is not None
    assert run.root.death.code == run.line("ok").number("status")


def test_an_orphan_goes_to_the_subreaper(program: Program, traced: Trace_) -> None:
    run = traced(program("subreaper"))
    line = run.line("orphan")
    orphan = run.task(line.number("pid"))
    assert run.creator(orphan).tid == run.parent(orphan).tid == line.number("creator")
    assert [(reaper.tid, reaper.task) for reaper in orphan.reapers] == [(line.number("reaper"), run.root.id)]


def test_a_daemon_goes_to_whom_it_says(program: Program, traced: Trace_) -> None:
    run = traced(program("setsid_daemon"))
    line = run.line("daemon")
    daemon, middle = run.task(line.number("pid")), run.task(line.number("middle"))
    assert run.parent(daemon).tid == line.number("before")
    # The new parent is outside the trace: init, or the nearest subreaper of whoever runs this test.
    assert [(reaper.tid, reaper.task) for reaper in daemon.reapers] == [(line.number("after"), None)]
    (made,) = middle.calls
    assert (type(made.call).__name__, made.result) == ("Setsid", line.number("session"))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGUSR1, 34])
def test_the_same_signal_ends_forklore(number: int, program: Program, traced: Trace_) -> None:
    run = traced(program("signals_exit"), "die", str(int(number)))
    assert run.status == -number
    line = run.line("dying")
    assert run.root.tid == line.number("pid")
    assert run.root.death is not None
    assert (run.root.death.code, run.root.death.signal, run.root.death.core) == (None, number, False)
    assert run.root.death.sender == run.root.tid


def test_a_core_dump_is_the_programs_own(tmp_path: Path) -> None:
    # The core flag of the wait status is the kernel's word, and forklore's own end must not bury the program's core.
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("the hard RLIMIT_CORE is 0: no program can dump core here")
    allow = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_CORE, (1 << 24, resource.getrlimit(4)[1]));"
    crash = (sys.executable, "-c", allow + "os.chdir(sys.argv[1]); os.execvp(sys.argv[2], sys.argv[2:])", str(tmp_path))
    kill = ("sh", "-c", "kill -SEGV $$")

    def end(*command: str) -> int:
        pid = os.posix_spawn(sys.executable, [*crash, *command], ENVIRONMENT)
        return os.waitpid(pid, 0)[1]

    alone = end(*kill)
    file = tmp_path / "t.jsonl"
    status = end(*FORKLORE, "run", "-q", "-o", str(file), "--", *kill)
    (root,) = forklore.load(file).tasks.values()
    assert root.death is not None
    assert root.death.core == os.WCOREDUMP(alone)
    assert os.WTERMSIG(status) == os.WTERMSIG(alone) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)


def test_where_a_fault_was(traced: Trace_) -> None:
    code = "import ctypes; ctypes.string_at(0x1230)"
    run = traced(sys.executable, "-c", code)
    assert run.status == -signal.SIGSEGV
    assert run.root.death is not None
    assert run.root.death.address == 0x1230


@pytest.mark.parametrize("code", [0, 1, 2, 63, 124, 125, 126, 127, 128, 129, 130, 137, 254, 255])
def test_the_exit_status_is_the_programs(code: int) -> None:
    assert run("-q", "--", "sh", "-c", f"exit {code}").status == code == bare("sh", "-c", f"exit {code}").status


def test_what_a_process_took_is_what_its_parent_was_told(program: Program, traced: Trace_) -> None:
    run = traced(program("self_timed"), "4", "20")
    assert run.status == 0
    for line in run.lines("child"):
        child = run.task(line.number("pid"))
        assert (child.cpu, child.peak) == (line.number("cpu_us"), line.number("peak_kib"))
        # It measured from before the call until it had waited, forklore from the event to the end in between.
        assert child.lifetime is not None
        assert child.lifetime < line.number("ns")
        assert 0 < child.tracer_held < child.lifetime
    assert run.root.cpu is not None
    assert run.root.cpu > sum(child.cpu or 0 for child in run.created())
    assert run.root.tracer_held > 0


def test_what_a_program_measures_and_what_is_told_of_it_differ_by_what_was_held(
    program: Program, traced: Trace_
) -> None:
    for ms in ("1", "20"):
        run = traced(program("self_timed"), "1", ms)
        (child,) = run.created()
        assert child.lifetime is not None
        held = sum(task.tracer_held + task.tracer_unseen for task in run.trace.tasks.values())
        assert 0 < run.line("child").number("ns") - child.lifetime < held


def test_of_a_thread_it_is_not_told(program: Program, traced: Trace_) -> None:
    run = traced(program("leader_exits_first"), "0")
    assert run.status == 0
    for task in run.trace.tasks.values():
        assert (task.cpu is None) == (task.kind == "thread")


@pytest.mark.parametrize("how", ["kill", "group", "thread", "tkill", "pidfd"])
def test_who_sent_sigkill(program: Program, traced: Trace_, how: str) -> None:
    run = traced(program("kills"), how)
    assert run.status == 0
    death = run.task(run.line("child").number("pid")).death
    assert death is not None
    assert (death.signal, death.by, death.sender) == (9, "call", run.line("child").number("killer"))


def test_a_sigkill_that_was_refused_is_nobodys_end(program: Program, traced: Trace_) -> None:
    run = traced(program("kills"), "term")
    assert run.status == 0
    death = run.task(run.line("child").number("pid")).death
    assert death is not None
    assert (death.signal, death.by, death.sender) == (15, None, run.line("child").number("killer"))


@pytest.mark.parametrize(
    ("how", "number", "function"), [("segv", 11, "parse"), ("abort", 6, "check"), ("divide", 8, "divide")]
)
def test_where_it_fell(program: Program, traced: Trace_, how: str, number: int, function: str) -> None:
    run = traced(program("falls"), how)
    assert run.status == 0
    death = run.task(run.line("child").number("pid")).death
    assert death is not None
    assert death.signal == number
    assert death.stack is not None
    found = outside_library(death.stack)
    assert found is not None
    assert function_name(found[0].place) == function
    assert (death.address == 0x10) == (how == "segv")


def test_a_fault_that_is_handled_ends_nobody(program: Program, traced: Trace_) -> None:
    run = traced(program("falls"), "handled")
    child = run.task(run.line("child").number("pid"))
    assert child.death is not None
    assert child.death.code == 3
    assert not any(isinstance(event, ev.Signal) for event in run.events())


@pytest.mark.parametrize("how", ["run", "attach"])
def test_children_of_the_shell_that_executed_forklore_are_no_tasks_and_not_waited_for(how: str, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    reading, writing = os.pipe()
    # One that is there until the pipe is closed, and one that has ended.
    script = 'cat <&"$0" & (exit 7) & exec "$@"'
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as guest:
        assert guest.stdin is not None
        given = ["--", "true"] if how == "run" else [str(guest.pid)]
        words: list[str | Path] = ["sh", "-c", script, str(reading), *FORKLORE, how, "-q", "-o", file, *given]
        with subprocess.Popen(words, pass_fds=[reading], env=ENVIRONMENT) as shell:
            os.close(reading)
            until_event(file, "begin")
            guest.stdin.close()
            assert shell.wait(60) == 0
        os.close(writing)
    (task,) = forklore.load(file).tasks.values()
    assert task.death is not None


def test_what_forklore_ends_itself(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    assert run("--wait=root", "-q", "-o", file, "--", "sh", "-c", "sleep 1000 & exit 3").status == 3
    _, left = forklore.load(file).tasks.values()
    assert left.death is not None
    assert (left.death.signal, left.death.by) == (9, "tracer")


def test_the_command_line_that_a_server_writes_for_itself(program: Program, traced: Trace_) -> None:
    run = traced(program("titled"))
    assert run.status == 0
    worker = run.task(run.line("worker").number("pid"))
    assert worker.title == (b"titled: worker process",)
    leaver = run.task(run.line("leaver").number("pid"))
    assert leaver.title == (b"titled: leaver",)
    plain = run.task(run.line("plain").number("pid"))
    assert plain.title == ()
