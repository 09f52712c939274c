"""What is told of zombies, on a kernel that answers what the test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from forklore.abi import ptrace as pt
from forklore.abi.units import Pid, Tid
from forklore.events import records as ev
from forklore.linux.tracing.wait import Kind, WaitStatus
from forklore.sources.ptrace.exit_stops import ExitStops
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.options import Options
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Tracee
from forklore.sources.ptrace.zombies import Zombies

MS = 1_000_000
PARENT, CHILD, REAPER = Pid(10), Pid(11), Pid(7)
SIGCHLD = WaitStatus(0, Kind.SIGNAL, 17)
OTHER = WaitStatus(0, Kind.SECCOMP)
AT_END = WaitStatus(0, Kind.EXIT)
TRACEEXIT = int(pt.Option.TRACEEXIT)


class World:
    """A parent, and a child that has ended."""

    def __init__(self, *, reaper: bool = False, options: int = 1, vanished: bool = False, ignored: int = 0) -> None:
        self.zombies = {CHILD: PARENT}
        self.gone: set[int] = set()
        self.status = {b"SigIgn": b"%016x" % ignored, b"SigPnd": b"0", b"State": b"S"}
        self.set: list[tuple[int, int]] = []
        self.told: list[ev.Reap] = []
        self.asked = 0
        self.sigchld_of: Pid | None = CHILD
        kernel = SimpleNamespace(
            clock=lambda: 0,
            status=self._status,
            zombie_of=lambda pid: self.zombies.get(pid),
            exists=lambda pid: pid not in self.gone,
            event_message=self._message,
            set_options=lambda tid, options: self.set.append((tid, options)),
            ended_child_told=self._child_told,
        )
        self.family = Family(Options())
        if reaper:
            self.reaper = self.family.add(Tid(REAPER), REAPER, None, 0)
        self.parent = self.family.add(Tid(PARENT), PARENT, REAPER, 0)
        child = self.family.born(self.parent, Tid(CHILD), 0)
        scripted = cast("Kernel", cast("Any", kernel))
        self.tracked = Zombies(scripted, self.family, self._tell, ExitStops(scripted, options))
        self.family.forget(child)
        self.child = child.id
        self.tracked.ended(child, 5 * MS, vanished=vanished)

    def _status(self, _tid: int) -> dict[bytes, bytes]:
        self.asked += 1
        return self.status

    def _child_told(self, tid: int) -> Pid | None:
        if tid in self.gone:
            raise ProcessLookupError
        return self.sigchld_of

    def vanishes(self, pid: int, ms: int) -> int:
        """Another child does: its number."""
        child = self.family.born(self.parent, Tid(pid), 0)
        self.family.forget(child)
        self.tracked.ended(child, ms * MS, vanished=True)
        return child.id

    def _message(self, tid: int) -> int:
        if tid in self.gone:
            raise ProcessLookupError
        return 0

    def _tell(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Reap)
        self.told.append(event)

    def stops(self, status: WaitStatus, ms: int, task: Tracee | None = None) -> None:
        if PARENT in self.tracked.standing:
            self.tracked.stopped(task or self.parent, status, ms * MS)

    def ends(self, ms: int) -> None:
        self.family.forget(self.parent)
        self.tracked.parent_ended(self.parent.group, ms * MS)

    def only(self) -> tuple[ev.ReapHow, int, int | None]:
        (told,) = self.told
        assert (told.task, told.parent_tid, told.parent) == (self.child, PARENT, self.parent.id)
        return told.how, told.since // MS, None if told.t is None else told.t // MS


def test_when_it_went_lies_between_two_looks() -> None:
    world = World()
    world.stops(OTHER, 8)
    world.zombies.clear()
    world.stops(OTHER, 9)
    assert world.only() == ("waited", 8, 9)
    assert not world.tracked.standing


def test_nobody_has_to_stop_for_it() -> None:
    world = World()
    looks = []
    while world.tracked.due < 1000 * MS:
        t = world.tracked.due
        looks.append(t // MS)
        world.tracked.look(t)
    assert looks == [15, 35, 75, 155, 315, 635], "each after twice the time"
    assert world.tracked.seconds == 0.64
    world.zombies.clear()
    world.tracked.look(world.tracked.due)
    assert world.only() == ("waited", 635, 1275)
    assert (world.tracked.due, world.tracked.seconds) == (0, 0)


def test_what_vanished_was_ignored_or_taken_at_once() -> None:
    assert World(vanished=True).only() == ("at once", 5, 5)
    assert World(vanished=True, ignored=1 << 16).only() == ("ignored", 5, 5)


def test_who_takes_sigchld_for_it_does_not_ignore_it() -> None:
    world = World(vanished=True)
    assert world.asked == 1
    world.tracked.follows(world.parent, SIGCHLD)
    second = world.vanishes(12, 7)
    assert (world.asked, len(world.told)) == (1, 1), "it is told by what comes next"
    world.sigchld_of = Pid(12)
    world.tracked.follows(world.parent, SIGCHLD)
    assert [(told.task, told.how, told.t) for told in world.told[1:]] == [(second, "at once", 7 * MS)]
    assert world.asked == 1


@pytest.mark.parametrize("why", ["another signal", "another task", "another child", "killed", "unknown"])
def test_what_else_follows_proves_nothing(why: str) -> None:
    world = World(vanished=True)
    world.tracked.follows(world.parent, SIGCHLD)
    world.vanishes(12, 7)
    world.sigchld_of = Pid(12)
    world.status[b"SigIgn"] = b"%016x" % (1 << 16)  # since then
    task: Tracee | None = world.parent
    status = SIGCHLD
    if why == "another signal":
        status = WaitStatus(0, Kind.SIGNAL, 10)
    elif why == "another task":
        task = world.family.add(Tid(30), Pid(30), None, 0)
    elif why == "another child":
        world.sigchld_of = CHILD
    elif why == "killed":
        world.gone.add(PARENT)
    else:
        task = None
    world.tracked.follows(task, status)
    assert [told.how for told in world.told] == ["at once", "ignored"]
    assert world.asked == 2
    world.vanishes(13, 9)
    assert (world.asked, len(world.told)) == (3, 3), "it is not relied on again"


def test_what_nothing_follows_is_told_in_the_end() -> None:
    world = World(vanished=True)
    world.tracked.follows(world.parent, SIGCHLD)
    world.vanishes(12, 7)
    assert len(world.told) == 1
    world.tracked.close(9 * MS)
    assert [told.how for told in world.told] == ["at once", "at once"]
    assert world.told[-1].t == 7 * MS


def test_a_parent_with_zombies_at_sigchld_stops_at_its_end() -> None:
    world = World()
    world.stops(SIGCHLD, 6)
    world.stops(SIGCHLD, 7)
    assert world.set == [(PARENT, 1 | TRACEEXIT)]
    world.stops(AT_END, 20)
    world.zombies.clear()  # its reaper was quick
    world.ends(21)
    assert world.only() == ("left", 20, 21)


def test_it_no_longer_does_when_they_are_gone() -> None:
    world = World()
    world.stops(SIGCHLD, 6)
    world.zombies.clear()
    world.stops(OTHER, 7)
    assert world.set == [(PARENT, 1 | TRACEEXIT), (PARENT, 1)]
    assert world.only() == ("waited", 6, 7)


def test_a_child_has_the_options_that_its_creator_had_when_it_made_it() -> None:
    world = World()
    world.stops(SIGCHLD, 6)
    world.zombies.clear()
    world.stops(WaitStatus(0, Kind.FORK), 7)
    assert world.set == [(PARENT, 1 | TRACEEXIT), (PARENT, 1)]
    assert not world.parent.tells_end
    assert [world.family.born(world.parent, Tid(tid), 0).tells_end for tid in (12, 13)] == [True, False]


def test_where_all_stop_at_their_end_nothing_is_set() -> None:
    world = World(options=TRACEEXIT)
    world.stops(SIGCHLD, 6)
    assert world.set == []


def test_a_thread_that_ends_is_not_the_end_of_its_process() -> None:
    world = World()
    thread = world.family.born(world.parent, Tid(99), 0x10000)
    world.stops(AT_END, 20, thread)
    world.zombies.clear()
    world.ends(30)
    assert world.only() == ("unknown", 20, 30)


def test_threads_that_are_being_killed_do_not_count() -> None:
    world = World()
    world.family.born(world.parent, Tid(99), 0x10000)
    world.status[b"SigPnd"] = b"100"
    world.stops(AT_END, 20)
    world.zombies.clear()
    world.ends(21)
    assert world.only() == ("left", 20, 21)


def test_what_another_inherits_was_left() -> None:
    world = World()
    world.zombies[CHILD] = Pid(1)
    world.ends(40)
    assert world.only() == ("left", 5, 40)
    assert not world.tracked.standing


def test_a_reaper_in_the_trace_is_followed() -> None:
    world = World(reaper=True)
    world.zombies[CHILD] = REAPER
    world.ends(40)
    world.zombies.clear()
    world.tracked.look(50 * MS)
    left, taken = world.told
    assert (left.how, left.parent) == ("left", world.parent.id)
    assert (taken.how, taken.parent, taken.since // MS, taken.parent_tid) == ("waited", world.reaper.id, 40, REAPER)


def test_which_of_two_took_it_is_not_known() -> None:
    world = World()
    world.zombies.clear()
    world.ends(40)
    assert world.only() == ("unknown", 5, 40)


@pytest.mark.parametrize("gone", [False, True])
def test_a_parent_that_ended_unseen_took_no_status(gone: bool) -> None:
    world = World()
    world.zombies = {} if gone else {CHILD: REAPER, PARENT: REAPER}
    world.gone = {CHILD, PARENT} if gone else set()
    world.tracked.look(100 * MS)
    assert not world.told, "whose they are is told with its end"
    world.ends(101)
    assert world.only() == (("unknown" if gone else "left"), 5, 101)


def test_a_parent_that_is_killed_while_it_is_held_took_no_status() -> None:
    world = World()
    world.zombies.clear()
    world.gone = {PARENT}
    world.stops(SIGCHLD, 7)
    assert not world.told
    world.ends(8)
    assert world.only() == ("unknown", 5, 8)


def test_it_stands_as_the_trace_ends() -> None:
    world = World()
    world.tracked.close(60 * MS)
    assert world.only() == ("stands", 60, 60)


def test_of_a_parent_that_was_let_go_nothing_is_told() -> None:
    world = World()
    world.family.forget(world.parent)
    world.tracked.look(100 * MS)
    assert not world.told
    assert not world.tracked.standing
