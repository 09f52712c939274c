"""vfork holds the thread that called it, and no other of its process; the program proves who ran meanwhile."""

from __future__ import annotations

import re

import pytest
from tracing import FORKLORE, Program, Trace_, bare, creation

from forklore.abi.flags import CLONE_VFORK
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.model.vfork_holds import Holding
from forklore.report.words.vfork_memory import borrowed_lines, borrowed_words

ENDINGS = {"exit": "exit", "exec": "exec", "kill": "death"}


@pytest.mark.parametrize("how", ENDINGS)
def test_the_caller_waits_and_the_other_threads_run_on(how: str, program: Program, traced: Trace_) -> None:
    run = traced(program("vfork_threads"), how)
    assert run.status == 0, run.err
    line = run.line("vfork")
    child, caller = run.task(line.number("child")), run.task(line.number("tid"))
    held = Holding(run.trace).of(child)
    assert held is not None
    assert (held.thread, held.ended_by, held.borrows) == (caller.id, ENDINGS[how], True)
    assert held.ran_on is not None
    proved = {run.task(ran.number("tid")).id for ran in run.lines("ran")}
    # The first thread waits in pthread_join, but vfork does not hold it; the last thread is made only afterwards.
    assert set(held.ran_on) == proved | {run.root.id}
    assert run.task(run.line("later").number("tid")).id not in held.ran_on


def test_a_thread_made_by_clone_vfork_holds_its_creator_too(program: Program, traced: Trace_) -> None:
    run = traced(program("thread_vfork"))
    for line in run.lines("thread"):
        child = run.task(line.number("tid"))
        held = Holding(run.trace).of(child)
        assert held is not None
        assert (held.thread, held.ended_by, held.ran_on) == (run.root.id, "exit", ())


def test_other_children_hold_nobody(program: Program, traced: Trace_) -> None:
    run = traced(program("fork_tree"))
    assert not any((creation(task).flags.raw or 0) & CLONE_VFORK for task in run.created())
    assert {Holding(run.trace).of(task) for task in run.trace.tasks.values()} == {None}


def test_the_card_says_it(program: Program, traced: Trace_) -> None:
    run = traced(program("vfork_threads"), "exit")
    line = run.line("vfork")
    shown = bare(*FORKLORE, "show", "--view=task", "--columns=200", run.file, line["child"])
    assert shown.status == 0, shown.err
    assert f"held {line['tid']}, thread of {run.root.tid}" in " ".join(shown.out.split())
    (names,) = (text for text in shown.out.splitlines() if text.startswith("  ran on"))
    assert {int(tid) for tid in re.findall(r"\d+", names)} == {run.root.tid} | {
        ran.number("tid") for ran in run.lines("ran")
    }


@pytest.mark.parametrize("how", ["exit", "exec", "kill"])
@pytest.mark.parametrize("what", ["something", "nothing"])
def test_a_child_that_shares_the_memory_of_a_creator_that_runs_on(
    what: str, how: str, program: Program, traced: Trace_
) -> None:
    """What changed is told, and that it cannot be told whose change it is."""
    run = traced(program("vm_writes"), what, how, options=["--vfork-writes"])
    (record,) = (event for event in run.events() if isinstance(event, ev.Borrowed))
    (child,) = run.created()
    assert (record.task, record.creator, record.ran_on) == (child.id, run.root.id, True)
    assert not isinstance(record.changes, Unavailable)
    assert ("2a" in {change.new for change in record.changes}) == (what == "something")
    text = borrowed_words(record, run.trace)
    if what == "something":
        assert text.endswith(f"(or {run.root.tid} itself did, which ran on)"), text
    assert any("its creator ran on meanwhile" in line for _, line in borrowed_lines(record))

