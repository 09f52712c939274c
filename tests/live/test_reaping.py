"""What becomes of a process after its end: who waited for it, who never did, and how long its zombie stood."""

from __future__ import annotations

import signal

import pytest
from tracing import Program, Trace_, Traced

from forklore.model.tasks import Task


def child_of(run: Traced) -> Task:
    """The child that the program tells of, which is its parent's."""
    line = run.line("child")
    child = run.task(line.number("pid"))
    assert run.parent(child).tid == line.number("parent")
    return child


def test_a_parent_that_waits(program: Program, traced: Trace_) -> None:
    child = child_of(run := traced(program("reaping"), "waits"))
    # A parent that waits has the status before anybody can look, or soon after.
    (reaping,) = child.reaped
    assert reaping.how in ("waited", "at once")
    assert (reaping.tid, reaping.task) == (run.line("child").number("parent"), child.parent)


def test_how_long_a_zombie_stood(program: Program, traced: Trace_) -> None:
    child = child_of(run := traced(program("reaping"), "later", "80"))
    (reaping,) = child.reaped
    assert reaping.how == "waited"
    line, stood = run.line("child"), child.zombie
    assert stood is not None
    least, most = stood
    # What the program saw itself lies within what can be told; from outside nobody sees the moment.
    assert least <= line.number("most")
    assert most >= line.number("least")
    assert least > 0, "it was looked for while it stood"
    if least >= 10_000_000:
        assert "a zombie for" in run_text(run, "-v")


def run_text(run: Traced, *options: str) -> str:
    """The tree of a trace."""
    from tracing import FORKLORE, bare

    return bare(*FORKLORE, "show", *options, str(run.file)).out


@pytest.mark.parametrize("how", ["leaves", "blocked", "killed", "threads"])
def test_a_child_that_is_never_waited_for(how: str, program: Program, traced: Trace_) -> None:
    run = traced(program("reaping"), how)
    assert run.status == (-signal.SIGKILL if how == "killed" else 0)
    child = child_of(run)
    (reaping,) = child.reaped
    # With SIGCHLD blocked nobody stops before the end: what is there then may be the reaper's doing.
    assert reaping.how == "left" or (how == "blocked" and reaping.how == "unknown")
    assert reaping.task == child.parent
    if reaping.how == "left":
        assert "never waited for" in run_text(run)


def test_a_reaper_of_the_trace_waits_for_what_was_left(program: Program, traced: Trace_) -> None:
    child = child_of(run := traced(program("reaping"), "inherited"))
    left, taken = child.reaped
    assert (left.how, left.task) == ("left", child.parent)
    assert taken.how == "waited"
    assert taken.tid == run.line("child").number("reaper") == run.root.tid


@pytest.mark.parametrize(("how", "told"), [("ignores", "ignored"), ("autoreaps", "at once")])
def test_no_zombie(how: str, told: str, program: Program, traced: Trace_) -> None:
    (reaping,) = child_of(traced(program("reaping"), how)).reaped
    assert reaping.how == told


def test_a_server_that_leaves_many(traced: Trace_) -> None:
    code = (
        "import os\n"
        "for _ in range(97):\n"
        "    pid = os.fork()\n"
        "    if not pid: os._exit(0)\n"
        "    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
    )
    run = traced("python3", "-I", "-c", code)
    assert [reaping.how for task in run.created() for reaping in task.reaped] == ["left"] * 97
