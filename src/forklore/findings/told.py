"""What a trace can tell: each fact that rules need, and why a trace may lack it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from forklore.events.records import Header

_OWN: Final = "forklore"


class Fact(Struct, frozen=True):
    """Something that a rule needs to be told."""

    name: str
    """What it is, as the object of "the trace does not tell"."""
    missing: Callable[[Header], str]
    """Why a trace with that header cannot have it; empty where it has."""


def _own(header: Header) -> bool:
    return header.source.tool == _OWN


def _log(header: Header, what: str) -> str:
    return "" if _own(header) else f"a log of {header.source.tool} does not tell {what}"


_NO_WRITES: Final = "the trace was made without --vfork-writes"
_SECCOMP_ALONE: Final = "--stops seccomp does not see what another filter refuses; --stops syscalls does"
BY_DEFAULT: Final = frozenset({_NO_WRITES, _SECCOMP_ALONE})
"""Reasons that hold of every trace that ``run`` makes without options."""


def _descriptors(header: Header) -> str:
    seen = header.options.get("observe") in ("auto", "full", None)
    return _log(header, "which descriptors survived an exec") or (
        "" if seen else f"--observe {header.options['observe']} reads no descriptors"
    )


def _times(header: Header) -> str:
    return "" if _own(header) or header.clock.start is not None or header.clock.wall is not None else (
        "the log has no times"
    )


def _written(header: Header) -> str:
    asked = header.options.get("vfork_writes")
    return _log(header, "what a child writes") or ("" if asked else _NO_WRITES)


def _refusals(header: Header) -> str:
    return "--stops events sees no call that fails" if header.options.get("stops") == "events" else ""


def _filtered(header: Header) -> str:
    # The strictest of all filters' answers counts (kernel/seccomp.c: seccomp_run_filters), and an error is stricter
    # than a tracer.
    blind = _own(header) and header.options.get("stops") == "seccomp"
    return _SECCOMP_ALONE if blind else ""


def _stacks(header: Header) -> str:
    return _log(header, "call stacks") or ("--no-stack reads none" if header.options.get("stack_depth") == 0 else "")


def _arguments(header: Header) -> str:
    if header.source.tool == "ltrace":
        return "a log of ltrace has only the addresses of arguments"
    return "--no-argv leaves arguments out" if header.options.get("argv") is False else ""


def _senders(header: Header) -> str:
    return "" if _own(header) or header.source.tool == "strace" else _log(header, "who sent a signal")


def _call_times(header: Header) -> str:
    return _log(header, "how long a call took to make a child") or _refusals(header)


def _flags(header: Header) -> str:
    return "" if _own(header) or header.source.tool != "ltrace" else (
        "a log of ltrace has the flags of clone with -S only, and those of clone3 never"
    )


DESCRIPTORS: Final = Fact("which descriptors survived an exec", _descriptors)
TIMES: Final = Fact("when things happened", _times)
WRITTEN: Final = Fact("what a vfork child wrote", _written)
REFUSALS: Final = Fact("which calls failed", _refusals)
FILTERED: Final = Fact("which calls a filter refused", _filtered)
STACKS: Final = Fact("who made a call", _stacks)
ARGUMENTS: Final = Fact("arguments of programs", _arguments)
SENDERS: Final = Fact("who sent a signal", _senders)
CALL_TIMES: Final = Fact("how long calls took", _call_times)
FLAGS: Final = Fact("flags of calls", _flags)
LIMITS: Final = Fact(
    "limits on tasks",
    lambda header: _log(header, "limits") or ("" if header.limits else "the trace has none that could be read"),
)
REAPING: Final = Fact("who waited for whom", lambda header: _log(header, "who waited for whom"))
SIGKILLS: Final = Fact(
    "who sent SIGKILL",
    lambda header: _log(header, "who sent SIGKILL")
    or ("--stops events does not see who sends SIGKILL" if header.options.get("stops") == "events" else ""),
)
SET_IDS: Final = Fact(
    "which programs were set-id", lambda header: _log(header, "which programs are set-id, and what they got")
)
