"""What a thread of a language's standard library runs, behind the function that the library gave to pthread_create.

Both libraries keep what the program gave them in an object that says by a table of functions how to call it, and each
reading is confirmed by the name of the function found there: libstdc++'s ``std::thread::_State`` by the third function
of its vtable, Rust's ``Box<dyn FnOnce()>`` by the fourth word of its vtable.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import Struct

from forklore.events import records as ev

Read = Callable[[int, int], bytes | None]

_LIBSTDCPP: Final = b"libstdc++.so"
_NATIVE: Final = b"execute_native_thread_routine"
_RUN: Final = b"6_M_runEv"
_STATE: Final = b"_ZNSt6thread11_State_impl"
_POINTER: Final = b"St5tupleIJPF"
_TUPLE: Final = "std::tuple<"
_SIZES: Final = {
    "bool": 1, "char": 1, "signed char": 1, "unsigned char": 1, "short": 2, "unsigned short": 2, "int": 4,
    "unsigned int": 4, "float": 4, "long long": 8, "unsigned long long": 8, "double": 8,
}  # fmt: skip
_TRAMPOLINE: Final = (b"3std3sys", b"12thread_start")
_CALL_ONCE: Final = b"call_once"
_LARGEST: Final = 1 << 30
_REMEMBERED: Final = 256
_WORDS: Final = {4: struct.Struct("<4I"), 8: struct.Struct("<4Q")}


class Function(Struct, frozen=True):
    """The code at an address: its symbol and the file that it is in, both None or empty where not known."""

    symbol: bytes | None
    path: bytes = b""


Named = Callable[[int], Function | None]
"""What code is at an address of the creator's; None where no executable mapping is."""


def given(runs: ev.Runs, word: int, read: Read, named: Named) -> ev.Runs:
    """``runs`` with the routine that the program gave to its language's library, where that can be told.

    ``word`` is the size of a pointer. ``how`` is ``c++`` or ``rust`` then, the routine's argument the object that
    holds what it works on. Reads the creator's memory up to four times, for threads of these libraries only.
    """
    routine, argument = runs.routine, runs.routine_arg
    if routine is None or argument is None or word not in _WORDS:
        return runs
    outer = named(routine)
    if outer is None:
        return runs
    symbol = outer.symbol or b""
    if _LIBSTDCPP in outer.path or symbol.startswith(_NATIVE):
        found = _cpp(argument, word, read, named)
        return runs if found is None else msgspec.structs.replace(runs, how="c++", routine=found)
    if all(part in symbol for part in _TRAMPOLINE):
        behind = _rust(argument, word, read, named)
        if behind is not None:
            return msgspec.structs.replace(runs, how="rust", routine=behind[0], routine_arg=behind[1])
    return runs


def _four(at: int, word: int, read: Read) -> tuple[int, ...] | None:
    raw = read(at, 4 * word)
    return None if raw is None or len(raw) < 4 * word else _WORDS[word].unpack(raw)


def _rust(argument: int, word: int, read: Read, named: Named) -> tuple[int, int] | None:
    # The trampoline's argument is a Box of the Box<dyn FnOnce()>, since 1.91 with the thread's handle beside it, in an
    # order that is the compiler's choice (library/std/src/sys/thread/unix.rs: Thread::new).
    held = _four(argument, word, read)
    if held is None:
        return None
    for data, table in pairwise(held[:3]):
        found = _four(table, word, read)
        if found is None:
            continue
        drop, size, align, call = found
        shaped = 0 < align <= 4096 and align & (align - 1) == 0 and size < _LARGEST and size % align == 0
        if not shaped or (drop and named(drop) is None):
            continue
        called = named(call)
        if called is not None and _CALL_ONCE in (called.symbol or b""):
            return call, data
    return None


def _cpp(argument: int, word: int, read: Read, named: Named) -> int | None:
    # std::thread::_State_impl: vtable of two destructors and _M_run(), then the tuple of what is called and its
    # arguments, the last one first (libstdc++ include/bits/std_thread.h, include/std/tuple: _Tuple_impl).
    state = _four(argument, word, read)
    table = None if state is None else _four(state[0], word, read)
    if state is None or table is None:
        return None
    run = named(table[2])
    if run is None or run.symbol is None or not run.symbol.endswith(_RUN):
        return None
    if run.symbol.startswith(_STATE) and _POINTER in run.symbol:
        offset = _pointer_offset(run.symbol.decode("ascii", "replace"), word)
        raw = None if offset is None else read(argument + offset, word)
        if raw is not None and len(raw) == word:
            pointer = int.from_bytes(raw, "little")
            if named(pointer) is not None:
                return pointer
    return table[2]


@lru_cache(_REMEMBERED)
def _pointer_offset(symbol: str, word: int) -> int | None:
    """Where a thread's state keeps the pointer to the function that it calls; None where its arguments' sizes are
    not known, or it calls something else.
    """
    from forklore.decode.demangle import demangle

    first, *others = _arguments(demangle(symbol)) or [""]
    if "(*)(" not in first:
        return None
    offset = word
    for kind in reversed(others):
        size = word if kind.endswith("*") or kind in ("long", "unsigned long") else _SIZES.get(kind)
        if size is None:
            return None
        offset = -(-offset // size) * size + size
    return -(-offset // word) * word


def _arguments(name: str) -> list[str]:
    """The template arguments of the first std::tuple in a name."""
    start = name.find(_TUPLE)
    if start < 0:
        return []
    depth, found, begin = 0, [], start + len(_TUPLE)
    for at in range(begin, len(name)):
        letter = name[at]
        if depth == 0 and letter in ",>":
            found.append(name[begin:at].strip())
            begin = at + 1
            if letter == ">":
                return found
        depth += (letter in "<(") - (letter in ">)")
    return []
