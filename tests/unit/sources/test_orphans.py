"""A child whose creator was killed before it could tell: found by the call that is still in the child's registers."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import cast

import pytest

from forklore.abi.arch import Arch
from forklore.abi.units import Pid, Tid
from forklore.linux.ptrace import Entry as Words
from forklore.linux.wait import Kind, WaitStatus
from forklore.sources.ptrace.entry import EntryReader
from forklore.sources.ptrace.kernel import LINUX
from forklore.sources.ptrace.options import Options, Stops
from forklore.sources.ptrace.orphans import Orphans
from forklore.sources.ptrace.task_table import Family
from forklore.sources.ptrace.tracee import Class, Entry

CLONE = {Arch.X86_64: 56, Arch.AARCH64: 220, Arch.RISCV64: 220}
CHILD = Tid(900)


def call(arch: Arch, *words: int) -> Entry:
    return Entry(Class.CREATION, "clone", 1, arch, CLONE[arch], cast("Words", words))


def in_child(entry: Entry) -> Entry:
    """What a child's registers show of the call that made it: on x86 the result has a register of its own."""
    first = entry.words[0] if entry.arch is Arch.X86_64 else 0
    return call(entry.arch, first, *entry.words[1:])


@pytest.mark.parametrize("arch", CLONE)
def test_the_creator_is_the_one_whose_call_the_child_shows(arch: Arch) -> None:
    family = Family(Options())
    root = family.add(Tid(100), Pid(100), Pid(99), depth=0)
    made: list[Entry] = []
    reader = cast("EntryReader", SimpleNamespace(from_registers=lambda _tid, _t: made[-1]))
    orphans = Orphans(LINUX, family, reader, Stops.SECCOMP, arch)
    entries = [call(arch, signal.SIGCHLD, 0x7000 + 16 * number, 0, 0, 0, 0) for number in range(3)]
    creators = [family.born(root, Tid(200 + number), 0) for number in range(3)]
    for creator, entry in zip(creators, entries, strict=True):
        creator.entry = entry
        orphans.creating.add(creator)
        family.forget(creator)
        orphans.ended(creator, killed=True)
    for number in (1, 0, 2):
        made.append(in_child(entries[number]))
        orphans.statuses[CHILD] = WaitStatus(0, Kind.TRAP)
        assert list(orphans.ready(0)) == [(CHILD, (creators[number], entries[number]))]
    assert list(orphans.ready(0)) == [(CHILD, None)]  # each made one


def test_of_those_who_died_in_equal_calls_it_is_the_last() -> None:
    # A task can be killed in its call before there is a child.
    family = Family(Options())
    root = family.add(Tid(100), Pid(100), Pid(99), depth=0)
    entry = call(Arch.AARCH64, signal.SIGCHLD, 0, 0, 0, 0, 0)
    reader = cast("EntryReader", SimpleNamespace(from_registers=lambda _tid, _t: in_child(entry)))
    orphans = Orphans(LINUX, family, reader, Stops.SECCOMP, Arch.AARCH64)
    for tid in (Tid(200), Tid(201)):
        creator = family.born(root, tid, 0)
        creator.entry = entry
        orphans.creating.add(creator)
        family.forget(creator)
        orphans.ended(creator, killed=True)
    orphans.statuses[CHILD] = WaitStatus(0, Kind.TRAP)
    ((_, maker),) = orphans.ready(0)
    assert maker is not None
    assert maker[0].tid == 201
