"""Every signal arrives once, as it was sent; job control works as without a tracer and is in the trace."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from tracing import Program, Trace_, bare, run

from forklore.events import records as ev


@pytest.mark.parametrize("stops", ["seccomp", "syscalls", "events"])
def test_every_signal_once_with_its_siginfo(stops: str, program: Program, traced: Trace_) -> None:
    # Counts and sums of si_code and si_value by signal: from kill, tgkill, sigqueue, faults and dead children.
    path = program("handler_counts")
    alone = bare(path, "101")
    run = traced(path, "101", options=[f"--stops={stops}"])
    assert (run.status, run.out) == (0, alone.out)
    assert all(line["count"] in ("0", "1", "101") for line in run.lines("signal"))


def test_a_child_that_stops_itself(program: Program, traced: Trace_) -> None:
    run = traced(program("self_stop"), "5")
    line = run.line("ok")
    task = run.task(line.number("pid"))
    assert [stop.signal for stop in task.stops] == [signal.SIGSTOP, signal.SIGTSTP] * 5
    assert all(stop.resumed is not None and stop.t is not None and stop.resumed > stop.t for stop in task.stops)
    assert len(task.stops) == line.number("sigstop") + line.number("sigtstp") == line.number("continued")
    order = [type(event) for event in run.events() if isinstance(event, (ev.GroupStop, ev.Resume))]
    assert order == [ev.GroupStop, ev.Resume] * 10


def test_the_program_itself_stops(program: Program, traced: Trace_) -> None:
    run = traced(program("signals_exit"), "stop")
    assert run.status == 0
    assert run.root.tid == run.line("ok").number("pid")
    assert [stop.signal for stop in run.root.stops] == [signal.SIGSTOP]
    assert run.root.stops[0].resumed is not None


KILLED_WHILE_STOPPED = """
import os, signal
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(pid, os.WUNTRACED)
os.kill(pid, signal.SIGKILL)
print(pid, os.waitpid(pid, 0)[1])
"""


def test_a_stopped_process_is_killed(traced: Trace_) -> None:
    # SIGKILL needs no SIGCONT before it, and may come before the tracer has seen the stop that the parent waited for.
    run = traced(sys.executable, "-c", KILLED_WHILE_STOPPED)
    pid, status = map(int, run.out.split())
    task = run.task(pid)
    assert status == signal.SIGKILL
    assert [(stop.signal, stop.resumed) for stop in task.stops] in ([], [(signal.SIGSTOP, None)])
    assert task.death is not None
    assert task.death.signal == signal.SIGKILL


@pytest.mark.parametrize("options", [[], ["-q"], ["-q", "-o", "t"]], ids=["tree", "nothing", "file"])
def test_a_sigalrm_to_the_whole_group_ends_nobody_else(options: list[str], tmp_path: Path) -> None:
    """forklore's own timer rings by this signal; it is heard even where nothing has to be written in time."""
    done = run(*options, "--", "sh", "-c", "trap '' ALRM; kill -ALRM 0; exit 7", start_new_session=True, cwd=tmp_path)
    assert done.status == 7


@pytest.mark.parametrize("way", ["handled", "ignored", "ended"])
def test_a_signal_to_the_whole_group_ends_nobody_who_handles_it(way: str, program: Program, tmp_path: Path) -> None:
    """``ended``: the program is over and its child, which forklore waits for, sends the signal."""
    path = program("group_signal")
    job_control = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    some = {signal.SIGABRT, signal.SIGSEGV, signal.SIGXCPU, signal.SIGPWR, signal.SIGRTMIN, signal.SIGRTMAX}
    for number in sorted(signal.valid_signals() - job_control - {signal.SIGKILL} if way == "handled" else some):
        trace = tmp_path / f"{way}.{number}"
        done = run("-q", "-o", str(trace), "--", path, str(int(number)), way, start_new_session=True, cwd=tmp_path)
        assert (number, done.status) == (number, 7)
        assert trace.stat().st_size
