"""What the first stack costs: a program that forks once, small, and linked with 300 MB of code and symbols.

The large one has its functions before and behind the one that forks, each with a symbol and call-frame rules, so that
all tables that are searched are as long as those of a browser.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measure import HERE, environment

_DOCS: Final = HERE.parent.parent / "docs"
_BEGIN, _END = "<!-- large: begin -->\n", "<!-- large: end -->\n"
_FUNCTIONS: Final = 600_000
_BYTES: Final = 400
"""Of each function; its symbol, name and rules come to another 100."""

_FORKS: Final = """
#include <sys/wait.h>
#include <unistd.h>
static int forks(void)
{
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	return waitpid(child, 0, 0) == child;
}
int main(void)
{
	return !forks();
}
"""
_MANY: Final = """
.altmacro
.macro function number
.globl large_function_number_\\number
.type large_function_number_\\number, %function
large_function_number_\\number:
.cfi_startproc
.cfi_def_cfa_offset 32
.skip {size}
.cfi_endproc
.size large_function_number_\\number, {size}
.endm
.text
.set count, {start}
.rept {functions}
function %count
.set count, count + 1
.endr
.section .note.GNU-stack, "", %progbits
"""


@dataclass(frozen=True)
class First:
    """Medians of one program: processor time and peak memory of the tracer."""

    name: str
    megabytes: float
    with_stack_ms: float
    without_ms: float
    with_stack_kib: int
    without_kib: int


def _compile(scratch: Path, name: str, halves: tuple[int, ...]) -> Path:
    source = scratch / "forks.c"
    source.write_text(_FORKS)
    objects = []
    for start, functions in zip(range(0, sum(halves), max(halves, default=1)), halves, strict=True):
        assembly = scratch / f"many-{start}.s"
        assembly.write_text(_MANY.format(size=_BYTES, start=start, functions=functions))
        objects.append(scratch / f"many-{start}.o")
        subprocess.run(["gcc", "-c", "-o", objects[-1], assembly], check=True)
    program = scratch / name
    subprocess.run(["gcc", "-O1", "-o", program, *objects[:1], source, *objects[1:]], check=True)
    for made in objects:
        made.unlink()
    return program


def _used(scratch: Path, program: Path, *options: str) -> tuple[float, int]:
    file = scratch / "used.json"
    command = [HERE / "recorded.py", file, "run", "-q", "-o", scratch / "t.jsonl", *options, "--", program]
    subprocess.run([sys.executable, *map(str, command)], check=True, env=environment())
    found = json.loads(file.read_text())
    return float(found["cpu_s"]), int(found["peak_kib"])


def _measure(scratch: Path, program: Path, rounds: int) -> First:
    _used(scratch, program)  # the first time, files come from the disk
    runs = [(_used(scratch, program), _used(scratch, program, "--no-stack")) for _ in range(rounds)]
    return First(
        program.name, program.stat().st_size / 1e6,
        with_stack_ms=1000 * statistics.median(run[0][0] for run in runs),
        without_ms=1000 * statistics.median(run[1][0] for run in runs),
        with_stack_kib=int(statistics.median(run[0][1] for run in runs)),
        without_kib=int(statistics.median(run[1][1] for run in runs)),
    )  # fmt: skip


def table(found: list[First]) -> str:
    """As docs/benchmarks.md has it."""
    lines = [
        "| program | MB | tracer's CPU, ms | without stacks | the first stack | its memory, MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.name} | {one.megabytes:.1f} | {one.with_stack_ms:.0f} | {one.without_ms:.0f}"
        f" | {one.with_stack_ms - one.without_ms:.0f} ms | {(one.with_stack_kib - one.without_kib) / 1024:.1f} |"
        for one in found
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench/large", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forklore-large-") as name:
        scratch = Path(name)
        programs = [
            _compile(scratch, "small", ()), _compile(scratch, "large", (_FUNCTIONS // 2, _FUNCTIONS // 2))
        ]  # fmt: skip
        text = table([_measure(scratch, program, arguments.rounds) for program in programs])
    print(text, end="")
    if arguments.write:
        page = _DOCS / "benchmarks.md"
        before, _, rest = page.read_text().partition(_BEGIN)
        _, _, after = rest.partition(_END)
        page.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")
    return 0
