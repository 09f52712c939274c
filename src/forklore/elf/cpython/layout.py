"""Where a running CPython keeps its threads, frames and code objects: by what it publishes, else by its version.

3.13 and newer begin ``_PyRuntime`` with their own offsets (Include/internal/pycore_debug_offsets.h:
_Py_DebugOffsets), which hold for builds of any configuration. For 3.8 to 3.12, and for what is not published, the
offsets of the headers are taken (:mod:`forklore.elf.cpython._layouts`); those are of ordinary builds for x86_64.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from forklore.abi.units import Unavailable
from forklore.elf.cpython._layouts import LAYOUTS, PUBLISHED

Symbol = Callable[[bytes], int | None]
"""The run-time address of a symbol of the executable or of libpython; None: it has none of that name."""

Read = Callable[[int, int], bytes | None]
"""``size`` bytes, at most 4096, at an address of the traced program: all of them, or None. Asked for are whole pages
of that size: /proc/PID/mem gives them in half the time of process_vm_readv(2), for which the kernel first copies every
page that a forked child has in common with its parent (mm/gup.c: gup_must_unshare)."""

ABSENT: Final = -1
"""In the place of an offset that the version has not."""

COOKIE: Final = b"xdebugpy"

_word = struct.Struct("<Q").unpack_from


class CPythonLayout(Struct, frozen=True, kw_only=True):
    """Offsets in bytes, named ``STRUCT_FIELD``, of one version and kind of build."""

    minor: int
    free_threaded: bool
    """Built without the global interpreter lock."""

    interpreters_head: int
    """In _PyRuntime: the first PyInterpreterState."""
    current_thread: int = ABSENT
    """In _PyRuntime: the PyThreadState that holds the lock (up to 3.11)."""
    interpreter_next: int
    threads_head: int
    gil: int = ABSENT
    """In PyInterpreterState: its lock (from 3.12); ``gil_holder`` in that: the PyThreadState that had it last."""
    gil_holder: int = ABSENT

    thread_previous: int
    thread_next: int
    thread_interpreter: int
    thread_id: int
    """What pthread_self() gives in the thread."""
    native_thread_id: int = ABSENT
    """What gettid() gives in it."""
    thread_frame: int
    """Its innermost frame, or (3.11 and 3.12) its _PyCFrame."""
    cframe_frame: int = ABSENT
    """In _PyCFrame: the innermost frame."""

    frame_back: int
    frame_code: int
    frame_instruction: int
    """Up to 3.10 an index, from 3.11 an address."""
    frame_owner: int = ABSENT
    frame_bytecode_index: int = ABSENT
    """Which of the code object's copies of the bytecode it runs (3.14 without the lock)."""

    code_filename: int
    code_name: int
    """The qualified name, from 3.11."""
    code_lines: int
    code_first_line: int
    code_instructions: int = ABSENT
    """Where the bytecode begins, in the code object itself."""
    code_first_traceable: int = ABSENT
    code_bytecodes: int = ABSENT
    """The copies of the bytecode (3.14 without the lock)."""
    bytecodes_size: int = ABSENT
    bytecodes_entries: int = ABSENT

    frame_locals: int
    """Where the local variables begin; the first is the first parameter."""
    function_code: int
    method_function: int
    type_size: int
    """tp_basicsize; ``type_dict``: tp_dictoffset; ``type_keys``: the names of what its objects have in common."""
    type_dict: int
    type_keys: int = ABSENT
    dict_keys: int
    dict_values: int
    keys_index_bytes: int = ABSENT
    """In PyDictKeysObject, as the three behind it; before 3.11 that is in no header."""
    keys_kind: int = ABSENT
    keys_count: int = ABSENT
    keys_indices: int = ABSENT
    values_first: int = 0
    """In PyDictValues."""

    object_type: int
    type_name: int
    unicode_length: int
    unicode_state: int
    unicode_kind_shift: int
    unicode_compact_shift: int
    unicode_ascii_shift: int
    unicode_ascii_size: int
    """Where the characters of an ASCII string begin; ``unicode_compact_size``: those of another."""
    unicode_compact_size: int
    bytes_size: int
    """In any PyVarObject: ob_size."""
    bytes_data: int

    @property
    def language(self) -> str:
        """``CPython 3.11``; ``CPython 3.13t`` without the global interpreter lock."""
        return f"CPython 3.{self.minor}{'t' if self.free_threaded else ''}"


KNOWN: Final = tuple(sorted({int(name.strip("t").partition(".")[2]) for name in LAYOUTS}))
"""The minor versions of which there are layouts."""
_RANGE: Final = f"3.{KNOWN[0]} to 3.{KNOWN[-1]}"
_FIRST_PUBLISHED: Final = 13
_FIRST_PY_VERSION: Final = 11
_NEW_IN: Final = ((10, b"PyIter_Send"), (9, b"PyObject_CallNoArgs"), (8, b"PyCode_NewWithPosOnlyArgs"))
"""Functions of the C API by the version that brought them, before ``Py_Version`` did."""
SYMBOLS: Final = (b"_PyRuntime", b"PyCode_Type", b"Py_Version", *(name for _minor, name in _NEW_IN))
"""All that are asked for, here and in :mod:`forklore.elf.cpython.frames`; without the first there is no interpreter."""
_LARGEST: Final = 1 << 16
"""More than any published offset: those in PyInterpreterState, the largest, are below 10,000."""


def layout_of(minor: int, free_threaded: bool = False) -> CPythonLayout | Unavailable:
    """The layout of CPython 3.``minor`` by its headers."""
    table = LAYOUTS.get(f"3.{minor}{'t' if free_threaded else ''}")
    if table is None:
        return Unavailable(0, f"CPython 3.{minor} is not known here: {_RANGE} are")
    return msgspec.convert({"minor": minor, "free_threaded": free_threaded, **table}, CPythonLayout)


def choose(runtime: int, symbol: Symbol, read: Read, hint: str | None) -> CPythonLayout | Unavailable:
    """The layout of the interpreter with ``_PyRuntime`` at an address.

    Its version is what it publishes, else what ``Py_Version`` holds (3.11 and newer), else that of the newest function
    that it has, else the last ``3.N`` in ``hint`` (a path will do).
    """
    head = read(runtime, len(COOKIE) + 8)
    if head is None:
        return Unavailable(0, f"_PyRuntime at {runtime:#x} cannot be read")
    if head.startswith(COOKIE):
        return _published(runtime, read, head)
    minor = _version(symbol, read, hint)
    if isinstance(minor, Unavailable):
        return minor
    if minor >= _FIRST_PUBLISHED:
        return Unavailable(0, f"CPython 3.{minor} begins _PyRuntime with its offsets, and this one does not")
    return layout_of(minor)


def _published(runtime: int, read: Read, head: bytes) -> CPythonLayout | Unavailable:
    major, minor = head[len(COOKIE) + 3], head[len(COOKIE) + 2]
    positions = PUBLISHED.get(f"{major}.{minor}")
    if positions is None:
        return Unavailable(0, f"CPython {major}.{minor} publishes its offsets in a form not known here: {_RANGE} are")
    raw = read(runtime, positions["debug_size"])
    if raw is None:
        return Unavailable(0, f"_Py_DebugOffsets at {runtime:#x} cannot be read")
    layout = layout_of(minor, bool(_word(raw, positions["debug_free_threaded"])[0]))
    if isinstance(layout, Unavailable):
        return layout
    told = {name: _word(raw, at)[0] for name, at in positions.items() if not name.startswith("debug_")}
    wrong = [name for name, offset in told.items() if offset >= _LARGEST]
    if wrong:
        return Unavailable(0, f"_Py_DebugOffsets has {told[wrong[0]]:#x} for {wrong[0]}: not an offset")
    return msgspec.structs.replace(layout, **told)


def _version(symbol: Symbol, read: Read, hint: str | None) -> int | Unavailable:
    address = symbol(b"Py_Version")
    if address is not None:
        raw = read(address, 8)
        if raw is None:
            return Unavailable(0, f"Py_Version at {address:#x} cannot be read")
        if raw[3] != 3 or raw[2] < _FIRST_PY_VERSION:
            return Unavailable(0, f"Py_Version is {_word(raw)[0]:#x}: not of CPython 3.{_FIRST_PY_VERSION} or newer")
        return raw[2]
    for minor, function in _NEW_IN:
        if symbol(function) is not None:
            return minor
    found = re.findall(r"(?<![\d.])3\.(\d{1,3})(?!\d)", hint or "")
    if found:
        return int(found[-1])
    return Unavailable(0, f"the version of CPython could not be told from its symbols, nor from {hint or 'a path'}")
