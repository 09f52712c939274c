"""Findings as JUnit XML: each rule is a test, which fails by its findings and is skipped where it was not judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import IO, Final
from xml.etree import ElementTree

from forklore.abi.text import printable
from forklore.export.findings.table import FindingOptions
from forklore.findings.check import Checked
from forklore.findings.finding import Folded
from forklore.findings.table import RULES
from forklore.model.tasks import Trace

_NO_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no form for (2.2)."""


def write(checked: Checked, _trace: Trace, out: IO[str], options: FindingOptions) -> None:
    """Write one suite. Notes do not fail: they are a test's output."""
    by_rule: dict[str, list[Folded]] = {}
    for each in checked.findings:
        by_rule.setdefault(each.first.rule, []).append(each)
    not_judged = {rule.id: why for rule, why in checked.not_judged}
    failed = [rule for rule, found in by_rule.items() if any(each.severity != "note" for each in found)]
    counts = {"tests": str(len(RULES)), "failures": str(len(failed)), "skipped": str(len(not_judged)), "errors": "0"}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _clean(f"forklore {options.name}".rstrip()), **counts})
    for rule in RULES:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "forklore", "name": rule.id, "time": "0"})
        found = by_rule.get(rule.id, [])
        bad = [each for each in found if each.severity != "note"]
        if rule.id in not_judged:
            ElementTree.SubElement(case, "skipped", {"message": _clean(not_judged[rule.id])})
        if bad:
            failure = ElementTree.SubElement(case, "failure", {"message": _clean(bad[0].first.text), "type": rule.id})
            failure.text = _text(bad)
        if len(found) > len(bad):
            output = ElementTree.SubElement(case, "system-out")
            output.text = _text([each for each in found if each.severity == "note"])
    out.write('<?xml version="1.0" encoding="utf-8"?>\n')
    ElementTree.indent(suites)
    out.write(ElementTree.tostring(suites, encoding="unicode") + "\n")


def _text(found: Sequence[Folded]) -> str:
    return _clean("\n".join(_line(each) for each in found))


def _line(each: Folded) -> str:
    site = f"{each.first.site}: " if each.first.site else ""
    times = f" ({each.count} times)" if each.count > 1 else ""
    return f"{site}{each.severity}: {each.first.text}{times}"


def _clean(text: str) -> str:
    return _NO_XML.sub(lambda found: printable(found[0]), text)
