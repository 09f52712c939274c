"""What `check` found, as a page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forklore.abi.text import printable
from forklore.abi.units import TaskId
from forklore.findings.check import Checked
from forklore.findings.finding import Folded
from forklore.findings.table import BY_ID


def findings(checked: Checked, places: Mapping[TaskId, int]) -> dict[str, Any]:
    """As front-end/src/data.ts has it; ``places`` of the tasks in the page."""
    rules = [*checked.not_judged, *checked.in_part]
    return {
        "found": [_finding(each, places) for each in checked.findings],
        "unknown": [(printable(rule.id), printable(why)) for rule, why in rules],
    }


def _finding(each: Folded, places: Mapping[TaskId, int]) -> dict[str, Any]:
    first = each.first
    return {
        "severity": each.severity,
        "rule": first.rule,
        "text": printable(first.text),
        "advice": printable(first.advice or BY_ID[first.rule].advice),
        "sure": first.sure,
        "site": printable(first.site),
        "count": each.count,
        "tasks": [places[task] for finding in (first, *each.others) for task in finding.tasks[:1] if task in places],
    }


def by_task(checked: Checked) -> dict[TaskId, list[tuple[str, str]]]:
    """What is to be said on each task's card: the severity and rule, and the sentence."""
    found: dict[TaskId, list[tuple[str, str]]] = {}
    for each in checked.findings:
        for finding in (each.first, *each.others):
            sure = "" if finding.sure else "likely: "
            for task in dict.fromkeys(finding.tasks):
                found.setdefault(task, []).append((f"{finding.severity}, {finding.rule}", f"{sure}{finding.text}"))
    return found
