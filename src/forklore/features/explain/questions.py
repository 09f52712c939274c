"""What people type when they ask about a call: numbers, flag names, call names, clone_args in hexadecimal,
errnos."""

from __future__ import annotations

import difflib
import re
from typing import Final, Literal, TypeGuard

from msgspec import Struct

from forklore.abi import flags as f
from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.errors import errno_number
from forklore.abi.signals import CSIGNAL, SIGRTMAX, signal_number
from forklore.decode.calls import Call, decode_call
from forklore.decode.creation import Creation, decode_creation, from_flags
from forklore.decode.flagset import PREFIX, VOCABULARIES
from forklore.features.explain.well_known import WELL_KNOWN

CallName = Literal["clone", "clone3", "unshare", "setns"]
CALL_NAMES: Final[tuple[CallName, ...]] = ("clone", "clone3", "unshare", "setns")
_LOW32: Final = 0xFFFF_FFFF
_LOW64: Final = 0xFFFF_FFFF_FFFF_FFFF
_SEPARATORS: Final = re.compile(r"\s*[|,+\s]\s*")
_WITH_CALL: Final = re.compile(r"(\w+)\s*(?::\s*(.*)|\(\s*(.*?)\s*\))", re.DOTALL)
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*")


class AskError(ValueError):
    """What was asked cannot be understood; the message names the part and says what would be."""


class Word(Struct, frozen=True):
    """One thing that was asked: ``call`` decoded. ``title`` is how a table names it, ``given`` how it was
    asked."""

    given: str
    title: str
    call: Creation | Call
    note: str | None = None
    errno: int | None = None
    """What a pasted line failed with, …"""
    target: str | None = None
    """… what it was about, for setns, …"""
    returned: int | None = None
    """… and what it returned if it did not fail."""
    injected: bool = False
    """strace had it return that."""


def errno_of(text: str) -> int | None:
    """The error number of a name such as ``EINVAL``, else None."""
    return errno_number(text.upper()) if re.fullmatch(r"[eE][a-zA-Z0-9_]+", text) else None


def read(given: str, call: CallName | None, arch: Arch) -> Word:
    """Read one thing: a number, names of flags, ``unshare:FLAGS``, or a well-known call.

    ``call`` is the vocabulary that was asked for; None takes clone where it fits.

    :raises AskError: for what is none of these.
    """
    text = given.strip()
    known = WELL_KNOWN.get(text) or WELL_KNOWN.get(text.lower())
    if known is not None and not (call and text in CALL_NAMES):
        return Word(given, known.name, known.creation(arch), known.says)
    explicit = _WITH_CALL.fullmatch(text)
    if explicit:
        name = explicit[1].lower()
        if not _is_call(name):
            raise AskError(f"{given!r}: {explicit[1]!r} is no call with flags; {_one_of(CALL_NAMES)}")
        call, text = name, explicit[2] or explicit[3] or "0"
    raw, signal, number = _flags(text, call)
    if not 0 <= raw <= _LOW64:
        raise AskError(f"{given!r}: {raw:#x} does not fit in 64 bits")
    chosen = call or _vocabulary(raw, signal, text)
    return Word(given, given if explicit else chosen, _decode(chosen, raw, signal, number, arch, given))


def read_struct(text: str, arch: Arch) -> Word:
    """Read a clone_args given in hexadecimal, with or without white space, ``0x`` and ``\\x``.

    :raises AskError: for what is not whole bytes.
    """
    digits = re.sub(r"0x|\\x|[\s,:_]", "", text)
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        wrong = next((c for c in digits if c not in "0123456789abcdefABCDEF"), None)
        why = f"{wrong!r} is no hexadecimal digit" if wrong else f"{len(digits)} digits are not whole bytes"
        raise AskError(
            f"clone3 {text[:40]!r}: {why}; give the struct as it lies in memory, two digits a byte"
        ) from None
    if not data:
        raise AskError("clone3: no bytes; give the struct as it lies in memory, two digits a byte")
    nr = syscalls.number(arch, "clone3")
    return Word(text, "clone3", decode_creation(arch, nr, (None, len(data)), data))


def is_struct(text: str) -> bool:
    """Whether ``text``, after the word clone3, is meant as bytes: hexadecimal, and two of them at least."""
    return re.fullmatch(r"(?:0x|\\x)?[0-9a-fA-F\s,:_]{16,}|[0-9a-fA-F]{4,}", text) is not None


def other_readings(word: Word) -> tuple[tuple[CallName, Creation | Call], ...]:
    """What the same bits mean to the other calls, where that differs."""
    raw = _whole_word(word.call)
    if raw is None:
        return ()
    mine = _call_name(word.call)
    base = None if mine is None else _meaning(mine, raw)
    other = []
    for name in CALL_NAMES:
        if name == mine or (name == "setns" and not raw & VOCABULARIES["setns"].mask):
            continue
        if _meaning(name, raw) != base:
            other.append((name, _decode(name, raw, 0, True, word.call.arch, word.given)))
    return tuple(other)


def _whole_word(call: Creation | Call) -> int | None:
    if isinstance(call, Creation):
        if call.flags.raw is None or call.call not in ("clone", "clone3"):
            return None
        return call.flags.raw | ((call.exit_signal or 0) & CSIGNAL if call.call == "clone" else 0)
    flags = getattr(call, "flags", None)
    return None if flags is None else flags.raw


def _call_name(call: Creation | Call) -> CallName | None:
    name = call.call if isinstance(call, Creation) else type(call).__name__.lower()
    return name if _is_call(name) else None


def _meaning(name: CallName, raw: int) -> tuple[object, ...]:
    """What distinguishes a reading: the flags named, the bits not named, the signal."""
    if name == "clone":
        flags, unknown = f.CLONE.split(raw & _LOW32 & ~CSIGNAL)
        return tuple(x.name for x in flags), unknown, raw & CSIGNAL
    flags, unknown = VOCABULARIES[name].split(raw)
    return tuple(x.name for x in flags), unknown, 0


def _is_call(name: str) -> TypeGuard[CallName]:
    return name in CALL_NAMES


def _decode(call: CallName, raw: int, signal: int, number: bool, arch: Arch, given: str) -> Creation | Call:
    if call == "clone":
        if raw > _LOW32 and not number:
            names = [x.name for x in f.CLONE3.split(raw & ~_LOW32)[0]]
            raise AskError(f"{given!r}: clone(2) has no {'|'.join(names)}, which clone3 alone takes")
        nr = syscalls.number(arch, "clone")
        return decode_creation(arch, nr, (raw | signal,))
    if call == "clone3":
        return from_flags(arch, "clone3", raw, signal)
    if signal:
        raise AskError(f"{given!r}: {call} takes no signal")
    args = (raw,) if call == "unshare" else (None, raw)
    return decode_call(arch, syscalls.number(arch, call), args)


def _vocabulary(raw: int, signal: int, text: str) -> CallName:
    if "UNSHARE_" in text.upper():
        return "unshare"
    low = (raw | signal) & CSIGNAL
    return "clone" if raw <= _LOW32 and low <= SIGRTMAX else "clone3"


def _flags(text: str, call: CallName | None) -> tuple[int, int, bool]:
    """The flags, the signal named, and whether all was numbers."""
    raw, signal, numbers = 0, 0, True
    for part in filter(None, _SEPARATORS.split(text.strip())):
        value = _number(part)
        if value is not None:
            raw |= value
            continue
        numbers = False
        flag = _flag(part, call)
        if flag is not None:
            raw |= flag
            continue
        sent = _signal(part)
        if sent is None:
            raise AskError(_no_such(part, call))
        if signal:
            raise AskError(f"{part!r}: a call has one exit signal, and one was named before")
        signal = sent
    return raw, signal, numbers


def _number(part: str) -> int | None:
    if not _NUMBER.fullmatch(part):
        return None
    try:
        return int(part, 0)
    except ValueError:
        raise AskError(f"{part!r}: no number; write 0x11, 0o21, 0b10001 or 17") from None


def _signal(part: str) -> int | None:
    name = part.upper()
    return signal_number(name) or signal_number("SIG" + name)


def _flag(part: str, call: CallName | None) -> int | None:
    name = part.upper()
    full = name if name.startswith((PREFIX, "UNSHARE_")) else PREFIX + name
    order = (call, *CALL_NAMES) if call else CALL_NAMES
    for vocabulary in (VOCABULARIES[c] for c in order):
        flag = vocabulary.by_name(full) or vocabulary.by_name("UNSHARE_" + name)
        if flag is not None:
            return flag.value
    return None


def _names() -> list[str]:
    flags = {flag.name for vocabulary in VOCABULARIES.values() for flag in vocabulary.flags}
    return sorted(flags | {name.removeprefix(PREFIX) for name in flags})


def _no_such(part: str, call: CallName | None) -> str:
    """Teach: name the part, and what comes closest to it."""
    names = _names()
    signals = [name for name in ("SIGCHLD", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGTERM", "SIGHUP") if name]
    close = difflib.get_close_matches(part.upper(), [*names, *signals], n=3, cutoff=0.6)
    close += [n for n in difflib.get_close_matches(part, list(WELL_KNOWN), n=2, cutoff=0.6) if n not in close]
    what = f"{part!r} is no flag{' of ' + call if call else ''}, signal, number or call"
    if close:
        return f"{what}; did you mean {_one_of(tuple(close[:3]))}?"
    return f"{what}; flags are written CLONE_VM or VM, calls are {', '.join(WELL_KNOWN)}"


def _one_of(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
