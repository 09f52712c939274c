"""Which call made which task, where the pids of a log do not say: inside a pid namespace calls return other ones.

A log guarantees this much: a task shows after the call that made it has begun; the kernel gives pids out in rising
order, so that of two calls of which one had returned before the other began the first made the lower pid; who is
waited for has ended, with that status.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from sys import maxsize
from typing import Final

from msgspec import Struct

from forklore.sources.logs.assembly.tasks import Creating, Slot

AT_ANY_TIME: Final = maxsize
"""When a task that is waited for must have ended, where the line of that wait stands where it began."""
_ROUND: Final = 1 << 14
"""Of pids that are further apart the lower one may be the later one: they begin anew at their limit (at least 2^15)."""
_SLOTS: Final = 12
_TRIES: Final = 2000
_CORE_DUMPED: Final = 0x80


class Told(Struct, frozen=True):
    """What a log tells: the end of each task, each exec; and whether its calls stand where they returned."""

    ends: bool = False
    execs: bool = False
    in_order: bool = False


def fits(call: Creating, slot: Slot, told: Told) -> bool:
    """Whether the call can have made the task."""
    if slot.seq <= call.seq or call.task.first is slot.task:
        return False
    if call.value is None:
        return True
    if told.in_order and told.execs and call.vfork and call.returned is not None and slot.seq > call.returned:
        return False  # it executes or ends before its creator goes on
    # Behind a namespace that the log did not announce there may be more.
    if slot.own is not None and call.task.space > 0 and slot.own != (1 if _first_inside(call) else call.value):
        return False
    if call.ended is None:
        return True
    by, waited = call.ended
    if slot.ended is None:
        status = None if slot.task.group_leaving is None else slot.task.group_leaving[0]
        return (by == AT_ANY_TIME or not told.ends) and (None in (waited, status) or waited == status)
    at, status = slot.ended
    return (at < by or not told.ends) and (waited is None or status is None or waited == status & ~_CORE_DUMPED)


def _first_inside(call: Creating) -> bool:
    return call.space != call.task.space


def assigned(slots: list[Slot], calls: list[Creating], told: Told) -> dict[Slot, list[Creating]]:
    """For each task the calls that can have made it when each task must have one of its own."""
    could = {slot: [call for call in calls if fits(call, slot, told)] for slot in slots}
    # Those that showed first have the fewest calls; what these exclude for each other holds with more beside them.
    several = sorted([slot for slot in slots if could[slot]][:_SLOTS], key=lambda slot: slot.tid)
    if all(len(could[slot]) == 1 for slot in several):
        return could
    ways: list[list[Creating]] = []
    tries = 0
    for way in islice(_ways(several, could, [], in_order=told.in_order), _TRIES + 1):
        tries += 1
        if way is not None:
            ways.append(way)
    if ways and tries <= _TRIES:
        for slot, made in zip(several, zip(*ways, strict=True), strict=True):
            could[slot] = [call for call in could[slot] if call in made]
    return could


def _ways(
    slots: list[Slot], could: dict[Slot, list[Creating]], taken: list[Creating], *, in_order: bool
) -> Iterator[list[Creating] | None]:
    """Each way to give the tasks, which are in the order of their pids, a call; None for each try that led to none."""
    if len(taken) == len(slots):
        yield list(taken)
        return
    slot = slots[len(taken)]
    for call in could[slot]:
        apart = (slot.tid - lower.tid for lower in slots)
        if call in taken or any(
            far <= _ROUND and (in_order or made.task is call.task) and _before(call, made)
            for made, far in zip(taken, apart, strict=False)
        ):
            yield None
            continue
        yield from _ways(slots, could, [*taken, call], in_order=in_order)


def _before(one: Creating, other: Creating) -> bool:
    """Whether ``one`` had returned before ``other`` began, and neither chose its pid."""
    chosen = "set_tid" in one.call or "set_tid" in other.call
    return one.returned is not None and one.returned <= other.seq and not chosen
