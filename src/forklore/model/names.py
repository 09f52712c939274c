"""Names of code as people write them: C++ and Rust symbols demangled, and cut to what tells them apart.

None of them is escaped: they come from files of strangers.
"""

from __future__ import annotations

from typing import Final

from forklore.events import records as ev
from forklore.model.stacks import Place

_MANGLED: Final = (b"_Z", b"_R")
"""How the Itanium C++ ABI and Rust begin a mangled name: what else there is does not load a demangler."""


def function_name(place: Place, line: ev.Line | None = None) -> str | None:
    """The function that the source shows there: the innermost inlined one, else the one that the symbol names.

    ``line``: the one of the place's lines that is meant, where that is not the innermost.
    """
    meant = line if line is not None else place.lines[0] if place.lines else None
    if meant is None or meant.function is None or (place.function is not None and meant is place.lines[-1]):
        # The symbol of C++ code has its class, which the name in the debug information lacks.
        return None if place.function is None else short_name(place.function)
    return short_name(ev.raw_bytes(meant.function))


def short_name(symbol: bytes) -> str:
    """A symbol without parameters and template arguments: ``std::thread::_M_start_thread``."""
    if symbol.startswith(_MANGLED):
        from forklore.decode.demangle import short

        return short(_text(symbol))
    return _text(symbol)


def whole_name(symbol: bytes) -> str:
    """A symbol as its language writes it, parameters included."""
    if symbol.startswith(_MANGLED):
        from forklore.decode.demangle import demangle

        return demangle(_text(symbol))
    return _text(symbol)


def _text(symbol: bytes) -> str:
    return symbol.decode(errors="backslashreplace")
