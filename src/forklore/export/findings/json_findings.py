"""Findings as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Final

import msgspec
from msgspec import Struct

from forklore.events import records as ev
from forklore.export.findings.table import FindingOptions
from forklore.export.json_tree.parts import TaskNumber, Time
from forklore.findings.check import Checked
from forklore.findings.finding import Finding, Folded, Severity, Where
from forklore.findings.rule import Rule
from forklore.findings.table import BY_ID
from forklore.model.tasks import Trace

VERSION: Final = (1, 0)
"""(major, minor). Names do not change within a major version; a minor version only adds."""


class FindingsFormat(Struct, frozen=True):
    """Which form of JSON this is."""

    name: str = "forklore-findings"
    """``forklore-findings``."""
    version: tuple[int, int] = VERSION
    """``[major, minor]``."""


class WhereObject(Struct, frozen=True):
    """A place in the code of the traced program."""

    file: str | None
    """As its debug information or interpreter names it."""
    line: int | None
    """In that file, from 1."""
    function: str | None
    """Its name."""

    @classmethod
    def of(cls, where: Where | None) -> WhereObject | None:
        """The same as an object."""
        return None if where is None else cls(where.file, where.line, where.function)


class FoundTask(Struct, frozen=True):
    """A task that a finding names."""

    id: TaskNumber
    """Its number in the trace."""
    tid: int | None
    """Its thread id; null where a log does not tell it."""
    name: ev.Text
    """What it ran last, else its name."""

    @classmethod
    def of(cls, trace: Trace, number: int) -> FoundTask:
        """The task of that number."""
        task = trace.tasks[number]  # type: ignore[index]
        return cls(task.id, None if task.tid == ev.UNKNOWN_TID else task.tid, ev.text(task.name or b""))


class FindingObject(Struct, frozen=True):
    """One finding, and how often there was the same."""

    rule: str
    """The rule's id: see ``rules``."""
    severity: Severity
    """``error``, ``warning`` or ``note``."""
    text: str
    """A sentence with the facts; control characters are escaped."""
    advice: str
    """What to do."""
    sure: bool
    """False: it is likely, and no more."""
    site: str
    """What ``--ignore ID:SITE`` takes."""
    where: WhereObject | None
    """The code that did it."""
    t: Time
    """When."""
    tasks: Sequence[FoundTask]
    """Whom it is about, then others that the sentence names."""
    count: int
    """How many findings are folded in this one."""
    also: Sequence[Sequence[FoundTask]]
    """The tasks of the others, one array each."""

    @classmethod
    def of(cls, trace: Trace, each: Folded) -> FindingObject:
        """The same as an object."""
        first = each.first

        def tasks(finding: Finding) -> list[FoundTask]:
            return [FoundTask.of(trace, number) for number in finding.tasks]

        return cls(
            rule=first.rule,
            severity=each.severity,
            text=first.text,
            advice=first.advice or BY_ID[first.rule].advice,
            sure=first.sure,
            site=first.site,
            where=WhereObject.of(first.where),
            t=first.t,
            tasks=tasks(first),
            count=each.count,
            also=[tasks(other) for other in each.others],
        )


class NotJudgedObject(Struct, frozen=True):
    """A rule that the trace tells too little for."""

    rule: str
    """Its id."""
    why: str
    """What is missing."""
    in_part: bool
    """It was judged, and may have missed something."""


class FindingsObject(Struct, frozen=True):
    """What the rules say of a trace."""

    format: FindingsFormat
    """What it is."""
    trace: str
    """The file; empty where it was not kept."""
    findings: Sequence[FindingObject]
    """The worst first, then in the order in which they happened."""
    silenced: int
    """How many findings were ignored as asked."""
    not_judged: Sequence[NotJudgedObject]
    """What is not judged, or in part."""
    warnings: Sequence[str]
    """What is wrong with the trace's file."""


def findings_object(checked: Checked, trace: Trace, name: str = "") -> FindingsObject:
    """All of it."""

    def told(rules: Sequence[tuple[Rule, str]], *, in_part: bool) -> list[NotJudgedObject]:
        return [NotJudgedObject(rule.id, why, in_part) for rule, why in rules]

    return FindingsObject(
        format=FindingsFormat(),
        trace=name,
        findings=[FindingObject.of(trace, each) for each in checked.findings],
        silenced=checked.silenced,
        not_judged=told(checked.not_judged, in_part=False) + told(checked.in_part, in_part=True),
        warnings=trace.warnings,
    )


def write(checked: Checked, trace: Trace, out: IO[str], options: FindingOptions) -> None:
    """Write the object, indented, with a newline at its end."""
    raw = msgspec.json.encode(findings_object(checked, trace, options.name))
    out.write(msgspec.json.format(raw, indent=2).decode() + "\n")
