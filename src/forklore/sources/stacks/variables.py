"""Names for the bytes that a vfork child changed: which variables of its creator they are, and what these held."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from forklore.abi.units import Address, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux import memory
from forklore.linux.pages.vfork_memory import MemoryChange, MemoryPart
from forklore.sources.stacks.code import CodeSpace, Loaded, TracedCode

if TYPE_CHECKING:
    from forklore.elf.dwarf.variables import FoundVariable, Named, Variables

Frames = tuple[tuple[int, str, int], ...]
"""A walk's: pc, how it was found, canonical frame address."""

_LARGEST: Final = 256
"""Bytes of a variable whose value is told."""
_MOST: Final = 64
"""Names of one change."""


class VariableNames:
    """Names by debug information, as far as the programs have any."""

    def __init__(self, code: TracedCode) -> None:
        self._code = code
        self._known: dict[int, Variables | None] = {}
        """By id of a Loaded, which the code keeps."""

    def of(
        self, tid: Tid, space: CodeSpace, frames: Frames, changes: Sequence[MemoryChange]
    ) -> list[list[ev.Variable]]:
        """For each change what it is, innermost frame first; ``tid`` is held and has the new values."""
        locals_ = list(self._locals(tid, space, frames, changes))
        return [self._one(tid, space, change, changes, locals_) for change in changes]

    def _one(
        self, tid: Tid, space: CodeSpace, change: MemoryChange, changes: Sequence[MemoryChange],
        locals_: Sequence[tuple[str, list[FoundVariable]]],
    ) -> list[ev.Variable]:  # fmt: skip
        from forklore.elf.dwarf.variables import name_range

        if change.where.harmless:
            return []
        found: list[ev.Variable] = []
        for function, variables in locals_:
            named = name_range(variables, change.start, change.length)
            found += filter(None, (self._told(tid, function, one, 0, changes) for one in named))
        for variables, bias in self._globals(tid, space, change):
            named = name_range(variables, change.start - bias, change.length)
            found += filter(None, (self._told(tid, "", one, bias, changes) for one in named))
        return found[:_MOST]

    def _locals(
        self, tid: Tid, space: CodeSpace, frames: Frames, changes: Iterable[MemoryChange]
    ) -> Iterable[tuple[str, list[FoundVariable]]]:
        if not any(change.where is MemoryPart.LIVE_STACK for change in changes):
            return
        for number, (pc, _how, cfa) in enumerate(frames):
            region = space.find(pc)
            if region is None or not cfa:
                continue
            loaded = self._code.loaded(region, tid)
            variables = self._variables(loaded)
            if variables is None:
                continue
            address = pc - region.bias - (1 if number else 0)
            found = variables.locals_at(address, cfa, {})
            if found:
                symbol = None if loaded.symbols is None else loaded.symbols.at(address)
                yield "?" if symbol is None else os.fsdecode(symbol.name), found

    def _globals(self, tid: Tid, space: CodeSpace, change: MemoryChange) -> Iterable[tuple[list[FoundVariable], int]]:
        if change.where not in (MemoryPart.DATA, MemoryPart.BSS):
            return
        for region in space.regions:
            loaded = self._code.loaded(region, tid)
            address = change.start - region.bias
            image = loaded.image
            if image is None or not any(
                load.address <= address < load.address + load.memory_size for load in image.loads
            ):
                continue
            variables = self._variables(loaded)
            if variables is not None:
                yield variables.globals_at(address, change.length), region.bias
            return

    def _variables(self, loaded: Loaded) -> Variables | None:
        if id(loaded) not in self._known:
            image = loaded.described
            if image is None:
                self._known[id(loaded)] = None
            else:
                from forklore.elf.dwarf.variables import Variables

                self._known[id(loaded)] = Variables(image)
        return self._known[id(loaded)]

    def _told(
        self, tid: Tid, function: str, named: Named, bias: int, changes: Iterable[MemoryChange]
    ) -> ev.Variable | None:
        # The variable with both values; None where it lies in the range and stayed.
        from forklore.elf.dwarf.variables import render

        start, size = named.address + bias, named.size
        name = ev.text(os.fsencode(named.path))
        where = ev.text(os.fsencode(function)) if function else None
        new = memory.read(tid, Address(start), size) if 0 < size <= _LARGEST else Unavailable(0, "too large to show")
        if isinstance(new, Unavailable):
            return ev.Variable(name, where)
        old = bytearray(new)
        for change in changes:
            low, high = max(start, change.start), min(start + size, change.start + len(change.old))
            if low < high:
                old[low - start : high - start] = change.old[low - change.start : high - change.start]
        if bytes(old) == new:
            return None
        shown = render(named.type, bytes(old)), render(named.type, new)
        if shown[0] == shown[1]:
            return ev.Variable(name, where)  # what changed is beyond what is shown
        return ev.Variable(name, where, *shown)
