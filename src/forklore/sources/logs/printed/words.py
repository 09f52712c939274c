"""The names that strace prints, turned back into the numbers that they stand for."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from forklore.abi import flags, syscalls
from forklore.abi.arch import X32_SYSCALL_BIT, Arch
from forklore.abi.errors import errno_number
from forklore.abi.signals import signal_number

_CACHED: Final = 512
_SHORT: Final = 20
"""Numbers of fewer decimal digits have at most 64 bits."""
WORD_MASK: Final = (1 << 64) - 1
_COMMENT: Final = re.compile(rb"/\*.*?(?:\*/|\Z)", re.DOTALL)
_NUMBER: Final = re.compile(rb"-?(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})")
_FLAGS: Final = {
    name.encode(): value
    for name, value in vars(flags).items()
    if name.startswith(("CLONE_", "UNSHARE_", "CLOSE_RANGE_", "AT_")) and isinstance(value, int)
}
SI_CODES: Final = {
    b"SI_USER": 0, b"SI_KERNEL": 0x80, b"SI_QUEUE": -1, b"SI_TIMER": -2, b"SI_MESGQ": -3, b"SI_ASYNCIO": -4,
    b"SI_SIGIO": -5, b"SI_TKILL": -6, b"SI_DETHREAD": -7, b"SI_ASYNCNL": -60,
    b"ILL_ILLOPC": 1, b"ILL_ILLOPN": 2, b"ILL_ILLADR": 3, b"ILL_ILLTRP": 4, b"ILL_PRVOPC": 5,
    b"ILL_PRVREG": 6, b"ILL_COPROC": 7, b"ILL_BADSTK": 8,
    b"FPE_INTDIV": 1, b"FPE_INTOVF": 2, b"FPE_FLTDIV": 3, b"FPE_FLTOVF": 4, b"FPE_FLTUND": 5,
    b"FPE_FLTRES": 6, b"FPE_FLTINV": 7, b"FPE_FLTSUB": 8,
    b"SEGV_MAPERR": 1, b"SEGV_ACCERR": 2, b"SEGV_BNDERR": 3, b"SEGV_PKUERR": 4, b"SEGV_MTEAERR": 8,
    b"SEGV_MTESERR": 9, b"SEGV_CPERR": 10,
    b"BUS_ADRALN": 1, b"BUS_ADRERR": 2, b"BUS_OBJERR": 3, b"BUS_MCEERR_AR": 4, b"BUS_MCEERR_AO": 5,
    b"TRAP_BRKPT": 1, b"TRAP_TRACE": 2, b"TRAP_BRANCH": 3, b"TRAP_HWBKPT": 4, b"TRAP_UNK": 5, b"TRAP_PERF": 6,
    b"CLD_EXITED": 1, b"CLD_KILLED": 2, b"CLD_DUMPED": 3, b"CLD_TRAPPED": 4, b"CLD_STOPPED": 5,
    b"CLD_CONTINUED": 6, b"SYS_SECCOMP": 1, b"SYS_USER_DISPATCH": 2,
}  # fmt: skip
"""si_code of a siginfo, by the names of include/uapi/asm-generic/siginfo.h."""
CLD_ENDS: Final = frozenset(SI_CODES[name] for name in (b"CLD_EXITED", b"CLD_KILLED", b"CLD_DUMPED"))


def without_comments(text: bytes) -> bytes:
    """The text without the ``/* ... */`` parts that strace adds."""
    return _COMMENT.sub(b"", text).strip() if b"/*" in text else text.strip()


def number(text: bytes) -> int | None:
    """A decimal, octal or hexadecimal number of at most 64 bits, or NULL; None for anything else."""
    if len(text) < _SHORT and text.isdigit() and not text.startswith(b"0"):
        return int(text)
    text = without_comments(text)
    if text == b"NULL":
        return 0
    if not _NUMBER.fullmatch(text):
        return None
    digits = text.lstrip(b"-")
    if digits[:2].lower() == b"0x":
        value = int(digits, 16)
    elif digits.startswith(b"0") and digits.strip(b"01234567") == b"":
        value = int(digits, 8)
    else:
        value = int(digits)
    value = -value if text.startswith(b"-") else value
    return value if -(1 << 63) <= value <= WORD_MASK else None


def word(text: bytes, bits: int = 64) -> int | None:
    """A number as a register of ``bits`` holds it; None where the text is none."""
    value = number(text)
    return None if value is None else value & ((1 << bits) - 1)


def flag_word(text: bytes) -> int | None:
    """A set of flags: names, numbers and signal names joined by ``|``; None if a part is not known."""
    return _flag_word(text) if len(text) <= _CACHED else _sum_flags(text)


@lru_cache(maxsize=1024)
def _flag_word(text: bytes) -> int | None:
    return _sum_flags(text)


def _sum_flags(text: bytes) -> int | None:
    total = 0
    for part in without_comments(text).split(b"|"):
        value = _FLAGS.get(part)
        if value is None:
            value = signal_word(part)
        if value is None:
            return None
        total |= value & WORD_MASK
    return total


def signal_word(text: bytes) -> int | None:
    """A signal by name or number; None where it is neither."""
    text = without_comments(text)
    value = number(text)
    if value is not None:
        return value
    return signal_number(text.decode("ascii", "replace"))


def error_number(name: bytes) -> int | None:
    """An error's number."""
    return errno_number(name.decode("ascii", "replace"))


@lru_cache(maxsize=1024)
def is_call(name: bytes) -> bool:
    """Whether a system call of any architecture has the name."""
    return any(syscalls.number(arch, name.decode()) is not None for arch in Arch)


def call_number(arch: Arch, name: str) -> int | None:
    """A call's number as its register has it: for x32 with X32_SYSCALL_BIT."""
    nr = syscalls.number(arch, name)
    return None if nr is None else nr | (X32_SYSCALL_BIT if arch is Arch.X32 else 0)
