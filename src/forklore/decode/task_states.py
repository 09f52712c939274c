"""The states of a process by the letters of ps(1), in words."""

from __future__ import annotations

from typing import Final

STATES: Final = {
    "R": "running, or ready to run",
    "S": "asleep until an event or a signal",
    "D": "asleep until an event, deaf to signals (usually waiting for a disk)",
    "T": "stopped by a signal of job control",
    "t": "stopped by its tracer",
    "W": "being paged in (not since Linux 2.6)",
    "X": "dead (not to be seen)",
    "Z": "a zombie: it ended, and its parent has not waited for it",
    "I": "an idle thread of the kernel",
}
"""The state letter of proc_pid_stat(5), the first that ps shows (fs/proc/array.c: task_state_array)."""

MARKS: Final = {
    "<": "has precedence (a negative nice value)",
    "N": "gives precedence (a positive nice value)",
    "L": "has pages locked in memory",
    "s": "leads a session",
    "l": "has several threads",
    "+": "is of the foreground process group of its terminal",
}
"""What ps adds to the letter in its STAT column."""


def state_text(letters: str) -> str:
    """``Ss+`` in words; a letter that is none of these stands for itself."""
    words = [STATES.get(letters[:1], letters[:1]), *(MARKS.get(mark, mark) for mark in letters[1:])]
    return ", ".join(word for word in words if word)
