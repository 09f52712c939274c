"""All rows of one library: every function from both kinds of program, and again with its calls refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from forklore.abi.syscalls import CREATIONS
from forklore.decode.creation import decode_creation
from forklore.features.audit.conclude import derive
from forklore.features.audit.functions import FUNCTIONS, MODES
from forklore.features.audit.observe.run import Prober
from forklore.features.audit.result import Audit, AuditRow, Library

FALLBACKS: Final = (errno.ENOSYS, errno.EINVAL)
"""Answered to clone3 alone: what a kernel without it, or without a flag, says."""
FAILURES: Final = (errno.EPERM, errno.EAGAIN)
"""Answered to every creation call: what a sandbox and a full machine say."""

_TRIED: Final = ("clone/VM", "posix_spawn/SETSIGDEF", "posix_spawn/SETCGROUP")
_VARIANTS: Final = tuple(name for name in FUNCTIONS if "/" in name and name not in _TRIED)
"""They differ from the function without a suffix in what surrounds the call, which a refusal does not change."""


def library(prober: Prober) -> Library:
    """The library as its file names itself."""
    target = prober.target
    return Library(
        family=target.family, version=target.version, arch=str(target.arch), package=target.package,
        build_id=target.build_id, static=target.static,
    )  # fmt: skip


def audit(prober: Prober, how: str, *, refuse: bool = True, watch: Callable[[AuditRow], None] | None = None) -> Audit:
    """Run everything. ``watch`` is shown each row as it is there; ``refuse``: also with calls refused.

    OSError where the library cannot be traced.
    """
    rows: list[AuditRow] = []
    for row in _rows(prober, refuse=refuse):
        rows.append(row)
        if watch is not None:
            watch(row)
    return Audit(library=library(prober), how=how, kernel=os.uname().release, rows=rows)


def _rows(prober: Prober, *, refuse: bool) -> Iterator[AuditRow]:
    offset = _tid_offset(prober)
    for function in FUNCTIONS:
        for mode in MODES:
            row = derive.row(prober.run(function, mode, tid=offset))
            yield row
            if mode != "single" or row.outcome != "called" or not refuse or function in _VARIANTS:
                continue
            for refused in _refusals(row):
                yield derive.row(prober.run(function, mode, refused, offset))


def _refusals(row: AuditRow) -> Iterator[Mapping[str, int]]:
    if any(attempt.call == "clone3" for attempt in row.attempts):
        for number in FALLBACKS:
            yield {"clone3": number}
    if row.attempts:
        for number in FAILURES:
            yield dict.fromkeys(sorted(CREATIONS), number)


def _tid_offset(prober: Prober) -> int | None:
    # glibc before 2.34 sets a lone thread's tid in no place but its first fork's: there the call points to it.
    run = prober.run("fork", "single")
    for call, start in derive.creations(run):
        decoded = decode_creation(call.arch, call.nr, call.words, call.data)
        if decoded.child_tid is not None:
            offset = decoded.child_tid - (start & ((1 << 8 * call.arch.word) - 1))
            return offset if 0 < offset < 4096 else None
    return None
