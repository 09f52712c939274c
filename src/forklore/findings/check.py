"""Every rule over one trace."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from forklore.findings.finding import SEVERITIES, Finding, Folded, Severity
from forklore.findings.rule import Rule
from forklore.findings.subject import Subject
from forklore.findings.table import BY_ID, RULES
from forklore.model.tasks import Trace


class IgnoreError(ValueError):
    """An entry of ``--ignore`` that no finding can have; the text says why."""


class Ignored(Struct, frozen=True):
    """What is not to be told: a rule, at a site or everywhere."""

    rule: str
    site: str = ""
    """A pattern as of a shell, for the finding's source line, function or program; empty for every site."""

    @classmethod
    def read(cls, text: str) -> Ignored:
        """``ID`` or ``ID:SITE``. Raises IgnoreError for a rule that there is not."""
        rule, _, site = text.partition(":")
        if rule not in BY_ID:
            raise IgnoreError(f"there is no rule {rule!r}; forklore check --rules lists them")
        return cls(rule, site)

    def covers(self, finding: Finding) -> bool:
        """Whether a finding is not to be told."""
        if finding.rule != self.rule:
            return False
        if not self.site:
            return True
        where = finding.where
        names = [finding.site, finding.program]
        if where is not None:
            names += [where.site, where.function or "", where.file or ""]
        return any(name and fnmatchcase(name, self.site) for name in names)


class Checked(Struct, frozen=True):
    """What the rules say of a trace."""

    findings: Sequence[Folded]
    """The worst first, then in the order in which they happened."""
    silenced: int
    """How many findings were ignored."""
    not_judged: Sequence[tuple[Rule, str]]
    """Rules that this trace tells too little for, and why."""
    in_part: Sequence[tuple[Rule, str]]
    """Rules that may have missed something, and why."""

    def worst(self) -> Severity | None:
        """The worst of all; None for no finding."""
        return min((each.severity for each in self.findings), key=SEVERITIES.index, default=None)

    def fails(self, limit: Severity | None) -> bool:
        """Whether any finding is as bad as ``limit`` or worse; None: none is."""
        worst = self.worst()
        return limit is not None and worst is not None and SEVERITIES.index(worst) <= SEVERITIES.index(limit)


_NO_TIME: Final = -1


def check(trace: Trace, ignored: Sequence[Ignored] = (), rules: Sequence[Rule] = RULES) -> Checked:
    """Judge a trace by every rule. A rule that lacks what it needs is named with the reason."""
    subject = Subject(trace)
    found: dict[object, list[Finding]] = {}
    silenced = 0
    not_judged = [(rule, why) for rule in rules if (why := rule.not_judged(trace.header))]
    left_out = {rule.id for rule, _ in not_judged}
    for rule in rules:
        if rule.id in left_out:
            continue
        for finding in rule.find(subject):
            if any(each.covers(finding) for each in ignored):
                silenced += 1
            else:
                found.setdefault((finding.rule, finding.site, finding.sure, finding.same), []).append(finding)
    folded = [Folded(min(each, key=_order), sorted(each, key=_order)[1:]) for each in found.values()]
    folded.sort(key=lambda each: (SEVERITIES.index(each.severity), _order(each.first)))
    in_part = [
        (rule, why) for rule in rules if rule.id not in left_out and (why := rule.judged_in_part(trace.header))
    ]
    return Checked(folded, silenced, not_judged, in_part)


def _order(finding: Finding) -> tuple[int, int]:
    # The worst of equal ones says what is to be said.
    return SEVERITIES.index(finding.severity), _NO_TIME if finding.t is None else finding.t
