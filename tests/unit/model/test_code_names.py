"""Which function a place is said to be in, and how its name is written."""

from __future__ import annotations

import pytest

from forklore.events import records as ev
from forklore.model.names import function_name, short_name, whole_name
from forklore.model.stacks import Place


def place(symbol: bytes | None, *functions: str | None) -> Place:
    lines = tuple(ev.Line(function=function, file="a.c", line=1) for function in functions)
    return Place(number=1, module=None, address=16, function=symbol, start=0, lines=lines)


@pytest.mark.parametrize(
    ("symbol", "functions", "name"),
    [
        (None, (), None),
        (b"main", (), "main"),
        (b"pool_start", ("start",), "pool_start"),
        (None, ("start",), "start"),
        (b"start", ("grow", "start"), "grow"),
        (b"start", (None, "start"), "start"),
        (b"bad\xff", (), "bad\\xff"),
    ],
)
def test_the_innermost_function(symbol: bytes | None, functions: tuple[str, ...], name: str | None) -> None:
    assert function_name(place(symbol, *functions)) == name


def test_another_line_than_the_innermost() -> None:
    found = place(b"_main", "library", "own", "main")
    assert function_name(found, found.lines[1]) == "own"
    assert function_name(found, found.lines[2]) == "_main"


def test_names_that_are_not_mangled_stay() -> None:
    assert short_name(b"start_pool.constprop.0") == whole_name(b"start_pool.constprop.0") == "start_pool.constprop.0"


def test_mangled_names_are_for_people() -> None:
    pytest.importorskip("demangle", reason="C++ names need the optional library demangle")
    assert short_name(b"_ZN4Pool5startEi") == "Pool::start"
    assert whole_name(b"_ZN4Pool5startEi") == "Pool::start(int)"
    assert short_name(b"_Znonsense") == "_Znonsense"
