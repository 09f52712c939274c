"""Names of bytes: equal to gdb's addresses, sizes and values, an instruction at a time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from dwarf_programs import CXX, FRAME_POINTER, build, need, stepped
from hypothesis import given
from hypothesis import strategies as st

from forklore.elf.dwarf.types import Member, Type
from forklore.elf.dwarf.variables import FoundVariable, Variables, name_range, render

FLAGS = [[level, version] for level in ("-O0", "-O2") for version in ("-gdwarf-4", "-gdwarf-5")]
INT = Type("signed", "int", 4)
CHAR = Type("char", "char", 1)


def gdb_prints(program: Path, *expressions: str) -> list[str]:
    need("gdb")
    arguments = [word for expression in expressions for word in ("-ex", f"output {expression}", "-ex", "echo \\n")]
    ran = subprocess.run(
        ["gdb", "-nx", "-batch", *arguments, program], capture_output=True, text=True, check=True
    )
    return [line for line in ran.stdout.splitlines() if line]


@pytest.mark.parametrize("flags", FLAGS)
def test_globals_are_where_gdb_has_them(flags: list[str], tmp_path: Path) -> None:
    program = build(tmp_path, *flags)
    variables = Variables(program)
    names = ["counts", "total", "state", "ready", "letter", "ratio", "grid", "words"]
    printed = gdb_prints(program, *(f"(long)&{name}" for name in names), *(f"sizeof({name})" for name in names))
    numbers = [int(each) for each in printed]
    for name, address, size in zip(names, numbers[: len(names)], numbers[len(names) :], strict=True):
        for byte in range(address, address + size):
            (found,) = variables.globals_at(byte, 1)
            assert (found.name, found.address, found.size) == (name, address, size)
        assert name not in [each.name for each in variables.globals_at(address + size, 1)]
    assert variables.problem is None


@pytest.mark.parametrize("flags", FLAGS)
def test_members_and_elements_are_where_gdb_has_them(flags: list[str], tmp_path: Path) -> None:
    program = build(tmp_path, *flags)
    variables = Variables(program)
    paths = ["counts[3]", "state.next", "state.link.next", "state.link.pair[1]", "state.label", "state.colour",
             "grid[1][2]", "words[1]"]  # fmt: skip
    printed = gdb_prints(program, *(f"(long)&{path}" for path in paths), *(f"sizeof({path})" for path in paths))
    numbers = [int(each) for each in printed]
    for path, address, size in zip(paths, numbers[: len(paths)], numbers[len(paths) :], strict=True):
        found = name_range(variables.globals_at(address, size), address, size)
        assert [(each.path, each.address, each.size) for each in found] == [(path, address, size)]


@pytest.mark.parametrize("flags", FLAGS)
def test_static_locals_have_their_names(flags: list[str], tmp_path: Path) -> None:
    variables = Variables(build(tmp_path, *flags))
    names = {each.name for each in variables.globals_at(0, 1 << 32)}
    assert {"calls", "counts", "state", "total", "words", "grid", "ready", "letter", "ratio"} <= names


@pytest.mark.parametrize("flags", FLAGS)
def test_locals_are_where_gdb_has_them(flags: list[str], tmp_path: Path) -> None:
    program = build(tmp_path, *flags, "-no-pie")
    variables = Variables(program, budget=20)
    seen = 0
    for look in stepped(program, 150):
        registers = dict(enumerate(look["registers"]))
        found = variables.locals_at(look["pc"], look["cfa"], registers)
        assert variables.problem is None
        ours = {(each.name, each.address, each.size) for each in found}
        for name, places in look["locals"].items():
            expected = {(name, address, size) for address, size, _raw, _value in places}
            assert expected <= ours, hex(look["pc"])
            seen += len(expected)
        assert {name for name, _, _ in ours} == set(look["locals"]), hex(look["pc"])
    assert seen > 50


def test_values_read_as_gdb_prints_them(tmp_path: Path) -> None:
    program = build(tmp_path, "-O0", "-g", "-no-pie")
    variables = Variables(program)
    compared = set()
    for look in stepped(program, 150)[40:]:
        found = variables.locals_at(look["pc"], look["cfa"], {FRAME_POINTER: look["registers"][FRAME_POINTER]})
        types = {each.name: each.type for each in found}
        for name in {"a", "number", "local", "inner", "half", "colour", "i"} & set(look["locals"]):
            ((_address, _size, raw, value),) = look["locals"][name]
            got = render(types[name], bytes.fromhex(raw))
            if name == "half":
                assert float(got) == pytest.approx(float(value), rel=1e-6)
            elif name != "colour" or not re.search("[|(]|^[0-9]", value):
                assert got == value
            compared.add(name)
    assert {"a", "local", "inner", "i", "half"} <= compared


def test_cxx_members_of_base_classes_and_static_members(tmp_path: Path) -> None:
    program = build(tmp_path, "-O0", "-g", source=CXX)
    variables = Variables(program)
    paths = ("global.weight", "global.kind", "Derived::shared")
    weight, kind, shared = map(int, gdb_prints(program, *(f"(long)&outer::{path}" for path in paths)))
    for address, path in ((weight, "global.weight"), (kind, "global.kind"), (shared, "shared")):
        assert [each.path for each in name_range(variables.globals_at(address, 1), address, 1)] == [path]


def test_the_budget_ends_a_search(tmp_path: Path) -> None:
    variables = Variables(build(tmp_path, "-g"), budget=0)
    assert variables.globals_at(0, 1 << 32) == []
    assert variables.problem is not None
    assert "more than 0 s" in variables.problem


def test_a_range_over_many_parts_is_named_as_a_whole() -> None:
    table = Type("array", "int[1000]", 4000, element=INT, count=1000)
    variable = FoundVariable("table", 0x100, 4000, table)
    assert [each.path for each in name_range([variable], 0x104, 8)] == ["table[1]", "table[2]"]
    assert [each.path for each in name_range([variable], 0x100, 4000)] == ["table"]
    assert name_range([variable], 0x100 + 4000, 8) == []


def test_padding_is_named_by_the_struct() -> None:
    record = Type("struct", "struct pair", 16, members=(Member("a", 0, INT), Member("b", 8, INT)))
    assert [each.path for each in name_range([FoundVariable("pair", 0, 16, record)], 5, 2)] == ["pair"]


def test_of_a_union_the_member_that_holds_the_range() -> None:
    union = Type("union", "union both", 8, members=(Member("low", 0, INT), Member("all", 0, Type("signed", "long", 8))))
    variable = FoundVariable("both", 0, 8, union)
    assert [each.path for each in name_range([variable], 0, 4)] == ["both.low"]
    assert [each.path for each in name_range([variable], 2, 4)] == ["both.all"]


RENDERED = [
    (INT, b"\xff\xff\xff\xff", "-1"),
    (Type("unsigned", "unsigned", 4), b"\xff\xff\xff\xff", "4294967295"),
    (Type("bool", "_Bool", 1), b"\x01", "true"),
    (Type("bool", "_Bool", 1), b"\x07", "7"),
    (CHAR, b"x", "120 'x'"),
    (CHAR, b"'", r"39 '\''"),
    (Type("float", "double", 8), b"\0\0\0\0\0\0\xf8\x3f", "1.5"),
    (Type("float", "long double", 16), bytes(16), bytes(16).hex(" ")),
    (Type("pointer", "int *", 8), bytes([0x10, 0, 0, 0, 0, 0, 0, 1]), "0x100000000000010"),
    (Type("enum", "enum e", 4, values=((5, "GREEN"), (-1, "BLUE"))), b"\x05\0\0\0", "GREEN"),
    (Type("enum", "enum e", 4, values=((5, "GREEN"), (-1, "BLUE"))), b"\xff\xff\xff\xff", "BLUE"),
    (Type("enum", "enum e", 4, values=((5, "GREEN"),)), b"\x06\0\0\0", "6"),
    (Type("bits", "int:4", 2, element=INT, count=4, shift=6), (0b1111 << 6).to_bytes(2, "little"), "-1"),
    (Type("array", "char[8]", 8, element=CHAR, count=8), b'a\x1b[0m"\0\0', r'"a\x1b[0m\""'),
    (Type("array", "char[4]", 4, element=CHAR, count=4), bytes(4), '""'),
    (INT, b"\x01", "01"),
    (Type("struct", "struct s", 3), b"\x01\x02\x03", "01 02 03"),
]


@pytest.mark.parametrize(("type_", "raw", "expected"), RENDERED)
def test_rendered(type_: Type, raw: bytes, expected: str) -> None:
    assert render(type_, raw) == expected


@given(st.sampled_from([type_ for type_, _, _ in RENDERED]), st.binary(max_size=80))
def test_nothing_that_a_terminal_would_obey_is_rendered(type_: Type, raw: bytes) -> None:
    assert all(32 <= ord(letter) < 127 or letter == "…" for letter in render(type_, raw))
