"""Names for the bytes that a vfork child changed: which variables of its creator they are, and what these held."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from forklore.abi.units import Address, Tid
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
_AT_ONCE: Final = 4 * memory.PAGE_SIZE
_MOST: Final = 64
"""Names of one change."""


class Near:
    """The memory in which the variables lie that were changed: a copy, made while its task was held."""

    def __init__(self, tid: Tid, changes: Iterable[MemoryChange]) -> None:
        """``tid`` is held and has the new values. Of each change, in order of address, as much is kept as a variable
        can hold whose value is told."""
        self._starts: list[int] = []
        self._parts: list[bytes] = []
        end = 0
        for change in changes:
            if not change.where.harmless:
                start = max(end, change.start - _LARGEST)
                end = max(end, change.start + len(change.old) + _LARGEST)
                self._keep(tid, start, end)

    def _keep(self, tid: Tid, start: int, end: int) -> None:
        while start < end:
            found = memory.window(tid, Address(start), min(end - start, _AT_ONCE))
            if found and self._starts and self._starts[-1] + len(self._parts[-1]) == start:
                self._parts[-1] += found
            elif found:
                self._starts.append(start)
                self._parts.append(found)
            start += len(found)
            if len(found) < _AT_ONCE:  # nothing is mapped there: what is wanted can begin with the next page
                start = (start & -memory.PAGE_SIZE) + memory.PAGE_SIZE

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes of it; None where they were not kept."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        offset = address - self._starts[index]
        found = self._parts[index][offset : offset + size]
        return found if len(found) == size else None


class VariableNames:
    """Names by debug information, as far as the programs have any."""

    def __init__(self, code: TracedCode) -> None:
        self._code = code
        self._known: dict[int, Variables | None] = {}
        """By id of a Loaded, which the code keeps."""

    def of(
        self, tid: Tid, space: CodeSpace, frames: Frames, changes: Sequence[MemoryChange], now: Near
    ) -> list[list[ev.Variable]]:
        """For each change what it is, innermost frame first; ``tid`` has mapped the code, ``now`` is the memory behind
        them. Nobody needs to be held."""
        locals_ = list(self._locals(tid, space, frames, changes))
        return [self._one(tid, space, change, changes, locals_, now) for change in changes]

    def _one(
        self, tid: Tid, space: CodeSpace, change: MemoryChange, changes: Sequence[MemoryChange],
        locals_: Sequence[tuple[str, list[FoundVariable]]], now: Near,
    ) -> list[ev.Variable]:  # fmt: skip
        from forklore.elf.dwarf.variables import name_range

        if change.where.harmless:
            return []
        found: list[ev.Variable] = []
        for function, variables in locals_:
            named = name_range(variables, change.start, change.length)
            found += filter(None, (self._told(function, one, 0, changes, now) for one in named))
        for variables, bias in self._globals(tid, space, change):
            named = name_range(variables, change.start - bias, change.length)
            found += filter(None, (self._told("", one, bias, changes, now) for one in named))
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
        self, function: str, named: Named, bias: int, changes: Iterable[MemoryChange], now: Near
    ) -> ev.Variable | None:
        # The variable with both values; None where it lies in the range and stayed.
        from forklore.elf.dwarf.variables import render

        start, size = named.address + bias, named.size
        name = ev.text(os.fsencode(named.path))
        where = ev.text(os.fsencode(function)) if function else None
        if not 0 < size <= _LARGEST:
            return ev.Variable(name, where)
        known = [change for change in changes
                 if change.start < start + size and start < change.start + len(change.old)]  # fmt: skip
        if not known:
            return None
        new = now.read(start, size)
        if new is None:
            return ev.Variable(name, where)
        old = bytearray(new)
        for change in known:
            low, high = max(start, change.start), min(start + size, change.start + len(change.old))
            old[low - start : high - start] = change.old[low - change.start : high - change.start]
        if bytes(old) == new:
            return None
        shown = render(named.type, bytes(old)), render(named.type, new)
        if shown[0] == shown[1]:
            return ev.Variable(name, where)  # what changed is beyond what is shown
        return ev.Variable(name, where, *shown)
