"""Errors: the number and the name. All ABIs that forklore knows share one numbering."""

from __future__ import annotations

from typing import Final

from forklore.abi._generated_errno import NUMBERS

# include/linux/errno.h: where user space sees EINTR or a call made again, a tracer sees these in the result.
_KERNEL: Final = {
    "ERESTARTSYS": 512,
    "ERESTARTNOINTR": 513,
    "ERESTARTNOHAND": 514,
    "ENOIOCTLCMD": 515,
    "ERESTART_RESTARTBLOCK": 516,
    "EPROBE_DEFER": 517,
    "EOPENSTALE": 518,
    "ENOPARAM": 519,
}
_NAMES: Final = {number: name for table in (NUMBERS, _KERNEL) for name, number in reversed(table.items())}

RESTARTS: Final = frozenset(number for name, number in _KERNEL.items() if name.startswith("ERESTART"))
"""The errors by which the kernel marks an interrupted call that it may make again (kernel/signal.c)."""

ERESTARTNOHAND: Final = _KERNEL["ERESTARTNOHAND"]

MAX_ERRNO: Final = 4095
"""A call failed if its result, taken as unsigned, is within this many of the top (include/linux/err.h)."""


def errno_name(errno: int) -> str:
    """``EINVAL``; the kernel's own ``ERESTARTSYS`` and its like too; ``errno 999`` for one without a name."""
    return _NAMES.get(errno, f"errno {errno}")


def errno_number(name: str) -> int | None:
    """The number of an error, by any of its names (EAGAIN or EWOULDBLOCK)."""
    return NUMBERS.get(name, _KERNEL.get(name))
