"""Names of code as people write them: C++ and Rust symbols demangled, and cut to what tells them apart.

None of them is escaped: they come from files of strangers.
"""

from __future__ import annotations

import re
from typing import Final

from forklore.abi.patterns import regex
from forklore.abi.text import as_text
from forklore.events import records as ev
from forklore.model.stacks import CodePlace

_MANGLED: Final = (b"_Z", b"_R")
"""How the Itanium C++ ABI and Rust begin a mangled name: what else there is does not load a demangler."""

_PART: Final = regex(rb"(?<=.)(?:\.(?:cold|part|constprop|isra|lto_priv|llvm)(?:\.\d+)*)+$", re.DOTALL)
"""What compilers append to the name of a function for a piece or a copy of it (gcc/cgraphclones.cc)."""

_CPP_RUN: Final = regex(
    rb"_ZNSt(?:6thread11_State_impl|13__future_base17_Async_state_impl).*6_M_runEv$", re.DOTALL
)
_RUST_RUN: Final = regex(
    rb"_R.*15spawn_unchecked.*9call_once6vtable|_ZN4core3ops8function6FnOnce\d+call_once\$u7b\$"
    rb"|_.*28_*rust_begin_short_backtrace", re.DOTALL
)
_CLOSURE: Final = b"_RNC"
"""A closure's name in Rust's newer mangling."""
_TUPLE: Final = "std::tuple<"
_SPAWNED: Final = regex(r"(?:spawn_unchecked_?(?:::\{closure_env#\d+\})?|rust_begin_short_backtrace::)<")
_ANY_CLOSURE: Final = "{{closure}}"


def function_name(place: CodePlace, line: ev.Line | None = None) -> str | None:
    """The function that the source shows there: the innermost inlined one, else the one that the symbol names.

    ``line``: the one of the place's lines that is meant, where that is not the innermost.
    """
    meant = line if line is not None else place.lines[0] if place.lines else None
    if place.function is not None and (line is None or _is_closure(line)) and (given := _given(place)):
        return given
    if meant is None or meant.function is None or (place.function is not None and meant is place.lines[-1]):
        # The symbol of C++ code has its class, which the name in the debug information lacks.
        return None if place.function is None else short_name(place.function)
    return short_name(ev.raw_bytes(meant.function))


def short_name(symbol: bytes) -> str:
    """A symbol without parameters and template arguments: ``std::thread::_M_start_thread``."""
    if symbol.startswith(_MANGLED):
        from forklore.decode.demangle import short

        return short(as_text(symbol))
    return as_text(_PART.sub(b"", symbol))


def whole_name(symbol: bytes) -> str:
    """A symbol as its language writes it, parameters included."""
    if symbol.startswith(_MANGLED):
        from forklore.decode.demangle import demangle

        return demangle(as_text(symbol))
    return as_text(_PART.sub(b"", symbol))


def part_of_function(symbol: bytes) -> str:
    """``.cold`` of ``main.cold``: which piece of the function an offset counts from. Empty for a whole function.

    Nor is it told of mangled names.
    """
    found = None if symbol.startswith(_MANGLED) else _PART.search(symbol)
    return "" if found is None else as_text(found[0])


def _is_closure(line: ev.Line) -> bool:
    name = b"" if line.function is None else ev.raw_bytes(line.function)
    return name == b"operator()" or b"closure" in name or name.startswith(_CLOSURE)


def _given(place: CodePlace) -> str:
    """What the program gave to std::thread, where the place is the function of that library's that calls it.

    Empty for all else. Where only a closure's or function's type is known, that.
    """
    symbol = place.function or b""
    if _CPP_RUN.match(symbol):
        found = whole_name(symbol)
        while (start := found.find(_TUPLE)) >= 0:  # std::async's is within that of its thread
            found = _first_argument(found[start + len(_TUPLE) :])
        return found
    if not _RUST_RUN.match(symbol):
        return ""
    # Rust's older mangling leaves out what a closure is for, which debug information has.
    told = (as_text(ev.raw_bytes(line.function)) for line in place.lines if line.function is not None)
    for name in (whole_name(symbol), *told):
        spawned = _SPAWNED.search(name)
        if spawned is not None:
            return _first_argument(name[spawned.end() :]).replace("{closure_env#", "{closure#")
    return _ANY_CLOSURE


def _first_argument(text: str) -> str:
    """What comes before the comma or bracket that ends the first template argument."""
    depth = 0
    for at, letter in enumerate(text):
        if depth == 0 and letter in ",>":
            return text[:at].strip()
        depth += (letter in "<({[") - (letter in ">)}]" and text[at - 1 : at] != "-")
    return text
