"""Who shares an object with whom now, so that a task can be compared again when its holds may have changed.

One set for each object that more than one task is known to hold; a task that holds its own alone has none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from forklore.abi.kcmp import Order
from forklore.abi.resources import KCMP
from forklore.decode.holders import end, join, leave
from forklore.linux import kcmp
from forklore.sources.ptrace.tracee import Tracee

_EQUAL: Final = int(Order.EQUAL)
_TYPES: Final = tuple(map(int, KCMP.values()))
_NAMES: Final = tuple(KCMP)


def joined(creator: Tracee, child: Tracee, answers: tuple[int, ...]) -> None:
    """Note what a new child holds together with its creator: kcmp's answers in the order of COMPARED."""
    join(child, child.shares, creator, creator.shares, _common(answers))


@lru_cache(maxsize=256)
def _common(answers: tuple[int, ...]) -> tuple[int, ...]:
    # Most children have one of a few sets of answers.
    return tuple(index for index, answer in enumerate(answers) if answer == _EQUAL)


def compared_again(task: Tracee) -> dict[str, tuple[int, int]]:
    """Compare a held task with one other holder of each object that it shared: ``{resource: (task number, answer)}``.

    It leaves what the kernel says it shares no more. A zombie is never compared: it holds nothing (kernel/exit.c).
    """
    found: dict[str, tuple[int, int]] = {}
    other: Tracee | None = None
    for index, together in list(task.shares.items()):
        if other not in together:
            other = _someone_else(task, together)
        if other is None:
            continue
        answer = kcmp.raw(task.tid, other.tid, _TYPES[index])
        found[_NAMES[index]] = (other.id, answer)
        if answer > _EQUAL:
            leave(task, task.shares, index)
    return found


def _someone_else(task: Tracee, together: set[Tracee]) -> Tracee | None:
    others = (other for other in together if other is not task and other.alive)
    return next((other for other in others if not kcmp.is_zombie(other.tid)), None)


def ended(task: Tracee) -> None:
    """A task that ended holds nothing."""
    end(task, task.shares)
