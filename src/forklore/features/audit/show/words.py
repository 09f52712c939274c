"""Rows in words: what the views and the comparison of two audits have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from forklore.abi.errors import errno_name
from forklore.features.audit.result import Attempt, Audit, AuditRow, ChildStack

NOTHING = "-"


def call(row: AuditRow | None) -> str:
    """The creation calls of a row, refusals among them."""
    if row is None:
        return NOTHING
    if row.outcome == "missing":
        return "not in this library"
    if row.outcome == "cannot":
        return f"could not be set up: {row.why}"
    if not row.attempts:
        return f"no call (returned {row.result})"
    shown: list[str] = []
    for attempt in row.attempts:
        text = attempt.words + (f" = {attempt.refused}" if attempt.refused else "")
        text = {"helper": "then a thread of its own: ", "child": "then the child: "}.get(attempt.by, "") + text
        if text not in shown:
            shown.append(text)
    return ", ".join(shown)


def fallback(audit: Audit, function: str, errno: str) -> str:
    """What happens when clone3 is refused with ``errno``: the call that follows, or the error of the function."""
    row = audit.row(function, "single", f"clone3 {errno}")
    if row is None:
        return NOTHING
    made = row.made
    return made.words if made is not None else f"fails with {outcome(row)}"


_MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "popen": {"0": "NULL", "1": "a stream"},
    "wordexp": {"1": "WRDE_NOSPACE", "5": "WRDE_SYNTAX"},
    "thrd_create": {"1": "thrd_busy", "2": "thrd_error", "3": "thrd_nomem"},
    "getaddrinfo_a": {"-11": "EAI_SYSTEM", "-3": "EAI_AGAIN", "-10": "EAI_MEMORY"},
}


def outcome(row: AuditRow) -> str:
    """What the function returned, as its manual page has it."""
    result = row.result
    if result is None:
        return "does not return"
    function = row.function.partition("/")[0]
    if function in _MEANINGS:
        return _MEANINGS[function].get(result, result)
    if function in ("posix_spawn", "posix_spawnp", "pidfd_spawn", "pthread_create"):
        return errno_name(int(result)) if result.isdecimal() and result != "0" else result
    if function == "system" and result.isdecimal():
        return f"the status of exit({int(result) >> 8})"
    return result


def stack(found: ChildStack) -> str:
    """``mapped, 36864 bytes, guard 4096 (mprotect)``."""
    text = found.whose
    if found.size is not None:
        text += f", {found.size} bytes"
    if found.guard:
        text += f", guard {found.guard} ({found.guard_by})"
    return text


def pointers(attempt: Attempt) -> str:
    """Where the call's pointers point."""
    named = (("tls", attempt.tls), ("parent_tid", attempt.parent_tid), ("child_tid", attempt.child_tid),
             ("pidfd", attempt.pidfd))  # fmt: skip
    return ", ".join(f"{name} = {where}" for name, where in named if where is not None) or NOTHING


def child(attempt: Attempt) -> str:
    """What the child does, in order."""
    until = f"-> {attempt.until}" if attempt.until else ""
    return "; ".join(attempt.child) + (" " if attempt.child else "") + until or NOTHING


def identity(attempt: Attempt) -> str:
    """What the library tells the child of itself."""
    says = attempt.says
    if says is None:
        return NOTHING
    return (
        f"getpid {says.getpid}, gettid {says.gettid}, cached tid {says.cached_tid}, pthread_self {says.pthread_self}"
    )


def folded(names: Sequence[str]) -> list[str]:
    """posix_spawn, posix_spawn/SETSID: one name with its variants behind it."""
    shown = []
    for name in names:
        plain, _, variant = name.partition("/")
        if variant and plain in names:
            continue
        variants = [other.partition("/")[2] for other in names if other.startswith(f"{name}/")]
        shown.append(f"{name} ({', '.join(variants)})" if variants else name)
    return shown


def joined(names: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
