"""What follows from a graph of waits, and that "for certain" is said only where it does."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from why_graphs import graph, graphs, lock, pipe, task

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.features.why.conclude import Certainty, RootKind, conclude, may_be_stuck, stuck_tasks
from forklore.features.why.data import to_json
from forklore.features.why.graph import Ender, Graph, Role, Wait, WaitKind
from forklore.features.why.sentences import headline
from forklore.features.why.text import lines


def only(found: Graph) -> tuple[RootKind, Certainty]:
    (answer,) = conclude(found)
    return answer.chain.root, answer.chain.certainty


def test_two_threads_that_wait_for_each_other() -> None:
    found = graph(task(1, lock(2)), task(2, lock(1), pid=1))
    assert stuck_tasks(found) == {1, 2}
    assert only(found) == (RootKind.CYCLE, Certainty.CERTAIN)


def test_a_third_thread_that_runs_changes_nothing_for_a_lock_that_has_an_owner() -> None:
    found = graph(task(1, lock(2)), task(2, lock(1), pid=1), task(3, pid=1))
    assert stuck_tasks(found) == {1, 2}


def test_an_owner_that_runs_will_unlock() -> None:
    found = graph(task(1, lock(2)), task(2, pid=1))
    assert stuck_tasks(found) == set()
    assert only(found) == (RootKind.RUNS, Certainty.OPEN)


def test_whoever_waits_for_who_is_stuck_is_stuck_too() -> None:
    child = Wait(WaitKind.CHILD, "its child 5 to end", (Ender(Pid(5), None, Role.CHILD),), closed=True)
    found = graph(task(4, child), task(5, lock(5, pid=5)), asked=[4])
    assert stuck_tasks(found) == {4, 5}
    assert only(found) == (RootKind.SELF, Certainty.CERTAIN)


def test_a_pipe_that_its_only_reader_holds() -> None:
    assert only(graph(task(1, pipe(1)))) == (RootKind.SELF, Certainty.CERTAIN)


def test_not_if_another_thread_of_the_reader_runs() -> None:
    found = graph(task(1, pipe(1)), task(2, pid=1), asked=[1])
    assert stuck_tasks(found) == set()


def test_not_if_somebody_else_holds_it_too() -> None:
    assert stuck_tasks(graph(task(1, pipe(1, 2)), task(2))) == set()


def test_not_if_who_could_end_it_was_not_looked_at() -> None:
    assert stuck_tasks(graph(task(1, pipe(1, 77)))) == set()


def test_not_with_a_timeout_a_handler_or_after_it_has_run() -> None:
    for change in ({"timed": True}, {"by_signal": "SIGTERM"}, {"closed": False}):
        wait = msgspec.structs.replace(pipe(1), **change)
        assert stuck_tasks(graph(task(1, wait))) == set(), change
    assert stuck_tasks(graph(task(1, pipe(1), steady=False))) == set()


def test_an_owner_that_is_gone() -> None:
    wait = Wait(WaitKind.MUTEX, "a mutex", (), closed=True, owner="thread 9 of its own, which has ended since,")
    found = graph(task(1, wait))
    assert only(found) == (RootKind.OWNER_GONE, Certainty.CERTAIN)
    assert headline(found, conclude(found)[0].chain) == (
        "1 prog is deadlocked for certain: it waits for a mutex, which thread 9 of its own, which has ended since, has"
        " left locked."
    )


def test_who_copied_a_lock_can_not_unlock_it() -> None:
    creator = Ender(Pid(8), Tid(9), Role.CREATOR, note="a thread of its creator 8", able=False)
    wait = Wait(
        WaitKind.MUTEX,
        "log_lock (log.c:12)",
        (creator,),
        closed=True,
        copied=True,
        owner="9, a thread of its creator 8,",
    )
    found = graph(task(10, wait), task(8), task(9, pid=8), asked=[10])
    assert only(found) == (RootKind.COPIED_LOCK, Certainty.CERTAIN)
    assert headline(found, conclude(found)[0].chain) == (
        "10 prog is deadlocked for certain: it waits for log_lock (log.c:12), which 9, a thread of its creator 8, had"
        " locked when 10 was forked. fork copies a locked mutex, not the thread that would unlock it."
    )


def naive(found: Graph) -> set[Tid]:
    """The same set by its definition: whom nobody can help, found by setting free whoever can be helped."""
    free = {each.tid for each in found.tasks.values() if not may_be_stuck(each)}
    while True:
        more = set()
        for each in found.tasks.values():
            for ender in each.wait.enders:
                helpers = (
                    [ender.tid]
                    if ender.tid is not None
                    else [other.tid for other in found.tasks.values() if other.pid == ender.pid and not other.ended]
                )
                known = [other for other in found.tasks.values() if other.pid == ender.pid]
                missing = (ender.tid is not None and ender.tid not in found.tasks) or (ender.tid is None and not known)
                if ender.able and each.tid not in free and (missing or any(helper in free for helper in helpers)):
                    more.add(each.tid)
        if not more:
            return {each.tid for each in found.tasks.values()} - free
        free |= more


@given(graphs())
def test_stuck_is_who_nobody_can_help(found: Graph) -> None:
    assert stuck_tasks(found) == naive(found)


@given(graphs())
def test_certain_is_said_of_these_and_no_others(found: Graph) -> None:
    stuck = stuck_tasks(found)
    for answer in conclude(found):
        for chain in (answer.chain, *answer.others):
            assert (chain.certainty is Certainty.CERTAIN) == (chain.first.tid in stuck)
            if chain.certainty is Certainty.CERTAIN:
                assert all(step.task.tid in stuck for step in chain.steps)


@given(graphs(), st.data())
def test_a_task_that_vanishes_makes_nobody_more_certain(found: Graph, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(found.tasks)))
    left = Graph(found.asked, {tid: each for tid, each in found.tasks.items() if tid != gone})
    # Of a process whose thread is gone, the other threads are still asked; what only that thread could end is open.
    helped = {
        each.tid
        for each in left.tasks.values()
        if any(e.tid is None and e.pid == found.tasks[gone].pid for e in each.wait.enders)
    }
    assert stuck_tasks(left) - stuck_tasks(found) <= _behind(left, helped)


def _behind(found: Graph, tids: set[Tid]) -> set[Tid]:
    # Who waits, through whomever, for one of these.
    reached = set(tids)
    while True:
        pids = {found.tasks[tid].pid for tid in reached}
        more = {
            each.tid for each in found.tasks.values()
            for ender in each.wait.enders if ender.tid in reached or ender.pid in pids
        } - reached  # fmt: skip
        if not more:
            return reached
        reached |= more


@given(graphs(), st.booleans(), st.booleans(), st.integers(40, 200))
def test_every_graph_can_be_told(found: Graph, verbose: bool, everything: bool, width: int) -> None:
    answers = conclude(found)
    assert len(answers) <= len(found.asked)
    for answer in answers:
        assert headline(found, answer.chain).startswith(str(answer.chain.first.tid))
    lines(found, answers, width, verbose=verbose, everything=everything)
    told = json.loads(to_json(found, answers))
    assert [each["pid"] for each in told["processes"]] == [each.pid for each in answers]


def test_of_many_it_is_said_of_how_many_the_call_may_not_be_read_and_why() -> None:
    why = "the call it is in may not be read: it runs as another user (uid 0)"
    unread = Wait(WaitKind.UNKNOWN, "something that may not be read", beyond=why)
    tasks = [msgspec.structs.replace(task(tid, unread), unread=(Unavailable(13, why),)) for tid in (4, 5)]
    found = graph(*tasks)
    said = ["".join(piece.text for piece in line) for line in lines(found, conclude(found), 100, everything=True)]
    assert f"2 processes: {why}" in said
