"""What follows from a graph of waits: which never end, and the chain from each to its root. Pure.

A wait is certain to last only if everybody who could end it is known and none of them ever runs again: no timeout, no
stranger, and each of them in such a wait. The largest set of tasks of which that holds is what is left when, again and
again, those are taken out that somebody outside the set could help (a greatest fixed point). It holds locks whose
owner is gone (nobody could end the wait), cycles, a pipe that its only reader holds open, and all that wait for these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum, auto
from typing import Final

from msgspec import Struct

from forklore.abi.units import Pid, Tid
from forklore.features.why.graph import LOCKS, Ender, Graph, Role, Task, Wait, WaitKind

_DEEP: Final = 64


class Certainty(StrEnum):
    """How sure it is that a wait does not end."""

    CERTAIN = auto()
    """Nobody but a signal can end it: that follows from what was seen."""
    LIKELY = auto()
    """It looks so; what else could end it is said."""
    OPEN = auto()
    """It can end, or nothing is known against it."""


class RootKind(StrEnum):
    """What a chain of waits ends in."""

    CYCLE = auto()
    OWNER_GONE = auto()
    """A lock whose owner is not there."""
    COPIED_LOCK = auto()
    """A lock that was locked when the memory was copied by fork."""
    SELF = auto()
    """It waits for what only itself could do."""
    NOBODY = auto()
    """Nobody is there who could end the wait."""
    STOPPED = auto()
    TRACED = auto()
    FROZEN = auto()
    KERNEL = auto()
    RUNS = auto()
    SLEEPS = auto()
    """It ends by itself, by a timeout."""
    SIGNAL = auto()
    INPUT = auto()
    IDLE = auto()
    """It waits for a client, or for work."""
    HELD = auto()
    """Somebody has what is waited for, and does something else."""
    UNREAPED = auto()
    """A zombie whose parent does something else."""
    WORD = auto()
    """A futex, a semaphore, a condition variable: somebody would have to wake it, and nothing says who."""
    REMOTE = auto()
    UNKNOWN = auto()
    ENDED = auto()


class Step(Struct, frozen=True):
    """A task on the way, and by whom it was come to."""

    task: Task
    ender: Ender | None
    """What the step before waits for in this task; None: it is the first."""


class Chain(Struct, frozen=True):
    """From a task that was asked about to the root of its waits."""

    steps: tuple[Step, ...]
    root: RootKind
    certainty: Certainty
    why: str = ""
    """What speaks against certainty, or what likelihood rests on."""
    cycle: int | None = None
    """Of a cycle: the index of the step that the last one waits for."""

    @property
    def first(self) -> Task:
        """Who waits."""
        return self.steps[0].task

    @property
    def last(self) -> Task:
        """Where it ends."""
        return self.steps[-1].task


class Conclusion(Struct, frozen=True):
    """The answer about one process."""

    pid: Pid
    chain: Chain
    """That which tells most."""
    others: tuple[Chain, ...]
    """Of its other threads."""


def conclude(graph: Graph) -> list[Conclusion]:
    """The chains of all processes that were asked about, in the order in which they were asked for."""
    stuck = stuck_tasks(graph)
    knot = _greatest(graph, looks_stuck)
    found = []
    for pid in graph.asked:
        chains = [_chain(graph, task, stuck, knot) for task in graph.threads(pid)]
        if chains:
            best = min(range(len(chains)), key=lambda index: (_rank(chains[index]), index))
            found.append(Conclusion(pid, chains[best], tuple(c for i, c in enumerate(chains) if i != best)))
    return found


def _rank(chain: Chain) -> int:
    # The thread that tells most: one that is stuck, then the first, unless it only waits to be woken by another.
    if chain.certainty is Certainty.CERTAIN:
        return 0
    if chain.root is RootKind.ENDED:
        return 8
    if chain.first.leads and chain.root is not RootKind.WORD:
        return 1
    if chain.certainty is Certainty.LIKELY:
        return 2
    return {RootKind.HELD: 3, RootKind.WORD: 4 if chain.first.leads else 6}.get(chain.root, 5)


def stuck_tasks(graph: Graph) -> frozenset[Tid]:
    """The tasks that nothing but a signal can set going again: see the module."""
    return _greatest(graph, may_be_stuck)


def looks_stuck(task: Task) -> bool:
    """Whether a wait lasts as far as those go who are seen: what else could end it is left out.

    Of words that nobody owns that is how a program's idle threads stand, too.
    """
    wait = task.wait
    helpers = [ender for ender in wait.enders if ender.able]
    words = all(ender.role is Role.SIBLING for ender in helpers)
    return may_be_stuck(task) or (
        bool(helpers) and not words and task.steady and not task.ended and not wait.timed and not wait.idle
    )


def _greatest(graph: Graph, may: Callable[[Task], bool]) -> frozenset[Tid]:
    stuck = {task.tid for task in graph.tasks.values() if may(task)}
    awaited: dict[Tid, list[Tid]] = {}
    for tid in stuck:
        for helper in _helpers(graph, graph.tasks[tid].wait):
            awaited.setdefault(helper, []).append(tid)
    free = [tid for tid in awaited if tid not in stuck]
    while free:
        for tid in awaited.get(free.pop(), ()):
            if tid in stuck:
                stuck.discard(tid)
                free.append(tid)
    return frozenset(stuck)


_MISSING: Final = Tid(-1)


def may_be_stuck(task: Task) -> bool:
    """Whether a wait is one of those that last for ever if none of its enders ever runs."""
    wait = task.wait
    return task.steady and not task.ended and wait.closed and not wait.timed and not wait.by_signal


def _helpers(graph: Graph, wait: Wait) -> Iterable[Tid]:
    for ender in wait.enders:
        if not ender.able:
            continue
        if ender.tid is not None:
            yield ender.tid if ender.tid in graph.tasks else _MISSING
            continue
        threads = graph.threads(ender.pid)
        if not threads:
            yield _MISSING
        yield from (task.tid for task in threads if not task.ended)


def _chain(graph: Graph, task: Task, stuck: frozenset[Tid], knot: frozenset[Tid]) -> Chain:
    steps: list[Step] = [Step(task, None)]
    places = {task.tid: 0}
    while True:
        last = steps[-1].task
        following = _next(graph, last, stuck, knot, places)
        if following is None:
            return _ended(tuple(steps), stuck)
        ender, other = following
        if other.tid in places:
            alone = all(_only(step.task.wait) for step in steps[places[other.tid] :])
            if other.tid == last.tid or alone or last.tid in knot:
                return _cycle(tuple(steps), places[other.tid], stuck)
            return _ended(tuple(steps), stuck)
        places[other.tid] = len(steps)
        steps.append(Step(other, ender))
        if len(steps) > _DEEP:
            return _ended(tuple(steps), stuck)


def _only(wait: Wait) -> bool:
    # Whether one process alone could end it: then a cycle is one.
    return len({ender.pid for ender in wait.enders if ender.able}) == 1


def _next(
    graph: Graph, task: Task, stuck: frozenset[Tid], knot: frozenset[Tid], places: dict[Tid, int]
) -> tuple[Ender, Task] | None:
    """Whom to follow: of those who could end a wait, one that is on no round, and that tells most."""
    wait = task.wait
    if task.ended and any(ender.role is Role.PARENT for ender in wait.enders):
        return None
    if wait.kind in (WaitKind.NOTHING, WaitKind.TIME, WaitKind.INPUT) or (
        wait.timed and wait.kind not in LOCKS | {WaitKind.EVENTS}
    ):
        return None
    found: list[tuple[tuple[int, ...], Ender, Task]] = []
    for index, ender in enumerate(wait.enders):
        if ender.role is Role.SIBLING and task.tid not in stuck and task.tid not in knot:
            continue  # any of them could, and nothing says which is to
        for other in _threads_of(graph, ender):
            if (other.tid == task.tid and not _alone(graph, ender)) or (task.tid in stuck and other.tid not in stuck):
                continue
            group = stuck if task.tid in stuck else knot
            found.append(((*_interest(task, ender, other, group, places), index), ender, other))
    if not found:
        return None
    _, ender, other = min(found, key=lambda item: item[0])
    return ender, other


def _alone(graph: Graph, ender: Ender) -> bool:
    return ender.tid is not None or len([task for task in graph.threads(ender.pid) if not task.ended]) == 1


def _threads_of(graph: Graph, ender: Ender) -> list[Task]:
    if not ender.able:
        return []
    if ender.tid is not None:
        found = graph.tasks.get(ender.tid)
        return [] if found is None else [found]
    threads = graph.threads(ender.pid)
    return [task for task in threads if not task.ended] or threads[:1]


def _interest(task: Task, ender: Ender, other: Task, stuck: frozenset[Tid], places: dict[Tid, int]) -> tuple[int, ...]:
    foreign = ender.pid != task.pid
    return (
        task.tid in stuck and other.tid not in stuck,
        other.tid in places and task.tid not in stuck,
        other.ended,
        # Whoever runs, or stands still by somebody's will, is why it lasts; who waits in turn leads on.
        _TELLS.get(other.wait.kind, 2),
        not foreign,
        not other.leads,
        int(other.tid),
    )


_TELLS: Final = {
    WaitKind.STOPPED: 0, WaitKind.TRACED: 0, WaitKind.FROZEN: 0, WaitKind.UNKNOWN: 3, WaitKind.TIME: 2,
    WaitKind.SIGNAL: 3,
}  # fmt: skip


def _cycle(steps: tuple[Step, ...], start: int, stuck: frozenset[Tid]) -> Chain:
    members = [step.task for step in steps[start:]]
    certain = steps[0].task.tid in stuck
    kind = RootKind.CYCLE if len(members) > 1 else RootKind.SELF
    why = "" if certain else _doubt(members)
    return Chain(steps, kind, Certainty.CERTAIN if certain else Certainty.LIKELY, why, start)


def _doubt(tasks: Iterable[Task]) -> str:
    for task in tasks:
        wait = task.wait
        if wait.timed:
            return f"the wait of {task.tid} has a timeout"
        if wait.by_signal:
            return f"{task.tid} catches {wait.by_signal}, which could end its wait"
        if not wait.closed and wait.beyond:
            return wait.beyond
        if not task.steady:
            return f"{task.tid} has run while it was looked at"
    return ""


def _ended(steps: tuple[Step, ...], stuck: frozenset[Tid]) -> Chain:
    last = steps[-1].task
    certain = steps[0].task.tid in stuck
    root = _root(last)
    entered = _entered(steps)
    came = steps[entered].ender
    if came is not None and root in _ELSEWHERE and not certain and came.role in (*_HOLDERS, Role.TRACER):
        # What the threads of a holder wait for among themselves leads nowhere.
        root = RootKind.TRACED if came.role is Role.TRACER else RootKind.HELD
        steps = steps[: entered + 1]
        last = steps[-1].task
    if certain:
        return Chain(steps, root, Certainty.CERTAIN)
    if root in _LASTING and last.wait.kind is not WaitKind.OPEN and not last.wait.timed and last.steady:
        return Chain(steps, root, Certainty.LIKELY, _doubt([step.task for step in reversed(steps)]))
    return Chain(steps, root, Certainty.OPEN, _doubt([last]) if root in (RootKind.WORD, RootKind.SELF) else "")


def _entered(steps: tuple[Step, ...]) -> int:
    """The step by which the chain came into the process that it ends in."""
    place = len(steps) - 1
    while place and steps[place].task.pid == steps[place - 1].task.pid:
        place -= 1
    return place


_HOLDERS: Final = frozenset({
    Role.WRITER, Role.READER, Role.PEER, Role.LISTENER, Role.LOCK_HOLDER, Role.LEASE_HOLDER, Role.OWNER,
})  # fmt: skip
_ELSEWHERE: Final = frozenset({
    RootKind.SIGNAL, RootKind.IDLE, RootKind.SLEEPS, RootKind.INPUT, RootKind.REMOTE, RootKind.WORD, RootKind.UNKNOWN,
})  # fmt: skip
"""What somebody does who has nothing in hand that would lead to what is waited for."""

_LASTING: Final = frozenset({
    RootKind.STOPPED, RootKind.FROZEN, RootKind.OWNER_GONE, RootKind.COPIED_LOCK, RootKind.NOBODY, RootKind.UNREAPED,
})  # fmt: skip
"""Roots that do not go by themselves."""

_ROOTS: Final = {
    WaitKind.STOPPED: RootKind.STOPPED, WaitKind.TRACED: RootKind.TRACED, WaitKind.FROZEN: RootKind.FROZEN,
    WaitKind.KERNEL: RootKind.KERNEL, WaitKind.NOTHING: RootKind.RUNS, WaitKind.TIME: RootKind.SLEEPS,
    WaitKind.SIGNAL: RootKind.SIGNAL, WaitKind.INPUT: RootKind.INPUT, WaitKind.UNKNOWN: RootKind.UNKNOWN,
}  # fmt: skip


def _root(task: Task) -> RootKind:
    wait = task.wait
    if task.ended:
        return RootKind.UNREAPED if wait.enders else RootKind.ENDED
    if wait.kind in LOCKS and not any(ender.able for ender in wait.enders):
        if wait.copied or wait.owner:
            return RootKind.COPIED_LOCK if wait.copied else RootKind.OWNER_GONE
        return RootKind.NOBODY if wait.closed else RootKind.WORD
    if wait.copied and wait.closed and not any(ender.able for ender in wait.enders):
        return RootKind.COPIED_LOCK
    if wait.kind in _ROOTS:
        return _ROOTS[wait.kind]
    if wait.timed:
        return RootKind.SLEEPS
    if wait.idle:
        return RootKind.IDLE
    if wait.enders and all(ender.pid == task.pid for ender in wait.enders):
        if wait.kind in (WaitKind.SEMAPHORE, WaitKind.CONDITION, WaitKind.FUTEX, WaitKind.MUTEX):
            return RootKind.WORD
        return RootKind.SELF
    if wait.kind in (WaitKind.SEMAPHORE, WaitKind.CONDITION, WaitKind.FUTEX, WaitKind.SYSV, *LOCKS):
        return RootKind.NOBODY if wait.closed else RootKind.WORD
    if wait.kind is WaitKind.OPEN:
        return RootKind.NOBODY
    if any(ender.able for ender in wait.enders):
        return RootKind.HELD
    return RootKind.NOBODY if wait.closed else RootKind.REMOTE if wait.beyond else RootKind.UNKNOWN
