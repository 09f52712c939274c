"""Where code lies in each process, as records tell it one after another."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.units import Address, Pid
from forklore.linux.mappings import Mapping
from forklore.linux.perf.code import Executed, Mapped, Missed
from forklore.sources.bpf.callers import Code

ONE, TWO = Pid(1), Pid(2)


def at(start: int, end: int, path: bytes = b"/lib/a.so") -> Mapping:
    return Mapping(Address(start), Address(end), "r-xp", 0, 1, 1, 5, path)


def test_an_exec_begins_with_nothing_and_what_is_mapped_then_is_known() -> None:
    code = Code()
    code.take(Executed(1, ONE))
    code.take(Mapped(2, ONE, at(0x2000, 0x3000)))
    code.take(Mapped(3, ONE, at(0x1000, 0x2000, b"/bin/a")))
    assert [entry.start for entry in code.known[ONE]] == [0x1000, 0x2000]
    code.take(Executed(4, ONE))
    assert code.known[ONE] == []


def test_of_a_process_that_ran_before_one_mapping_is_not_all() -> None:
    code = Code()
    code.take(Mapped(1, ONE, at(0x1000, 0x2000)))
    assert ONE not in code.known


def test_a_childs_memory_begins_as_a_copy_and_goes_its_own_way() -> None:
    code = Code()
    code.take(Executed(1, ONE))
    code.take(Mapped(2, ONE, at(0x1000, 0x2000)))
    code.forked(ONE, TWO)
    code.take(Mapped(3, TWO, at(0x5000, 0x6000)))
    assert [len(code.known[pid]) for pid in (ONE, TWO)] == [1, 2]
    code.ended(ONE)
    assert list(code.known) == [TWO]


def test_after_a_loss_nothing_is_known() -> None:
    code = Code()
    code.take(Executed(1, ONE))
    code.take(Missed(2))
    assert code.known == {}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), max_size=30))
def test_what_is_known_never_overlaps_and_the_last_mapping_is_there(ranges: list[tuple[int, int]]) -> None:
    code = Code()
    code.take(Executed(0, ONE))
    for start, length in ranges:
        code.take(Mapped(1, ONE, at(start, start + length)))
        entries = code.known[ONE]
        assert at(start, start + length) in entries
        assert all(a.end <= b.start for a, b in pairwise(entries))
