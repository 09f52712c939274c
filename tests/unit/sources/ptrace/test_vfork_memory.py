"""When memory that a child has in common with its creator is compared, and what is said where it cannot be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_THREAD, CLONE_VFORK, CLONE_VM
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux.pages import vfork_memory as pages
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace.options import Options
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Class, EnteredCall, Tracee
from forklore.sources.ptrace.vfork_memory import VforkMemory

WRITES = pages.Writes((), 0, (), (), 1)


class Run:
    """A creator and its child, made with ``flags``, and what the observer tells of them."""

    def __init__(self, flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = Outbox((events := list[ev.Event]()).append)
        self._events = events
        self.family = Family(Options())
        self.creator = self.family.add(Tid(10), Pid(10), None, 0)
        self.child = self.family.born(self.creator, Tid(11), flags)
        self.compared: list[Tid] = []
        self.observer = VforkMemory(self.out, None)
        monkeypatch.setattr(VforkMemory, "_keep", lambda *_: cast("pages.Before", SimpleNamespace(size=0)))
        monkeypatch.setattr(pages, "written", self.written)
        entry = EnteredCall(Class.CREATION, "clone", 1, Arch.X86_64, 56, (flags | 17, 0, 0, 0, 0, 0), flags=flags)
        self.observer.created(self.creator, self.child, entry, 1)

    @property
    def told(self) -> list[ev.Event]:
        """What was written, once nobody is held."""
        self.out.empty()
        return self._events

    def written(self, tid: Tid, _before: object) -> pages.Writes:
        self.compared.append(tid)
        return WRITES

    def end(self, task: Tracee) -> None:
        self.family.forget(task)
        self.observer.ended(task, 5)


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "executes"])
def test_at_the_childs_end_or_exec_by_its_creator(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(CLONE_VM, monkeypatch)
    if ends:
        run.end(run.child)
    else:
        run.observer.executed(run.child, 5)
        run.end(run.child)
    assert run.told == [ev.Borrowed(t=5, task=2, creator=1, threads=1, ran_on=True)]
    assert run.compared == [10]


def test_the_creator_ended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(CLONE_VM, monkeypatch)
    run.end(run.creator)
    assert run.told == []
    run.end(run.child)
    why = Unavailable(0, "its creator, in whose memory it ran on, ended first")
    assert run.told == [ev.Borrowed(t=5, task=2, creator=1, changes=why, ran_on=True)]
    assert run.compared == []


def test_a_vfork_child_is_told_of_when_its_creator_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(CLONE_VM | CLONE_VFORK, monkeypatch)
    run.end(run.child)
    assert run.told == []
    run.observer.vfork_done(run.creator, 6)
    assert run.told == [ev.Borrowed(t=6, task=2, creator=1, threads=1)]


@pytest.mark.parametrize("flags", [0, CLONE_VFORK, CLONE_VM | CLONE_THREAD])
def test_threads_and_copies_are_not_looked_at(flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(flags, monkeypatch)
    run.end(run.child)
    run.observer.vfork_done(run.creator, 6)
    assert run.told == []
