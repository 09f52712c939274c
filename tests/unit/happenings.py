"""Traces made by hand: events in the order of a story, and random stories that a trace could tell.

Every event goes through the checker that readers use, so a story is always one that a file could hold.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar, get_args

from hypothesis import strategies as st

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.flags import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWPID,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
)
from forklore.abi.units import TaskId, Unavailable
from forklore.events import records as ev
from forklore.events.check import Checker
from forklore.model.build import Builder
from forklore.model.tasks import Task, Trace

SIGCHLD = 17
FORK = CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID
THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD
MS = 1_000_000
E = TypeVar("E", bound=ev.Event)


def number(name: str, arch: Arch = Arch.X86_64) -> int:
    found = syscalls.number(arch, name)
    assert found is not None
    return found


class Story:
    """Events as they come, each ``step`` ns after the one before; task numbers are given back."""

    def __init__(self, *, times: bool = True, step: int = MS, **header: Any) -> None:
        self.header = ev.Header(
            **{
                "source": ev.Source("forklore", "0.1.0"),
                "clock": ev.Clock(5, 7),
                "command": ["make", "-j2"],
                "kernel": "6.18.44-test",
                **header,
            }
        )
        self.events: list[ev.Event] = []
        self._check = Checker()
        self._times = times
        self.step = step
        self._t = 0
        self._tasks = 0

    @property
    def t(self) -> int | None:
        return self._t if self._times else None

    def tell(self, event: E) -> E:
        self._check(event)
        self.events.append(event)
        self._t += self.step
        return event

    def next_task(self) -> int:
        self._tasks += 1
        return self._tasks

    def begin(self, tid: int = 100, tgid: int | None = None, how: ev.BeginHow = "root", **more: Any) -> int:
        task = self.next_task()
        self.tell(ev.Begin(t=self.t, task=task, tid=tid, tgid=tid if tgid is None else tgid, how=how, **more))
        return task

    def create(self, task: int, tid: int, **call: Any) -> int:
        child = self.next_task()
        self.tell(ev.Create(t=self.t, task=task, child=child, tid=tid, **{"arch": Arch.X86_64, **call}))
        return child

    def clone(self, task: int, tid: int, flags: int = FORK, signal: int = SIGCHLD, **more: Any) -> int:
        words = (flags | signal, 0, 0, 0, 0, 0)
        return self.create(task, tid, nr=number("clone"), args=words, **{"stop": "fork", **more})

    def clone3(self, task: int, tid: int, flags: int, signal: int = SIGCHLD, **more: Any) -> int:
        raw = struct.pack("<8Q", flags, 0, 0, 0, signal, 0, 0, 0).hex()
        return self.create(task, tid, nr=number("clone3"), args=(4096, 64, 0, 0, 0, 0), struct=raw, **more)

    def vfork(self, task: int, tid: int) -> int:
        return self.create(task, tid, nr=number("vfork"), args=(0,) * 6, stop="vfork")

    def thread(self, task: int, tid: int) -> int:
        return self.clone(task, tid, THREAD, 0, stop="clone")

    def fail(self, task: int, errno: int, flags: int = CLONE_SIGHAND, **more: Any) -> None:
        words = (flags | SIGCHLD, 0, 0, 0, 0, 0)
        self.tell(
            ev.Fail(
                t=self.t, task=task, errno=errno, **{"arch": Arch.X86_64, "nr": number("clone"), "args": words, **more}
            )
        )

    def call(self, task: int, name: str, *words: int, result: int | None = 0, target: str | None = None) -> None:
        arch = Arch.X86_64
        self.tell(ev.Other(t=self.t, task=task, arch=arch, nr=number(name), args=words, result=result, target=target))

    def exec(self, task: int, path: ev.Text | Unavailable, **more: Any) -> None:
        self.tell(ev.Exec(t=self.t, task=task, path=path, **more))

    def exec_fail(self, task: int, path: ev.Text | Unavailable, errno: int = 2, **more: Any) -> None:
        self.tell(ev.ExecFail(t=self.t, task=task, path=path, errno=errno, **more))

    def exit(self, task: int, code: int = 0) -> None:
        self.tell(ev.Exit(t=self.t, task=task, status=code << 8))

    def killed(self, task: int, signal: int) -> None:
        self.tell(ev.Exit(t=self.t, task=task, status=signal))

    def gone(self, task: int, why: ev.GoneWhy) -> None:
        self.tell(ev.Gone(t=self.t, task=task, why=why))

    def end(self, reason: ev.EndReason = "done") -> Story:
        self.tell(ev.End(t=self.t, reason=reason, events=len(self.events)))
        return self

    def builder(self, *, sharing: bool = False) -> Builder:
        return Builder(self.header, sharing=sharing)

    def trace(self, *, sharing: bool = False) -> Trace:
        builder = self.builder(sharing=sharing)
        for event in self.events:
            builder.feed(event)
        return builder.trace


def task(trace: Trace, number: int) -> Task:
    return trace.tasks[TaskId(number)]


# Random stories

NAMES = st.binary(max_size=12) | st.text(max_size=8).map(str.encode)
TEXTS = st.builds(ev.text, NAMES)
ABSENT = st.builds(Unavailable, st.sampled_from([0, 1, 14, 99999]), st.text(max_size=10))
WORDS = st.none() | st.integers(0, (1 << 64) - 1)
USUAL = (FORK, THREAD, CLONE_VM | CLONE_VFORK, CLONE_PARENT, THREAD | CLONE_PARENT, CLONE_NEWPID, CLONE_UNTRACED, 0)
FLAGS = st.sampled_from(USUAL) | st.integers(0, (1 << 64) - 1)
SIGNALS = st.sampled_from([0, 17, 10]) | st.integers(-(1 << 40), 1 << 40)
EXEC_AT = st.builds(
    ev.ExecAt, fd=st.sampled_from([-100, -1, 3]), directory=st.none() | ABSENT | TEXTS, path=ABSENT | TEXTS,
    flags=st.sampled_from([0, 0x1000, 0x1_0100, 0xFFFF_FFFF]),
)  # fmt: skip
LIMITS = st.dictionaries(
    st.sampled_from(
        ["uid", "cap_eff", "rlimit_nproc", "user_tasks", "threads_max", "threads_now", "pids_max", "other"]
    ),
    st.integers(-(1 << 63), (1 << 63) - 1),
    max_size=4,
)
HEX = st.none() | ABSENT | st.binary(max_size=100).map(bytes.hex)

HELD = st.builds(
    ev.Held,
    fd=st.integers(0, 9),
    kind=st.sampled_from(["pipe", "fifo", "file", "socket", "?\x1b"]),
    target=TEXTS,
    flags=st.none() | st.integers(0, (1 << 31) - 1),
    inode=st.none() | st.integers(0, 3),
    cloexec=st.none() | st.booleans(),
    same=st.none() | st.sampled_from([0, 1, 3, 4, -9, -1, -4095]),
    creators_cloexec=st.none() | st.booleans(),
)

ADDRESS = st.integers(0, (1 << 64) - 1)
REMAPPED = st.builds(ev.Remapped, ADDRESS, ADDRESS, st.none() | TEXTS, st.none() | TEXTS)
WRITTEN = st.builds(
    ev.Written, ADDRESS, ADDRESS, st.sampled_from(get_args(ev.WrittenWhere)), TEXTS,
    st.binary(max_size=20).map(bytes.hex), st.binary(max_size=20).map(bytes.hex),
)  # fmt: skip


@st.composite
def stories(draw: st.DrawFn, most: int = 25) -> Story:
    """A story of up to ``most`` events: whatever a consistent file can hold, likely or not."""
    story = Story(
        times=draw(st.booleans()),
        kernel=draw(st.sampled_from([None, "6.18.0", "x", "5.2"])),
        command=draw(st.lists(TEXTS, max_size=3)),
        blind=draw(st.lists(st.builds(ev.Blind, st.text(max_size=8), st.text(max_size=8)), max_size=2)),
    )
    tasks = [story.begin(draw(TIDS), comm=draw(st.none() | TEXTS))]
    for _ in range(draw(st.integers(0, most))):
        task = draw(st.sampled_from(tasks))
        _happen(draw, story, task, tasks)
    return story.end(draw(st.sampled_from(["done", "root"]))) if draw(st.booleans()) else story


TIDS = st.integers(1, 6) | st.integers(0, (1 << 31) - 1)
"""Few, so that they are used again."""


def _call(draw: st.DrawFn) -> dict[str, Any]:
    arch = draw(st.sampled_from(list(Arch)))
    name = draw(st.sampled_from(["fork", "vfork", "clone", "clone3", "unshare", "setns", "close_range", "setsid", "?"]))
    nr = syscalls.number(arch, name) if name != "?" else draw(st.none() | st.integers(-(1 << 40), 1 << 40))
    args = (draw(FLAGS), *draw(st.lists(WORDS, max_size=5)))
    return {"arch": arch, "nr": nr, "args": args, "struct": draw(HEX), "set_tid": draw(HEX)}


def _happen(draw: st.DrawFn, story: Story, task: int, tasks: list[int]) -> None:
    t = story.t
    kind = draw(st.sampled_from(KINDS))
    if kind is ev.Begin:
        hows: list[ev.BeginHow] = ["adopted", "log"]
        how = draw(st.sampled_from(hows))
        tasks.append(story.begin(draw(TIDS), draw(TIDS), how, parent_tid=draw(st.none() | TIDS)))
    elif kind is ev.Create:
        more: dict[str, Any] = {"traced": draw(st.booleans()), "untraced_cleared": draw(st.booleans())}
        if draw(st.booleans()):
            usual = (story.clone, story.clone3)[draw(st.integers(0, 1))]
            tasks.append(usual(task, draw(TIDS), draw(FLAGS), draw(st.sampled_from([0, 17])), **more))
        else:
            more["ns_tids"] = draw(st.none() | st.lists(TIDS, max_size=3))
            more["stop"] = draw(st.sampled_from([None, "fork", "clone"]))
            tasks.append(story.create(task, draw(TIDS), **_call(draw), **more))
    elif kind is ev.Fail:
        errno = draw(st.integers(0, 200) | st.integers())
        story.tell(ev.Fail(t=t, task=task, errno=errno, limits=draw(LIMITS), **_call(draw)))
    elif kind is ev.Other:
        result = draw(st.none() | st.sampled_from([0, -1, -22, 1 << 40, -(1 << 40)]))
        target = draw(st.none() | st.text(max_size=8))
        story.tell(ev.Other(t=t, task=task, result=result, target=target, **_call(draw)))
    elif kind is ev.Exec:
        argv = draw(st.lists(TEXTS, max_size=3) | ABSENT)
        names = {"exe": draw(st.none() | TEXTS | ABSENT), "comm": draw(st.none() | TEXTS)}
        former, began = draw(st.none() | TIDS), draw(st.none() | st.just(t))
        argc = draw(st.none() | st.integers(0, 9000))
        story.exec(task, draw(TEXTS | ABSENT), argv=argv, former_tid=former, began=began, argc=argc, **names)
    elif kind is ev.ExecFail:
        story.exec_fail(
            task, draw(st.sampled_from(["/a/ls", "/b/ls", "x"]) | TEXTS | ABSENT), draw(st.integers(0, 140)),
            argv=draw(ABSENT | st.lists(TEXTS, max_size=2)), at=draw(st.none() | EXEC_AT),
        )  # fmt: skip
    elif kind is ev.VforkDone:
        story.tell(ev.VforkDone(t=t, task=task, child=draw(st.none() | st.sampled_from(tasks)), tid=draw(TIDS)))
    elif kind is ev.Cow:
        common = draw(st.integers(0, 9))
        more = {"side": draw(st.none() | st.sampled_from(tasks))}
        more["copied"] = draw(st.none() | ABSENT | st.integers(0, 9))
        more["unknown"] = draw(st.none() | ABSENT)
        more["source"] = draw(st.sampled_from([None, "pagemap", "smaps"]))
        more["told_by"] = draw(st.sampled_from([None, *get_args(ev.CowToldBy)]))
        moment = draw(st.sampled_from(get_args(ev.CowMoment)))
        maker = draw(st.sampled_from(tasks))
        story.tell(ev.Cow(t=t, task=task, creator=maker, moment=moment, common=common, parted=common, **more))
    elif kind is ev.Borrowed:
        changes = draw(st.lists(WRITTEN, max_size=3) | ABSENT)
        remaps = draw(st.lists(REMAPPED, max_size=2))
        left = draw(st.lists(st.builds(ev.NotCompared, ADDRESS, ADDRESS, TEXTS, st.text(max_size=8)), max_size=2))
        more = {"remaps": remaps, "left_out": left, "threads": draw(st.none() | st.integers(0, 3))}
        story.tell(ev.Borrowed(t=t, task=task, creator=draw(st.sampled_from(tasks)), changes=changes, **more))
    elif kind is ev.Descriptors:
        table = draw(st.lists(HELD, max_size=4) | ABSENT)
        creator = draw(st.none() | st.sampled_from(tasks))
        pipes = draw(st.lists(HELD, max_size=2)) if creator is not None else []
        more = {"creator": creator, "creators_pipes": pipes, "left_out": draw(st.integers(0, 2))}
        story.tell(ev.Descriptors(t=t, task=task, table=table, **more))
    elif kind is ev.Exit:
        status = draw(st.none() | st.integers(0, 0xFFFF) | st.integers())
        story.tell(ev.Exit(t=t, task=task, status=status))
    elif kind is ev.Title:
        story.tell(ev.Title(t=t, task=task, argv=draw(st.lists(TEXTS, max_size=3))))
    elif kind is ev.Name:
        story.tell(ev.Name(t=t, task=task, comm=draw(TEXTS), how=draw(st.sampled_from(get_args(ev.NameHow)))))
    elif kind is ev.Gone:
        story.gone(task, draw(st.sampled_from(get_args(ev.GoneWhy))))
    elif kind is ev.Signal:
        where = draw(st.none() | st.integers(0, (1 << 64) - 1))
        story.tell(ev.Signal(t=t, task=task, signal=draw(SIGNALS), code=draw(SIGNALS), sender=1, address=where))
    elif kind is ev.GroupStop:
        story.tell(ev.GroupStop(t=t, task=task, signal=draw(SIGNALS)))
    elif kind is ev.Resume:
        story.tell(ev.Resume(t=t, task=task))
    elif kind is ev.Reparent:
        parent = draw(st.none() | st.sampled_from(tasks))
        story.tell(ev.Reparent(t=t, task=task, parent_tid=draw(TIDS), parent=parent))
    elif kind is ev.Reap:
        story.tell(
            ev.Reap(
                t=t, task=task, how=draw(st.sampled_from(get_args(ev.ReapHow))), since=draw(st.integers(0, 1 << 40)),
                parent_tid=draw(TIDS), parent=draw(st.sampled_from(tasks)),
            )
        )
    else:
        who = draw(st.none() | st.just(task))
        story.tell(ev.Note(t=t, what=draw(st.text(max_size=8)), why=draw(st.text(max_size=8)), task=who))


KINDS = (
    ev.Begin, ev.Create, ev.Create, ev.Create, ev.Fail, ev.Other, ev.Exec, ev.ExecFail, ev.VforkDone, ev.Descriptors,
    ev.Borrowed, ev.Cow, ev.Name, ev.Title, ev.Exit, ev.Gone, ev.Signal, ev.GroupStop, ev.Resume, ev.Reparent, ev.Reap,
    ev.Note,
)  # fmt: skip
