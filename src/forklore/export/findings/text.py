"""Findings for people: the worst first, what is the same once, and at the end what could not be judged.

What no trace tells that is made without options is said in a word; what else a trace lacks, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import IO, Final

from forklore.abi.text import printable
from forklore.export.findings.table import FindingOptions
from forklore.findings.check import Checked
from forklore.findings.finding import SEVERITIES, Folded, Severity
from forklore.findings.table import BY_ID
from forklore.findings.told import BY_DEFAULT
from forklore.model.tasks import Trace
from forklore.report import styled_lines
from forklore.report.styled_lines import Line, Piece, Role, wrapped
from forklore.report.words import words

_ROLES: Final[dict[Severity, Role]] = {"error": "bad", "warning": "loud", "note": "quiet"}
_MORE: Final = 6
"""Further tasks that are named."""


def write(checked: Checked, trace: Trace, out: IO[str], options: FindingOptions) -> None:
    """Write the findings as text."""
    with styled_lines.drawn_for(out):
        styled_lines.write(list(_lines(checked, trace, options)), out, color=options.color)


def summary(checked: Checked) -> str:
    """``2 errors, 1 warning``; ``nothing found``."""
    counts = Counter(each.severity for each in checked.findings)
    told = [words.count(counts[severity], severity) for severity in SEVERITIES if counts[severity]]
    return ", ".join(told) or "nothing found"


def _lines(checked: Checked, trace: Trace, options: FindingOptions) -> Iterator[Line]:
    for each in checked.findings:
        yield from _finding(each, trace, options)
        yield ()
    told = summary(checked)
    judged = len(BY_ID) - len(checked.not_judged)
    text = f"{told[0].upper()}{told[1:]} in {words.count(len(trace.tasks), 'task')} by {words.count(judged, 'rule')}"
    if checked.silenced:
        text += f"; {words.count(checked.silenced, 'finding')} ignored as asked"
    asked_for = [rule for rule, why in (*checked.not_judged, *checked.in_part) if why in BY_DEFAULT]
    if asked_for and not options.verbose:
        text += f"; {words.count(len(asked_for), 'rule')} can see more with other options of run (-v names them)"
    yield from _wrapped("", f"{text}.", options.columns, "name")
    for title, rules in (("Not judged", checked.not_judged), ("Judged in part", checked.in_part)):
        by_why: dict[str, list[str]] = {}
        for rule, why in rules:
            if why in BY_DEFAULT and not options.verbose:
                continue
            by_why.setdefault(why, []).append(rule.id)
        for why, ids in by_why.items():
            which = ", ".join(ids) if options.verbose or len(ids) < _MORE else words.count(len(ids), "rule")
            yield from _wrapped("", f"{title}: {which}: {printable(why)}.", options.columns, "quiet")


def _finding(each: Folded, trace: Trace, options: FindingOptions) -> Iterator[Line]:
    first, rule = each.first, BY_ID[each.first.rule]
    where = printable(first.site)
    count = f"  {each.count} times" if each.count > 1 else ""
    head = (Piece(each.severity, _ROLES[each.severity]), Piece(": "), Piece(rule.id, "name"))
    yield (*head, Piece(f"  {where}" if where else "", "maker"), Piece(count, "quiet"))
    likely = "" if first.sure else "Likely: "
    yield from _wrapped("  ", f"{likely}{first.text}.", options.columns, "plain")
    if each.others:
        most = len(each.others) if options.verbose else _MORE
        tasks = [f"{words.tid(trace.tasks[other.tasks[0]].tid)}" for other in each.others if other.tasks]
        shown = list(dict.fromkeys(tasks))
        more = f" and {len(shown) - most} more" if len(shown) > most else ""
        yield from _wrapped("  ", f"Likewise {', '.join(shown[:most])}{more}.", options.columns, "plain")
    yield from _wrapped("  → ", first.advice or rule.advice, options.columns, "good")


def _wrapped(indent: str, text: str, columns: int, role: Role) -> Iterator[Line]:
    for index, part in enumerate(wrapped(text, max(columns - len(indent), 24))):
        yield (Piece(indent if index == 0 else " " * len(indent)), Piece(part, role))
