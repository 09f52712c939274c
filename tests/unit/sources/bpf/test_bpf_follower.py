"""From records to events: stories that the kernel tells, and any order of records that it could never tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VFORK, CLONE_VM
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Pid, Unavailable
from forklore.events import records as ev
from forklore.events.check import Checker
from forklore.linux.tracing.ptrace import Registers
from forklore.sources.bpf import raw
from forklore.sources.bpf.follower import Follower
from forklore.sources.ptrace.options import Follow, Options

THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD
LAYOUT = LAYOUTS[Arch.X86_64]
CALL = raw.Call(Registers(LAYOUT, bytes(LAYOUT.size)), Arch.X86_64, 56, (17, 0, 0, 0, 0, 0), None, None)
NAMESPACES = dict.fromkeys(("mnt", "uts", "ipc", "net", "pid", "pid_for_children", "time", "cgroup", "user"), 1)
STANDING = raw.Standing(1, 1, 1, 17, False, 0, 0, 18, 5, NAMESPACES)
OWN, OTHER = (10, 20, 30, 40, 0, 0), (11, 21, 31, 41, 0, 0)
ROOT = Pid(100)
GROUP_EXIT = 4


class Kernel:
    """Writes records, and holds the events that come of them against the rules of a trace."""

    def __init__(self, options: Options | None = None, *, root: Pid | None = ROOT) -> None:
        self.events: list[ev.Event] = []
        self.lost = [0] * 16
        self.number = 0
        self._checker = Checker()
        self.follower = Follower(
            options or Options(), 0, self._emit, lambda: self.lost, root=root, parent_of=lambda _pid: Pid(1)
        )

    def _emit(self, event: ev.Event) -> None:
        self._checker(event)
        self.events.append(event)

    def head(self, kind: raw.Kind, key: int, tid: int, tgid: int) -> raw.Head:
        self.number += 1
        return raw.Head(kind, 0, tid, self.number * 1000, self.number - 1, key, tgid)

    def begin(self, key: int, tid: int, *, tgid: int | None = None, late: bool = False, objects: Any = OWN) -> None:
        process = tid if tgid is None else tgid
        head = self.head(raw.Kind.BEGIN, key, tid, process)
        pids = (tid, 0, 0, 0, 0, 0, 0, 0)
        self.follower.take(raw.Begin(head, 1, 0, late, 0, pids, process, objects, STANDING, b"sh"))

    def create(
        self, key: int, tid: int, child: int, child_tid: int, flags: int = 0, *, tgid: int | None = None,
        objects: tuple[raw.Objects, raw.Objects] = (OWN, OTHER), **other: Any,
    ) -> None:  # fmt: skip
        process = tid if tgid is None else tgid
        values: dict[str, Any] = {
            "kernel_flags": 0, "exit_signal": 17, "level": 0, "apart": False, "pids": (child_tid, *[0] * 7),
            "standing": STANDING, "call": CALL, "comm": b"sh", "stack": b"",
        } | other  # fmt: skip
        group = process if flags & CLONE_THREAD else child_tid
        self.follower.take(
            raw.Create(
                self.head(raw.Kind.CREATE, key, tid, process), flags, child, child_tid, group,
                creators=objects[0], childs=objects[1], **values,
            )
        )  # fmt: skip

    def exec(
        self, key: int, tid: int, *, former: int | None = None, objects: raw.Objects = OTHER,
        argv: Sequence[bytes] | None = (b"ls", b"-l"),
    ) -> None:  # fmt: skip
        path = b"/bin/ls"
        if argv is not None:
            head = self.head(raw.Kind.EXECUTING, key, tid if former is None else former, tid)
            self.follower.take(raw.Executing(head, len(argv), -100, 0, False, path))
            block = b"".join(word + b"\0" for word in argv)
            half = len(block) // 2
            for part, last in ((block[:half], 0), (block[half:], raw.WHOLE)):
                head = self.head(raw.Kind.TEXT, key, tid if former is None else former, tid)
                self.follower.take(raw.Text(head, raw.ARGV, 0, last, part))
        head = self.head(raw.Kind.EXEC, key, tid, tid)
        self.follower.take(
            raw.Exec(head, tid if former is None else former, False, 2, objects, STANDING, b"ls", b"/usr/bin/ls", path)
        )

    def exit(
        self, key: int, tid: int, *, tgid: int | None = None, last: bool = True, code: int = 0,
        group: int | None = None, reaper: int | None = None,
    ) -> None:  # fmt: skip
        head = self.head(raw.Kind.EXIT, key, tid, tid if tgid is None else tgid)
        flags = 0 if group is None else GROUP_EXIT
        self.follower.take(raw.Exit(head, code, group or 0, flags, last, reaper))

    def signal(
        self, key: int, tid: int, number: int, *, code: int = 0, sender: int = 7, to_process: bool = True
    ) -> None:
        head = self.head(raw.Kind.SIGNAL, key, tid, tid)
        self.follower.take(raw.Signal(head, number, code, sender, to_process, 0xDEAD))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def test_a_child_executes_and_ends() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.create(1, 100, 2, 101)
    kernel.exec(2, 101)
    kernel.exit(2, 101, code=3 << 8)
    kernel.exit(1, 100)
    begin, create, exec_, end, last = kernel.events
    assert isinstance(begin, ev.Begin)
    assert (begin.how, begin.tid) == ("root", 100)
    assert isinstance(create, ev.Create)
    assert (create.child, create.tid, create.nr, create.kcmp) == (2, 101, 56, (3, 3, 3, 3, 4, 4))
    assert isinstance(exec_, ev.Exec)
    assert (exec_.path, exec_.argv, exec_.exe, exec_.comm) == ("/bin/ls", ["ls", "-l"], "/usr/bin/ls", "ls")
    assert isinstance(end, ev.Exit)
    assert (end.task, end.status) == (2, 3 << 8)
    assert isinstance(last, ev.Exit)
    assert kernel.follower.root_ended
    assert kernel.follower.living() == []


def test_a_leader_that_ends_first_has_its_status_with_the_last_thread() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.create(1, 100, 2, 101, THREAD, objects=(OWN, OWN))
    kernel.exit(1, 100, last=False)
    assert kernel.of(ev.Exit) == []
    kernel.exit(2, 101, tgid=100, code=0, group=7 << 8)
    assert [(end.task, end.status) for end in kernel.of(ev.Exit)] == [(2, 7 << 8), (1, 7 << 8)]


def test_a_thread_that_executes_takes_its_leaders_place() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.create(1, 100, 2, 101, THREAD, objects=(OWN, OWN))
    kernel.exit(1, 100, last=False)
    kernel.exec(2, 100, former=101)
    (gone,), (exec_,) = kernel.of(ev.Gone), kernel.of(ev.Exec)
    assert (gone.task, gone.why) == (1, "superseded")
    assert (exec_.task, exec_.former_tid) == (2, 101)
    kernel.exit(2, 100)
    assert [end.task for end in kernel.of(ev.Exit)] == [2]


def test_what_a_task_still_shares_after_its_exec_is_told_by_its_own_objects() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.create(1, 100, 2, 101, CLONE_VM | CLONE_FS, objects=(OWN, OWN))
    kernel.exec(2, 101, objects=(99, *OWN[1:]))
    (exec_,) = kernel.of(ev.Exec)
    assert exec_.compared == {"mm": (1, 3), "files": (1, 0), "fs": (1, 0), "sighand": (1, 0)}


def test_no_address_of_the_kernel_is_in_any_event() -> None:
    secret = 0xFFFF_8880_1234_5678
    objects = (secret,) * 6
    kernel = Kernel(root=None)
    kernel.begin(1, 100, objects=objects)
    kernel.create(1, 100, 2, 101, THREAD, objects=(objects, objects))
    kernel.exec(2, 101, objects=(secret + 64,) * 6)
    kernel.exit(2, 101)
    assert not any(str(secret >> 20) in str(event) or str(secret) in str(event) for event in kernel.events)


@pytest.mark.parametrize("end", ["exec", "exit"])
def test_a_vfork_is_over_when_the_child_executes_or_ends(end: str) -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.create(1, 100, 2, 101, CLONE_VM | CLONE_VFORK)
    getattr(kernel, end)(2, 101)
    (done,) = kernel.of(ev.VforkDone)
    assert (done.task, done.child, done.tid) == (1, 2, 101)


def test_who_killed_is_told_of_each_thread_for_sigkill_and_of_one_for_others() -> None:
    for number, told in ((9, [1, 2]), (15, [1])):
        kernel = Kernel()
        kernel.begin(1, 100)
        kernel.create(1, 100, 2, 101, THREAD, objects=(OWN, OWN))
        kernel.signal(1, 100, number)
        kernel.exit(2, 101, tgid=100, last=False, group=number)
        kernel.exit(1, 100, group=number)
        signals = kernel.of(ev.Signal)
        assert sorted(signal.task for signal in signals) == told
        assert {signal.sender for signal in signals} == {7}
        assert {signal.by for signal in signals} == {"call" if number == 9 else None}


def test_a_fault_has_its_address_and_no_sender() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.signal(1, 100, 11, code=1, to_process=False)
    kernel.exit(1, 100, group=11 | 0x80)
    (signal,) = kernel.of(ev.Signal)
    assert (signal.signal, signal.code, signal.sender, signal.address) == (11, 1, None, 0xDEAD)


def test_orphans_get_the_reaper_that_the_kernel_chose() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.create(1, 100, 2, 101)
    kernel.create(2, 101, 3, 102)
    kernel.exit(2, 101, reaper=100)
    (moved,) = kernel.of(ev.Reparent)
    assert (moved.task, moved.parent_tid, moved.parent) == (3, 100, 1)
    kernel.exit(1, 100, reaper=1)
    last = kernel.of(ev.Reparent)[-1]
    assert (last.task, last.parent_tid, last.parent) == (3, 1, None)


def test_a_task_whose_creation_was_lost_is_adopted_and_the_loss_is_told_before_it() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.number += 1  # the creation of 101
    kernel.lost[raw.Kind.CREATE] += 1
    kernel.exec(2, 101)
    note, begin = kernel.events[1:3]
    assert isinstance(note, ev.Note)
    assert note.what == "1 records of the kernel's events: 1 creations"
    assert isinstance(begin, ev.Begin)
    assert (begin.how, begin.tid, begin.parent_tid) == ("adopted", 101, 1)


def test_a_tid_that_is_another_ones_by_now_had_an_end_that_was_lost() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.create(1, 100, 2, 101)
    kernel.create(1, 100, 3, 101)
    (gone,) = kernel.of(ev.Gone)
    assert (gone.task, gone.why) == (2, "lost")
    kernel.exit(3, 101)
    assert [end.task for end in kernel.of(ev.Exit)] == [3]


def test_lost_arguments_are_no_arguments() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    kernel.exec(1, 100, argv=None)
    (exec_,) = kernel.of(ev.Exec)
    assert isinstance(exec_.argv, Unavailable)
    assert exec_.path == "/bin/ls"


def test_what_is_not_to_be_followed_is_told_once() -> None:
    kernel = Kernel(Options(follow=Follow.THREADS))
    kernel.begin(1, 100)
    kernel.create(1, 100, 2, 101)
    kernel.exec(2, 101)
    kernel.create(2, 101, 3, 102)
    kernel.exit(3, 102)
    kernel.exit(2, 101)
    assert [type(event).__name__ for event in kernel.events] == ["Begin", "Create"]
    assert kernel.of(ev.Create)[0].traced is False


def test_who_ran_before_and_holds_the_same_is_told_together() -> None:
    kernel = Kernel(root=None)
    kernel.begin(1, 100)
    kernel.begin(2, 101, tgid=100)
    kernel.begin(3, 200, objects=OTHER)
    first, second, third = kernel.of(ev.Begin)
    assert {begin.how for begin in (first, second, third)} == {"attached"}
    names = ("mm", "files", "fs", "sighand")
    assert first.together == dict.fromkeys(names, 1)
    assert second.together == dict.fromkeys(names, 1)
    assert third.together == dict.fromkeys(names, 3)


STEP = st.tuples(
    st.sampled_from(["begin", "create", "thread", "vfork", "exec", "nonleader", "exit", "last", "signal", "lost"]),
    st.integers(1, 6), st.integers(1, 6), st.integers(0, 2),
)  # fmt: skip


@given(st.lists(STEP, max_size=40))
def test_any_order_of_records_makes_a_trace_that_can_be_read(steps: list[tuple[str, int, int, int]]) -> None:
    """Keys and tids at random, as after any losses: the checker of every event is in the kernel above."""
    kernel = Kernel()
    fresh = 10
    for what, key, tid, more in steps:
        fresh += 1
        tid += 99
        if what == "begin":
            kernel.begin(fresh, tid, late=bool(more))
        elif what in ("create", "thread", "vfork"):
            flags = {"create": 0, "thread": THREAD, "vfork": CLONE_VM | CLONE_VFORK}[what]
            kernel.create(key, tid, fresh, tid + more, flags, objects=(OWN, OWN))
        elif what == "exec":
            kernel.exec(key, tid, argv=(b"x",) if more else None)
        elif what == "nonleader":
            kernel.exec(key, tid, former=tid + more)
        elif what in ("exit", "last"):
            kernel.exit(key, tid, last=what == "last", reaper=more or None)
        elif what == "signal":
            kernel.signal(key, tid, 9, to_process=bool(more))
        else:
            kernel.number += more
            kernel.lost[more] += more
    kernel.follower.finish(10**9, "lost")
    assert kernel.follower.family.live == {}


def returned(kernel: Kernel, nr: int, result: int) -> None:
    call = raw.Call(Registers(LAYOUT, bytes(LAYOUT.size)), Arch.X86_64, nr, (1, 0, 0, 0, 0, 0), None, None)
    head = kernel.head(raw.Kind.RETURN, 1, 100, 100)
    kernel.follower.take(raw.Return(head, result, OWN, STANDING, call))


def test_refused_calls_and_what_changes_a_task_are_told() -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    returned(kernel, 57, -11)  # fork
    returned(kernel, 272, 0)  # unshare
    returned(kernel, 112, 100)  # setsid
    returned(kernel, 272, 272)  # a filter's trap leaves the number where the result would be
    (fail,) = kernel.of(ev.Fail)
    assert fail.errno == 11
    assert [other.result for other in kernel.of(ev.Other)] == [0, 100]


@pytest.mark.parametrize(("at", "path"), [(False, "/bin/ls"), (True, Unavailable(9, "descriptor 5 is not open"))])
def test_a_refused_exec_has_what_it_was_called_with(at: bool, path: str | Unavailable) -> None:
    kernel = Kernel()
    kernel.begin(1, 100)
    head = kernel.head(raw.Kind.EXECUTING, 1, 100, 100)
    kernel.follower.take(raw.Executing(head, 0, 5 if at else -100, 0, at, b"ls" if at else b"/bin/ls"))
    head = kernel.head(raw.Kind.TEXT, 1, 100, 100)
    kernel.follower.take(raw.Text(head, raw.ARGV, 0, raw.WHOLE, b"ls\0-l\0"))
    returned(kernel, 322 if at else 59, -2)
    (failed,) = kernel.of(ev.ExecFail)
    assert (failed.path, failed.argv, failed.errno) == (path, ["ls", "-l"], 2)
