"""What a program must be allowed to fork, spawn and thread with a library: the least set of calls and flags.

Taken from what was seen, and from a table of what is not in any row: a thread's end, threads of the library's own,
and what other attributes and actions bring. A test calls each function under just this list.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE
from forklore.abi.signals import signal_number
from forklore.abi.syscalls import CREATIONS, number
from forklore.features.audit.functions import FORKS, HELPERS, SPAWNS, THREADS, USERS
from forklore.features.audit.result import Attempt, Audit, AuditRow
from forklore.features.audit.show import words

_PURPOSES: Final = {
    "fork": tuple(name for name in FORKS if not name.startswith("clone")),
    "spawn": SPAWNS,
    "thread": THREADS,
    "run a shell or detach": USERS,
    "have threads of the library's own": HELPERS,
}
_ENOSYS: Final = 38
_ALWAYS: Final = frozenset({"brk", "exit", "exit_group", "futex", "getrandom"})
"""Every child ends, every lock may be contended, and malloc may need more."""

_BESIDE: Final = {
    "spawn": "chdir fchdir prlimit64 ugetrlimit sched_setparam sched_setscheduler",
    "thread": "madvise munmap rt_sigprocmask sched_getaffinity sched_setaffinity sched_setscheduler",
    "run a shell or detach": "chdir dup2 dup3 fstat fstat64 fstatat64 newfstatat openat open statx",
    "have threads of the library's own":
        "close fdatasync fsync lseek _llseek madvise mmap mmap2 mprotect mq_notify mq_timedsend mq_timedsend_time64"
        " munmap pread64 preadv2 pwrite64 pwritev2 recvfrom rt_sigprocmask rt_sigtimedwait rt_sigtimedwait_time64"
        " timer_settime timer_settime64",
}  # fmt: skip
"""By purpose: what is in no row because it comes after the function returned, from a helper or by other arguments.

A helper's malloc makes an arena (mmap, mprotect: seen of glibc 2.43); musl's mq_notify has its helper make the call,
and musl writes by pwritev2 since 1.2.6."""


class Need(Struct, frozen=True):
    """What one purpose takes: creation calls with each set of flags, the other calls, and the way without clone3."""

    purpose: str
    functions: tuple[str, ...]
    creations: tuple[str, ...]
    fallbacks: tuple[str, ...]
    calls: tuple[str, ...]


def needs(audit: Audit) -> list[Need]:
    """By purpose."""
    found = []
    for purpose, functions in _PURPOSES.items():
        rows = [row for row in audit.rows if row.function in functions and row.outcome == "called"]
        plain = [row for row in rows if row.injected is None]
        if not plain:
            continue
        creations = dict.fromkeys(a.words for row in plain for a in row.attempts if a.refused is None or not a.injected)
        others = {name for row in plain for name in row.calls} - set(CREATIONS) | _ALWAYS
        others |= {name for name in _BESIDE.get(purpose, "").split() if number(Arch(audit.library.arch), name)}
        without = dict.fromkeys(a.words for row in rows if row.injected == "clone3 ENOSYS" for a in row.attempts
                                if a.refused is None)  # fmt: skip
        found.append(
            Need(
                purpose, tuple(dict.fromkeys(row.function for row in plain)), tuple(creations),
                tuple(name for name in without if name not in creations), tuple(sorted(others)),
            )
        )  # fmt: skip
    return found


def text(audit: Audit) -> str:
    """For people."""
    lines = [f"{audit.library.name}: what a program must be allowed", ""]
    for need in needs(audit):
        lines.append(f"to {need.purpose} ({', '.join(need.functions)})")
        lines += [f"    {call}" for call in need.creations]
        lines += [f"    {call}  where clone3 answers ENOSYS" for call in need.fallbacks]
        lines += [f"    with {', '.join(need.calls)}", ""]
    advice = _advice(audit)
    return "\n".join([*lines, advice] if advice else lines[:-1]) + "\n"


def _advice(audit: Audit) -> str:
    rows = [row for row in audit.rows if row.injected == "all EPERM" and any(a.call == "clone3" for a in row.attempts)]
    if not rows:
        return ""
    fails = [row.function for row in rows if row.made is None]
    return (
        "seccomp cannot look into the struct that clone3 points to: a filter that must see flags answers clone3 with"
        f" ENOSYS. EPERM instead makes {words.joined(fails)} fail."
    )


class _Argument(Struct, frozen=True):
    index: int
    value: int
    op: str


class _Rule(Struct, frozen=True, omit_defaults=True):
    names: list[str]
    action: str
    args: list[_Argument] = []
    errno: int = msgspec.field(name="errnoRet", default=0)
    comment: str = ""


def document(audit: Audit) -> bytes:
    """The ``syscalls`` of an OCI seccomp profile (runtime-spec, config-linux.md): clone by flags, clone3 as ENOSYS."""
    rules = [_rule(attempt) for attempt in _clones(audit)]
    names = sorted({name for need in needs(audit) for name in need.calls} | plain_calls(audit))
    whole: list[_Rule] = [_Rule(names, "SCMP_ACT_ALLOW"), *rules]
    if any(a.call == "clone3" for row in audit.rows for a in row.attempts):
        why = "flags behind a pointer: have clone instead"
        whole.append(_Rule(["clone3"], "SCMP_ACT_ERRNO", errno=_ENOSYS, comment=why))
    return msgspec.json.format(msgspec.json.encode({"syscalls": whole}), indent=1) + b"\n"


def _rows(audit: Audit) -> list[AuditRow]:
    kept = (None, "clone3 ENOSYS")
    return [row for row in audit.rows if row.injected in kept and not row.function.startswith("clone")]


def plain_calls(audit: Audit) -> set[str]:
    """fork and vfork, where the library makes them: they have no flags."""
    return {a.call for row in _rows(audit) for a in row.attempts if a.call in ("fork", "vfork")}


def _clones(audit: Audit) -> list[Attempt]:
    found: dict[str, Attempt] = {}
    for row in _rows(audit):
        for attempt in row.attempts:
            if attempt.call == "clone" and attempt.refused is None:
                found.setdefault(attempt.words, attempt)
    return list(found.values())


def clone_flags(audit: Audit) -> list[int]:
    """The first arguments of clone that must pass where clone3 answers ENOSYS."""
    return [_value(attempt) for attempt in _clones(audit)]


def _rule(attempt: Attempt) -> _Rule:
    return _Rule(["clone"], "SCMP_ACT_ALLOW", [_Argument(0, _value(attempt), "SCMP_CMP_EQ")], comment=attempt.words)


def _value(attempt: Attempt) -> int:
    flags = (CLONE.by_name(name) for name in attempt.flags)
    value = sum(flag.value for flag in flags if flag is not None) | attempt.unknown
    return value | (signal_number(attempt.exit_signal) or 0 if attempt.exit_signal else 0)
