"""Leaving in time: from when forklore is asked to leave, what it looks up in files must not keep it."""

from __future__ import annotations

import time
from typing import Final

_NEVER: Final = float("inf")
_LEFT: Final = 0.5
"""Seconds for what is looked up after that, the source lines of what was met."""
_RECENT: Final = 5.0


class _Leaving:
    deadline = _NEVER
    hinted = -_NEVER
    """When a signal came that may end the program, and so the trace."""
    asked = False


def begin() -> None:
    """A trace begins."""
    _Leaving.deadline, _Leaving.hinted, _Leaving.asked = _NEVER, -_NEVER, False


def asked() -> None:
    """Forklore is asked to leave; from any thread."""
    _Leaving.asked = True
    _Leaving.deadline = min(_Leaving.deadline, time.monotonic() + _LEFT)


def hinted() -> None:
    """The program is given a signal that may end it; from any thread."""
    _Leaving.hinted = time.monotonic()
    _Leaving.deadline = min(_Leaving.deadline, _Leaving.hinted + _LEFT)


def goes_on() -> None:
    """The program has outlived such a signal if that was some time ago."""
    if not _Leaving.asked and time.monotonic() > _Leaving.deadline:
        _Leaving.deadline = _NEVER


def finishing() -> None:
    """Nothing is traced any more. Who gave the program such a signal just now waits for us as well."""
    now = time.monotonic()
    if now - _Leaving.hinted < _RECENT:
        asked()
        _Leaving.deadline = max(_Leaving.deadline, now + _LEFT)
    else:
        goes_on()


def overdue() -> bool:
    """Whether no more files are to be read."""
    return time.monotonic() > _Leaving.deadline
