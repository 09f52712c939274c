"""What is measured, with which tools, and what forklore's budgets are."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

UNTRACED: Final = "untraced"
FLOOR: Final = "floor"
DETAIL: Final = "floor-detail"
FILTER: Final = "filter"
STRACE: Final = "strace-seccomp"
FORKLORE: Final = "forklore"
PYTHON: Final = "python-pass"
NO_STACK: Final = "forklore-no-stack"

SEEN_BY_FORKLORE: Final = "fork,vfork,clone,clone3,execve,execveat,unshare,setns,setsid,close_range"
"""The calls that strace's filter is given. Without a list ``--seccomp-bpf`` filters nothing, and says so."""


@dataclass(frozen=True)
class Workload:
    """Something to trace: ``count`` items of ``kind`` (of workload.c), or the program ``true`` alone."""

    kind: str
    title: str
    count: int
    quick: int


WORKLOADS: Final = (
    Workload("threads", "threads", 5000, 500),
    Workload("spawns", "posix_spawn", 1000, 100),
    Workload("forks", "forks", 5000, 500),
    Workload("refusals", "refused clone3 calls", 5000, 500),
    Workload("calls", "other system calls", 1_000_000, 100_000),
    Workload("true", "`true`, whole process", 1, 1),
)


@dataclass(frozen=True)
class Tool:
    """A way to run a workload.

    ``command`` gives the words before the traced command, from the path of a file for the tool's output.
    ``divisors``: by how much a kind's count is lowered for a tool too slow for all of it; its figures are
    then scaled up. ``dynamic``: it cannot follow into static programs.
    """

    name: str
    label: str
    package: str
    command: Callable[[Path], list[str]]
    divisors: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    dynamic: bool = False
    kinds: frozenset[str] = frozenset(workload.kind for workload in WORKLOADS)

    def count(self, workload: Workload, *, quick: bool) -> int:
        """How many items of a workload this tool is given."""
        divisor = self.divisors.get(workload.kind, 1)
        return workload.quick // max(divisor // 5, 1) if quick else workload.count // divisor


@dataclass(frozen=True)
class Budget:
    """A promise: ``measure`` of forklore's run of ``kind`` stays at or below ``limit``.

    The measures: ``strace``, ``floor`` and ``detail``, the time added as a multiple of what that tool adds; ``ratio``,
    the program's own time against its untraced time; ``filter``, the program's own time against that under the bare
    C loop with an empty seccomp filter; ``no-stack``, the traced time against that without call
    stacks; ``python``, the whole process against an empty Python program.
    """

    kind: str
    measure: str
    limit: float


BUDGETS: Final = (
    Budget("threads", "strace", 0.2),
    Budget("spawns", "strace", 0.1),
    Budget("forks", "strace", 0.6),
    Budget("threads", "detail", 2.0),
    Budget("spawns", "detail", 2.0),
    Budget("forks", "detail", 2.0),
    Budget("threads", "no-stack", 1.6),
    Budget("spawns", "no-stack", 1.6),
    Budget("calls", "ratio", 1.03),
    Budget("calls", "filter", 1.03),
    Budget("true", "python", 3.0),
)


def tools(floor: Path, detailed_floor: Path, python: str, forklore: list[str]) -> list[Tool]:
    """Every tool of the comparison; ``forklore`` is the command's words up to its verb."""
    python_ptrace = _python_ptrace(python)
    return [
        Tool(UNTRACED, "untraced", "", lambda _: []),
        Tool(FLOOR, "bare C loop (the floor)", "gcc", lambda out: [str(floor), str(out)]),
        Tool(
            DETAIL,
            "C loop with default detail",
            "gcc",
            lambda out: [str(detailed_floor), str(out)],
        ),
        Tool(
            FILTER,
            "bare C loop, with an empty filter",
            "gcc",
            lambda out: [str(floor), "-f", str(out)],
            kinds=frozenset({"calls"}),
        ),
        Tool(FORKLORE, "forklore run -o", "", lambda out: [*forklore, "run", "-o", str(out), "--"]),
        Tool(
            NO_STACK,
            "forklore run -o --no-stack",
            "",
            lambda out: [*forklore, "run", "-o", str(out), "--no-stack", "--"],
        ),
        Tool(
            "forklore-events",
            "forklore run -o --stops events",
            "",
            lambda out: [*forklore, "run", "-o", str(out), "--stops", "events", "--"],
        ),
        Tool(
            "forklore-bpf",
            "forklore run -o --engine bpf",
            "",
            lambda out: [*forklore, "run", "-o", str(out), "--engine", "bpf", "--"],
        ),
        Tool(
            "forklore-bpf-bare",
            "forklore run -o --engine bpf --failures no --no-stack",
            "",
            lambda out: [
                *forklore, "run", "-o", str(out), "--engine", "bpf", "--failures", "no", "--no-stack", "--"
            ],
        ),
        Tool(
            "forklore-perf",
            "forklore run -o --engine perf",
            "",
            lambda out: [*forklore, "run", "-o", str(out), "--engine", "perf", "--"],
        ),
        Tool(
            STRACE,
            "strace -f --seccomp-bpf -e trace=…",
            "strace",
            lambda out: ["strace", "-f", "--seccomp-bpf", "-e", f"trace={SEEN_BY_FORKLORE}", "-o", str(out)],
        ),
        Tool(
            "strace",
            "strace -f",
            "strace",
            lambda out: ["strace", "-f", "-o", str(out)],
            divisors=MappingProxyType({"calls": 20}),
        ),
        Tool(
            "ltrace",
            "ltrace -f -S",
            "ltrace",
            lambda out: ["ltrace", "-f", "-S", "-o", str(out)],
            divisors=MappingProxyType({"calls": 100}),
            dynamic=True,
        ),
        Tool(
            "perf",
            "perf trace",
            "linux-perf",
            lambda out: ["perf", "trace", "-o", str(out), "--"],
            divisors=MappingProxyType({"calls": 10}),
        ),
        *(
            Tool(
                f"bpftrace-{name}",
                f"bpftrace {name}.bt",
                "bpftrace",
                lambda out, name=name: _bpftrace(name, out),  # type: ignore[misc]
            )
            for name in ("execsnoop", "threadsnoop")
        ),
        Tool(
            "python-ptrace",
            "python-ptrace strace.py -f",
            "",
            lambda out: [python, python_ptrace, "-f", "-o", str(out)],
            divisors=MappingProxyType({"threads": 50, "forks": 50, "spawns": 50, "calls": 100}),
        ),
        Tool(PYTHON, "python3 -c pass", "", lambda _: [python, "-c", "pass"], kinds=frozenset({"true"})),
    ]


def _bpftrace(name: str, out: Path) -> list[str]:
    # It takes the traced command as one word.
    if shutil.which("bpftrace") is None:
        return ["bpftrace"]
    return ["sh", "-c", f'exec bpftrace -o "$0" /usr/sbin/{name}.bt -c "$*"', str(out)]


def _python_ptrace(python: str) -> str:
    beside = Path(python).parent / "strace.py"
    if beside.exists():
        return str(beside)
    return shutil.which("strace.py") or str(Path(sysconfig.get_path("scripts")) / "strace.py")
