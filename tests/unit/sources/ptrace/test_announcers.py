"""A child whose creator was killed before it could tell: found by the call that is still in the child's registers."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import cast

import pytest

from forklore.abi.arch import Arch
from forklore.abi.units import Pid, Tid
from forklore.linux.tracing.ptrace import Entry as Words
from forklore.linux.tracing.wait import Kind, WaitStatus
from forklore.sources.ptrace.announcers import Announcers
from forklore.sources.ptrace.creations import Creations
from forklore.sources.ptrace.entry import EntryReader
from forklore.sources.ptrace.kernel import LINUX
from forklore.sources.ptrace.options import Options, Stops
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Class, EnteredCall, Tracee

CLONE = {Arch.X86_64: 56, Arch.AARCH64: 220, Arch.RISCV64: 220}
CHILD = Tid(900)


def call(arch: Arch, *words: int) -> EnteredCall:
    return EnteredCall(Class.CREATION, "clone", 1, arch, CLONE[arch], cast("Words", words))


def in_child(entry: EnteredCall) -> EnteredCall:
    """What a child's registers show of the call that made it: on x86 the result has a register of its own."""
    first = entry.words[0] if entry.arch is Arch.X86_64 else 0
    return call(entry.arch, first, *entry.words[1:])


def announcers(family: Family, creations: Creations, arch: Arch, shown: list[EnteredCall]) -> Announcers:
    reader = cast("EntryReader", SimpleNamespace(from_registers=lambda _tid, _t: shown[-1]))
    return Announcers(LINUX, family, creations, reader, Stops.SECCOMP, arch)


def killed_in(family: Family, creations: Creations, root: Tracee, tid: int, entry: EnteredCall) -> Tracee:
    creator = family.born(root, Tid(tid), 0)
    creations.entered(creator, entry)
    family.forget(creator)
    assert creations.creator_gone(creator) is None, "there is nothing to tell yet"
    return creator


@pytest.mark.parametrize("arch", CLONE)
def test_the_creator_is_the_one_whose_call_the_child_shows(arch: Arch) -> None:
    family, creations = Family(Options()), Creations(adopts=False)
    root = family.add(Tid(100), Pid(100), Pid(99), depth=0)
    shown: list[EnteredCall] = []
    at = announcers(family, creations, arch, shown)
    entries = [call(arch, signal.SIGCHLD, 0x7000 + 16 * number, 0, 0, 0, 0) for number in range(3)]
    creators = [killed_in(family, creations, root, 200 + number, entry) for number, entry in enumerate(entries)]
    for number in (1, 0, 2):
        shown.append(in_child(entries[number]))
        creations.stopped_unannounced(CHILD, WaitStatus(0, Kind.TRAP))
        ((tid, made),) = at.without(0)
        assert made is not None
        assert (tid, made.creator, made.entry) == (CHILD, creators[number], entries[number])
        creations.adopted(tid, made)
    creations.stopped_unannounced(CHILD, WaitStatus(0, Kind.TRAP))
    assert list(at.without(0)) == [(CHILD, None)]  # each made one


def test_a_leader_at_its_last_stop_is_not_waited_for() -> None:
    # Its end comes after those of its threads, and this one stands in a stop until it is adopted.
    family, creations = Family(Options()), Creations(adopts=False)
    leader = family.add(Tid(100), Pid(100), Pid(99), depth=0)
    entry = call(Arch.X86_64, 0x3D0F00, 0x7000, 0, 0, 0, 0)
    creations.entered(leader, entry)
    creations.stopped_unannounced(CHILD, WaitStatus(0, Kind.EXIT))
    at = announcers(family, creations, Arch.X86_64, [in_child(entry)])
    assert list(at.without(0)) == [], "its event may be on its way"
    creations.creator_ends(leader)
    ((tid, made),) = at.without(0)
    assert made is not None
    assert (tid, made.creator, made.entry) == (CHILD, leader, entry)
    creations.adopted(tid, made)
    assert creations.creator_gone(leader) is None
    assert not creations.in_flight
    creations.creator_ends(leader)  # who is in no call has nothing to tell
    assert creations.left == []


def test_of_those_who_died_in_equal_calls_it_is_the_last() -> None:
    # A task can be killed in its call before there is a child.
    family, creations = Family(Options()), Creations(adopts=False)
    root = family.add(Tid(100), Pid(100), Pid(99), depth=0)
    entry = call(Arch.AARCH64, signal.SIGCHLD, 0, 0, 0, 0, 0)
    for tid in (200, 201):
        killed_in(family, creations, root, tid, entry)
    creations.stopped_unannounced(CHILD, WaitStatus(0, Kind.TRAP))
    ((_, maker),) = announcers(family, creations, Arch.AARCH64, [in_child(entry)]).without(0)
    assert maker is not None
    assert maker.creator is not None
    assert maker.creator.tid == 201
