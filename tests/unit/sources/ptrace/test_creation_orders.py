"""Creations, and what can come between: every order of wait statuses, and a kill at each point, on a scripted kernel.

What holds of every run is checked by :class:`scripted_runs.Run`; the tests here say what else a scenario must show,
and that it met the orders that it is about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_kernel import (
    THREAD,
    VFORK,
    Action,
    Chooser,
    Computes,
    Ends,
    Executes,
    Makes,
    Script,
    Takes,
    every_order,
)
from scripted_runs import Run

from forklore.abi.flags import CLONE_PARENT, CLONE_PTRACE, CLONE_UNTRACED
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.linux.tracing.wait import Kind
from forklore.sources.ptrace.held_pairs import CHILD_DIED, CREATOR_DIED, CREATOR_GONE
from forklore.sources.ptrace.options import Follow, Stops

LEAF: Script = (Ends(3),)
ALL_STOPS = (Stops.SECCOMP, Stops.SYSCALLS, Stops.EVENTS)


def runs(script: Script, deviations: int | None, look: Callable[[Run], None], *settings: Stops, **more: object) -> int:
    """Look at the run of a script in every order."""
    return every_order(lambda choose: look(Run(script, choose, *settings, **more)), deviations)  # type: ignore[arg-type]


@pytest.mark.parametrize("stops", ALL_STOPS)
@pytest.mark.parametrize("flags", [0, THREAD, CLONE_PARENT], ids=["process", "thread", "sibling"])
def test_the_childs_first_stop_before_or_after_its_creators_event(stops: Stops, flags: int) -> None:
    first = Counter[str]()

    def look(run: Run) -> None:
        (event,) = run.created()
        assert event.kcmp == (1, 1, 1, 1, 1, 1), "both were held"
        assert event.stop == ("clone" if flags == THREAD else "fork")
        statuses = [(tid, kind) for tid, kind in run.kernel.given if kind in (Kind.TRAP, Kind.FORK, Kind.CLONE)]
        first["child" if statuses[0][0] == event.tid else "creator"] += 1

    runs((Makes(() if flags == THREAD else LEAF, flags),), None, look, stops)
    assert set(first) == {"child", "creator"}


@pytest.mark.parametrize("stops", ALL_STOPS)
@pytest.mark.parametrize("flags", [0, VFORK], ids=["fork", "vfork"])
def test_one_of_the_two_is_killed_at_each_point(stops: Stops, flags: int) -> None:
    seen = Counter[object]()

    def look(run: Run) -> None:
        for event in run.created():
            seen["both" if isinstance(event.kcmp, tuple) else event.kcmp.why if event.kcmp else None] += 1
        adopted = run.adopted()
        seen["adopted"] += len(adopted)
        if stops is not Stops.EVENTS:
            assert adopted == [], "the call that its creator was seen to enter tells who it was"

    runs((Makes(LEAF, flags),), 4, look, stops, kills=1)
    assert seen["both"]
    assert seen[CHILD_DIED.why]
    assert seen[CREATOR_DIED.why]
    assert bool(seen["adopted"]) == (stops is Stops.EVENTS)
    assert bool(seen[None]) == (stops is not Stops.EVENTS), "told by its creator's entry stop"


@pytest.mark.parametrize("stops", ALL_STOPS)
def test_a_traced_reaper_that_runs_on_is_not_taken_for_one_who_may_still_tell(stops: Stops) -> None:
    # It has become the parent of the child whose creator was killed, and is in no call of its own.
    adopted = Counter[int]()

    def look(run: Run) -> None:
        adopted[len(run.adopted())] += 1

    runs((Makes((Makes(LEAF),)), Computes()), 2, look, stops, kills=1, subreaper=True)
    assert bool(adopted[1]) == (stops is Stops.EVENTS)


@pytest.mark.parametrize("stops", ALL_STOPS)
def test_two_are_killed(stops: Stops) -> None:
    runs((Makes((Makes(LEAF),)),), 2, lambda _run: None, stops, kills=2)


@pytest.mark.parametrize("stops", [Stops.SECCOMP, Stops.SYSCALLS])
def test_a_creation_that_fails_and_one_that_is_restarted(stops: Stops) -> None:
    def look(run: Run) -> None:
        (failure,) = (event for event in run.events if isinstance(event, ev.Fail))
        assert failure.errno == 11
        passed = {"seccomp_passed": 1} if stops is Stops.SECCOMP else {}
        assert failure.limits == {"uid": 1000, "rlimit_nproc": 9, "user_tasks": 1, **passed}
        assert len(run.created()) == 1

    runs((Makes(errno=11), Makes(LEAF, restarted=True)), None, look, stops)


@pytest.mark.parametrize("stops", ALL_STOPS)
@pytest.mark.parametrize("child", [(Executes(),), LEAF, (Makes(LEAF), Executes())], ids=["execs", "ends", "forks"])
def test_vfork_holds_its_creator_until_the_child_lets_go(stops: Stops, child: Script) -> None:
    def look(run: Run) -> None:
        (done,) = (event for event in run.events if isinstance(event, ev.VforkDone))
        made = run.created()[0]
        assert (done.task, done.child, done.tid) == (made.task, made.child, made.tid)

    runs((Makes(child, VFORK), Makes(LEAF)), 2, look, stops)


@pytest.mark.parametrize("stops", ALL_STOPS)
@pytest.mark.parametrize("kills", [0, 1])
def test_a_thread_that_executes_takes_its_leaders_place(stops: Stops, kills: int) -> None:
    def look(run: Run) -> None:
        for event in run.events:
            if isinstance(event, ev.Exec) and event.former_tid is not None:
                assert event.former_tid == 101
                assert ev.Gone(t=event.t, task=1, why="superseded") in run.events

    runs((Makes((Executes(), Makes(LEAF)), THREAD),), 3 - kills, look, stops, kills=kills)
    runs((Makes((Executes(),), THREAD), Makes((), THREAD)), 2 - kills, look, stops, kills=kills)


@pytest.mark.parametrize("stops", ALL_STOPS)
@pytest.mark.parametrize("kills", [0, 1])
def test_another_thread_executes_while_one_creates(stops: Stops, kills: int) -> None:
    # Whoever creates is killed by it, before or after it could tell of its child.
    unannounced = Counter[bool]()

    def look(run: Run) -> None:
        for event in run.created():
            unannounced[event.stop is None] += 1
        if stops is not Stops.EVENTS and not kills:
            assert run.adopted() == []

    runs((Makes((Makes(LEAF),), THREAD), Executes()), 3 - kills, look, stops, kills=kills)
    runs((Makes((Executes(),), THREAD), Makes(LEAF)), 3 - kills, look, stops, kills=kills)
    if stops is not Stops.EVENTS:
        assert set(unannounced) == {False, True}


def test_an_untraced_child_is_named_and_left_alone() -> None:
    def look(run: Run) -> None:
        (event,) = run.created()
        assert (event.stop, event.traced) == (None, False)

    runs((Makes(LEAF, CLONE_UNTRACED),), None, look, Stops.SYSCALLS, follow_untraced=False)


@pytest.mark.parametrize("stops", [Stops.SYSCALLS, Stops.EVENTS])
def test_an_untraced_child_that_is_attached_all_the_same(stops: Stops) -> None:
    known = Counter[bool]()

    def look(run: Run) -> None:
        known[bool(run.created())] += 1
        for event in run.created():
            assert (event.stop, event.traced) == (None, True)
        # Without entry stops, its parent tells who made it, as long as that lives.
        assert len(run.created()) + len(run.adopted()) == 1
        assert stops is Stops.EVENTS or run.adopted() == []

    runs((Makes(LEAF, CLONE_UNTRACED | CLONE_PTRACE),), None, look, stops, follow_untraced=False)
    assert known[True]


@pytest.mark.parametrize("stops", [Stops.SECCOMP, Stops.SYSCALLS])
@pytest.mark.parametrize("kills", [0, 1])
def test_an_untraced_child_is_followed_and_the_flag_put_back(stops: Stops, kills: int) -> None:
    def look(run: Run) -> None:
        assert run.adopted() == []
        for task in run.kernel.tasks:
            if not (task.killed or task.call):
                assert task.words[0] & CLONE_UNTRACED, f"{task} has lost the flag"
        for event in run.created():
            assert event.untraced_cleared

    runs((Makes(LEAF, CLONE_UNTRACED),), 3, look, stops, kills=kills)


@pytest.mark.parametrize("stops", ALL_STOPS)
def test_a_tid_that_is_used_again(stops: Stops) -> None:
    again = Counter[bool]()

    def look(run: Run) -> None:
        tids = [task.first_tid for task in run.kernel.tasks]
        again[len(set(tids)) < len(tids)] += 1

    runs((Makes(LEAF), Makes(LEAF)), 2, look, stops, reuses=True)
    runs((Makes((), THREAD), Makes((), THREAD)), 2, look, stops, reuses=True)
    assert again[True]


@pytest.mark.parametrize("stops", ALL_STOPS)
def test_a_reaper_of_orphans_is_told_twice_of_some_ends(stops: Stops) -> None:
    twice = Counter[bool]()

    def look(run: Run) -> None:
        twice[any(task.ended is not None and not task.traced for task in run.kernel.tasks)] += 1
        assert run.adopted() == []

    runs((Makes((Makes(LEAF), Ends(1))),), 3, look, stops, adopts=True)
    assert twice[True]


@pytest.mark.parametrize("follow", [Follow.NONE, Follow.PROCESSES, Follow.THREADS])
def test_who_is_not_followed_is_let_go_at_the_first_stop(follow: Follow) -> None:
    def look(run: Run) -> None:
        for event in run.created():
            kind = Follow.THREADS if run.task(event.child).group.tgid == 100 else Follow.PROCESSES
            assert event.traced == (follow is kind)

    runs((Makes(LEAF), Makes((), THREAD)), 2, look, Stops.EVENTS, follow=follow)


@pytest.mark.parametrize("stops", [Stops.SYSCALLS, Stops.EVENTS])
@pytest.mark.parametrize("flags", [0, VFORK], ids=["fork", "vfork"])
def test_leaving_in_every_state_holds_nobody(stops: Stops, flags: int) -> None:
    gone = Counter[object]()

    def look(run: Run) -> None:
        for event in run.events:
            if isinstance(event, ev.Gone):
                gone[event.why] += 1
            if isinstance(event, ev.Create) and isinstance(event.kcmp, Unavailable):
                gone[event.kcmp.why] += 1

    runs((Makes((Makes(LEAF, flags), Takes())),), 2, look, stops, leaves=True)
    assert gone["released"]
    assert gone[CREATOR_GONE.why]


def test_abandoning_leaves_everything_as_it_is() -> None:
    def look(run: Run) -> None:
        assert [event for event in run.events if isinstance(event, ev.Gone) and event.why != "released"] == []

    runs((Makes((Makes(LEAF),)),), 2, look, Stops.EVENTS, abandons=True)


@pytest.mark.parametrize("stops", ALL_STOPS)
def test_a_signal_is_given_once(stops: Stops) -> None:
    runs((Makes((Takes(), Ends(0))), Takes()), 2, lambda _run: None, stops, kills=1)


# Random programs


def scripts(depth: int) -> st.SearchStrategy[Script]:
    leaf: st.SearchStrategy[Action] = st.one_of(
        st.builds(Executes, st.sampled_from([0, 2])), st.builds(Takes), st.builds(Ends, st.integers(0, 9)),
        st.builds(Makes, errno=st.just(11)),
    )  # fmt: skip
    if depth == 0:
        return st.lists(leaf, max_size=2).map(tuple)
    flags = st.sampled_from([0, 0, THREAD, THREAD, VFORK, CLONE_PARENT, CLONE_UNTRACED])
    makes: st.SearchStrategy[Action] = st.builds(Makes, scripts(depth - 1), flags, restarted=st.booleans())
    return st.lists(st.one_of(makes, makes, leaf), max_size=3).map(tuple)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=scripts(2),
    stops=st.sampled_from(ALL_STOPS),
    kills=st.integers(0, 2),
    adopts=st.booleans(),
    reuses=st.booleans(),
    data=st.data(),
)
def test_any_program_in_any_order(
    script: Script, stops: Stops, kills: int, adopts: bool, reuses: bool, data: st.DataObject
) -> None:
    def choose(possibilities: int) -> int:
        return data.draw(st.integers(0, possibilities - 1))

    chooser: Chooser = choose
    Run(script, chooser, stops, kills=kills, adopts=adopts, reuses=reuses)
