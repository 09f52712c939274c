"""``scripts/faults``: the tracer or a tracee killed at one stop after the other, and that the script would notice."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, TIMEOUT, Program

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "faults"
SMALL = "(exit 3); true | cat; {race} 2 vfork; {threads} 3 alive; {exec} others & wait"


def faults(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=2 * TIMEOUT,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("at", ["stop", "request"])
def test_nothing_is_left_and_every_trace_reads(at: str, program: Program) -> None:
    race, threads, execs = (program(name) for name in ("fork_race", "many_threads", "exec_nonleader"))
    command = SMALL.format(race=race, threads=threads, exec=execs)
    code, said = faults("--stops=37", "--step=7", f"--at={at}", "--patience=20", "--", "sh", "-c", command)
    assert code == 0, said
    assert said.endswith("18 runs, 0 with something wrong\n")
    for who in ("tracer", "tracee", "corpse"):
        assert re.search(rf"^{who}: 6 runs: (?!.*the run ended before)", said, re.MULTILINE), said


def test_a_run_that_does_not_end_is_found() -> None:
    # The fault never comes, and the program outlives the patience.
    code, said = faults(
        "--stops=1", "--first=1000000", "--who=tracer", "--patience=1", "--", "sleep", str(TIMEOUT)
    )  # fmt: skip
    assert code == 1
    assert "after 1 s the tracer has not ended" in said
    assert " sleep sleeping " in said
    assert said.endswith("1 runs, 1 with something wrong\n")
