"""Runs the lists, judges each trace, and counts."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from transparent.main import Harness
from transparent.workload import Workload
from transparent.workloads import LISTS

from alarms.clean import clean
from forklore.events.lines import TraceError
from forklore.findings.check import Checked, check
from forklore.findings.finding import SEVERITIES
from forklore.model.build import built
from forklore.sources.files import open_any

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "check.md"
_BETWEEN: Final = re.compile(r"(<!-- false-alarms -->\n).*?(<!-- end -->)", re.S)
ALL: Final[dict[str, Callable[[], list[Workload]]]] = {"clean": clean, **LISTS}


def judge(harness: Harness, work: Workload) -> Checked | str:
    """What is found of one program; or why it was not run."""
    file = harness.trace(work)
    if isinstance(file, str):
        return file
    try:
        return check(built(open_any(file)))
    except (OSError, TraceError) as problem:
        return f"no trace: {problem}"
    finally:
        file.unlink(missing_ok=True)


def told(found: Checked) -> Counter[tuple[str, str]]:
    """How many findings there are, by severity and rule; what is folded counts once."""
    return Counter((each.severity, each.first.rule) for each in found.findings)


def table(results: dict[str, list[Checked | str]]) -> str:
    """The table of the page."""
    lines = ["| list | programs | without a finding | error | warning | note |", "|---|---|---|---|---|---|"]
    for name, found in results.items():
        judged = [each for each in found if isinstance(each, Checked)]
        sums: Counter[tuple[str, str]] = sum(map(told, judged), Counter())
        cells = [
            ", ".join(f"{count} `{rule}`" for (each, rule), count in sorted(sums.items()) if each == severity) or "-"
            for severity in SEVERITIES
        ]
        none = sum(not each.findings for each in judged)
        lines.append(f"| {name} | {len(judged)} | {none} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="false-alarms", description=__doc__)
    parser.add_argument("lists", nargs="*", choices=[*ALL, []], help="which of them (default: all)")
    parser.add_argument("--only", default="", metavar="TEXT", help="programs with TEXT in their names")
    parser.add_argument("--write", action="store_true", help="write the table into docs/check.md")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the findings themselves")
    options = parser.parse_args(words)
    results: dict[str, list[Checked | str]] = {}
    with tempfile.TemporaryDirectory(prefix="false-alarms-") as folder:
        Path(folder).chmod(0o755)
        harness = Harness(Path(folder).resolve(), (), 1, ROOT / "src")
        for name in options.lists or ALL:
            found = results.setdefault(name, [])
            for work in (each for each in ALL[name]() if options.only in each.name):
                judged = judge(harness, work)
                found.append(judged)
                print(f"{name}: {work.name}: {_line(judged)}", flush=True)
                if options.verbose and isinstance(judged, Checked):
                    for each in judged.findings:
                        first = each.first
                        print(f"    {each.severity} {first.rule} [{first.site}] x{each.count}: {first.text}")
    shown = table(results)
    print(shown)
    if options.write:
        PAGE.write_text(_BETWEEN.sub(lambda match: f"{match[1]}{shown}{match[2]}", PAGE.read_text()))
    return 1 if any(isinstance(each, Checked) and each.findings for each in results.get("clean", [])) else 0


def _line(judged: Checked | str) -> str:
    if isinstance(judged, str):
        return f"not run: {judged}"
    return ", ".join(f"{count} {rule}" for (_severity, rule), count in told(judged).items()) or "nothing found"
