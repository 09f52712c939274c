"""What a vfork child does to its parent's memory, against a program that says where and what it wrote."""

from __future__ import annotations

import os

import pytest
from held import Held
from tracing import Line, Program, said

from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux.memory import read
from forklore.linux.pages.vfork_memory import LIMIT, Before, MemoryChange, MemoryPart, Writes, capture, written
from forklore.linux.tracing import ptrace
from forklore.linux.tracing.wait import Kind

LIVE = {
    "stack": {MemoryPart.LIVE_STACK},
    "static": {MemoryPart.DATA, MemoryPart.BSS},
    "heap": {MemoryPart.HEAP},
    "mapped": {MemoryPart.ANONYMOUS},
}


class Lent(Held):
    """Keeps the creator's memory at the creation, and compares it when it goes on, or when a fork child ends."""

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self.limit = limit
        self.how: Kind | None = None
        self.before: Before | None = None
        self.by_child: Writes | None = None
        self.by_parent: Writes | None = None

    def created(self, creator: Tid, child: Tid, how: Kind) -> None:
        registers = ptrace.registers(creator)
        stack, size = self.stack_of(creator, registers)
        sp = Address(registers[registers.layout.sp])
        before = capture(creator, sp, stack=stack, stack_size=size, limit=self.limit)
        assert isinstance(before, Before)
        self.how, self.before, self.creator, self.child = how, before, creator, child

    @staticmethod
    def stack_of(creator: Tid, registers: ptrace.Registers) -> tuple[Address | None, int]:
        if registers.layout is not LAYOUTS.get(next(iter(LAYOUTS))) or registers["orig_rax"] != 435:
            return None, 0
        raw = read(creator, Address(registers["rdi"]), 64)
        assert isinstance(raw, bytes)
        start, size = (int.from_bytes(raw[at : at + 8], "little") for at in (40, 48))
        return (Address(start), size) if start else (None, 0)

    def look(self, tid: Tid) -> Writes:
        assert self.before is not None
        found = written(tid, self.before)
        assert isinstance(found, Writes)
        return found

    def executing(self, tid: Tid) -> None:
        if self.before is not None and tid == self.child:
            self.by_child = self.look(tid)

    def exiting(self, tid: Tid) -> None:
        if self.before is not None and tid == self.child and self.by_child is None:
            self.by_child = self.look(tid)
            if self.how is Kind.FORK:
                self.by_parent = self.look(self.creator)

    def vfork_done(self, tid: Tid) -> None:
        self.by_parent = self.look(tid)


def live(found: Writes | None) -> list[MemoryChange]:
    """What matters, without what the dynamic linker keeps in data: calls bind when they are first made."""
    assert found is not None
    return [change for change in found.changes if not change.where.harmless]


def places(run: Lent) -> list[Line]:
    return [line for line in said(run.out.decode()) if line.word == "place"]


def inside(change: MemoryChange, place: Line) -> bool:
    start, size = place.number("address"), place.number("size")
    return change.start < start + size and start < change.start + change.length


def linkers(change: MemoryChange) -> bool:
    # Bound calls (.got.plt) and the linker's own counters.
    return change.where is MemoryPart.DATA


@pytest.mark.parametrize("end", ["exit", "exec", "kill"])
def test_a_vfork_childs_writes_are_found_byte_by_byte(program: Program, end: str) -> None:
    run = Lent()
    assert run.run(program("vfork_writes"), "vfork", end) == 0
    assert run.how is Kind.VFORK
    known = places(run)
    assert len(known) == 4
    for found in (run.by_parent, run.by_child) if end != "kill" else (run.by_parent,):
        changes = live(found)
        for place in known:
            (change,) = (change for change in changes if inside(change, place))
            start, size = place.number("address"), place.number("size")
            assert (change.start, change.length) == (start, size)
            assert change.old == bytes([place.number("old")]) * size
            assert change.new == bytes([place.number("wrote")]) * size
            assert change.where in LIVE[place["what"]]
        rest = [change for change in changes if not any(inside(change, place) for place in known)]
        assert [change for change in rest if not linkers(change)] == []
        assert found is not None
        assert (found.remaps, found.left_out, found.more, found.threads) == ((), (), 0, 1)


def test_a_child_that_writes_nothing_leaves_nothing(program: Program) -> None:
    run = Lent()
    assert run.run(program("vfork_writes"), "none", "exit") == 0
    assert run.how is Kind.VFORK
    assert [change for change in live(run.by_parent) if not linkers(change)] == []


def test_a_fork_child_changes_its_copy_only(program: Program) -> None:
    # Its parent runs on, and so changes its own stack by itself.
    run = Lent()
    assert run.run(program("vfork_writes"), "fork", "exit") == 0
    assert run.how is Kind.FORK
    assert [change for change in live(run.by_parent) for place in places(run) if inside(change, place)] == []


def test_the_classic_demonstration_has_two_answers(program: Program) -> None:
    shown = {}
    for name in ("textbook_vfork", "textbook_fork"):
        run = Lent()
        assert run.run(program(name)) == 0
        shown[name] = {
            (change.where, change.old[0], change.new[0]) for change in live(run.by_parent) if change.length == 1
        } & {(MemoryPart.LIVE_STACK, 5, 10), (MemoryPart.DATA, 7, 12), (MemoryPart.HEAP, 11, 16)}
    assert {name: len(changes) for name, changes in shown.items()} == {"textbook_vfork": 3, "textbook_fork": 0}


def test_posix_spawns_child_keeps_to_the_stack_it_was_given(program: Program) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("where clone3's struct is found is written down here for x86_64 only")
    run = Lent()
    assert run.run(program("posix_spawn_one")) == 0
    assert run.how is Kind.VFORK
    assert run.before is not None
    assert run.before.child_stack is not None
    assert run.by_child is not None
    kinds = {change.where for change in run.by_child.changes}
    assert MemoryPart.CHILD_STACK in kinds
    assert kinds <= {MemoryPart.CHILD_STACK, MemoryPart.DEAD_STACK, MemoryPart.LIVE_STACK, MemoryPart.DATA}


def test_memory_beyond_the_limit_is_said_to_be_left_out(program: Program) -> None:
    run = Lent(limit=3 << 12)
    assert run.run(program("vfork_writes"), "vfork", "exit") == 0
    assert run.before is not None
    assert run.before.size == 3 << 12
    assert run.by_parent is not None
    assert {left.why for left in run.by_parent.left_out} == {"beyond the limit"}
    # The stack comes first, so what lies on it is still told.
    assert any(change.where is MemoryPart.LIVE_STACK for change in live(run.by_parent))


def test_a_task_that_is_gone() -> None:
    answer = capture(Tid(1 << 30), Address(0))
    assert isinstance(answer, Unavailable)
    assert answer.errno == 2
