"""Who held which object of which resource, and when."""

from __future__ import annotations

from typing import Any, Final

from forklore.abi.resources import NAMESPACES, OBJECTS
from forklore.export.page.overview import Columns
from forklore.model.tasks import Trace
from forklore.report.sharing_table import legend

NONE: Final = -2
"""In place of a group: neither the task nor its creator had one."""


def sharing(trace: Trace, columns: Columns) -> dict[str, Any]:
    """Of each resource that tasks differ in, each task's holds: group, since, until, one after the other; of no
    resource where the trace was read without its sharing."""
    found = trace.sharing
    if found is None:
        return {"resources": [], "holds": [], "unsure": [], "legend": []}
    same = found.holdings.of_one_group()
    shown = [*OBJECTS, *(name for name in NAMESPACES if name not in same)]
    clock = columns.clock
    holds: list[list[list[int]]] = [[] for _ in shown]
    unsure: list[list[int]] = [[] for _ in shown]
    for place, task in enumerate(trace.tasks.values()):
        start, _ = clock.life(task)
        of_task = found.holdings.holds(task.id)
        answers = {answer.resource: answer.observed for answer in found.answers.get(task.id, ())}
        for resource, name in enumerate(shown):
            held, observed = of_task.get(name, []), answers.get(name)
            unset = observed == "both-unset" and len(held) == 1
            if observed == "unknown":
                unsure[resource].append(place)
            own: list[int] = []
            for hold in held:
                since = max(clock.at(hold.since, start), start)
                own += (NONE if unset else hold.group, since, clock.at(hold.until, -1))
            holds[resource].append(own)
    return {"resources": shown, "holds": holds, "unsure": unsure, "legend": list(legend(shown, found, trace))}
