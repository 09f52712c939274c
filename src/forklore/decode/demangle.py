"""C++ and Rust symbol names in the form their authors wrote.

By the library ``demangle``: pure Python, so a name made to overflow a stack or to double at each step of its
back-references ends in a limit that the library checks, where ``__cxa_demangle`` and LLVM's demangler take the tracer
down with them; it reads both Rust schemes and gives the parts of a name, which the one-line view needs. Without it
names stay as the file has them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_PREFIXES: Final = ("_Z", "_R")
_LONGEST: Final = 1 << 14
"""Of a mangled name, in characters: the longest in Chromium, LLVM and rustc are a quarter of it."""

_LANGUAGES: Final = ("itanium", "rust")
_STYLE: Final = "gnu"
_CACHED: Final = 4096


def demangle(name: str) -> str:
    """The name as ``c++filt`` spells it; ``name`` itself if it is not mangled, malformed, or past all bounds."""
    return _demangled(name) if _mangled(name) else name


def short(name: str) -> str:
    """The name for a one-line view: no return type, parameters, template arguments or clone suffix.

    ``std::thread::_M_start_thread``; a Rust method of a trait is under the type that it is for. Never empty.
    """
    return (_shortened(name) if _mangled(name) else name) or name


def _mangled(name: str) -> bool:
    return name.startswith(_PREFIXES) and len(name) <= _LONGEST


@lru_cache(_CACHED)
def _demangled(name: str) -> str:
    try:
        from demangle import demangle as decode
    except ImportError:
        return name
    return str(decode(name, language=_LANGUAGES, style=_STYLE))


@lru_cache(_CACHED)
def _shortened(name: str) -> str:
    try:
        from demangle import DemanglingError, signature
    except ImportError:
        return name
    try:
        parts = signature(name, language=_LANGUAGES, style=_STYLE)
    except DemanglingError:
        return name
    qualified = str(parts.qualified_name)
    return _of_implementation(qualified) if parts.language == "rust" else without_arguments(qualified)


def _of_implementation(name: str) -> str:
    """Rust's ``<Type as Trait>::method`` and ``<Type>::method`` as ``Type::method``."""
    for _ in range(_LONGEST):
        if not name.startswith("<"):
            break
        end = _closing(name, 0)
        if end is None:
            return name
        name = name[1:_as(name, end)] + name[end + 1:]
    return without_arguments(name).replace("::::", "::").removesuffix("::")


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for at in range(start, len(text)):
        if text[at] == "<":
            depth += 1
        elif text[at] == ">" and text[at - 1] not in "-=":
            depth -= 1
            if depth == 0:
                return at
    return None


def _as(text: str, end: int) -> int:
    """Where the type ends in ``<Type as Trait>``, which closes at ``end``."""
    at = text.find(" as ", 0, end)
    while at >= 0:
        if text.count("<", 0, at) - text.count(">", 0, at) + text.count("->", 0, at) == 1:
            return at
        at = text.find(" as ", at + 1, end)
    return end


def without_arguments(name: str) -> str:
    """A qualified C++ name without what stands in angle brackets; ``operator<``, ``operator->`` and theirs kept."""
    kept: list[str] = []
    depth = at = 0
    while at < len(name):
        symbol = _operator(name, at)
        if symbol:
            if depth == 0:
                kept.append(symbol)
            at += len(symbol)
            continue
        letter = name[at]
        if letter == "<":
            depth += 1
        elif letter == ">" and depth:
            depth -= 1
        elif depth == 0:
            kept.append(letter)
        at += 1
    return "".join(kept).rstrip()


def _operator(name: str, at: int) -> str:
    if not name.startswith("operator", at) or (at and (name[at - 1].isalnum() or name[at - 1] == "_")):
        return ""
    for symbol in ("<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "<", ">"):
        if name.startswith(symbol, at + len("operator")):
            return "operator" + symbol
    return ""
