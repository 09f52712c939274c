"""Findings as SARIF 2.1.0 (OASIS, sarif-schema-2.1.0.json), which editors and code scanning read."""

from __future__ import annotations

import hashlib
import json
from typing import IO, Any, Final
from urllib.parse import quote

from forklore.export.findings.table import FindingOptions
from forklore.findings.check import Checked
from forklore.findings.finding import Folded, Severity, Where
from forklore.findings.rule import Rule
from forklore.findings.table import RULES
from forklore.model.tasks import Trace
from forklore.version import VERSION

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Final[dict[Severity, str]] = {"error": "error", "warning": "warning", "note": "note"}


def write(checked: Checked, trace: Trace, out: IO[str], options: FindingOptions) -> None:
    """Write one log with one run."""
    json.dump(log(checked, trace, options), out, indent=2)
    out.write("\n")


def log(checked: Checked, trace: Trace, options: FindingOptions) -> dict[str, Any]:
    """The sarifLog object (3.13)."""
    rules = {rule.id: index for index, rule in enumerate(RULES)}
    notices = [
        {
            "descriptor": {"id": rule.id, "index": rules[rule.id]},
            "level": "note",
            "message": {"text": f"{'judged in part' if part else 'not judged'}: {why}"},
        }
        for part, told in ((False, checked.not_judged), (True, checked.in_part))
        for rule, why in told
    ]
    driver = {"name": "forklore", "version": VERSION, "rules": [_rule(rule) for rule in RULES]}
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True, "toolConfigurationNotifications": notices}],
        "columnKind": "unicodeCodePoints",
        "results": [_result(each, trace, rules, options) for each in checked.findings],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": f"{rule.title[0].upper()}{rule.title[1:]}."},
        "fullDescription": {"text": rule.about},
        "help": {"text": f"{rule.advice[0].upper()}{rule.advice[1:]}.\nNot found: {rule.right}"},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(each: Folded, trace: Trace, rules: dict[str, int], options: FindingOptions) -> dict[str, Any]:
    first = each.first
    text = first.text if first.sure else f"Likely: {first.text}"
    more = f" (and {each.count - 1} more)" if each.count > 1 else ""
    result: dict[str, Any] = {
        "ruleId": first.rule,
        "ruleIndex": rules[first.rule],
        "level": _LEVELS[each.severity],
        "message": {"text": f"{text}{more}."},
        "occurrenceCount": each.count,
        # The same for every run of the same program: neither pids nor times are in it.
        "partialFingerprints": {"forkloreSite/v1": _fingerprint(each)},
        "properties": {"site": first.site, "sure": first.sure, "tasks": [trace.tasks[n].tid for n in first.tasks]},
    }
    location = _location(first.where, options)
    if location is not None:
        result["locations"] = [location]
    return result


def _fingerprint(each: Folded) -> str:
    return hashlib.sha256(f"{each.first.rule}\0{each.first.site}".encode(errors="surrogateescape")).hexdigest()[:16]


def _location(where: Where | None, options: FindingOptions) -> dict[str, Any] | None:
    """A source line where one is known; else the trace itself, for consumers want a file."""
    location: dict[str, Any] = {}
    file = options.name if where is None or where.file is None else options.file(where.file)
    if file:
        uri = quote(file.encode(errors="surrogateescape"), safe="/")
        location["physicalLocation"] = {"artifactLocation": {"uri": f"file://{uri}" if uri.startswith("/") else uri}}
        if where is not None and where.file is not None and where.line:
            location["physicalLocation"]["region"] = {"startLine": where.line}
    if where is not None and where.function:
        location["logicalLocations"] = [{"name": where.function, "kind": "function"}]
    return location or None
