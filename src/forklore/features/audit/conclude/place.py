"""Where the addresses of a creation call lie: in which thread's descriptor, on which stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.units import Address
from forklore.decode.creation import Creation
from forklore.features.audit.record import Happening, ProbeSaid, ProbeWord, SeenCall
from forklore.features.audit.result import ChildStack

_NEW: Final = 4096
"""How far behind a new thread's pointer an address counts as in its struct pthread: the largest has 2.5 KiB."""
_CALLER: Final = 1024
"""The same for the caller's, where the tid's place is not known. Where it is, nothing else is ever meant: musl keeps
its own data behind the main thread's descriptor, in a static program a lock that threads are given as child_tid."""
_NEAR: Final = 1 << 18
"""How far from the stack pointer an address counts as on that stack."""
_MADV_GUARD_INSTALL: Final = 102


class Surroundings(Struct, frozen=True):
    """What addresses are measured against: the thread descriptors (pd) of the caller and the new thread."""

    caller: int
    tid_offset: int | None
    new: int | None
    sp: int | None

    @staticmethod
    def of(
        log: Sequence[Happening], begin: int, at: int, decoded: Creation, self_: tuple[int, int, int] | None
    ) -> Surroundings:
        """At the call at ``at`` of a log; ``self_`` is what the child said of pthread_self."""
        start, call = log[begin], log[at]
        assert isinstance(start, ProbeSaid)
        assert isinstance(call, SeenCall)
        bits = (1 << 8 * call.arch.word) - 1
        new = _thread_pointer(call, decoded)
        if decoded.is_thread and self_ is not None:
            new = self_[0] & bits
        offset = start.values[1]
        return Surroundings(start.values[0] & bits, offset if offset >= 0 else None, new, call.sp)

    def place(self, address: int | None) -> str | None:
        """The address by what it is in, such as ``new pd+720 (tid)``."""
        if address is None:
            return None
        if self.new is not None and abs(address - self.new) < _NEW:
            return self._within("new pd", address - self.new)
        offset = address - self.caller
        if offset in (0, self.tid_offset) or (self.tid_offset is None and abs(offset) < _CALLER):
            return self._within("caller's pd", offset)
        if self.sp is not None and abs(address - self.sp) < _NEAR:
            return "the caller's stack"
        return "NULL" if address == 0 else "elsewhere"

    def _within(self, name: str, offset: int) -> str:
        if offset == 0:
            return name
        return f"{name}{offset:+d}" + (" (tid)" if offset == self.tid_offset else "")

    def tls(self, call: SeenCall, decoded: Creation) -> str | None:
        """Where the new thread pointer points; i386 gives it in a struct user_desc."""
        if decoded.tls is None:
            return None
        if call.arch is Arch.I386:
            base = _thread_pointer(call, decoded)
            return f"user_desc of {self.place(base) or 'an unknown base'}"
        return self.place(decoded.tls)


def _thread_pointer(call: SeenCall, decoded: Creation) -> int | None:
    if decoded.tls is None:
        return None
    if call.arch is not Arch.I386:
        return decoded.tls
    return int.from_bytes(call.second[4:8], "little") if call.second and len(call.second) >= 8 else None


def stack_of(log: Sequence[Happening], call: SeenCall, decoded: Creation) -> ChildStack:
    """The child's stack, by what the creator's earlier calls say of the memory that it lies in."""
    if decoded.stack is None:
        borrowed = "CLONE_VM" in decoded.flags.names
        return ChildStack(whose="the caller's, borrowed" if borrowed else "its own copy")
    inside = decoded.stack if decoded.call == "clone3" else Address(decoded.stack - 1)
    for happening in log:
        if isinstance(happening, ProbeSaid) and happening.word is ProbeWord.STACK:
            start, size = happening.values[0] & ((1 << 8 * call.arch.word) - 1), happening.values[1]
            if start <= inside < start + size:
                return ChildStack(whose="given by the program", size=size)
    mapped = _mapping(log, call, inside)
    if mapped is not None:
        return mapped
    if call.sp is not None and abs(inside - call.sp) < _NEAR:
        return ChildStack(whose="within the caller's", size=decoded.stack_size)
    return ChildStack(whose="elsewhere", size=decoded.stack_size)


def _mapping(log: Sequence[Happening], call: SeenCall, inside: int) -> ChildStack | None:
    own = [h for h in log if isinstance(h, SeenCall) and h.task == call.task]
    for index in range(len(own) - 1, -1, -1):
        made = own[index]
        if made.name not in ("mmap", "mmap2") or made.result is None:
            continue
        start = made.result & ((1 << 8 * call.arch.word) - 1)
        length = made.words[1]
        if start <= inside < start + length:
            guard, how = _guard(own[index:], start, length)
            return ChildStack(whose="mapped", size=length, guard=guard, guard_by=how)
    return None


def _guard(own: Sequence[SeenCall], start: int, length: int) -> tuple[int | None, str | None]:
    reserved = own[0].words[2] == 0  # PROT_NONE, of which a part is opened
    for call in own[1:]:
        at, size = call.words[0], call.words[1]
        if not start <= at < start + length or call.result != 0:
            continue
        if call.name == "madvise" and call.words[2] == _MADV_GUARD_INSTALL:
            return size, "MADV_GUARD_INSTALL"
        if call.name == "mprotect":
            return (at - start if reserved else size), "mprotect"
    return None, None
