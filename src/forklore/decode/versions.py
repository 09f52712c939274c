"""Kernels by version: which there are, and what a call's bits mean to one of them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from forklore.abi.flags import LEGACY_MASK, Flag, Vocabulary
from forklore.abi.former_flags import FORMER
from forklore.abi.signals import CSIGNAL
from forklore.decode.calls import Call, Setns, Unshare
from forklore.decode.creation import Creation
from forklore.decode.flagset import VOCABULARIES, FlagSet

Kernel = tuple[int, ...]
"""A kernel's version: major and minor, and the third number up to 2.6, where that counts."""

NEWEST_KERNEL: Final = (7, 3)
"""The last version whose source the rules follow."""

_LAST: Final = {
    (2, 0): 40, (2, 1): 132, (2, 2): 26, (2, 3): 99, (2, 4): 37, (2, 5): 75, (2, 6): 39,
    (3,): 19, (4,): 20, (5,): 19, (6,): 19,
}  # fmt: skip
"""Of each series that ended, the last number."""


def read_version(text: str) -> Kernel:
    """The kernel that ``text`` begins with, such as ``6.18.44-custom``: what counts of it.

    :raises ValueError: where there was no such kernel; its message says why.
    """
    found = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?![\d])", text)
    if not found:
        raise ValueError(f"{text!r} is no kernel version; give major and minor, such as 6.1")
    major, minor = int(found[1]), int(found[2])
    if major < 2:
        raise ValueError(f"{text!r}: clone came with Linux 2.0, and rules are known from there on")
    if major == 2:
        last = _LAST.get((2, minor))
        if last is None:
            raise ValueError(f"there was no Linux {major}.{minor}: 2.6 was followed by 3.0")
        if found[3] is None:
            raise ValueError(f"Linux 2.{minor} is many: give the third number, 2.{minor}.0 to 2.{minor}.{last}")
        if int(found[3]) > last:
            raise ValueError(f"there was no Linux 2.{minor}.{int(found[3])}: the last was 2.{minor}.{last}")
        return major, minor, int(found[3])
    last = _LAST.get((major,))
    if last is not None and minor > last:
        raise ValueError(f"there was no Linux {major}.{minor}: {major}.{last} was followed by {major + 1}.0")
    return major, minor


def is_followed(kernel: Kernel) -> bool:
    """Whether the rules follow this kernel's source, and not that of an older one in its place."""
    return kernel[:2] <= NEWEST_KERNEL


@lru_cache(maxsize=64)
def vocabulary(call: str, kernel: Kernel) -> Vocabulary:
    """The flags that a call knew in ``kernel``, former ones among them."""
    flags = {flag.value: flag for flag in VOCABULARIES[call].flags if _number(flag.since) <= kernel}
    for former in FORMER if call == "clone" else ():
        if _number(former.since) <= kernel < _number(former.until):
            flags[former.value] = Flag(former.name, former.value, former.since, former.meaning)
    return Vocabulary(call, tuple(sorted(flags.values(), key=lambda flag: flag.value)))


def named(call: Creation | Call, kernel: Kernel | None) -> Creation | Call:
    """The call with the names that its bits had in ``kernel``; as it is for None, and where it has no flags."""
    if kernel is None or not isinstance(call, Creation | Setns | Unshare) or call.flags.raw is None:
        return call
    name = call.call if isinstance(call, Creation) else type(call).__name__.lower()
    if name not in VOCABULARIES:
        return call
    return replace(call, flags=_flag_set(vocabulary(name, kernel), call.flags.raw))


def as_of(call: Creation | Call, kernel: Kernel | None) -> Creation | Call:
    """The call as ``kernel`` takes it: clone(2) does not look at bits that it does not know, the others refuse them."""
    if kernel is None or not isinstance(call, Creation) or call.call != "clone" or call.flags.raw is None:
        return call
    known = vocabulary("clone", kernel)
    today = VOCABULARIES["clone"].mask
    # A former flag's bit means nothing of what it means today.
    kept = sum(flag.value for flag in known.flags if VOCABULARIES["clone"].by_name(flag.name) is not None)
    raw = call.flags.raw & (kept | LEGACY_MASK & ~today & ~CSIGNAL)
    return call if raw == call.flags.raw else replace(call, flags=_flag_set(known, raw))


def _flag_set(known: Vocabulary, raw: int) -> FlagSet:
    flags, unknown = known.split(raw)
    return FlagSet(raw, tuple(flag.name for flag in flags), unknown)


@lru_cache(maxsize=256)
def _number(since: str) -> Kernel:
    return tuple(int(part) for part in since.split("."))
