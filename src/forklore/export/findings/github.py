"""Findings as workflow commands of GitHub Actions: ``::error file=…,line=…,title=…::message``."""

from __future__ import annotations

from typing import IO, Final

from forklore.export.findings.table import FindingOptions
from forklore.findings.check import Checked
from forklore.findings.finding import Folded, Severity
from forklore.findings.table import BY_ID
from forklore.model.tasks import Trace

_COMMANDS: Final[dict[Severity, str]] = {"error": "error", "warning": "warning", "note": "notice"}


def write(checked: Checked, _trace: Trace, out: IO[str], options: FindingOptions) -> None:
    """Write a line a finding."""
    for each in checked.findings:
        out.write(_line(each, options))


def _line(each: Folded, options: FindingOptions) -> str:
    first = each.first
    where = first.where
    properties = {}
    if where is not None and where.file is not None:
        properties["file"] = options.file(where.file)
        if where.line:
            properties["line"] = str(where.line)
    properties["title"] = f"forklore {first.rule}"
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    times = f" ({each.count} times)" if each.count > 1 else ""
    likely = "" if first.sure else "likely: "
    text = f"{likely}{first.text}{times}; {first.advice or BY_ID[first.rule].advice}"
    return f"::{_COMMANDS[each.severity]} {told}::{_data(text)}\n"


# Escaped as @actions/core does: toolkit/packages/core/src/command.ts.
def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
