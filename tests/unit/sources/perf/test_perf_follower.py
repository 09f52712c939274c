"""From perf's records to events: stories that the kernel tells, and any order of records that it could never tell."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_THREAD, CLONE_VFORK, CLONE_VM
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.events.check import Checker
from forklore.linux.perf.tasks import CodeMapped, Ended, Executed, Forked, Lost, Named, Record
from forklore.sources.perf.follower import Follower
from forklore.sources.ptrace.options import Follow, Options

ROOT, STATUS = 100, 3 << 8


class Kernel:
    """Writes records, and holds the events that come of them against the rules of a trace."""

    def __init__(self, options: Options | None = None, **how: Any) -> None:
        self.events: list[ev.Event] = []
        self.time = 0
        self._checker = Checker()
        self.parents: dict[int, int] = {}
        self.follower = Follower(
            options or Options(), Arch.X86_64, 0, self._emit, root=Pid(ROOT), status=lambda: STATUS,
            parent_of=lambda pid: Pid(self.parents[pid]) if pid in self.parents else None, **how,
        )  # fmt: skip
        self.parents[ROOT] = 1
        self.follower.begin(Pid(ROOT), [Tid(ROOT)], 0)

    def _emit(self, event: ev.Event) -> None:
        self._checker(event)
        self.events.append(event)

    def take(self, kind: type[Record], *values: Any) -> None:
        self.time += 10
        self.follower.take(kind(self.time, *values))

    def fork(self, creator: int, child: int, flags: int | None = None, *, thread: bool = False) -> None:
        pid = self.follower.family.live[Tid(creator)].group.tgid
        self.take(Forked, pid if thread else child, child, pid, creator, flags)

    def exec(self, tid: int, path: str = "/bin/ls") -> None:
        self.take(Named, tid, tid, path.rpartition("/")[2].encode(), True, tid)
        self.take(CodeMapped, tid, tid, path.encode())

    def end(self, tid: int, *, pid: int | None = None, parent: int = ROOT) -> None:
        self.take(Ended, tid if pid is None else pid, tid, parent)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def test_a_program_that_makes_one() -> None:
    kernel = Kernel(command=(b"/bin/sh", [b"sh", b"-c", b"ls"]))
    kernel.exec(ROOT, "/bin/dash")
    kernel.fork(ROOT, 101)
    kernel.exec(101)
    kernel.end(101)
    kernel.end(ROOT, parent=1)
    (create,) = kernel.of(ev.Create)
    assert (create.flags, create.thread, create.nr) == (None, False, None)
    first, second = kernel.of(ev.Exec)
    assert (first.path, first.argv, first.exe) == ("/bin/sh", ["sh", "-c", "ls"], "/bin/dash"), "we started it"
    assert isinstance(second.path, Unavailable)
    assert isinstance(second.argv, Unavailable)
    assert (second.exe, second.comm) == ("/bin/ls", "ls")
    assert [(event.task, event.status) for event in kernel.of(ev.Exit)] == [(2, None), (1, STATUS)]
    assert kernel.follower.root_ended
    assert kernel.follower.alive == 0


def test_flags_and_paths_are_told_by_tracepoints() -> None:
    kernel = Kernel(paths=True, strangers=True)
    kernel.fork(ROOT, 101, CLONE_VM | CLONE_VFORK)
    kernel.exec(101)
    assert not kernel.of(ev.Exec), "its path has not come yet"
    kernel.take(Executed, 101, b"./ls")
    (create,), (done,) = kernel.of(ev.Create), kernel.of(ev.VforkDone)
    assert (create.flags, create.thread) == (CLONE_VM | CLONE_VFORK, None)
    assert kernel.of(ev.Exec)[0].path == "./ls"
    assert (done.task, done.child) == (1, 2)


def test_a_leader_that_ends_first_is_a_zombie_until_the_last_thread_has_ended() -> None:
    kernel = Kernel()
    kernel.fork(ROOT, 101, thread=True)
    kernel.end(ROOT, parent=1)
    assert not kernel.of(ev.Exit)
    kernel.end(101, pid=ROOT, parent=1)
    assert [event.task for event in kernel.of(ev.Exit)] == [2, 1]
    assert kernel.of(ev.Create)[0].thread


def test_a_thread_that_executes_takes_its_leaders_place() -> None:
    kernel = Kernel()
    kernel.fork(ROOT, 101, thread=True)
    kernel.end(ROOT, parent=1)
    kernel.exec(ROOT)
    (exec_,) = kernel.of(ev.Exec)
    assert (exec_.task, exec_.former_tid) == (2, 101)
    assert [(event.task, event.why) for event in kernel.of(ev.Gone)] == [(1, "superseded")]
    kernel.end(ROOT, parent=1)
    assert [(event.task, event.status) for event in kernel.of(ev.Exit)] == [(2, STATUS)]


def test_an_orphans_new_parent_is_told_at_once_or_at_its_end() -> None:
    kernel = Kernel()
    for child in (101, 102):
        kernel.fork(ROOT, child)
    kernel.parents[101] = 1
    kernel.end(ROOT, parent=1)
    kernel.end(102, parent=1)
    assert [(event.task, event.parent_tid) for event in kernel.of(ev.Reparent)] == [(2, 1), (3, 1)]


def test_of_a_set_id_program_an_ordinary_user_learns_no_more() -> None:
    kernel = Kernel()
    kernel.fork(ROOT, 101)
    kernel.take(Named, 101, 101, b"su", True, 101)
    kernel.end(101)
    assert [(event.task, event.why) for event in kernel.of(ev.Gone)] == [(2, "lost")]
    assert "file gives it other rights" in kernel.of(ev.Note)[0].why
    assert kernel.of(ev.Exec)[0].comm == "su"


def test_of_a_set_id_root_its_parent_learns_the_end() -> None:
    kernel = Kernel()
    kernel.take(Named, ROOT, ROOT, b"su", True, ROOT)
    kernel.end(ROOT, parent=1)
    assert kernel.follower.alive == 1
    kernel.follower.root_is_over(100)
    assert [event.status for event in kernel.of(ev.Exit)] == [STATUS]
    assert kernel.follower.alive == 0


def test_of_the_machine_a_set_id_program_goes_on() -> None:
    kernel = Kernel(strangers=True)
    kernel.fork(ROOT, 101)
    kernel.take(Named, 101, 101, b"su", True, 101)
    kernel.end(101)
    assert not kernel.of(ev.Exit)
    kernel.take(CodeMapped, 101, 101, b"/bin/su")
    kernel.end(101)
    assert [event.task for event in kernel.of(ev.Exit)] == [2]


def test_who_was_killed_in_its_exec_is_looked_for() -> None:
    kernel = Kernel(strangers=True)
    kernel.fork(ROOT, 101)
    kernel.take(Named, 101, 101, b"su", True, 101)
    kernel.end(101)
    for _look in range(2):
        kernel.follower.look_for(1000, lambda _pid, _tid: False, everybody=False)
    assert not kernel.of(ev.Exit)
    kernel.follower.look_for(1001, lambda _pid, _tid: False, everybody=False)
    assert [event.task for event in kernel.of(ev.Exit)] == [2]
    assert kernel.follower.alive == 1, "of the others records would come"


def test_where_ends_were_lost_those_who_are_gone_are_told_so() -> None:
    kernel = Kernel()
    kernel.fork(ROOT, 101)
    kernel.fork(ROOT, 102, thread=True)
    kernel.take(Lost, 3)
    for _look in range(3):
        kernel.follower.look_for(1000, lambda pid, _tid: pid == 101, everybody=True)
    assert [event.task for event in kernel.of(ev.Gone)] == [3]
    assert [(event.task, event.status) for event in kernel.of(ev.Exit)] == [(1, STATUS)]
    assert kernel.follower.living() == [101]


def test_strangers_are_left_out_until_records_are_lost() -> None:
    kernel = Kernel(strangers=True)
    kernel.parents[500] = ROOT
    kernel.take(Forked, 501, 501, 500, 500)
    assert len(kernel.events) == 1
    kernel.take(Lost, 3)
    kernel.take(Forked, 502, 502, 500, 500)
    (_root, adopted), (create,) = kernel.of(ev.Begin), kernel.of(ev.Create)
    assert (adopted.tid, adopted.how, adopted.parent_tid) == (500, "adopted", ROOT)
    assert create.tid == 502
    assert kernel.follower.lost == 3


@pytest.mark.parametrize(
    ("follow", "kept"), [(Follow.ALL, [True, True]), (Follow.PROCESSES, [True, False]), (Follow.NONE, [False, False])]
)
def test_what_is_not_to_be_followed_is_made_and_let_go(follow: Follow, kept: list[bool]) -> None:
    kernel = Kernel(Options(follow=follow))
    kernel.fork(ROOT, 101)
    kernel.fork(ROOT, 102, thread=True)
    assert [event.traced for event in kernel.of(ev.Create)] == kept
    kernel.end(102, pid=ROOT, parent=1)
    assert len(kernel.of(ev.Exit)) == sum(kept[1:])


def test_a_name_is_its_own_or_somebodys() -> None:
    kernel = Kernel()
    kernel.take(Named, ROOT, ROOT, b"one", False, ROOT)
    kernel.take(Named, ROOT, ROOT, b"two", False, 7)
    assert [(event.comm, event.how) for event in kernel.of(ev.Name)] == [("one", "prctl"), ("two", "found")]


def test_arguments_are_left_out_where_they_are_not_wanted() -> None:
    kernel = Kernel(Options(argv=False), command=(b"/bin/sh", [b"sh", b"secret"]))
    kernel.exec(ROOT)
    assert isinstance(kernel.of(ev.Exec)[0].argv, Unavailable)


tids = st.integers(99, 104)
RECORDS = st.one_of(
    st.tuples(st.just(Forked), tids, tids, tids, tids, st.sampled_from([None, 0, CLONE_THREAD, CLONE_VFORK])),
    st.tuples(st.just(Ended), tids, tids, tids),
    st.tuples(st.just(Named), tids, tids, st.just(b"x"), st.booleans(), tids),
    st.tuples(st.just(CodeMapped), tids, tids, st.sampled_from([None, b"/bin/x"])),
    st.tuples(st.just(Executed), tids, st.just(b"x")),
    st.tuples(st.just(Lost), st.integers(1, 9)),
)


@given(st.lists(RECORDS, max_size=40), st.booleans(), st.booleans())
def test_any_order_of_records_makes_a_trace_that_holds(records: list[Any], strangers: bool, paths: bool) -> None:
    kernel = Kernel(strangers=strangers, paths=paths)
    for kind, *values in records:
        kernel.take(kind, *values)
    kernel.follower.finish(10_000, "lost")
    assert kernel.follower.alive == 0
