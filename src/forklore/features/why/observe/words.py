"""Phrases about what is waited for."""

from __future__ import annotations

from forklore.abi.signals import signal_name
from forklore.abi.text import printable

_INTERNAL = 1 << 31 | 1 << 32  # SIGCANCEL and SIGSETXID of C libraries (kernel numbers 32 and 33), and musl's 34
_MUSL = 1 << 33
_FAULTS = sum(1 << number - 1 for number in (4, 5, 7, 8, 11, 31))
"""SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV and SIGSYS come of what a thread does itself, which one asleep does not."""
_UNCOMMON = 1 << 12  # SIGPIPE: likewise
_NAMED = 3


def signal_set(mask: int) -> list[int]:
    """The numbers in a mask of signals."""
    return [number for number in range(1, 65) if mask >> number - 1 & 1]


def could_come(caught: int, blocked: int) -> int:
    """Of the signals that a program catches, those that could reach a thread that is asleep."""
    return caught & ~blocked & ~_INTERNAL & ~_MUSL & ~_FAULTS & ~_UNCOMMON


def signal_names(mask: int) -> str:
    """``SIGINT, SIGTERM and 3 more``."""
    names = [signal_name(number) for number in signal_set(mask)]
    if len(names) > _NAMED + 1:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def file_words(target: bytes) -> str:
    """What /proc names a descriptor's file, for a sentence."""
    return printable(target)
