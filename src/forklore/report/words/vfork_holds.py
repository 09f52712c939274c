"""Words for whom a CLONE_VFORK child held, and who ran on meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from forklore.abi.units import TaskId
from forklore.events.records import UNKNOWN_TID
from forklore.model.tasks import Trace
from forklore.model.vfork_holds import VforkHold
from forklore.report.words import words

_NAMED: Final = 5
"""Tasks that are named; the rest is counted."""
_ENDINGS: Final = {
    "exec": "until the child executed a program",
    "exit": "until the child exited",
    "death": "until the child was killed",
    "creator": "until it ended itself",
    None: "and was not seen to go on",
}


def vfork_words(held: VforkHold, trace: Trace) -> str:
    """For the tree: ``4711 held 0.3 ms, 2 threads ran on``; empty where it was not seen to go on."""
    if held.lasted is None:
        return ""
    text = f"{words.tid(trace.tasks[held.thread].tid)} held {words.span(held.lasted)}"
    return f"{text}, {words.count(len(held.ran_on) + held.more, 'thread')} ran on" if held.ran_on else text


def vfork_lines(held: VforkHold, trace: Trace) -> Iterator[tuple[str, str]]:
    """For the card: a title and what is to say of it."""
    creator = trace.tasks[held.thread]
    kind = "thread" if creator.kind == "thread" else "first thread"
    span = "" if held.lasted is None else f" for {words.span(held.lasted)},"
    group = words.tid(creator.tgid or UNKNOWN_TID)
    yield "held", f"{words.tid(creator.tid)}, {kind} of {group}:{span} {_ENDINGS[held.ended_by]}"
    yield "memory", "the creator's own, borrowed meanwhile" if held.borrows else "a copy, without CLONE_VM"
    if held.ran_on is None:
        yield "ran on", "not known: the log's times do not tell"
    elif held.ran_on:
        yield "ran on", f"{_named(held.ran_on, held.more, trace)}, of the same process"
    else:
        yield "ran on", "nobody: its process had no further thread"


def _named(tasks: tuple[TaskId, ...], more: int, trace: Trace) -> str:
    shown = ", ".join(words.tid(trace.tasks[task].tid) for task in tasks[:_NAMED])
    more += max(len(tasks) - _NAMED, 0)
    return f"{shown} and {more} more" if more else shown
