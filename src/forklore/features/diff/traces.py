"""Two traces, or several runs a side, set against each other."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from msgspec import Struct

from forklore.features.diff.diff import Form, in_words
from forklore.findings.check import Checked, check
from forklore.model.census import Census, counted
from forklore.model.compare import TraceComparison, compare
from forklore.model.differences import Differences, RunFacts, differences, facts
from forklore.model.tasks import Trace
from forklore.report import run_changes, trace_changes
from forklore.report.run_changes import FindingsChanged
from forklore.sources.files import open_any


class TraceDiff(Struct, frozen=True):
    """What changed from A to B. It is true where something did."""

    names: tuple[str, str]
    """The files of A and B."""
    comparison: TraceComparison
    """Who makes and shares what, as A and B tell it."""
    differences: Differences
    """Arguments, environments and times, over all runs of each side."""
    findings: tuple[FindingsChanged, ...]
    """What `check` finds on one side alone, or another number of times."""
    checked: tuple[Checked, Checked]
    """All that it finds in A and in B."""
    traces: tuple[Trace, Trace] | None
    """A and B themselves, for the page; None: they were not kept."""

    def __bool__(self) -> bool:
        return bool(self.comparison.changes) or run_changes.differs(self.differences, self.findings)

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """A sentence a line, as `forklore diff` prints them."""
        return trace_changes.text(self.names, self.comparison, self._more())

    def markdown(self) -> str:
        """The same as a page or a pull request has it."""
        return trace_changes.markdown(self.names, self.comparison, self._more())

    def to_json(self) -> bytes:
        """The object of docs/diff.md."""
        more = run_changes.data(self.differences, self.findings)
        return trace_changes.to_json(self.names, self.comparison, more)

    def to_html(self) -> str:
        """The page of both traces (docs/diff.md). ValueError where they were not kept."""
        out = io.StringIO()
        self.write(out, "html")
        return out.getvalue()

    def write(self, out: IO[str], form: Form) -> None:
        """Write it in that form. ValueError for the page of traces that were not kept."""
        if form != "html":
            out.write(in_words(self, form))
            return
        from forklore.export.page.comparison import write
        from forklore.export.page.differing import Differing, Side

        if self.traces is None:
            raise ValueError("the page shows both traces, and these were not kept")
        counts = self.comparison.old, self.comparison.new
        old, new = map(Side, self.names, self.traces, counts, self.checked)
        write(Differing(old, new, self.comparison, self.differences, self.findings), out)

    def _more(self) -> list[str]:
        return list(run_changes.lines(self.differences, self.findings))


class _Run(Struct, frozen=True):
    # What is compared of a trace, which is read once.
    census: Census
    facts: RunFacts
    checked: Checked
    trace: Trace | None


def diff_traces(
    old: Sequence[Path], new: Sequence[Path], warn: Callable[[str], None], *, keep: bool = False
) -> TraceDiff:
    """Of the runs of each side; the first of each are A and B. ``warn`` is given what is wrong with a file that can
    still be read. ``keep``: with A and B themselves. Raises TraceError and OSError."""
    first, second = ([_read(name, warn, keep=keep and not at) for at, name in enumerate(side)] for side in (old, new))
    counts = ([run_changes.findings(run.checked) for run in side] for side in (first, second))
    traces = None if (a := first[0].trace) is None or (b := second[0].trace) is None else (a, b)
    return TraceDiff(
        names=(str(old[0]), str(new[0])),
        comparison=compare(first[0].census, second[0].census),
        differences=differences([run.facts for run in first], [run.facts for run in second]),
        findings=run_changes.changed_findings(*counts),
        checked=(first[0].checked, second[0].checked),
        traces=traces,
    )


def _read(name: Path, warn: Callable[[str], None], *, keep: bool) -> _Run:
    census, trace = counted(open_any(name))
    for warning in census.warnings:
        warn(warning)
    return _Run(census, facts(trace), check(trace), trace if keep else None)
