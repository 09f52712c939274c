"""Words for what a vfork child changed in the memory that it borrowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from forklore.abi.text import printable
from forklore.abi.units import TaskId, Unavailable
from forklore.events.records import Borrowed, Text, Variable, Written, WrittenWhere, raw_bytes
from forklore.model.names import short_name
from forklore.model.tasks import Trace
from forklore.report.words import words

_HARMLESS: Final = frozenset[WrittenWhere]({"dead stack", "child's stack"})
"""No part of the creator's state: see docs/vfork-writes.md."""
_NAMES: Final[dict[WrittenWhere, str]] = {"live stack": "stack", "anonymous": "anonymous memory"}
_NAMED: Final = 4
"""Variables that are named in one line."""
_SHOWN: Final = 16
"""Bytes of a change that are shown."""


def lasting(record: Borrowed) -> list[Written]:
    """The changes that the creator can notice; not of its own stack where it used that itself meanwhile."""
    if isinstance(record.changes, Unavailable):
        return []
    left_out = {*_HARMLESS, "live stack"} if record.ran_on else _HARMLESS
    return [change for change in record.changes if change.where not in left_out]


def changed_kinds(record: Borrowed) -> tuple[str, ...]:
    """Which parts of the creator's memory changed, each once."""
    return tuple(sorted({_NAMES.get(change.where, change.where) for change in lasting(record)}))


def variable_words(variable: Variable) -> str:
    """``main: a 5 → 10``."""
    name = printable(raw_bytes(variable.name))
    whose = "" if variable.function is None else f"{printable(short_name(raw_bytes(variable.function)))}: "
    if variable.old is None or variable.new is None:
        return f"{whose}{name}"
    return f"{whose}{name} {printable(variable.old)} → {printable(variable.new)}"


def changed_variables(change: Written) -> list[Variable]:
    """Those that a change is of: a range can reach over one whose value stayed."""
    return [each for each in change.variables if each.old is None or each.old != each.new]


def _variables(found: list[Written]) -> str:
    variables = [variable for change in found for variable in changed_variables(change)]
    variables.sort(key=lambda variable: variable.function is None)  # the caller's own first
    named = dict.fromkeys(map(variable_words, variables))
    shown = list(named)[:_NAMED]
    return ", ".join(shown) + (f", and {len(named) - _NAMED} more" if len(named) > _NAMED else "")


def borrowed_words(record: Borrowed, trace: Trace) -> str:
    """``changed 3 places of 4711's memory: stack, data, heap``."""
    whose = f"{trace.tasks[TaskId(record.creator)].tid}'s memory"
    if isinstance(record.changes, Unavailable):
        return f"changes of {whose} not known: {printable(record.changes.why)}"
    found = lasting(record)
    parts = []
    if found or record.more:
        which = Counter(_NAMES.get(change.where, change.where) for change in found)
        kinds = ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in which.items())
        places = words.count(len(found) + record.more, "place")
        parts.append(f"changed {places} of {whose}" + (f": {_variables(found) or kinds}" if kinds else ""))
    if record.remaps:
        parts.append(f"changed {words.count(len(record.remaps), 'mapping')} of {whose}")
    stays = "beyond its stack" if record.ran_on else "that stays"
    text = " and ".join(parts) or f"changed nothing of {whose} {stays}"
    others = [f"{trace.tasks[TaskId(record.creator)].tid} itself did, which ran on"] if record.ran_on else []
    if record.threads is not None and record.threads > 1:
        others.append(f"one of its {record.threads - 1} other threads did")
    if parts and others:
        text += f" (or {', or '.join(others)})"
    if record.left_out:
        size = sum(left.size for left in record.left_out)
        text += f" ({size:,} bytes were not compared)"
    return text


def borrowed_lines(record: Borrowed) -> Iterator[tuple[str, str]]:
    """Each change, mapping and omission: an address, and what is to say of it."""
    if isinstance(record.changes, Unavailable):
        yield "", f"not known: {record.changes.why}"
        return
    for change in sorted(record.changes, key=lambda change: change.where in _HARMLESS):
        size = words.count(change.length, "byte")
        if change.where in _HARMLESS:
            yield f"{change.start:#x}", f"{size} of the {change.where}: harmless"
            continue
        yield f"{change.start:#x}", f"{size} of {_place(change.where, change.mapping)}: {_bytes(change)}"
        for variable in changed_variables(change):
            yield "", variable_words(variable)
    if record.more:
        yield "", f"and {words.count(record.more, 'range')} more, which are not listed"
    for remap in record.remaps:
        before, after = (_mapping(side) for side in (remap.before, remap.after))
        yield f"{remap.start:#x}", f"{remap.end - remap.start:,} bytes: {before} before, {after} after"
    for left in record.left_out:
        yield f"{left.start:#x}", f"{left.size:,} bytes not compared: {left.why}"
    if record.ran_on:
        yield "", "its creator ran on meanwhile: whose change each is cannot be told, and of its own stack nothing"
    if record.threads is not None and record.threads > 1:
        yield "", f"{record.threads - 1} other threads of its creator ran meanwhile: each change can be one of theirs"


def _place(where: WrittenWhere, mapping: Text) -> str:
    name = printable(raw_bytes(mapping))
    part = _NAMES.get(where, where)
    return part if not name or name == f"[{part}]" else f"{part}, {name}"


def _mapping(side: Text | None) -> str:
    return "nothing" if side is None else printable(raw_bytes(side)).strip()


def _bytes(change: Written) -> str:
    old, new = (bytes.fromhex(side)[:_SHOWN].hex(" ") for side in (change.old, change.new))
    more = " …" if change.length > _SHOWN else ""
    return f"{old}{more} → {new}{more}"
