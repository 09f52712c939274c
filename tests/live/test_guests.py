"""What a traced program may do to its tracer's discomfort: it comes out as without one, and the trace says it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, SKIPPED, TIMEOUT, Program, Trace_, bare

import forklore
from forklore.events import records as ev


@pytest.mark.parametrize("call", ["fork", "clone3", "execve", "unshare"])
def test_a_filter_that_asks_for_a_tracer_of_its_own(call: str, program: Program, traced: Trace_) -> None:
    # The program's RET_TRACE goes before ours, and nobody traces for it: ENOSYS, and no child.
    path = program("guest_filters")
    alone, run = bare(path, "trace", call), traced(path, "trace", call)
    assert "result sign=-1 errno=ENOSYS\n" in alone.out
    assert (run.status, run.out) == (alone.status, alone.out)
    assert len(run.created()) == 1  # the child that installed the filter
    (refused,) = (event for event in run.events() if isinstance(event, (ev.Fail, ev.ExecFail, ev.Other)))
    answer = refused.result if isinstance(refused, ev.Other) else -(refused.errno or 0)
    assert answer == -errno.ENOSYS


@pytest.mark.parametrize("stops", ["seccomp", "syscalls", "events"])
@pytest.mark.parametrize("how", ["segv", "abort"])
def test_the_init_of_a_pid_namespace_dies_of_a_fault(
    how: str, stops: str, program: Program, traced: Trace_
) -> None:
    # A traced one would fault forever: it is let go for that.
    path = program("guest_init")
    alone = bare(path, how)
    if alone.status == SKIPPED:
        pytest.skip(f"no pid namespace for us here: {alone.out.strip()}")
    run = traced(path, how, options=[f"--stops={stops}"], whole=False)
    assert (run.status, run.out) == (alone.status, alone.out)
    # What abort() does when its signal ends nothing: hlt on x86, a breakpoint elsewhere (sysdeps/*/abort-instr.h).
    fault = signal.SIGTRAP if how == "abort" and os.uname().machine != "x86_64" else signal.SIGSEGV
    assert f"init ended signal={fault.value}" in run.out
    (init,) = run.created()
    assert init.gone == "released"


@pytest.mark.parametrize("call", ["epoll", "sigwait", "semop"])
def test_an_ignored_signal_does_not_end_a_wait_without_limit(call: str, program: Program, traced: Trace_) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the result has taken the place of the first argument: docs/transparency.md, ignored-signals")
    path = program("guest_interrupted")
    alone, run = bare(path, f"{call}-endless"), traced(path, f"{call}-endless")
    assert "EINTR" not in alone.out
    assert (run.status, run.out) == (alone.status, alone.out)


@pytest.mark.parametrize("stops", ["seccomp", "syscalls"])
@pytest.mark.parametrize("way", ["me", "attach", "seize"])
def test_a_tracer_beside_ours_is_refused_and_the_tree_says_why(
    way: str, stops: str, program: Program, traced: Trace_
) -> None:
    run = traced(program("guest_traces"), way, options=[f"--stops={stops}"])
    assert "errno=EPERM" in run.out
    caller = run.created()[0] if way == "me" else run.root
    (call,) = caller.calls
    assert call.result == -errno.EPERM
    about = "TRACEME" if way == "me" else f"{way.upper()}, {run.created()[0].tid}"
    assert call.call.text() == f"ptrace(PTRACE_{about})"
    assert [(reason.rule, reason.certain) for reason in call.reasons] == [("ptrace-traced", True)]
    assert "forklore traces the task already" in str(run.trace)


@pytest.mark.parametrize("way", ["me", "attach", "seize"])
def test_a_child_that_a_refused_tracer_leaves_behind_is_named_at_once(
    way: str, program: Program, tmp_path: Path
) -> None:
    file = tmp_path / "trace.jsonl"
    command = [*FORKLORE, "run", "-o", str(file), "--", str(program("guest_traces")), way, "fails"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as run:
        assert run.stderr is not None
        said = run.stderr.readline()
        run.send_signal(signal.SIGINT)
        tree = run.communicate(timeout=TIMEOUT)[1]
    trace = forklore.load(file)
    (child,) = (task for task in trace.tasks.values() if task.how != "root")
    assert said.startswith(f"forklore: the program ended (exit 1); waiting for {child.tid} guest_traces; Ctrl-C kills")
    assert run.returncode == 1
    assert "✗ ptrace(PTRACE_" in tree
    assert "forklore traces the task already" in tree
