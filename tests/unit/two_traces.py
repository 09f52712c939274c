"""Two stories set against each other, as `forklore diff` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from happenings import Story

from forklore.export.page.differing import Differing, Side
from forklore.findings.check import check
from forklore.model.census import counted
from forklore.model.compare import compare
from forklore.model.differences import differences, facts
from forklore.report.run_changes import changed_findings, findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forklore.events import records as ev
    from forklore.events.trace_file import TraceFile


class _Told:
    def __init__(self, story: Story) -> None:
        self.header, self.warnings, self._events = story.header, list[str](), story.events

    def __iter__(self) -> Iterator[ev.Event]:
        return iter(self._events)


def set_against(old: Story | TraceFile, new: Story | TraceFile, names: tuple[str, str] = ("old", "new")) -> Differing:
    """What differs between two of them."""
    told = [counted(cast("TraceFile", _Told(each)) if isinstance(each, Story) else each) for each in (old, new)]
    comparison = compare(told[0][0], told[1][0])
    checked = [check(trace) for _, trace in told]
    before, now = (
        Side(name, trace, census, found)
        for name, (_, trace), census, found in zip(names, told, (comparison.old, comparison.new), checked, strict=True)
    )
    between = differences(*([facts(trace)] for _, trace in told))
    return Differing(before, now, comparison, between, changed_findings(*([findings(each)] for each in checked)))
