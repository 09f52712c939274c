"""The command: which lists, how often, and the report."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from transparent.differences import Comparison, Difference, compare
from transparent.documented import Rule, explained, rules
from transparent.launch import NOBODY, Order, readable, run
from transparent.observed import Run
from transparent.workload import Workload
from transparent.workloads import LISTS, SCRIPTS

PAGE: Final = SCRIPTS.parent / "docs" / "transparency.md"
STOPS: Final = ("seccomp", "syscalls", "events")
ENGINES: Final = ("bpf", "perf")
"""Whose programs are not stopped: nothing that they could notice is documented."""
_MORE: Final = 3
_MORE_OF_QUICK: Final = 12
_QUICK: Final = 10.0
"""Bare runs that are added, one by one, while something differs: what a bare run shows sometimes is no difference. Of
programs that take less than so many seconds, more."""
_START: Final = "import sys; sys.path[:0] = {paths!r}; from forklore.cli.main import main; sys.exit(main())"


class Outcome(msgspec.Struct):
    """What came of one workload with one kind of stops."""

    workload: str
    stops: str
    bare_seconds: float
    traced_seconds: float
    undocumented: list[Difference]
    documented: list[tuple[Difference, tuple[str, ...]]]
    unsteady: list[str]
    skipped: str = ""
    statuses: tuple[str, ...] = ()
    """How the bare runs ended."""


class Harness:
    """Runs workloads in a scratch directory, which it leaves behind only where it was named."""

    def __init__(self, scratch: Path, listed: Sequence[Rule], times: int, source: Path) -> None:
        self._scratch = scratch
        self._rules = listed
        self._times = times
        self._number = 0
        self._witness = scratch / "witness.so"
        code = Path(__file__).with_name("witness.c")
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", self._witness, code, "-ldl"], check=True, timeout=60
        )
        packages = Path(str(msgspec.__file__)).parent.parent
        self._start = _START.format(paths=[str(source), str(packages)])
        self._interpreters: dict[int, str | None] = {}

    def compare(self, work: Workload, kinds: Sequence[str]) -> Iterator[Outcome]:
        """An outcome for each kind of stops; the bare runs are shared by them."""
        uid = _uid(work)
        needs = work.needs or ("" if self._interpreter(uid) else "the ordinary user can read no python with msgspec")
        if needs:
            yield Outcome(work.name, "", 0, 0, [], [], [], needs)
            return
        bare = [self._run(work, uid, None) for _ in range(self._times)]
        for stops in kinds:
            traced = [self._run(work, uid, stops) for _ in range(self._times)]
            holds = frozenset({stops, "user" if uid or os.geteuid() else "root"})
            found = compare(bare, traced)
            more = _MORE_OF_QUICK if max(each.seconds for each in bare) < _QUICK else _MORE
            while self._strange(work, found, holds) and len(bare) < self._times + more:
                bare.append(self._run(work, uid, None))
                found = compare(bare, traced)
            yield self._outcome(work, stops, holds, bare, traced, found)

    def _strange(self, work: Workload, found: Comparison, holds: frozenset[str]) -> list[Difference]:
        return [each for each in found.differences if not self._documented(each, holds, work)]

    def _documented(self, difference: Difference, holds: frozenset[str], work: Workload) -> tuple[str, ...]:
        # What a tracer that stops cannot help is no excuse for one that does not.
        ours = holds.intersection(ENGINES)
        listed = [rule for rule in self._rules if not ours or ours & rule.where]
        return explained(difference, listed, holds, work.name)

    def _outcome(
        self,
        work: Workload,
        stops: str,
        holds: frozenset[str],
        bare: Sequence[Run],
        traced: Sequence[Run],
        found: Comparison,
    ) -> Outcome:
        known = ((each, self._documented(each, holds, work)) for each in found.differences)
        named = [(each, names) for each, names in known if names]
        return Outcome(
            work.name, stops, median(run.seconds for run in bare), median(run.seconds for run in traced),
            self._strange(work, found, holds), named, list(found.unsteady),
            statuses=tuple(sorted({run.shown["status"].text for run in bare})),
        )  # fmt: skip

    def trace(self, work: Workload) -> Path | str:
        """Run a workload once under forklore: the trace's file, or why it cannot be run."""
        uid = _uid(work)
        if work.needs or not self._interpreter(uid):
            return work.needs or "the ordinary user can read no python with msgspec"
        self._run(msgspec.structs.replace(work, witness=False), uid, "seccomp")
        return self._scratch / f"{self._number:04}.jsonl"

    def _run(self, work: Workload, uid: int, stops: str | None) -> Run:
        self._number += 1
        directory = self._scratch / f"{self._number:04}"
        command = work.command
        environment = {**os.environ, "HOME": str(directory), **work.environment}
        for name in ("COLUMNS", "LINES", "PYTHONPATH", "LD_PRELOAD"):
            environment.pop(name, None)
        if work.witness:
            log = directory.with_suffix(".witness")
            # By env, in both kinds of run: forklore itself is not to be watched.
            command = ("env", f"LD_PRELOAD={self._witness}", f"FORKLORE_WITNESS={log}", *command)
        if stops is not None:
            trace = directory.with_suffix(".jsonl")
            trace.touch()
            trace.chmod(0o666)
            how = f"--engine={stops}" if stops in ENGINES else f"--stops={stops}"
            own = ("run", "-q", "-o", str(trace), how, "--")
            command = (self._interpreter(uid) or sys.executable, "-c", self._start, *own, *command)
        done = run(Order(command, environment, uid, work.terminal, work.limit), directory)
        shutil.rmtree(directory, ignore_errors=True)
        return done

    def _interpreter(self, uid: int) -> str | None:
        if uid == 0:
            return sys.executable
        if uid not in self._interpreters:
            candidates = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
            check = self._start.replace("sys.exit(main())", "")
            self._interpreters[uid] = next((path for path in candidates if readable((path, "-c", check), uid)), None)
        return self._interpreters[uid]


def _uid(work: Workload) -> int:
    if os.geteuid() != 0:
        return 0
    return work.uid if work.uid is not None else NOBODY if work.user else 0


def report(outcome: Outcome, *, every: bool) -> str:
    """A few lines for people."""
    if outcome.skipped:
        return f"skip  {outcome.workload}: {outcome.skipped}"
    # Where bare runs do not even end alike, that traced ones differ from none of them says little.
    verdict = "FAIL" if outcome.undocumented else "vague" if "status" in outcome.unsteady else "ok"
    times = f"{outcome.bare_seconds:.2f} s -> {outcome.traced_seconds:.2f} s"
    lines = [f"{verdict:5} {outcome.workload} [{outcome.stops}] {times}"]
    for each in outcome.undocumented:
        lines += [f"      {each.name} ({each.view}; in {each.times} traced runs):", *_shown(each)]
    if every:
        lines += [f"      alone: {', '.join(outcome.statuses)}"] if set(outcome.statuses) != {"exit 0"} else []
        by_rule: dict[str, list[str]] = {}
        for each, names in outcome.documented:
            for name in names:
                by_rule.setdefault(name, []).append(each.name)
        lines += [f"      documented: {name} ({', '.join(things)})" for name, things in by_rule.items()]
        if outcome.unsteady:
            lines += [f"      differs from one bare run to the next: {', '.join(outcome.unsteady)}"]
    return "\n".join(lines)


def _shown(difference: Difference, most: int = 12) -> list[str]:
    lines = [f"        alone:  {line[:300]}" for line in difference.gone[:most]]
    lines += [f"        traced: {line[:300]}" for line in difference.new[:most]]
    hidden = max(0, len(difference.gone) - most) + max(0, len(difference.new) - most)
    return [*lines, f"        and {hidden} lines more"] if hidden else lines


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/transparency",
        description="Run programs bare and under forklore, and list every difference that they, their parents or the "
        "system could see. Differences that docs/transparency.md lists do not make it fail.",
    )
    lists = ", ".join(LISTS)
    made.add_argument("--lists", default=",".join(LISTS), help=f"which, separated by commas (default: all): {lists}")
    made.add_argument("--only", metavar="WORD", default="", help="only programs whose name has this in it")
    made.add_argument("-n", "--times", type=int, default=2, help="runs of each kind (2)")
    made.add_argument(
        "--stops", default="seccomp",
        help="seccomp,syscalls,events or some of them (seccomp); bpf and perf: by these engines, without stops",
    )  # fmt: skip
    made.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes to FILE, a JSON line each")
    made.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and leave all output and traces there")
    source = SCRIPTS.parent / "src"
    made.add_argument("--source", type=Path, default=source, help="the src folder of the forklore to run")
    made.add_argument("-v", "--verbose", action="store_true", help="name documented differences, too")
    made.add_argument("--list", action="store_true", help="print the names of the programs and run nothing")
    made.add_argument("command", nargs="*", metavar="-- CMD", help="one command, instead of the lists")
    return made


def chosen(options: argparse.Namespace) -> list[Workload]:
    """The workloads that the command line asks for. SystemExit for a list that is not there."""
    if options.command:
        return [Workload(" ".join(options.command), tuple(options.command))]
    names = options.lists.split(",")
    if unknown := [name for name in names if name not in LISTS]:
        raise SystemExit(f"no list {', '.join(unknown)}: there are {', '.join(LISTS)}")
    return [work for name in names for work in LISTS[name]() if options.only in work.name]


def main(words: Sequence[str] | None = None) -> int:
    """0 if all differences are documented, 1 if not, 2 for a wrong command line."""
    options = parser().parse_args(words)
    kinds = options.stops.split(",")
    if wrong := [kind for kind in kinds if kind not in STOPS + ENGINES]:
        raise SystemExit(f"--stops {', '.join(wrong)}: there are {', '.join(STOPS + ENGINES)}")
    works = chosen(options)
    if options.list:
        print("\n".join(work.name for work in works))
        return 0
    start = time.monotonic()
    listed = rules(PAGE.read_text())
    outcomes: list[Outcome] = []
    scratch = options.keep or Path(tempfile.mkdtemp(prefix="forklore-transparency-"))
    scratch.mkdir(parents=True, exist_ok=True)
    scratch.chmod(0o755)
    try:
        harness = Harness(scratch.resolve(), listed, options.times, options.source.resolve())
        for work in works:
            for outcome in harness.compare(work, kinds):
                outcomes.append(outcome)
                print(report(outcome, every=options.verbose), flush=True)
                if options.json:
                    with options.json.open("ab") as file:
                        file.write(msgspec.json.encode(outcome) + b"\n")
    finally:
        if not options.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    failed = [outcome for outcome in outcomes if outcome.undocumented]
    skipped = sum(bool(outcome.skipped) for outcome in outcomes)
    print(
        f"\n{len(outcomes) - skipped} comparisons in {time.monotonic() - start:.0f} s: "
        f"{len(failed)} with undocumented differences, {skipped} skipped"
    )
    return 1 if failed else 0
