"""Running the rounds: every tool in every round, so that a busy moment hits all of them alike."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import plan
from bench.measure import CannotMeasure, Programs, Sample, run


@dataclass(frozen=True)
class Variant:
    """What exactly is run: a tool is compared with the untraced run of the same variant.

    ``dynamic``: the spawned helper is a dynamic program.
    """

    kind: str
    count: int
    dynamic: bool


@dataclass
class Results:
    """All samples of a campaign, and why a tool or one of its workloads has none."""

    samples: dict[tuple[str, Variant], list[Sample]] = field(default_factory=dict)
    variants: dict[tuple[str, str], Variant] = field(default_factory=dict)
    """The variant that each (tool, kind) is run in."""
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Campaign:
    """One benchmark run; ``quick`` and ``rounds`` as on the command line, ``timeout`` in seconds a run."""

    programs: Programs
    tools: Sequence[plan.Tool]
    workloads: Sequence[plan.Workload]
    scratch: Path
    rounds: int
    quick: bool
    timeout: float

    def run(self) -> Results:
        """Measures everything that can be measured."""
        results = Results()
        present = [tool for tool in self.tools if self._probe(tool, results)]
        for number in range(self.rounds):
            for workload in self.workloads:
                turn = number % len(present)
                for tool in present[turn:] + present[:turn]:
                    self._one(tool, workload, results)
            print(f"round {number + 1} of {self.rounds} done", file=sys.stderr)
        return results

    def _probe(self, tool: plan.Tool, results: Results) -> bool:
        words = tool.command(self.scratch / "probe")
        if words and shutil.which(words[0]) is None:
            results.missing[tool.name] = f"{words[0]} is not installed: apt-get install {tool.package}"
            return False
        try:
            command = [*words, *self._workload("calls", 1, dynamic=True)]
            run(self.programs, command, self.scratch, self.timeout)
        except CannotMeasure as why:
            results.missing[tool.name] = f"{shlex.join(words[:4])} …: {why}"
            return False
        finally:
            (self.scratch / "probe").unlink(missing_ok=True)
        return True

    def _one(self, tool: plan.Tool, workload: plan.Workload, results: Results) -> None:
        if workload.kind not in tool.kinds or (tool.name, workload.kind) in results.failed:
            return
        variant = Variant(
            workload.kind, tool.count(workload, quick=self.quick), tool.dynamic and workload.kind == "spawns"
        )
        results.variants[tool.name, workload.kind] = variant
        output = self.scratch / "output"
        traced = self._workload(variant.kind, variant.count, dynamic=variant.dynamic)
        try:
            self._sample(plan.UNTRACED, variant, traced, results)
            if tool.name == plan.PYTHON:
                self._sample(tool.name, variant, tool.command(output), results)
            elif tool.name != plan.UNTRACED:
                self._sample(tool.name, variant, [*tool.command(output), *traced], results)
        except CannotMeasure as why:
            results.failed[tool.name, workload.kind] = str(why)
        finally:
            output.unlink(missing_ok=True)

    def _sample(self, name: str, variant: Variant, command: list[str], results: Results) -> None:
        sample = run(self.programs, command, self.scratch, self.timeout)
        results.samples.setdefault((name, variant), []).append(sample)

    def _workload(self, kind: str, count: int, *, dynamic: bool) -> list[str]:
        if kind == "true":
            return [shutil.which("true") or "true"]  # by its path: bpftrace refuses a name that PATH has twice
        helper = self.programs.dynamic_helper if dynamic else self.programs.static_helper
        return [str(self.programs.workload), kind, str(count), *([str(helper)] if kind == "spawns" else [])]
