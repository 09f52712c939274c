"""How fast a trace is written in each format, and in how much memory beyond its model: rounds interleaved.

    scripts/bench/exports                            100,000 tasks of each kind, all formats
    scripts/bench/exports --format csv --kind build --tasks 20000
    scripts/bench/exports --against DIR --rounds 5   beside another checkout of forklore
    scripts/bench/exports --write FILE --kind build  only make the trace

``forks`` are processes that one makes in a row and that execute nothing. ``build`` is docs/pictures/make.jsonl.gz, the
trace of a make with compilers and shells, over and over: with stacks, arguments and descriptors. Rounds are processes.
Time is the processor's, of writing alone, where the model lies in memory; a page and the tables are of a trace that was
read with who shared what. Exit status: 0 done.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.measure import HERE

_SOURCE: Final = HERE.parent.parent
_BUILD: Final = _SOURCE / "docs" / "pictures" / "make.jsonl.gz"
_PATIENCE: Final = 3600
_KINDS: Final = ("forks", "build")
_PID_LIMIT: Final = 4_194_304
_FORK: Final = 0x1200011
_TABLES: Final = "tables"
"""The Parquet files of `export`, all but the table of findings, which is what the rules cost."""
_FINDINGS: Final = "findings"
"""What `check` finds, which several formats have in them."""
_TIMES: Final = "time"


def forks(tasks: int) -> Iterator[dict[str, Any]]:
    """A header and events: one process that makes the others in a row."""
    header, *events = _recorded()
    begin = next(event for event in events if event["event"] == "begin")
    yield {**header, "command": ["forks"]}
    t = begin["t"]
    yield begin
    for child in range(2, tasks + 1):
        tid = 300 + child % (_PID_LIMIT - 300)
        yield {
            "event": "create", "t": t + 100_000, "task": 1, "arch": "x86_64", "nr": 56,
            "args": [_FORK, 0, 0, 0x7F0000000A10, 0], "child": child, "tid": tid, "stop": "fork",
            "kcmp": [1, 2, 1, 2, 1, 2],
        }  # fmt: skip
        yield {"event": "exit", "t": t + 250_000, "task": child, "status": 0, "held": 20_000, "cpu": 150, "peak": 1200}
        t += 300_000
    yield {"event": "exit", "t": t, "task": 1, "status": 0, "cpu": 10_000_000, "peak": 2000}
    yield {"event": "end", "t": t, "reason": "done", "events": 2 * tasks}


def builds(tasks: int) -> Iterator[dict[str, Any]]:
    """A header and events: one build after another, each begun by itself."""
    header, *events = _recorded()
    end = events.pop()
    size = sum(event["event"] in ("begin", "create") for event in events)
    once = ("module", "place", "lines", "stack", "script")
    yield header
    count = 0
    for number in range(max(tasks // size, 1)):
        first, later = number * size, number * end["t"]
        for event in events:
            if event["event"] in once and number:
                continue
            moved = {**event, "t": event["t"] + later}
            for name in ("task", "child", "creator"):
                if isinstance(moved.get(name), int):
                    moved[name] += first
            if "compared" in moved:
                moved["compared"] = {name: [task + first, *rest] for name, (task, *rest) in moved["compared"].items()}
            count += 1
            yield moved
    yield {**end, "t": end["t"] * (number + 1), "events": count}


def _recorded() -> list[dict[str, Any]]:
    with gzip.open(_BUILD) as lines:
        return [json.loads(line) for line in lines]


_WRITE: Final = """
import gc, json, os, re, sys, tempfile, time
sys.path.insert(0, sys.argv[1])
name, path = sys.argv[2:]
gc.disable()
from forklore.export.table import EXPORTERS, ExportOptions
from forklore.model.build import built
from forklore.sources.files import open_any


def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])


class Sink:
    size = 0

    def write(self, piece):
        self.size += len(piece)

    def writelines(self, pieces):
        for piece in pieces:
            self.size += len(piece)


exporter = EXPORTERS.get(name)
shares = name == "tables" or exporter is not None and "tree" in exporter.sharing
begun = time.process_time()
trace = built(open_any(path), sharing=shares)
read = time.process_time() - begun
model, sink = peak(), Sink()
if name == "tables":
    from pathlib import Path

    from forklore.export.tables import parquet
    from forklore.export.tables.records import TABLES

    folder = tempfile.TemporaryDirectory(dir="/var/tmp")
    begun = time.process_time()
    parquet.write(trace, Path(folder.name), [each for each in TABLES if each != "finding"])
    took = time.process_time() - begun
    sink.size = sum(each.stat().st_size for each in Path(folder.name).rglob("*.parquet"))
elif name == "findings":
    from forklore.findings.check import check

    begun = time.process_time()
    check(trace)
    took = time.process_time() - begun
elif name == "time":
    from forklore.model.critical_path import critical_path, savings

    begun = time.process_time()
    savings(trace, critical_path(trace), 8)
    took = time.process_time() - begun
else:
    write = exporter.load("tree")
    begun = time.process_time()
    write(trace, sink, ExportOptions())
    took = time.process_time() - begun
found = {"tasks": len(trace.tasks), "read": read, "took": took, "model": model, "more": peak() - model}
json.dump({**found, "bytes": sink.size}, sys.__stdout__)
"""


def main() -> int:
    """The command line; the exit status."""
    formats = (
        "csv", "json", "html", "folded", "chrome", "perfetto", "dot", "mermaid", "gantt", "otlp-json", "otlp", _TABLES,
        _FINDINGS, _TIMES,
    )  # fmt: skip
    parser = argparse.ArgumentParser(
        prog="scripts/bench/exports", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", choices=formats, action="append", help="this one (default: all)")
    parser.add_argument("--kind", choices=_KINDS, action="append", help="of which trace (default: both)")
    parser.add_argument("--tasks", type=int, default=100_000, metavar="N", help="how many (default: 100,000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each (default: 3)")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, in turn with this one")
    parser.add_argument("--write", type=Path, metavar="FILE", help="only make the trace")
    options = parser.parse_args()
    kinds = options.kind or _KINDS
    if options.write is not None:
        _make(kinds[0], options.tasks, options.write)
        return 0
    checkouts = [_SOURCE] if options.against is None else [options.against.resolve(), _SOURCE]
    with tempfile.TemporaryDirectory(prefix="forklore-exports-", dir="/var/tmp") as folder:
        for kind in kinds:
            path = Path(folder, kind)
            _make(kind, options.tasks, path)
            for name in options.format or formats:
                _compared(kind, name, path, checkouts, options.rounds)
    return 0


def _make(kind: str, tasks: int, path: Path) -> None:
    with path.open("w") as out:
        for record in (forks if kind == "forks" else builds)(tasks):
            out.write(json.dumps(record, separators=(",", ":")) + "\n")


def _compared(kind: str, name: str, path: Path, checkouts: list[Path], rounds: int) -> None:
    runs: dict[Path, list[dict[str, float]]] = {each: [] for each in checkouts}
    for _ in range(rounds):
        for checkout in checkouts:
            command: list[str] = [sys.executable, "-I", "-c", _WRITE, str(checkout / "src"), name, str(path)]
            ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_PATIENCE)
            runs[checkout].append(json.loads(ran.stdout))
    for checkout, each in runs.items():
        tasks = each[0]["tasks"]
        rates = sorted(tasks / run["took"] for run in each)
        middle = {what: statistics.median(run[what] for run in each) for what in ("read", "model", "more")}
        print(
            f"{kind} {name}: {statistics.median(rates):,.0f} tasks/s ({rates[0]:,.0f} to {rates[-1]:,.0f}); "
            f"{each[0]['bytes'] / tasks:,.0f} bytes a task; {middle['more'] / 1024:,.0f} MiB beyond the model's "
            f"{middle['model'] / 1024:,.0f}, which took {middle['read']:.1f} s  [{checkout}]",
            flush=True,
        )
