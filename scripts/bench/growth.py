"""How recording and reading back grow with the number of tasks: a table in docs/benchmarks.md and docs/scale.svg."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import plot
from bench.measure import HERE, environment

_DOCS: Final = HERE.parent.parent / "docs"
_BEGIN, _END = "<!-- scale: begin -->\n", "<!-- scale: end -->\n"
_COUNTS: Final = (10, 100, 1000, 10_000, 100_000)
_AT_ONCE: Final = (("threads", 20_000), ("processes", 5000), ("deep", 2000))
_TITLES: Final = {
    "forks": "processes in a row",
    "threads": "threads at once",
    "processes": "processes at once",
    "deep": "processes deep",
}


@dataclass(frozen=True)
class Grown:
    """What one run took. Times are processor time, user and system."""

    kind: str
    count: int
    record_s: float
    peak_kib: int
    events: int
    file_bytes: int
    read_s: float
    load_s: float
    tree_s: float
    lines: int
    show_kib: int


def measure(programs: dict[str, Path], scratch: Path, kind: str, count: int) -> Grown:
    """Record a workload and read it back."""
    trace, used = scratch / "t.jsonl", scratch / "used.json"
    program = programs["workload" if kind == "forks" else "atonce"]
    command = [sys.executable, str(HERE / "recorded.py"), str(used), "run", "-q", "-o", str(trace), "--"]
    subprocess.run(
        [*command, str(program), kind, str(count)], check=True, env=environment(), stdout=subprocess.DEVNULL
    )
    recorded = json.loads(used.read_text())
    told = subprocess.run(
        [sys.executable, str(HERE / "readback.py"), str(trace)],
        check=True, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    read = json.loads(told.stdout)
    return Grown(
        kind, count, recorded["cpu_s"], recorded["peak_kib"], read["events"], trace.stat().st_size,
        read["read_s"], read["load_s"], read["tree_s"], read["lines"], read["peak_kib"],
    )  # fmt: skip


def table(found: list[Grown]) -> str:
    """The rows as Markdown."""
    head = (
        "| recorded | tracer's CPU, s | a task, ms | tracer's peak, MiB | events | file, MiB | reader, events/s "
        "| with model | with tree | tree, lines |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    )
    rows = (
        f"| {one.count:,} {_TITLES[one.kind]} | {one.record_s:.2f} | {1e3 * one.record_s / one.count:.2f} "
        f"| {one.peak_kib / 1024:.0f} | {one.events:,} | {one.file_bytes / 2**20:.1f} | {one.events / one.read_s:,.0f} "
        f"| {one.events / one.load_s:,.0f} | {one.events / (one.load_s + one.tree_s):,.0f} | {one.lines} |\n"
        for one in found
    )
    return head + "".join(rows)


def main() -> int:
    """Measure; write the page's table and the plot."""
    parser = argparse.ArgumentParser(prog="scripts/bench/scale", description="How cost grows with the number of tasks.")
    parser.add_argument("--most", type=int, default=_COUNTS[-1], metavar="N", help="at most N tasks (default 100000)")
    parser.add_argument("--json", metavar="FILE", help="the figures")
    parser.add_argument("--from", dest="again", metavar="FILE", help="write the page from figures of an earlier run")
    parser.add_argument("--dry", action="store_true", help="print the table and leave docs/ alone")
    options = parser.parse_args()
    if options.again:
        found = [Grown(**one) for one in json.loads(Path(options.again).read_text())]
    else:
        found = _measured(options.most)
    if options.json:
        Path(options.json).write_text(json.dumps([vars(one) for one in found], indent=1) + "\n")
    print(table(found), end="")
    if not options.dry:
        _write(found)
    return 0


def _measured(most: int) -> list[Grown]:
    found: list[Grown] = []
    with tempfile.TemporaryDirectory(prefix="forklore-scale-") as directory:
        scratch = Path(directory)
        programs = {name: scratch / name for name in ("workload", "atonce")}
        for name, target in programs.items():
            subprocess.run(["gcc", "-O2", "-pthread", str(HERE / f"{name}.c"), "-o", str(target)], check=True)
        wanted = [("forks", count) for count in _COUNTS] + list(_AT_ONCE)
        for kind, count in wanted:
            if count <= most:
                found.append(measure(programs, scratch, kind, count))
                print(f"{count} {_TITLES[kind]}: {found[-1].record_s:.2f} s", file=sys.stderr)
    return found


def _write(found: list[Grown]) -> None:
    page = _DOCS / "benchmarks.md"
    before, _, rest = page.read_text().partition(_BEGIN)
    page.write_text(f"{before}{_BEGIN}\n{table(found)}\n{_END}{rest.partition(_END)[2]}")
    rows = [one for one in found if one.kind == "forks"]
    counts = [one.count for one in rows]
    series = [
        plot.Series("recording, ms of CPU a task", counts, [1e3 * one.record_s / one.count for one in rows]),
        plot.Series("reading it back with its tree, µs a task", counts, [
            1e6 * (one.load_s + one.tree_s) / one.count for one in rows
        ]),
        plot.Series("tracer's peak memory, MiB", counts, [one.peak_kib / 1024 for one in rows]),
    ]  # fmt: skip
    (_DOCS / "scale.svg").write_text(plot.svg("From 10 to 100,000 processes in a row", "processes", series))
