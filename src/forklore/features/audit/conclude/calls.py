"""A call of a C library on one line, with what differs from run to run left out: addresses, pids and descriptors' fate.

The line says what the call is for to a reader who compares libraries, so addresses appear as what they are of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from forklore.abi.arch import Arch
from forklore.abi.errors import MAX_ERRNO, errno_name
from forklore.abi.signals import signal_name
from forklore.abi.text import as_text
from forklore.features.audit.record import SeenCall

UNTOLD: Final = frozenset({"futex", "sched_yield", "restart_syscall", "brk", "getrandom"})
"""Calls that depend on timing, or on what the heap holds (malloc seeds its cache by getrandom)."""

_HOW: Final = ("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK")
_PROTECTION: Final = ((1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC"))
_MAP: Final = ((1, "MAP_SHARED"), (2, "MAP_PRIVATE"), (0x20, "MAP_ANONYMOUS"), (0x20000, "MAP_STACK"),
               (0x4000, "MAP_NORESERVE"))  # fmt: skip
_TERMINAL: Final = re.compile(r"/dev/pts/\d+")
_MAP_NORESERVE: Final = 0x4000
_MAP_STACK: Final = 0x20000
_HEAPS: Final = frozenset({1 << 20, 2 << 20, 64 << 20, 128 << 20})
"""HEAP_MAX_SIZE of 32 and 64 bits, and twice that."""
_ADVICE: Final = {4: "MADV_DONTNEED", 15: "MADV_NOHUGEPAGE", 102: "MADV_GUARD_INSTALL", 103: "MADV_GUARD_REMOVE"}


def mask_text(raw: int) -> str:
    """A set of signals: ``none``, ``all``, ``all but ...`` or their names. Bit 0 is signal 1."""
    if raw == 0:
        return "none"
    missing = [number for number in range(1, 65) if not raw >> (number - 1) & 1]
    if not missing:
        return "all"
    if len(missing) < 32:
        return f"all but {', '.join(map(signal_name, missing))}"
    return ", ".join(signal_name(number) for number in range(1, 65) if raw >> (number - 1) & 1)


def mask_of(call: SeenCall) -> int | None:
    """The set that rt_sigprocmask was given; None: it only asks."""
    return None if call.data is None else int.from_bytes(call.data[:8], "little")


def masked(before: int, call: SeenCall) -> int:
    """The signals blocked after an rt_sigprocmask."""
    given = mask_of(call)
    if given is None or call.result != 0:
        return before
    how = call.words[0]
    return before | given if how == 0 else before & ~given if how == 1 else given


def text(call: SeenCall) -> str:
    """The call, and `` = ERROR`` if it failed."""
    render = _RENDER.get(call.name)
    shown = render(call) if render is not None else f"{call.name}()"
    result = call.result
    if result is not None and -MAX_ERRNO <= result < 0:
        shown += f" = {errno_name(-result)}"
    return shown


def lines(calls: Iterable[SeenCall | str]) -> list[str]:
    """Their texts in order; four and more in a row of one name become one line, repeated lines one."""
    texts = list(_told(calls))
    shown: list[str] = []
    for name, found in groupby(texts, key=itemgetter(0)):
        group = [line for _, line in found]
        if name and len(group) >= 4:
            shown.append(_many(name, group))
        else:
            shown += [line for line, _ in groupby(group)]
    return shown


def _told(calls: Iterable[SeenCall | str]) -> Iterator[tuple[str, str]]:
    arena = False
    for call in calls:
        if isinstance(call, str):
            yield "", call
        elif call.name.startswith("mmap") and _is_heap(call):
            # How it is cut to size depends on where the kernel put it.
            if not arena:
                yield "", "[malloc: a new arena]"
            arena = True
        elif call.name in UNTOLD or (arena and call.name in ("munmap", "mprotect")):
            continue
        else:
            arena = False
            yield call.name, text(call)


def _is_heap(call: SeenCall) -> bool:
    # glibc malloc/arena.c: alloc_new_heap. MAP_NORESERVE in older ones; in newer ones its size tells, once or twice.
    _, length, protection, flags = call.words[:4]
    plain = protection == 0 and not flags & _MAP_STACK
    return bool(flags & _MAP_NORESERVE) or (plain and length in _HEAPS)


def _many(name: str, group: Sequence[str]) -> str:
    kinds = sorted({line.partition("(")[2].rstrip(")").rpartition(", ")[2] for line in group})
    detail = "; ".join(filter(None, kinds))[:80]
    return f"{name} × {len(group)}" + (f" ({detail})" if detail else "")


def _bits(value: int, names: Iterable[tuple[int, str]], nothing: str) -> str:
    found = [name for bit, name in names if value & bit]
    rest = value & ~sum(bit for bit, _ in names)
    return "|".join([*found, hex(rest)] if rest else found) or nothing


def _fd(word: int) -> int:
    word &= 0xFFFF_FFFF
    return word - (1 << 32) if word >> 31 else word


def _mmap(call: SeenCall) -> str:
    _, length, protection, flags = call.words[:4]
    kept = flags & ~0x10  # MAP_FIXED changes where, not what
    return f"{call.name}({length}, {_bits(protection, _PROTECTION, 'PROT_NONE')}, {_bits(kept, _MAP, '0')})"


def _mprotect(call: SeenCall) -> str:
    return f"mprotect({_bits(call.words[2], _PROTECTION, 'PROT_NONE')})"


def _madvise(call: SeenCall) -> str:
    return f"madvise({_ADVICE.get(call.words[2], str(call.words[2]))})"


def _sigprocmask(call: SeenCall) -> str:
    given = mask_of(call)
    if given is None:
        return "rt_sigprocmask(ask)"
    how = call.words[0]
    return f"rt_sigprocmask({_HOW[how] if how < 3 else how}, {mask_text(given)})"


def _sigaction(call: SeenCall) -> str:
    if call.data is None:
        what = "ask"
    else:
        handler = int.from_bytes(call.data[: 4 if call.arch is Arch.I386 else 8], "little")
        what = {0: "SIG_DFL", 1: "SIG_IGN"}.get(handler, "a handler")
    return f"rt_sigaction({signal_name(call.words[0])}, {what})"


def _path(call: SeenCall) -> str:
    path = as_text(call.data or b"?")
    return f"{call.name}({_TERMINAL.sub('/dev/pts/N', path)})"


def _descriptors(count: int) -> Callable[[SeenCall], str]:
    def render(call: SeenCall) -> str:
        return f"{call.name}({', '.join(str(_fd(word)) for word in call.words[:count])})"

    return render


def _exit(call: SeenCall) -> str:
    return f"{call.name}({call.words[0] & 0xFF})"


def _ioctl(call: SeenCall) -> str:
    return f"ioctl({_IOCTLS.get(call.words[1] & 0xFFFF_FFFF, hex(call.words[1]))})"


_IOCTLS: Final = {0x540E: "TIOCSCTTY", 0x5401: "TCGETS", 0x802C542A: "TCGETS2", 0x80045430: "TIOCGPTN",
                  0x40045431: "TIOCSPTLCK", 0x5441: "TIOCGPTPEER", 0x5402: "TCSETS", 0x5414: "TIOCSWINSZ"}  # fmt: skip

_RENDER: Final[dict[str, Callable[[SeenCall], str]]] = {
    "mmap": _mmap, "mmap2": _mmap, "mprotect": _mprotect, "madvise": _madvise,
    "rt_sigprocmask": _sigprocmask, "rt_sigaction": _sigaction,
    "execve": _path, "execveat": _path, "open": _path, "openat": _path,
    "close": _descriptors(1), "dup2": _descriptors(2), "dup3": _descriptors(2),
    "setpgid": _descriptors(2), "exit": _exit, "exit_group": _exit, "ioctl": _ioctl,
}  # fmt: skip
