"""What one run showed: named texts, and how exactly each of them can be expected to come again."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Final, Literal

import msgspec

Form = Literal["value", "text", "bag", "set"]
"""One word; output in its order; lines whose order means nothing; lines whose number does not, either."""

_OWN_NUMBERS: Final = frozenset(
    (
        "Name", "State", "Tgid", "Ngid", "Pid", "PPid", "NStgid", "NSpid", "NSpgid", "NSsid", "FDSize", "SigQ",
        "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "HugetlbPages", "Kthread",
    )
)  # fmt: skip
"""Fields of /proc/PID/status (proc_pid_status(5)) that are new in each run and no setting, as Vm* and Rss* are."""


class Seen(msgspec.Struct, frozen=True):
    """One named thing that a run showed."""

    form: Form
    text: str


class Run(msgspec.Struct, frozen=True):
    """One run: all that it showed by name, its seconds, and its seconds of processor time."""

    shown: dict[str, Seen]
    seconds: float
    cpu: float


def witnessed(log: str, directory: str) -> dict[str, Seen]:
    """What the preloaded witness wrote (``witness.c``), by program and field. ``directory`` is the run's own."""
    seen: defaultdict[str, list[str]] = defaultdict(list)
    started: list[str] = []
    waits: defaultdict[str, list[str]] = defaultdict(list)
    current: list[tuple[str, str]] = []
    for line in log.splitlines():
        kind, *rest = line.split("\t", 3)
        if kind == "w" and len(rest) == 3:
            waits[f"waits {rest[0]}"].append(f"{rest[1]}: {rest[2]}")
        elif kind == "b":
            current = []
        elif kind == "x" and len(rest) == 3:
            program, field, value = rest
            field, value = _named(field, value)
            if field not in _OWN_NUMBERS and not field.startswith(("Vm", "Rss")):
                current.append((f"seen {program} {field}", value.replace(directory, "DIRECTORY")))
        elif kind == "e" and rest:
            started.append(rest[0])
            for name, value in current:
                seen[name].append(value)
    shown = {name: Seen("set", "\n".join(lines)) for name, lines in seen.items()}
    shown |= {name: Seen("bag", "\n".join(lines)) for name, lines in waits.items()}
    return shown | {"started": Seen("bag", "\n".join(started))}


def _named(field: str, value: str) -> tuple[str, str]:
    if field == "limit":
        return "limit", " ".join(value.split())
    if field != "status":
        return field, value
    name, _, rest = value.partition(":")
    if name == "TracerPid":
        return name, "none" if rest.strip() == "0" else "some"
    return name, rest.strip() or "(nothing)"


_HEX: Final = re.compile(r"\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{8,}\b")
_NUMBER: Final = re.compile(r"\d+(\.\d+)?")
_SPACES: Final = re.compile(r"[ \t]+")


def masked(line: str) -> str:
    """A line without its numbers, and without the spaces that align them."""
    return _SPACES.sub(" ", _NUMBER.sub("#", _HEX.sub("#", line))).strip()


def _sorted_counts(lines: list[str]) -> list[str]:
    return [f"{line}  ({count} times)" if count > 1 else line for line, count in sorted(Counter(lines).items())]


def views(seen: Seen) -> list[tuple[str, tuple[str, ...]]]:
    """What a thing shows, from the most exact view to the least: name and lines of each."""
    if seen.form == "value":
        return [("exact", (seen.text,))]
    lines = seen.text.splitlines()
    ladder: list[tuple[str, list[str]]] = []
    if seen.form == "text":
        ladder = [("exact", lines), ("without numbers", [masked(line) for line in lines])]
    hidden = [masked(line) for line in lines]
    steps = [
        ("counted", _sorted_counts(lines)),
        ("as a set", sorted(set(lines))),
        ("counted, without numbers", _sorted_counts(hidden)),
        ("as a set, without numbers", sorted(set(hidden))),
    ]
    ladder += [step for step in steps if seen.form != "set" or step[0].startswith("as a set")]
    return [(name, tuple(view)) for name, view in ladder]
