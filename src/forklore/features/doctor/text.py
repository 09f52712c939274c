"""The doctor's report, for people and for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from forklore.abi.text import printable
from forklore.features.doctor.conclusions import Check, CheckState, Facts, by_ptrace, can_trace, without_stops

FORMAT: Final = {"name": "forklore-doctor", "version": [1, 0]}
_WIDTH: Final = 80
_MARKS: Final = {
    CheckState.OK: "ok",
    CheckState.LIMITED: "limited",
    CheckState.BLOCKED: "blocked",
    CheckState.INFO: "note",
}


def verdict(checks: Sequence[Check]) -> str:
    """The answer in one sentence."""
    if not can_trace(checks):
        return "forklore cannot trace programs here."
    if not by_ptrace(checks):
        left = without_stops(checks)
        watch = ", and `forklore watch`" if "bpf" in left else ""
        return f"forklore traces programs here with --engine {' or '.join(left)} alone{watch}: ptrace is refused."
    limited = [check.name for check in checks if check.state is CheckState.LIMITED]
    if limited:
        return f"forklore traces programs here, with limits: {', '.join(limited)}."
    return "forklore traces programs here, without limits."


def _paragraph(label: str, text: str, indent: int) -> Iterator[str]:
    first = " " * indent + label
    yield from textwrap.wrap(
        printable(text), _WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    )


def lines(facts: Facts, checks: Sequence[Check]) -> Iterator[str]:
    """The report as lines of at most 80 columns, without line feeds."""
    user = f"uid {facts.uid} ({printable(facts.user)})"
    yield f"Linux {facts.kernel} {facts.machine}, {user}, Python {facts.python}"
    yield ""
    column = max(len(check.name) for check in checks) + 2
    for check in checks:
        yield from _paragraph(f"{_MARKS[check.state]:<9}{check.name:<{column}}", check.found, 0)
        if check.loses:
            yield from _paragraph("lost: ", check.loses, 9)
        if check.remedy:
            yield from _paragraph("do:   ", check.remedy, 9)
    yield ""
    yield from textwrap.wrap(verdict(checks), _WIDTH, break_on_hyphens=False)


def text(facts: Facts, checks: Sequence[Check]) -> str:
    """The report for people."""
    return "\n".join(lines(facts, checks)) + "\n"


def document(facts: Facts, checks: Sequence[Check]) -> str:
    """The report for programs: one JSON object; an answer is true, false, or ``{"errno": …, "why": …}``."""
    whole = {
        "format": FORMAT,
        "can_trace": can_trace(checks),
        "verdict": verdict(checks),
        "checks": [msgspec.to_builtins(check) for check in checks],
        "facts": _untagged(msgspec.to_builtins(facts)),
    }
    return json.dumps(whole, indent=1) + "\n"


def _untagged(value: Any) -> Any:  # noqa: ANN401 - JSON
    # What could not be tried has a tag, by which trace files tell it from other values.
    return {key: _untagged(each) for key, each in value.items() if key != "kind"} if isinstance(value, dict) else value
