"""Functions that a stack leads through and that are not on it: each was called, and went on to another by a jump.

A compiler ends a function with a jump where the last that it does is a call. On aarch64 and riscv64 posix_spawn and
posix_spawnp of glibc both do no more than jump to one function that has no name of its own outside of debug
information; on every architecture its system() jumps to do_system().
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.units import Tid
from forklore.elf.cfi.call_instructions import called_at, jump_to
from forklore.elf.cfi.unwind import Walk
from forklore.events import records as ev
from forklore.sources.stacks.code import CodeSpace, TracedCode


class Jump(Struct, frozen=True):
    """A function that went on to the one of a frame by a jump, as far as code and call-frame rules tell. Addresses are
    those of the process that it was met in first."""

    start: int
    """Where it begins."""
    inner: int
    """An address in the function that it went on to."""
    place: int
    """Behind its jump or, without ``returns``, where it begins."""
    returns: bool


Pair = tuple[int, int]
"""The places of a frame and its caller."""


class Jumps:
    """Finds such functions, once for each two frames that meet."""

    def __init__(self, code: TracedCode) -> None:
        self._code = code
        self._known: dict[Pair, Jump | None] = {}
        self._told: dict[Pair, int | None] = {}

    def of(
        self, arch: Arch, space: CodeSpace, tid: Tid, found: Walk, places: list[int],
        read: Callable[[int, int], bytes | None],
    ) -> list[tuple[int, Pair]]:  # fmt: skip
        """Between which frames of a held task's stack there are some; ``places`` has the numbers of its frames' places.

        The first number is the index of the caller's frame.
        """
        frames = found.frames
        jumps = []
        for index in range(1, len(frames)):
            pc, how, _cfa = frames[index]
            if how == "pointer" or not found.called(index):
                continue  # a guess, or nothing that has called another
            pair = places[index - 1], places[index]
            if pair not in self._known:
                inner = frames[index - 1][0] - (index > 1)
                self._known[pair] = self._left(arch, space, tid, pc, inner, read)
            if self._known[pair] is not None:
                jumps.append((index, pair))
        return jumps

    def told(self, space: CodeSpace, tid: Tid, jumps: list[tuple[int, Pair]], t: int) -> list[ev.Jumped]:
        """What is written of them, when nobody needs to be held: names tell what is one function in two parts."""
        found = []
        for index, pair in jumps:
            if pair not in self._told:
                self._told[pair] = self._place(space, tid, self._known[pair], t)
            place = self._told[pair]
            if place is not None:
                found.append(ev.Jumped(index, place))
        return found

    def _place(self, space: CodeSpace, tid: Tid, jump: Jump | None, t: int) -> int | None:
        name = b"" if jump is None else self._code.name(space, jump.start)
        if jump is None or not name or self._code.name(space, jump.inner).startswith(name + b"."):
            return None  # foo.cold belongs to foo
        return self._code.place(space, tid, jump.place, t, returns=jump.returns)

    def _left(
        self, arch: Arch, space: CodeSpace, tid: Tid, pc: int, inner: int, read: Callable[[int, int], bytes | None]
    ) -> Jump | None:
        target = called_at(arch, read, pc)
        here = self._code.extent(space, tid, inner)
        called = None if target is None else self._code.extent(space, tid, target)
        if target is None or here is None or called is None or called.start != target or called.start == here.start:
            return None
        behind = jump_to(arch, read, target, called.size, here.start) if called.size else None
        place, returns = (target, False) if behind is None else (behind, True)
        return Jump(target, inner, place, returns)
