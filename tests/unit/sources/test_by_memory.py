"""What is told of a program's code by its memory alone, held against what its files say: the program is this one."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from forklore.abi.units import Tid
from forklore.elf.cpython.layout import SYMBOLS
from forklore.elf.image.symbols import Symbols
from forklore.events import records as ev
from forklore.linux import mappings, proc
from forklore.linux.mappings import Mapping
from forklore.sources.outbox import Outbox
from forklore.sources.stacks.code import CodeRegion, CodeSpace, TracedCode
from forklore.sources.stacks.interpreters import Pythons

ME = Tid(os.getpid())
MACHINE = proc.machine()
assert MACHINE is not None
LIBC = ctypes.CDLL(None)


def address_of(library: ctypes.CDLL, name: str) -> int:
    return ctypes.addressof(ctypes.c_char.in_dll(library, name))


@pytest.fixture
def events() -> list[ev.Event]:
    return []


@pytest.fixture
def out(events: list[ev.Event]) -> Outbox:
    return Outbox(events.append)


@pytest.fixture
def code(out: Outbox) -> TracedCode:
    assert MACHINE is not None
    return TracedCode(out, MACHINE)


@pytest.fixture
def space(code: TracedCode) -> CodeSpace:
    space = CodeSpace()
    code.survey(space, ME)
    return space


@pytest.fixture
def libc(space: CodeSpace) -> CodeRegion:
    found = space.find(address_of(LIBC, "fork"))
    assert found is not None
    return found


def test_unwinding_and_exported_names_as_by_the_file(code: TracedCode, libc: CodeRegion) -> None:
    by_memory, by_file = code.in_memory(libc, ME), code.loaded(libc, ME)
    assert libc.code is not None
    assert by_memory.image is not None
    assert by_memory.code.bias == libc.code.bias
    assert by_memory.code.table is not None
    assert by_file.table is not None
    symbols = Symbols(by_memory.image)
    for name in ("fork", "posix_spawn", "qsort", "printf"):
        address = address_of(LIBC, name)
        found = symbols.find(name.encode(), own=True)
        assert found is not None
        assert found.address + by_memory.code.bias == address
        for inside in (found.address, found.address + 8):
            assert by_memory.code.table.rule_at(inside) == by_file.table.rule_at(inside)
            assert by_memory.code.table.function_start(inside) == by_file.table.function_start(inside)


def test_it_is_read_out_of_the_memory_of_whom_it_is_asked_for(code: TracedCode, libc: CodeRegion) -> None:
    first = code.in_memory(libc, ME)
    assert first.file is not None
    first.file.tid = Tid(0)
    assert code.in_memory(libc, ME) is first
    assert first.file.tid == ME


def test_what_is_no_elf_file_has_no_table(code: TracedCode, libc: CodeRegion, monkeypatch: pytest.MonkeyPatch) -> None:
    def behind_its_header(_tid: Tid, mapping: Mapping) -> list[Mapping]:
        return [mapping]

    monkeypatch.setattr(mappings, "of_file", behind_its_header)
    assert code.in_memory(libc, ME).image is None
    assert code.in_memory(libc, ME).code.table is None


def test_all_parts_of_a_file(libc: CodeRegion) -> None:
    found = mappings.of_file(ME, libc.entry)
    every = mappings.mappings(ME)
    assert isinstance(found, list)
    assert isinstance(every, mappings.Mappings)
    assert found == [each for each in every if each.path == libc.entry.path]


@pytest.fixture
def python(space: CodeSpace) -> CodeRegion:
    every = mappings.mappings(ME)
    assert isinstance(every, mappings.Mappings)
    holds = every.find(address_of(ctypes.pythonapi, "PyList_New"))
    return next(region for region in space.regions if holds is not None and region.entry.inode == holds.inode)


@pytest.fixture
def pythons(code: TracedCode, out: Outbox) -> Iterator[Pythons]:
    yield Pythons(code, out)
    out.empty()


def assert_this_one(found: dict[bytes, int]) -> None:
    assert found[b"_PyRuntime"] == address_of(ctypes.pythonapi, "_PyRuntime")
    assert found[b"PyCode_Type"] == address_of(ctypes.pythonapi, "PyCode_Type")
    assert found.keys() <= set(SYMBOLS)


def test_the_symbols_of_an_interpreter(pythons: Pythons, space: CodeSpace, python: CodeRegion, out: Outbox) -> None:
    assert_this_one(pythons.of(space, python, ME, 0))
    assert not out.waits


def test_there_are_none_in_another_file(pythons: Pythons, space: CodeSpace, libc: CodeRegion, out: Outbox) -> None:
    space.interpreter = False
    assert pythons.of(space, libc, ME, 0) == {}
    out.empty()
    assert pythons.of(space, libc, ME, 0) == {}
    assert space.interpreter is False


def test_those_that_the_file_alone_tells_are_known_from_the_next_call_on(
    pythons: Pythons, space: CodeSpace, python: CodeRegion, out: Outbox, events: list[ev.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Pythons, "_in_memory", lambda *_: {})
    space.interpreter = False
    assert pythons.of(space, python, ME, 7) == {}
    assert out.waits
    out.empty()
    assert space.interpreter is None
    (note,) = events
    assert isinstance(note, ev.Note)
    assert note.t == 7
    assert python.entry.path.decode() in note.what
    assert_this_one(pythons.of(space, python, ME, 8))
