"""Which function a place is said to be in, and how its name is written."""

from __future__ import annotations

import pytest

from forklore.events import records as ev
from forklore.model.names import function_name, part_of_function, short_name, whole_name
from forklore.model.stacks import CodePlace


def place(symbol: bytes | None, *functions: str | None) -> CodePlace:
    lines = tuple(ev.Line(function=function, file="a.c", line=1) for function in functions)
    return CodePlace(number=1, module=None, address=16, function=symbol, start=0, lines=lines)


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


@pytest.mark.parametrize(
    ("symbol", "name", "part"),
    [
        (b"start_pool", "start_pool", ""),
        (b"main.cold", "main", ".cold"),
        (b"start_pool.constprop.0", "start_pool", ".constprop.0"),
        (b"grow.part.0.isra.12.cold", "grow", ".part.0.isra.12.cold"),
        (b"_Znonsense", "_Znonsense", ""),
        (b"main.run", "main.run", ""),  # Go's
        (b".cold", ".cold", ""),
        (b"main.colder", "main.colder", ""),
    ],
)
def test_a_piece_of_a_function_has_the_name_of_the_function(symbol: bytes, name: str, part: str) -> None:
    assert short_name(symbol) == whole_name(symbol) == name
    assert part_of_function(symbol) == part


def test_mangled_names_are_for_people() -> None:
    pytest.importorskip("demangle", reason="C++ names need the optional library demangle")
    assert short_name(b"_ZN4Pool5startEi") == "Pool::start"
    assert whole_name(b"_ZN4Pool5startEi") == "Pool::start(int)"
    assert short_name(b"_Znonsense") == "_Znonsense"


_STATE = "_ZNSt6thread11_State_implINS_8_InvokerISt5tupleIJ{}EEEEE6_M_runEv"
_ASYNC = (
    b"_ZNSt6thread11_State_implINS_8_InvokerISt5tupleIJMNSt13__future_base17_Async_state_implINS1_IS2_IJZ4mainEUlvE0_"
    b"EEEEiEEFvvEPS9_EEEEE6_M_runEv"
)
_SHIM = b"_ZN4core3ops8function6FnOnce40call_once$u7b$$u7b$vtable.shim$u7d$$u7d$17h08dbe5dc9ee7521fE"
_SHIM_V0 = (
    b"_RNSNvYNCINvNtNtCsjrHSEGnQ3l9_3std6thread9lifecycle15spawn_uncheckedNCNvCs7nvjGOHaedC_5makes13start_closure0uEs_"
    b"0INtNtNtCsgEmfK2I1SDS_4core3ops8function6FnOnceuE9call_once6vtableB17_"
)


@pytest.mark.parametrize(
    ("symbol", "functions", "name"),
    [
        (_STATE.format("Z4mainEUlvE_").encode(), (), "main::{lambda()#1}"),
        (_STATE.format("4Crew").encode(), (), "Crew"),
        (_STATE.format("M4CrewFvvEPS4_").encode(), (), "void (Crew::*)()"),
        (_ASYNC, (), "main::{lambda()#2}"),
        (_SHIM_V0, (), "makes::start_closure::{closure#0}"),
        (_SHIM, (), "{{closure}}"),
        (_SHIM, ("call_once<std::thread::x::spawn_unchecked::{closure_env#1}<a::f::{closure_env#2}, u64>, ()>",),
         "a::f::{closure#2}"),
        (_SHIM, ("call_once<std::thread::Builder::spawn_unchecked_::{closure_env#1}<fn(), ()>, ()>",), "fn()"),
        (_SHIM, ("call_once<std::rt::lang_start::{closure_env#0}<()>, ()>",), "{{closure}}"),
        (_SHIM, (None,), "{{closure}}"),
    ],
)  # fmt: skip
def test_what_calls_a_threads_closure_has_its_name(symbol: bytes, functions: tuple[str, ...], name: str) -> None:
    pytest.importorskip("demangle", reason="C++ and Rust names need the optional library demangle")
    assert function_name(place(symbol, *functions)) == name
