"""Graphs of waits as tests write them, and as hypothesis does."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from forklore.abi.units import Fd, Nanoseconds, Pid, Tid
from forklore.features.why.graph import Ender, Graph, Held, Role, Task, Wait, WaitKind


def task(
    tid: int, wait: Wait | None = None, *, pid: int | None = None, ppid: int = 1, state: str = "S", steady: bool = True
) -> Task:
    return Task(
        tid=Tid(tid), pid=Pid(tid if pid is None else pid), ppid=Pid(ppid), name=b"prog", state=state, start=7,
        age=Nanoseconds(10**9), wait=wait or Wait(WaitKind.NOTHING, "nothing: it runs"), steady=steady,
    )  # fmt: skip


def lock(owner: int, *, pid: int = 1, **more: bool) -> Wait:
    return Wait(WaitKind.MUTEX, "a mutex", (Ender(Pid(pid), Tid(owner), Role.OWNER),), closed=True, **more)  # type: ignore[arg-type]


def pipe(*holders: int, closed: bool = True) -> Wait:
    held = (Held(Fd(3), cloexec=True),)
    enders = tuple(Ender(Pid(pid), None, Role.WRITER, held) for pid in holders)
    return Wait(WaitKind.READ, "the end of pipe:[1]", enders, closed=closed, object="pipe:[1]")


def graph(*tasks: Task, asked: Sequence[int] | None = None) -> Graph:
    pids = [task.pid for task in tasks] if asked is None else map(Pid, asked)
    return Graph(tuple(dict.fromkeys(pids)), {task.tid: task for task in tasks})


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Up to nine tasks in up to four processes, each with any wait for any of them and for some that are not there."""
    tids = draw(st.lists(st.integers(1, 12), min_size=1, max_size=9, unique=True))
    pids = {tid: draw(st.sampled_from(tids[:4])) for tid in tids}
    found = []
    for tid in tids:
        ender = st.builds(
            Ender,
            pid=st.sampled_from([*pids.values(), 99]).map(Pid),
            tid=st.one_of(st.none(), st.sampled_from([*tids, 98]).map(Tid)),
            role=st.sampled_from(Role),
            able=st.booleans(),
            held=st.sampled_from([(), (Held(Fd(3), cloexec=None, origin="somewhere"),)]),
        )
        wait = st.builds(
            Wait,
            kind=st.sampled_from(WaitKind),
            what=st.just("something"),
            enders=st.lists(ender, max_size=4).map(tuple),
            closed=st.booleans(),
            beyond=st.sampled_from(["", "somebody else"]),
            timed=st.integers(0, 5).map(lambda number: number == 0),
            by_signal=st.sampled_from(["", "", "", "SIGINT"]),
            copied=st.booleans(),
            owner=st.sampled_from(["", "thread 4,"]),
        )
        made = task(
            tid, draw(wait), pid=pids[tid], state=draw(st.sampled_from("SSSSDTRZ")), steady=draw(st.integers(0, 5)) > 0
        )
        found.append(made)
    return graph(*found, asked=draw(st.lists(st.sampled_from([*pids.values()]), max_size=3)))
