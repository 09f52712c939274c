"""Who waited for a process that ended, in words, who never did, and for how long its zombie stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from forklore.model.tasks import Reaping, Task
from forklore.report.words import words

LONG: Final = 1_000_000_000
"""A zombie that stood for so many ns is told of in any case, …"""
NOTED: Final = 10_000_000
"""… and one that stood for so many where all is told."""


def stood_long(task: Task, least: int = LONG) -> bool:
    """Whether nobody waited for it, or not for so long."""
    if not task.reaped:
        return False
    stood = task.zombie
    return task.reaped[0].how in ("left", "stands") or (stood is not None and stood[0] >= least)


def kind_of(task: Task) -> str:
    """What two tasks must have in common to share a line."""
    return task.reaped[0].how if stood_long(task) else ""


def zombie_words(tasks: Sequence[Task], *, verbose: bool) -> str:
    """Of one task or of several that look the same: what is unusual about their zombies; empty for nothing."""
    if not stood_long(tasks[0], NOTED if verbose else LONG):
        return ""
    how = tasks[0].reaped[0].how
    stood = sorted(most for task in tasks if (found := task.zombie) is not None for most in found)
    time = "" if not stood else f" for {_range(stood[0], stood[-1])}"
    a = "a zombie" if len(tasks) == 1 else "zombies"
    if how == "left":
        return f"never waited for, {a}{time}" if stood and stood[-1] >= NOTED else "never waited for"
    return f"still {a}{time} as the trace ends" if how == "stands" else f"{a}{time}"


def reaped_words(task: Task, reaping: Reaping) -> str:
    """One record of what became of a zombie: a sentence for a card or the log."""
    who, stood = words.tid(reaping.tid), ""
    if task.ended is not None and reaping.t is not None:
        least, most = max(reaping.since - task.ended, 0), max(reaping.t - task.ended, 0)
        stood = _range(most if reaping.how in ("left", "stands") else least, most)
    match reaping.how:
        case "waited":
            return f"{who} waited for it" + (f": a zombie for {stood}" if stood else "")
        case "ignored":
            return f"no zombie: {who} ignores SIGCHLD"
        case "at once":
            return f"{who} was waiting for it, or has SA_NOCLDWAIT: its zombie was gone at once"
        case "left":
            return f"{who} never waited for it, and ended" + (f": a zombie for {stood}" if stood else "")
        case "stands":
            return f"{who} has not waited for it as the trace ends" + (f": a zombie for {stood}" if stood else "")
    return f"{who} waited for it, or a reaper did when {who} had ended: which of them is not known"


def _range(least: int, most: int) -> str:
    low, high = words.span(least), words.span(most)
    if low == high:
        return low
    return f"at most {high}" if least == 0 else f"{low} to {high}"
