"""What may come in either order, and tasks that die at the worst moment: nothing is lost and nothing waits for ever."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from tracing import Program, Trace_, Traced, assert_whole, bare, creation, tids

import forklore

WATCHED = Path(__file__).with_name("watched_run.py")
PATIENCE = 40
"""How many runs a race gets to go both ways; on two processors it takes one or two."""


def watched(file: Path, *command: str | Path, stops: str = "seccomp") -> tuple[Traced, Counter[str]]:
    counts = file.with_suffix(".counts")
    arguments = ("run", "-q", "-o", file, f"--stops={stops}", "--")
    done = bare(sys.executable, WATCHED, counts, *arguments, *command)
    assert done.status == 0, done.err
    run = Traced(done.status, done.out, done.err, file, forklore.load(file))
    assert_whole(run.trace)
    return run, Counter(json.loads(counts.read_text()))


@pytest.mark.parametrize("kind", ["fork", "vfork", "thread"])
@pytest.mark.parametrize("stops", ["seccomp", "events"])
def test_the_childs_first_stop_before_and_after_its_creators_event(
    kind: str, stops: str, program: Program, tmp_path: Path
) -> None:
    # kernel/fork.c: kernel_clone wakes the child, then reports to the tracer: the two stops race.
    seen: Counter[str] = Counter()
    for attempt in range(PATIENCE):
        run, counts = watched(tmp_path / f"{attempt}.jsonl", program("fork_race"), "101", kind, stops=stops)
        (forker,) = (task for task in run.created() if task.tid == run.line("forker").number("pid"))
        assert len(forker.children) == 101
        assert len(run.created()) == 101 + 2
        seen += counts
        assert counts["child first"] + counts["creator first"] == len(run.created())
        if seen["child first"] and seen["creator first"]:
            return
    pytest.fail(f"in {PATIENCE} runs only one order came: {dict(seen)}")


def test_a_restarted_fork_is_one_fork(program: Program, tmp_path: Path) -> None:
    # A signal that is pending when fork begins makes it return ERESTARTNOINTR, which the program never sees: the call
    # is entered again after the handler (kernel/fork.c: copy_process). Two entries, one child, no failure.
    seen = 0
    for attempt in range(PATIENCE):
        run, counts = watched(tmp_path / f"{attempt}.jsonl", program("interrupted_fork"), "101")
        assert run.trace.failures == []
        assert len(run.created()) == run.line("ok").number("forks") == 101
        seen += counts["restarted"]
        if seen:
            return
    pytest.fail(f"no fork was restarted in {PATIENCE} runs")


def test_children_that_are_killed_at_birth(program: Program, traced: Trace_) -> None:
    run = traced(program("die_early"), "101", "child")
    assert len(run.created()) == 101
    for task in run.created():
        assert task.death is not None
        assert task.death.signal == signal.SIGKILL
        assert task.death.sender in (None, run.root.tid)


@pytest.mark.parametrize("stops", ["seccomp", "syscalls", "events"])
def test_forkers_that_are_killed_while_they_fork(stops: str, program: Program, traced: Trace_) -> None:
    run = traced(program("die_early"), "31", "parent", options=[f"--stops={stops}"])
    assert run.status == 0, run.err
    killed = [task for task in run.created() if task.death and task.death.signal == signal.SIGKILL]
    assert len(killed) >= 31
    assert all(run.creator(task) is run.root for task in killed if task.children)


@pytest.mark.parametrize("stops", ["seccomp", "syscalls", "events"])
def test_children_whose_creator_died_before_it_could_tell(stops: str, program: Program, tmp_path: Path) -> None:
    run, _counts = watched(tmp_path / "t.jsonl", program("orphan_unannounced"), "23", stops=stops)
    orphans = run.lines("orphan")
    for line in orphans:
        task = run.task(line.number("pid"))
        if stops == "events" and task.how == "adopted":
            continue  # no entry stop told who was in a call: that its creator is unknown is all that can be said
        assert run.creator(task).tid == line.number("forker")
        # Without entry stops, a creator that is killed in its event stop takes the call's words along.
        untold = stops == "events" and creation(task).call == "unknown"
        assert creation(task).exit_signal == (None if untold else signal.SIGCHLD)
        assert [reaper.task for reaper in task.reapers] == [run.root.id]
        assert task.death is not None
        assert task.death.code == 0
    forkers = {line.number("forker") for line in orphans}
    assert tids(run.created()) == sorted({line.number("pid") for line in orphans} | forkers)


FORKS_IN_THREADS = """
import os, threading
start = threading.Barrier(5)
def one():
    start.wait()
    for _ in range(13):
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        os.write(1, b"process pid=%d creator=%d\\n" % (pid, threading.get_native_id()))
        assert os.waitpid(pid, 0) == (pid, 7 << 8)
threads = [threading.Thread(target=one) for _ in range(5)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@pytest.mark.parametrize("stops", ["seccomp", "syscalls", "events"])
def test_threads_that_fork_at_the_same_time(stops: str, traced: Trace_) -> None:
    # All share one parent, so only the event says which thread made which child.
    run = traced(sys.executable, "-ISc", FORKS_IN_THREADS, options=[f"--stops={stops}"])
    assert (run.status, run.err) == (0, "")
    lines = run.lines("process")
    assert len(lines) == 5 * 13
    for line in lines:
        task = run.task(line.number("pid"))
        assert run.creator(task).tid == line.number("creator")
        assert run.creator(task).kind == "thread"
        assert run.parent(task) is run.root
        assert task.death is not None
        assert task.death.code == 7
    assert len(run.created()) == 5 * 13 + 5
