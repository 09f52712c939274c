"""The calls that change what an existing task shares: unshare, setns, close_range and setsid; and ptrace, which gives a
task its tracer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.flags import (
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    CLOSE_RANGE,
    CLOSE_RANGE_UNSHARE,
    SETNS,
    UNSHARE,
    UNSHARE_EMPTY_MNTNS,
)
from forklore.abi.ptrace import ASKING, Request
from forklore.abi.units import Fd, signed
from forklore.decode.creation import call_name
from forklore.decode.flagset import UNKNOWN, FlagSet, flag_set

_UINT: Final = 0xFFFF_FFFF
_IMPLIES: Final = (
    (UNSHARE_EMPTY_MNTNS, CLONE_NEWNS),
    (CLONE_NEWUSER, CLONE_THREAD | CLONE_FS),
    (CLONE_VM, CLONE_SIGHAND),
    (CLONE_SIGHAND, CLONE_THREAD),
    (CLONE_NEWNS, CLONE_FS),
)
"""What unshare adds to what it was given (kernel/fork.c: ksys_unshare), each rule after those that feed
it."""


class Implication(Struct, frozen=True):
    """unshare was given ``flag`` and so also does ``adds``."""

    flag: str
    adds: tuple[str, ...]


class Unshare(Struct, frozen=True):
    """unshare(2). ``effective`` has the flags that the kernel adds; ``implied`` says which added what."""

    arch: Arch
    nr: int | None
    args: tuple[int | None, ...]
    flags: FlagSet
    effective: FlagSet
    implied: tuple[Implication, ...]

    def text(self, *, abbreviate: bool = False) -> str:
        """One line such as ``unshare(CLONE_NEWUSER|CLONE_NEWNET)``."""
        return f"unshare({self.flags.text(abbreviate=abbreviate)})"


class Setns(Struct, frozen=True):
    """setns(2). ``flags`` is its nstype: for a namespace's descriptor one type or 0, for a pidfd any of
    them."""

    arch: Arch
    nr: int | None
    args: tuple[int | None, ...]
    fd: Fd | None
    flags: FlagSet

    def text(self, *, abbreviate: bool = False) -> str:
        """One line such as ``setns(3, CLONE_NEWNET)``."""
        return f"setns({_number(self.fd)}, {self.flags.text(abbreviate=abbreviate)})"


class CloseRange(Struct, frozen=True):
    """close_range(2). ``first`` and ``last`` are unsigned; with CLOSE_RANGE_UNSHARE the table is made
    private first."""

    arch: Arch
    nr: int | None
    args: tuple[int | None, ...]
    first: int | None
    last: int | None
    flags: FlagSet

    @property
    def unshares(self) -> bool | None:
        """Whether a shared descriptor table ends with this call; None where the flags are not known."""
        return self.flags.has(CLOSE_RANGE_UNSHARE)

    def text(self, *, abbreviate: bool = False) -> str:
        """One line such as ``close_range(3, ~0, CLOSE_RANGE_UNSHARE)``."""
        last = "~0" if self.last == _UINT else _number(self.last)
        return f"close_range({_number(self.first)}, {last}, {self.flags.text(abbreviate=abbreviate)})"


class Setsid(Struct, frozen=True):
    """setsid(2): a new session and process group, without a controlling terminal."""

    arch: Arch
    nr: int | None
    args: tuple[int | None, ...]

    def text(self, *, abbreviate: bool = False) -> str:
        """``setsid()``."""
        return "setsid()"


class Ptrace(Struct, frozen=True):
    """ptrace(2), as far as it gives a task a tracer. ``pid`` is whom it is about; 0: the caller, or not known."""

    arch: Arch
    nr: int | None
    args: tuple[int | None, ...]
    request: int | None
    pid: int

    def text(self, *, abbreviate: bool = False) -> str:
        """``ptrace(PTRACE_TRACEME)``, ``ptrace(PTRACE_SEIZE, 4711)``."""
        known = self.request in ASKING
        name = f"PTRACE_{Request(self.request).name}" if known else _number(self.request)  # type: ignore[arg-type]
        return f"ptrace({name})" if self.request == Request.TRACEME else f"ptrace({name}, {self.pid or '?'})"


class UnknownCall(Struct, frozen=True):
    """A call that is none of these five, or whose number is not known."""

    arch: Arch
    nr: int | None
    args: tuple[int | None, ...]

    def text(self, *, abbreviate: bool = False) -> str:
        """The call's name where its number has one, with raw arguments."""
        name = call_name(self.arch, self.nr) or ("?" if self.nr is None else f"syscall_{self.nr:#x}")
        return f"{name}({', '.join('?' if a is None else hex(a) for a in self.args)})"


Call = Unshare | Setns | CloseRange | Setsid | Ptrace | UnknownCall
CALLS: Final[dict[type, str]] = {
    Unshare: "unshare", Setns: "setns", CloseRange: "close_range", Setsid: "setsid", Ptrace: "ptrace",
}  # fmt: skip
"""The name of each."""


def decode_call(arch: Arch, nr: int | None, args: Sequence[int | None]) -> Call:
    """Decode one of the five calls; anything else is an :class:`UnknownCall`. Never raises for any
    numbers."""
    given = tuple(args)
    name = call_name(arch, nr)
    if name == "unshare":
        return _unshare(arch, nr, given)
    if name == "setns":
        nstype = _word(given, 1)
        flags = UNKNOWN if nstype is None else flag_set(SETNS, nstype)
        fd = _word(given, 0)
        return Setns(arch, nr, given, None if fd is None else Fd(signed(fd)), flags)
    if name == "close_range":
        return CloseRange(arch, nr, given, _word(given, 0), _word(given, 1), _close_flags(_word(given, 2)))
    if name == "setsid":
        return Setsid(arch, nr, given)
    if name == "ptrace":
        request, pid = _word(given, 0), _word(given, 1)
        about = 0 if request == Request.TRACEME or pid is None else signed(pid)
        return Ptrace(arch, nr, given, request, about)
    return UnknownCall(arch, nr, given)


def _unshare(arch: Arch, nr: int | None, args: tuple[int | None, ...]) -> Unshare:
    word = args[0] if args else None
    if word is None:
        return Unshare(arch, nr, args, UNKNOWN, UNKNOWN, ())
    raw = word & ((1 << (8 * arch.word)) - 1)
    effective, implied = raw, []
    for flag, adds in _IMPLIES:
        if effective & flag and adds & ~effective:
            implied.append(Implication(_name(flag), flag_set(UNSHARE, adds & ~effective).names))
            effective |= adds
    return Unshare(arch, nr, args, flag_set(UNSHARE, raw), flag_set(UNSHARE, effective), tuple(implied))


def _close_flags(raw: int | None) -> FlagSet:
    if raw is None:
        return UNKNOWN
    flags, unknown = CLOSE_RANGE.split(raw)
    return FlagSet(raw, tuple(flag.name for flag in flags), unknown)


def _name(flag: int) -> str:
    return flag_set(UNSHARE, flag).names[0]


def _word(args: tuple[int | None, ...], index: int) -> int | None:
    """An int argument: the kernel looks at its low 32 bits."""
    value = args[index] if index < len(args) else None
    return None if value is None else value & _UINT


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)
