"""Whether the calls that a filter must let pass are enough: each function is called under just that filter."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from errno import ENOSYS
from typing import Final

from forklore.abi.arch import Arch
from forklore.abi.errors import errno_name
from forklore.abi.syscalls import number
from forklore.abi.units import TaskId
from forklore.features.audit.functions import FUNCTIONS, MODES
from forklore.features.audit.observe.run import Prober, prober
from forklore.features.audit.observe.target import Target
from forklore.features.audit.record import Became, Born, Happening, ProbeSaid, ProbeWord, SeenCall, TaskEnded
from forklore.features.audit.result import Audit
from forklore.features.audit.show import profile

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_ALLOW, _ERRNO, _KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_NUMBER, _FIRST = 0, 16  # offsets in struct seccomp_data; the low half of the first argument
_SAY: Final = 0x666B_6C72
_SIGSYS: Final = 31
_PROBES_OWN: Final = ("wait4", "exit_group", "futex", "exit", "getpid", "gettid")
"""What the probe itself calls after a function, besides what it says."""


PROVED: Final = {
    "posix_spawn/chdir": "posix_spawn", "posix_spawn/SETSCHEDULER": "posix_spawn",
    "posix_spawn/SETSCHEDPARAM": "posix_spawn", "daemon/null": "daemon", "pthread_create/scheduling": "pthread_create",
    "aio_write": "aio_read",
}  # fmt: skip
"""Variants that have no row of their own, and the function with whose filter they have to live."""


def kernel_filter(arch: Arch, names: tuple[str, ...], clones: tuple[int, ...]) -> bytes:
    """A ``struct sock_filter[]`` that lets these calls and these flags of clone pass, and kills for all others."""
    words: list[tuple[int, int, int, int]] = [(_LOAD, 0, 0, _NUMBER)]
    for name in dict.fromkeys((*names, *_PROBES_OWN)):
        nr = number(arch, name)
        if nr is not None:
            words += [(_EQUAL, 0, 1, nr), (_RETURN, 0, 0, _ALLOW)]
    clone3 = number(arch, "clone3")
    if clone3 is not None:
        words += [(_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, _ERRNO | ENOSYS)]
    for name, values in (("prctl", (_SAY,)), ("clone", clones)):
        nr = number(arch, name)
        if nr is not None:
            passes = [word for value in values for word in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
            words += [(_EQUAL, 0, len(passes) + 2, nr), (_LOAD, 0, 0, _FIRST), *passes, (_RETURN, 0, 0, _KILL)]
    return b"".join(struct.pack("=HBBI", *word) for word in [*words, (_RETURN, 0, 0, _KILL)])


def died(prober: Prober, audit: Audit, function: str, mode: str) -> str | None:
    """The system call for which a program that calls ``function`` dies under the filter; None: it lives."""
    need = next(need for need in profile.needs(audit) if PROVED.get(function, function) in need.functions)
    names = (*need.calls, *sorted(profile.plain_calls(audit)))
    allowed = kernel_filter(prober.target.arch, names, tuple(profile.clone_flags(audit)))
    run = prober.run(function, mode, allowed=allowed)
    if run.timed_out:
        return "none: it hangs"
    deaths = list(_deaths(run.log))
    # All threads end with the one that made the call.
    return next((name for name in deaths if name not in (*names, "its first call")), deaths[0] if deaths else None)


def _deaths(log: Iterable[Happening]) -> Iterator[str]:
    # What another program does, which a child became, is that program's need.
    last: dict[TaskId, str] = {}
    became: set[TaskId] = set()
    for each in log:
        if isinstance(each, SeenCall):
            last[each.task] = each.name
        elif isinstance(each, Became) or (isinstance(each, Born) and each.task in became):
            became.add(each.task if isinstance(each, Became) else each.child)
        elif isinstance(each, ProbeSaid) and each.word is ProbeWord.CANNOT:
            yield f"{errno_name(each.values[1])} in step {each.values[0]} of setting up"
        elif isinstance(each, TaskEnded) and each.status & 0x7F == _SIGSYS and each.task not in became:
            yield last.get(each.task, "its first call")


def dying(target: Target, audit: Audit) -> tuple[int, dict[tuple[str, str], str]]:
    """How many runs there were, one for each function and mode, and which died for which call."""
    runner = prober(target)
    purposes = {function for need in profile.needs(audit) for function in need.functions}
    tried = [name for name in (*FUNCTIONS, *PROVED) if PROVED.get(name, name) in purposes]
    assert {"fork", *PROVED} <= {*tried}, "the functions of a variant are not in the list"
    runs = [(name, mode) for name in tried for mode in MODES]
    dead = {run: call for run in runs if (call := died(runner, audit, *run)) is not None}
    return len(runs), dead
