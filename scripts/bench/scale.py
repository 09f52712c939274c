"""A trace of very many processes: does the tracer's memory stay flat, and how fast is the trace read back?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.analysis import Verdict
from bench.measure import CannotMeasure, Programs, run

SHOW_RATE: Final = 100_000
"""Events a second that ``show`` reads at least, its own start included."""

_GROWTH: Final = 1.05
_SLACK_KIB: Final = 1024
"""What counts as flat: allocators round, and the interpreter's own tables double now and then."""


@dataclass(frozen=True)
class Scale:
    """What recording and showing a long run took."""

    processes: tuple[int, int]
    largest_kib: tuple[int, int]
    events: int
    file_bytes: int
    record_s: float
    show_s: dict[str, float]

    @property
    def show_rate(self) -> float:
        """Events a second of the tree view."""
        return self.events / self.show_s["tree"]

    def verdicts(self) -> list[Verdict]:
        """The two budgets of scale."""
        few, many = self.processes
        limit = self.largest_kib[0] * _GROWTH + _SLACK_KIB
        return [
            Verdict(
                f"peak of the largest process at {many:,} in a row, of that at {few:,}",
                f"{limit / self.largest_kib[0]:.2f}",
                f"{self.largest_kib[1] / self.largest_kib[0]:.2f} ({self.largest_kib[1]:,} KiB)",
                self.largest_kib[1] <= limit,
            ),
            Verdict(
                f"`show` of {self.events:,} events, events a second",
                f"at least {SHOW_RATE:,}",
                f"{self.show_rate:,.0f}",
                self.show_rate >= SHOW_RATE,
            ),
        ]


def measure(programs: Programs, forklore: list[str], scratch: Path, processes: int, timeout: float) -> Scale:
    """Records ``processes`` forks, and a tenth of them for comparison, then shows the larger trace.

    Raises :class:`bench.measure.CannotMeasure`.
    """
    few, trace = max(processes // 10, 1), scratch / "scale.jsonl"
    peaks, record_s = [], 0.0
    for count in (few, processes):
        trace.unlink(missing_ok=True)
        command = [*forklore, "run", "-o", str(trace), "--", str(programs.workload), "forks", str(count)]
        sample = run(programs, command, scratch, timeout)
        peaks.append(sample.largest_kib)
        record_s = sample.wall_ns / 1e9
    with trace.open("rb") as lines:
        events = sum(1 for _ in lines) - 1
    if events < processes:
        raise CannotMeasure(f"the trace of {processes} processes holds {events} events: it is not complete")
    show_s = {
        view: run(programs, [*forklore, "show", str(trace), "--format", view], scratch, timeout).wall_ns / 1e9
        for view in ("tree", "log", "json")
    }
    size = trace.stat().st_size
    trace.unlink()
    return Scale((few, processes), (peaks[0], peaks[1]), events, size, record_s, show_s)
