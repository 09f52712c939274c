"""How a task ended, in words: its exit status, or the signal, who sent it, and where the task was."""

from __future__ import annotations

import signal
from typing import Final

from forklore.abi.signals import signal_name
from forklore.abi.units import Tid
from forklore.events import records as ev
from forklore.model.attribution import outside_library
from forklore.model.tasks import Death
from forklore.report.words.code import place_words

_BY: Final[dict[ev.KilledBy, str]] = {"tracer": " by forklore", "oom": ", perhaps by the OOM killer"}

_OF_DATA: Final = frozenset({signal.SIGSEGV, signal.SIGBUS})
"""Whose address is what was asked of memory; that of the others is the instruction's."""


def gone_words(why: ev.GoneWhy | None) -> str:
    """Of a task whose own end the trace does not have: that the trace ends is no end of the task."""
    return "no end seen" if why is None or why == "ended" else why


def death_words(end: Death, own: Tid | None = None) -> str:
    """``exit 0``, ``SIGSEGV at 0x10 in parse, a.c:7 (core dumped)``, ``SIGKILL from 4711``. ``own``: the pid of the
    process itself, which nothing is said of where it sent the signal."""
    if end.signal is None:
        return "ended" if end.code is None else f"exit {end.code}"
    text = signal_name(end.signal)
    if end.by in _BY:
        text += _BY[end.by]
    elif end.sender is not None and end.sender != own:
        text += f" from {end.sender}"
    if end.address is not None and end.signal in _OF_DATA:
        text += f" at {end.address:#x}"
    if end.stack is not None and (found := outside_library(end.stack)) is not None:
        frame, line = found
        text += f" in {place_words(frame.place, line)}"
    return text + (" (core dumped)" if end.core else "")
