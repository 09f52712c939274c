"""The command line of ``scripts/compare``."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from .errors import NoTracepointsError, OracleError
from .exact import Verdict, compare
from .record import Program, Run, Tracers
from .shape import Runs, differences, variable
from .suite import WORKLOADS

HELP = """\
Run a program under forklore and see whether the tree is what really happened. The kernel oracle records
the kernel's own tracepoints during the same run (needs root and tracefs); the strace oracle runs the program
again under strace -f and reads the log with `forklore show`. With both, the strace run is compared with its
tracepoints, too. Put a program that leaves files behind into a script that starts from none.

Exit status: 0 all agree, 1 they differ, 2 a comparison could not be made."""


@dataclass(slots=True)
class Outcome:
    """One line of the report."""

    program: str
    oracle: str
    agree: bool | None
    """None: it could not be compared; ``differences`` says why."""
    summary: str
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _exact(program: str, oracle: str, who: str, run: Run) -> Outcome:
    found: Verdict = compare(who, run.tree, run.kernel or [])
    counted = ", ".join(
        _number(count, noun) for count, noun in ((found.tasks, "task"), (found.execs, "exec"), (found.exits, "exit"))
    )
    return Outcome(program, oracle, found.agree, counted, found.differences, found.notes)


def _shapes(program: str, command: Program, tracers: Tracers, ours: Runs, theirs: Runs, runs: int) -> Outcome:
    left = differences(ours, theirs)
    while left and len(ours.shapes) < runs:
        ours.add(tracers.forklore(command, kernel=False).tree)
        theirs.add(tracers.strace(command, kernel=False).tree)
        left = differences(ours, theirs)
    low, high = min(one.total() for one in ours.shapes), max(one.total() for one in ours.shapes)
    number = len(ours.shapes)
    tasks = _number(high, "task") if low == high else f"{low} to {high} tasks"
    counted = f"{tasks} in {_number(number, 'run')} under each"
    varies = variable(ours, theirs)
    notes = [f"varies from run to run: {line}" for line in varies]
    return Outcome(program, "strace", not left, counted, left, notes)


def examine(name: str, command: Program, tracers: Tracers, oracle: str, runs: int) -> Iterator[Outcome]:
    """Compare one program's runs with the oracles asked for; an outcome for each, as it is known.

    Raises :class:`OracleError` where a tracer fails or what it wrote cannot be read.
    """
    kernel = oracle in ("kernel", "both")
    try:
        mine = tracers.forklore(command, kernel)
    except NoTracepointsError as error:
        yield Outcome(name, "kernel", None, "not compared", [str(error)])
        if oracle == "kernel":
            return
        kernel = False
        mine = tracers.forklore(command, kernel)
    if kernel:
        yield _exact(name, "kernel", "forklore", mine)
    if oracle == "kernel":
        return
    logged = tracers.strace(command, kernel)
    if kernel:
        yield _exact(name, "kernel against strace", "the strace log", logged)
    ours, theirs = Runs("forklore"), Runs("strace")
    ours.add(mine.tree)
    theirs.add(logged.tree)
    yield _shapes(name, command, tracers, ours, theirs, runs)


def _examined(name: str, command: Callable[[], Program], tracers: Tracers, oracle: str, runs: int) -> Iterator[Outcome]:
    try:
        yield from examine(name, command(), tracers, oracle, runs)
    except OracleError as error:
        yield Outcome(name, oracle, None, "not compared", [str(error)])


def _suite(only: Sequence[str], scratch: Path, tracers: Tracers, oracle: str, runs: int) -> Iterator[Outcome]:
    for workload in WORKLOADS:
        if only and workload.name not in only:
            continue
        if lacking := workload.missing():
            yield Outcome(workload.name, oracle, None, "not compared", [lacking])
            continue
        program = partial(workload.program, scratch)
        yield from _examined(workload.name, program, tracers, oracle, runs)


def _print(outcome: Outcome, verbose: bool) -> None:
    verdict = {True: "agree", False: "DIFFER", None: ""}[outcome.agree]
    print(f"{outcome.program}: {outcome.oracle}: {outcome.summary} {verdict}".rstrip())
    for difference in outcome.differences:
        print("  " + difference.replace("\n", "\n  "))
    if verbose:
        for note in outcome.notes:
            print(f"  ({note})")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/compare", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array of outcomes")
    parser.add_argument("--oracle", choices=("kernel", "strace", "both"), default="both")
    parser.add_argument("--engine", choices=("ptrace", "bpf"), default="ptrace", help="forklore's (%(default)s)")
    parser.add_argument(
        "--runs", type=int, default=5, metavar="N", help="run up to N times under each tracer (%(default)s)"
    )
    names = ", ".join(workload.name for workload in WORKLOADS)
    parser.add_argument("--suite", nargs="*", metavar="NAME", help=f"compare real programs: {names}")
    parser.add_argument("--quiet", action="store_true", help="leave out the notes on what may differ")
    parser.add_argument("--keep", action="store_true", help="keep the last run's trace and log, and say where")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD", help="after --")
    return parser


@contextmanager
def _scratch(keep: bool) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="forklore-compare-"))
    try:
        yield place
    finally:
        if keep:
            print(f"kept: {place}", file=sys.stderr)
        else:
            shutil.rmtree(place, ignore_errors=True)


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _chosen(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    command: list[str] = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if bool(command) == (arguments.suite is not None):
        parser.error("give either a command after --, or --suite")
    known = {one.name for one in WORKLOADS}
    if unknown := set(arguments.suite or ()) - known:
        parser.error(f"no workload {', '.join(sorted(unknown))}: choose from {', '.join(sorted(known))}")
    if arguments.oracle != "kernel" and shutil.which("strace") is None:
        parser.error("no strace on this machine (package: strace): install it, or use --oracle kernel")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison that the arguments ask for; the exit status is as the help says."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    command = _chosen(arguments, parser)
    signal.signal(signal.SIGTERM, _terminate)
    outcomes: list[Outcome] = []
    with _scratch(arguments.keep) as scratch:
        tracers = Tracers(scratch, engine=arguments.engine)
        results = (
            _suite(arguments.suite, scratch, tracers, arguments.oracle, arguments.runs)
            if arguments.suite is not None
            else _examined(Path(command[0]).name, lambda: Program(command), tracers, arguments.oracle, arguments.runs)
        )
        for outcome in results:
            outcomes.append(outcome)
            if not arguments.json:
                _print(outcome, not arguments.quiet)
    if arguments.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return _status(outcomes)


def _status(outcomes: Sequence[Outcome]) -> int:
    if any(outcome.agree is False for outcome in outcomes):
        return 1
    return 2 if any(outcome.agree is None for outcome in outcomes) else 0
