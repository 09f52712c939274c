"""Functions that a stack leads through and that are not on it: each was called, and went on to another by a jump.

A compiler ends a function with a jump where the last that it does is a call. On aarch64 and riscv64 posix_spawn and
posix_spawnp of glibc both do no more than jump to one function that has no name of its own outside of debug
information; on every architecture its system() jumps to do_system().
"""

from __future__ import annotations

from collections.abc import Callable

from forklore.abi.arch import Arch
from forklore.abi.units import Tid
from forklore.elf.cfi.call_instructions import called_at, jump_to
from forklore.elf.cfi.unwind import Walk
from forklore.events import records as ev
from forklore.sources.stacks.code import CodeSpace, TracedCode


class Jumps:
    """Finds such functions, once for each two frames that meet."""

    def __init__(self, code: TracedCode) -> None:
        self._code = code
        self._known: dict[tuple[int, int], int | None] = {}
        """By the places of a frame and its caller."""

    def of(
        self, arch: Arch, space: CodeSpace, tid: Tid, found: Walk, places: list[int],
        read: Callable[[int, int], bytes | None], t: int,
    ) -> list[ev.Jumped]:  # fmt: skip
        """Those of a held task's stack; ``places`` has the numbers of its frames' places."""
        frames = found.frames
        jumped = []
        for index in range(1, len(frames)):
            pc, how, _cfa = frames[index]
            if how == "pointer" or not found.called(index):
                continue  # a guess, or nothing that has called another
            pair = places[index - 1], places[index]
            if pair not in self._known:
                inner = frames[index - 1][0] - (index > 1)
                left = self._left(arch, space, tid, pc, inner, read)
                self._known[pair] = None if left is None else self._code.place(space, tid, left[0], t, returns=left[1])
            number = self._known[pair]
            if number is not None:
                jumped.append(ev.Jumped(index, number))
        return jumped

    def _left(
        self, arch: Arch, space: CodeSpace, tid: Tid, pc: int, inner: int, read: Callable[[int, int], bytes | None]
    ) -> tuple[int, bool] | None:
        """Behind the jump that leads to the inner function, or, False, where the function begins that was called."""
        target = called_at(arch, read, pc)
        here = self._code.extent(space, tid, inner)
        called = None if target is None else self._code.extent(space, tid, target)
        if here is None or called is None or called.start != target or called.start == here.start:
            return None
        if here.name.startswith(called.name + b".") or not called.name:  # foo.cold belongs to foo
            return None
        behind = jump_to(arch, read, target, called.size, here.start) if called.size else None
        return (target, False) if behind is None else (behind, True)
