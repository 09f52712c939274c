"""Whose command line is read at its end, on a kernel that answers what the test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from forklore.abi import ptrace as pt
from forklore.abi.flags import CLONE_THREAD, CLONE_VFORK, CLONE_VM
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.sources.ptrace.exit_stops import ExitStops
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.options import Options
from forklore.sources.ptrace.task_names import Titles
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Tracee

MS = 1_000_000
TRACEEXIT = int(pt.Option.TRACEEXIT)
SERVER = [b"server", b"-D", b"/data"]


class World:
    """A server at 10, which executed, and what the kernel is asked."""

    def __init__(self, *, argv: bool = True, options: int = 1) -> None:
        self.lines: dict[int, list[bytes]] = {10: SERVER}
        self.asked: list[int] = []
        self.programs: dict[str, bytes] = {}
        self.options: dict[int, int] = {}
        self.told: list[ev.Title] = []
        kernel = cast("Kernel", cast("Any", SimpleNamespace(
            arguments=self._arguments, link=lambda path: self.programs.get(path, b"/bin/server"),
            set_options=self.options.__setitem__,
        )))  # fmt: skip
        self.family = Family(Options())
        ends = ExitStops(kernel, options)
        self.titles = Titles(kernel, self.family, ends, self._tell, argv=argv)
        self.server = self.family.add(Tid(10), Pid(10), None, 0)
        self.server.group.argv = SERVER

    def _arguments(self, tid: int) -> list[bytes] | Unavailable:
        self.asked.append(tid)
        return self.lines.get(tid) or Unavailable(3, "it is gone")

    def _tell(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Title)
        self.told.append(event)

    def born(self, tid: int, ms: int, flags: int = 0, creator: Tracee | None = None, line: str | None = None) -> Tracee:
        creator = creator or self.server
        child = self.family.born(creator, Tid(tid), flags)
        self.lines[tid] = SERVER if line is None else [line.encode(), b"", b""]
        self.titles.born(child, creator, flags, ms * MS)
        return child

    def ends(self, task: Tracee, ms: int) -> list[list[ev.Text]]:
        self.told.clear()
        self.titles.ending(task, ms * MS)
        return [list(event.argv) for event in self.told]


def test_a_child_beside_one_that_has_a_title_is_read_at_its_end() -> None:
    world = World()
    world.born(11, 1, line="server: writer")
    child = world.born(12, 150)
    assert world.options == {12: 1 | TRACEEXIT}
    world.lines[12] = [b"server: alice", b""]
    assert world.ends(child, 160) == [["server: alice"]]


def test_a_worker_of_a_server_that_has_a_title() -> None:
    world = World()
    world.lines[10] = [b"server: master", b"", b""]
    child = world.born(11, 1)
    assert world.options == {11: 1 | TRACEEXIT}
    grandchild = world.born(12, 2, creator=child)
    assert grandchild.title_at_end


def test_that_others_have_titles_is_looked_for_ten_times_a_second_and_no_more_when_it_is_known() -> None:
    world = World()
    for ms in range(1, 100):
        world.born(10 + ms, ms)
    assert world.asked == [10]
    world.lines[50] = [b"server: one", b""]
    for tid in range(11, 110):
        if tid != 50:
            world.family.forget(world.family.live[Tid(tid)])
    world.born(200, 120)
    assert world.asked == [10, 10, 50]
    assert world.born(201, 400).title_at_end
    assert world.asked == [10, 10, 50]


def test_who_runs_another_program_tells_nothing() -> None:
    world = World()
    other = world.born(11, 1, line="other: x")
    other.group.executed = True
    world.programs["/proc/12/exe"] = b"/bin/other"
    world.born(12, 2, line="other: y")
    assert not world.born(13, 150).title_at_end


def test_not_all_of_very_many_children_are_asked() -> None:
    world = World()
    for tid in range(11, 400):
        world.born(tid, 1)
        world.programs[f"/proc/{tid}/exe"] = b"/bin/other"
    looked: list[str] = []
    programs = world.programs
    world.programs = _Noted(looked, programs)
    world.born(500, 150)
    assert len({path for path in looked if path != "/proc/10/exe"}) <= 64


class _Noted(dict[str, bytes]):
    """Writes down what is asked for."""

    def __init__(self, asked: list[str], content: dict[str, bytes]) -> None:
        super().__init__(content)
        self._asked = asked

    def get(self, key: str, default: bytes = b"") -> bytes:  # type: ignore[override]
        self._asked.append(key)
        return super().get(key, default)


def test_who_makes_itself_a_session() -> None:
    world = World()
    child = world.born(11, 1)
    assert not world.ends(child, 2)
    world.titles.new_session(child)
    assert world.options == {11: 1 | TRACEEXIT}
    assert not world.ends(child, 3)
    world.lines[11] = [b"daemon: x", b""]
    assert world.ends(child, 4) == [["daemon: x"]]


def test_who_executes_has_no_such_stop() -> None:
    world = World()
    child = world.born(11, 1)
    world.titles.new_session(child)
    world.titles.executed(child, None)
    assert world.options == {11: 1}
    world.titles.new_session(child)
    world.titles.new_session(world.server)
    assert world.options == {11: 1}


def test_what_it_makes_does_not_stop_at_its_end_for_it() -> None:
    world = World()
    child = world.born(11, 1)
    world.titles.new_session(child)
    world.options.clear()
    thread = world.born(12, 2, CLONE_VM | CLONE_THREAD, child)
    vforked = world.born(13, 3, CLONE_VM | CLONE_VFORK, child)
    assert world.options == {12: 1, 13: 1}
    assert [thread.tells_end, vforked.tells_end] == [False, False]


def test_where_all_stop_nothing_is_set_and_where_arguments_are_not_recorded_nothing_is_read() -> None:
    world = World(options=1 | TRACEEXIT)
    world.titles.new_session(world.born(11, 1))
    assert not world.options
    world = World(argv=False)
    world.lines[10] = [b"server: master", b""]
    child = world.born(11, 1)
    world.titles.new_session(child)
    assert world.ends(child, 2) == []
    assert (world.options, world.asked) == ({}, [])
