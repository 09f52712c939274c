"""The command: arguments, the campaign, the report."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import tempfile
from pathlib import Path

from bench import analysis, machine, plan, scale, tables
from bench.campaign import Campaign, Results
from bench.measure import CannotMeasure, Programs, build


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark. 0: done; 1: with ``--check``, a budget is not met; 2: it could not run at all."""
    options = _parser().parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    forklore = shlex.split(options.forklore) if options.forklore else [options.python, "-m", "forklore"]
    with tempfile.TemporaryDirectory(prefix="forklore-bench-") as directory:
        scratch = Path(directory)
        try:
            programs = build(scratch)
        except CannotMeasure as why:
            print(f"bench: {why}", file=sys.stderr)
            return 2
        tools = [
            tool for tool in plan.tools(programs.floor, programs.detailed_floor, options.python, forklore)
            if not options.tool or tool.name in {*options.tool, plan.UNTRACED}
        ]  # fmt: skip
        workloads = [w for w in plan.WORKLOADS if not options.workload or w.kind in options.workload]
        campaign = Campaign(
            programs, tools, workloads, scratch, options.rounds, options.quick, options.timeout
        )
        with machine.kept_busy(options.busy):
            results = campaign.run()
        large = _scale(options, programs, forklore, scratch, results)
    found = analysis.figures(results, workloads, quick=options.quick)
    verdicts = analysis.verdicts(found, {workload.kind: workload.title for workload in workloads})
    if isinstance(large, scale.Scale):
        verdicts += large.verdicts()
    facts = machine.facts(options.python)
    if options.busy:
        facts["kept busy by"] = f"{options.busy} programs that compute all the time"
    print(
        tables.report(
            facts, tools, workloads, results, found, verdicts, large,
            rounds=options.rounds, quick=options.quick, markdown=options.markdown,
        ),
        end="",
    )  # fmt: skip
    if options.json:
        _write_json(options, facts, results, found, verdicts, large)
    return 1 if options.check and any(verdict.met is False for verdict in verdicts) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench/run", description="Measures what tracing costs.")
    names = [tool.name for tool in plan.tools(Path(), Path(), sys.executable, []) if tool.name != plan.UNTRACED]
    parser.add_argument(
        "--quick", action="store_true", help="small counts, one round: minutes become seconds"
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds (default 5; 1 with --quick)")
    parser.add_argument("--tool", action="append", choices=names, help="only this tool; may be repeated")
    parser.add_argument(
        "--workload",
        action="append",
        choices=[w.kind for w in plan.WORKLOADS],
        help="only this; may be repeated",
    )
    option = parser.add_argument
    large = "also record N (default 100000) processes in a row, and show the trace"
    option("--scale", nargs="?", type=_positive, const=100_000, metavar="N", help=large)
    option("--busy", type=int, default=0, metavar="N", help="N programs compute meanwhile, which takes the processors")
    option("--markdown", action="store_true", help="Markdown tables, for a page")
    option("--json", metavar="FILE", help="all samples and figures")
    option("--check", action="store_true", help="exit 1 if a budget is not met")
    option("--timeout", type=float, default=300.0, metavar="S", help="longest single run (default 300)")
    dependencies = "interpreter that has forklore's dependencies (default: the one running this)"
    option("--python", default=sys.executable, metavar="PYTHON", help=dependencies)
    ours = "the forklore to measure (default: this checkout's, by PYTHON -m forklore)"
    option("--forklore", metavar="COMMAND", help=ours)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _scale(
    options: argparse.Namespace, programs: Programs, forklore: list[str], scratch: Path, results: Results
) -> scale.Scale | str | None:
    if options.scale is None:
        return None
    if plan.FORKLORE in results.missing:
        return f"not measured: {results.missing[plan.FORKLORE]}"
    try:
        return scale.measure(programs, forklore, scratch, options.scale, options.timeout)
    except CannotMeasure as why:
        return f"not measured: {why}"


def _write_json(
    options: argparse.Namespace, facts: dict[str, str], results: Results,
    found: dict[tuple[str, str], analysis.Figure], verdicts: list[analysis.Verdict],
    large: scale.Scale | str | None,
) -> None:  # fmt: skip
    content = {
        "machine": facts,
        "rounds": options.rounds,
        "quick": options.quick,
        "missing": results.missing,
        "failed": [{"tool": t, "workload": w, "why": why} for (t, w), why in results.failed.items()],
        "figures": [dataclasses.asdict(figure) for figure in found.values()],
        "samples": [
            {"tool": tool, **dataclasses.asdict(variant), "runs": [dataclasses.asdict(s) for s in samples]}
            for (tool, variant), samples in results.samples.items()
        ],
        "budgets": [dataclasses.asdict(verdict) for verdict in verdicts],
        "scale": dataclasses.asdict(large) if isinstance(large, scale.Scale) else large,
    }
    Path(options.json).write_text(json.dumps(content, indent=1) + "\n")
