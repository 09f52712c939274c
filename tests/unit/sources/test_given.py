"""What is behind the functions that C++'s and Rust's libraries give to pthread_create: objects written down here."""

from __future__ import annotations

import struct
from typing import Final

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from forklore.events import records as ev
from forklore.sources.stacks.language_threads import Function, given

STATE, TABLE, DATA, BOX = 0x70_0000, 0x50_0000, 0x71_0000, 0x72_0000
NATIVE, RUN, WORK, TRAMPOLINE, DROP, CALL = 0x40_0000, 0x40_1000, 0x40_2000, 0x40_3000, 0x40_4000, 0x40_5000
LIBSTDCPP: Final = b"/usr/lib/libstdc++.so.6.0.30"
PROGRAM: Final = b"/bin/pool"
SHIM: Final = b"_ZN4core3ops8function6FnOnce40call_once$u7b$$u7b$vtable.shim$u7d$$u7d$17h08dbe5dc9ee7521fE"
RUST: Final = {
    TRAMPOLINE: Function(b"_ZN3std3sys3pal4unix6thread6Thread3new12thread_start17h3c3fa74ec263863bE", PROGRAM),
    DROP: Function(b"_ZN4core3ptr13drop_in_place17h0E", PROGRAM),
    CALL: Function(SHIM, PROGRAM),
}


def state_run(arguments: str) -> bytes:
    """The symbol of the function that calls what a std::thread was given, by the mangled types of a tuple."""
    return f"_ZNSt6thread11_State_implINS_8_InvokerISt5tupleIJ{arguments}EEEEE6_M_runEv".encode()


class Task:
    """The memory and code of a creator."""

    def __init__(self, code: dict[int, Function], *, word: int = 8) -> None:
        self.code = code
        self.word = word
        self.memory: dict[int, bytes] = {}
        self.reads = 0

    def put(self, at: int, *words: int) -> None:
        self.memory[at] = b"".join((value & (1 << 8 * self.word) - 1).to_bytes(self.word, "little") for value in words)

    def read(self, address: int, size: int) -> bytes | None:
        self.reads += 1
        for start, content in self.memory.items():
            if start <= address and address + size <= start + len(content):
                return content[address - start : address - start + size]
        return None

    def of(self, routine: int, argument: int) -> ev.Runs:
        runs = ev.Runs(how="nptl", fn=1, arg=2, routine=routine, routine_arg=argument)
        return given(runs, self.word, self.read, self.code.get)


def cpp(symbol: bytes | None, *state: int, word: int = 8) -> Task:
    task = Task({NATIVE: Function(None, LIBSTDCPP), RUN: Function(symbol, PROGRAM), WORK: Function(b"work", PROGRAM)},
                word=word)  # fmt: skip
    task.put(STATE, TABLE, *state, *[0] * 8)
    task.put(TABLE, 0x40_6000, 0x40_6100, RUN, 0)
    return task


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        ("PFvvE", (WORK,)),
        ("PFviPKcEiS4_", (DATA, 3, WORK)),  # void (*)(int, char const*), int, char const*
        ("PFvidEid", (0x3FE0_0000_0000_0000, 3, WORK)),
        ("PFvccEcc", (0x6162, WORK)),
        ("PFvsicEsic", (0x1_0000_0000 + 0x61, 7, WORK)),  # a char and, behind it, an int; then a short
    ],
)
def test_a_function_is_behind_its_arguments(arguments: str, state: tuple[int, ...]) -> None:
    pytest.importorskip("demangle", reason="how long they are is told by their demangled types")
    found = cpp(state_run(arguments), *state).of(NATIVE, STATE)
    assert (found.how, found.routine, found.routine_arg) == ("c++", WORK, STATE)
    assert (found.fn, found.arg) == (1, 2), "what the C library was given stays"


def test_the_words_of_a_32_bit_program() -> None:
    pytest.importorskip("demangle", reason="how long they are is told by their demangled types")
    found = cpp(state_run("PFviPKcEiS4_"), DATA, 3, WORK, word=4).of(NATIVE, STATE)
    assert (found.how, found.routine) == ("c++", WORK)


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        ("Z4mainEUlvE_", (WORK,)),  # a closure, which may well hold a function
        ("4Crew", (WORK,)),
        ("M4CrewFvvEPS4_", (DATA, WORK, 0)),
        ("PFv4CrewES4_", (3, WORK)),  # an object of unknown size is before the function
        ("PFvvE", (0x99,)),  # no code
    ],
)
def test_what_calls_it_is_told_where_no_function_is_known(arguments: str, state: tuple[int, ...]) -> None:
    found = cpp(state_run(arguments), *state).of(NATIVE, STATE)
    assert (found.how, found.routine, found.routine_arg) == ("c++", RUN, STATE)


@pytest.mark.parametrize("symbol", [None, b"work", b"_ZN4Pool3runEv"])
def test_what_has_another_name_is_not_taken_for_a_state(symbol: bytes | None) -> None:
    assert cpp(symbol, WORK).of(NATIVE, STATE).how == "nptl"


def test_the_library_may_be_linked_into_the_program() -> None:
    task = cpp(state_run("4Crew"))
    task.code[NATIVE] = Function(b"execute_native_thread_routine", PROGRAM)
    assert task.of(NATIVE, STATE).how == "c++"


def rust(*box: int, table: tuple[int, int, int, int] = (DROP, 24, 8, CALL)) -> Task:
    task = Task(dict(RUST))
    task.put(BOX, *box, *[0] * (4 - len(box)))
    task.put(TABLE, *table)
    task.put(DATA, 0x11, 0x12, 0x13, 0x14)
    return task


@pytest.mark.parametrize("box", [(DATA, TABLE), (DATA, TABLE, DATA), (DATA + 8, DATA, TABLE)])
def test_a_closure_is_found_by_its_vtable(box: tuple[int, ...]) -> None:
    found = rust(*box).of(TRAMPOLINE, BOX)
    assert (found.how, found.routine, found.routine_arg) == ("rust", CALL, DATA)


@pytest.mark.parametrize(
    "table",
    [
        (DROP, 24, 0, CALL), (DROP, 24, 3, CALL), (DROP, 20, 8, CALL), (DROP, 1 << 40, 8, CALL), (DROP, 24, 8, DROP),
        (DATA, 24, 8, CALL), (DROP, 24, 8, 0),
    ],
)  # fmt: skip
def test_what_is_no_vtable_is_not_taken_for_one(table: tuple[int, int, int, int]) -> None:
    found = rust(DATA, TABLE, table=table).of(TRAMPOLINE, BOX)
    assert (found.how, found.routine, found.routine_arg) == ("nptl", TRAMPOLINE, BOX)


def test_a_closure_without_a_destructor() -> None:
    assert rust(DATA, TABLE, table=(0, 0, 1, CALL)).of(TRAMPOLINE, BOX).how == "rust"


def test_a_programs_own_routine_stays_and_costs_no_read() -> None:
    task = Task({WORK: Function(b"work", PROGRAM)})
    assert task.of(WORK, STATE) == ev.Runs(how="nptl", fn=1, arg=2, routine=WORK, routine_arg=STATE)
    assert task.of(0x99, STATE).routine == 0x99, "in no code at all"
    assert task.reads == 0


@settings(max_examples=300)
@drawn(st.data())
def test_any_memory_gives_an_answer(data: st.DataObject) -> None:
    places = st.sampled_from([0, 1, STATE, TABLE, DATA, BOX, NATIVE, RUN, WORK, CALL, DROP, (1 << 64) - 8])
    cut = b"_ZNSt6thread11_State_implINS_8_InvokerISt5tupleIJPF6_M_runEv"
    task = cpp(data.draw(st.sampled_from([state_run("PFviPKcEiS4_"), state_run("J"), cut, None])))
    task.code |= RUST
    for at in (STATE, TABLE, DATA, BOX):
        task.put(at, *data.draw(st.lists(places, min_size=0, max_size=8)))
    routine = data.draw(st.sampled_from([NATIVE, TRAMPOLINE]))
    found = task.of(routine, data.draw(places))
    assert found.how in ("nptl", "c++", "rust")
    assert task.reads <= 4


def test_words_are_of_the_tasks_size() -> None:
    task = cpp(state_run("4Crew"), word=4)
    assert struct.unpack_from("<I", task.memory[STATE])[0] == TABLE
    assert task.of(NATIVE, STATE).how == "c++"
