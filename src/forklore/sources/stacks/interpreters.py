"""Where the symbols of a CPython are in a traced program, by its memory: no file is looked into for them.

What holds an interpreter exports its symbols, for the modules that it loads, and so they are mapped. Of one that does
not, as a program that is linked statically, the file tells. That is looked into when nobody is held: what it has is
known from the next call on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from forklore.abi.text import as_text
from forklore.abi.units import Tid
from forklore.events import records as ev
from forklore.linux.files.strangers_file import stamp_of_mapped
from forklore.sources.outbox import Outbox
from forklore.sources.stacks.code import CodeRegion, CodeSpace, TracedCode
from forklore.sources.stacks.copied import MappedFiles

if TYPE_CHECKING:
    from forklore.elf.image.symbols import Symbols

_LATE: Final = (
    "where this interpreter keeps its frames is not exported, and was found in its file after its first call: "
    "its frames are told from the next call on"
)


class Pythons:
    """Finds them, once a file."""

    def __init__(self, code: TracedCode, out: Outbox) -> None:
        self._code = code
        self._out = out
        self._known: dict[object, Mapping[bytes, int]] = {}
        """By the file, and from where on it is mapped as code: how far they lie from there."""

    def of(self, space: CodeSpace, region: CodeRegion, tid: Tid, t: int) -> dict[bytes, int]:
        """The run-time addresses of what :data:`forklore.elf.cpython.layout.SYMBOLS` names, as far as there is any, in
        a file that a held task has mapped; empty where it is no interpreter, or that is not known yet."""
        entry = region.entry
        stamp = stamp_of_mapped(tid, entry)
        key = entry.major, entry.minor, entry.inode, entry.path, entry.offset, stamp
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._in_memory(region, tid)
            files = MappedFiles(tid)
            if not known and files.take(entry):
                held = partial(self._not_now, key, files)
                self._out.later(partial(self._in_file, key, space, region, files, t), held=held)
            else:
                files.close()
        return {name: entry.start + distance for name, distance in known.items()}

    def _in_memory(self, region: CodeRegion, tid: Tid) -> Mapping[bytes, int]:
        from forklore.elf.image.symbols import Symbols

        found = self._code.in_memory(region, tid)
        if found.image is None:
            return {}
        return _distances(Symbols(found.image), region, found.code.bias)

    def _not_now(self, key: object, files: MappedFiles) -> None:
        # The next time.
        files.close()
        self._known.pop(key, None)

    def _in_file(self, key: object, space: CodeSpace, region: CodeRegion, files: MappedFiles, t: int) -> None:
        self._code.at_hand = files
        try:
            loaded = self._code.loaded(region, files.tid)
            if loaded.symbols is not None:
                self._known[key] = _distances(loaded.symbols, region, region.bias)
        finally:
            self._code.at_hand = None
            files.close()
        if self._known[key]:
            space.interpreter = None
            self._out(ev.Note(t=t, what=f"the Python frames in {as_text(region.entry.path)}", why=_LATE))


def _distances(symbols: Symbols, region: CodeRegion, bias: int) -> Mapping[bytes, int]:
    from forklore.elf.cpython.layout import SYMBOLS

    def find(name: bytes) -> int | None:
        found = symbols.find(name, own=True)
        return None if found is None else found.address + bias - region.entry.start

    runtime, *others = SYMBOLS
    first = find(runtime)
    if first is None:
        return {}
    return {runtime: first, **{name: at for name in others if (at := find(name)) is not None}}
