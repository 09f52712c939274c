"""scripts/transparency finds what a program can notice, and fails for what is not documented."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tracing import SOURCE, Program

HARNESS = SOURCE.parent / "scripts" / "transparency"

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the harness compiles its witness: no gcc here")


def harness(tmp_path: Path, *arguments: str | Path) -> tuple[int, str, list[dict[str, object]]]:
    """Status, output, and the outcomes."""
    file = tmp_path / "outcomes.jsonl"
    done = subprocess.run(
        [sys.executable, HARNESS, "--json", file, "-n", "1", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout, [json.loads(line) for line in file.read_text().splitlines()]


def names(outcome: dict[str, object], kind: str) -> set[str]:
    found = outcome[kind]
    assert isinstance(found, list)
    return {(each[0] if kind == "documented" else each)["name"] for each in found}


def test_a_shell_with_children_notices_what_is_documented_only(tmp_path: Path) -> None:
    status, out, (outcome,) = harness(tmp_path, "--", "sh", "-c", "ls / | wc -l; (exit 3); kill -TERM $$")
    assert status == 0, out
    assert names(outcome, "undocumented") == set()
    # The witness was in each of the three programs.
    assert {f"seen {name} TracerPid" for name in ("sh", "ls", "wc")} <= names(outcome, "documented")


def test_each_way_to_see_calls_is_an_outcome(tmp_path: Path) -> None:
    status, out, outcomes = harness(tmp_path, "--stops", "seccomp,syscalls,events", "--", "sh", "-c", "exit 3")
    assert status == 0, out
    assert [outcome["stops"] for outcome in outcomes] == ["seccomp", "syscalls", "events"]
    assert ["seen sh Seccomp" in names(outcome, "documented") for outcome in outcomes] == [True, False, False]


def test_what_is_not_documented_fails_it(tmp_path: Path) -> None:
    tracer = "grep TracerPid /proc/self/status | grep -q '\t0$'; echo $? >&2"
    look = f"{tracer}; sh -c 'exit '$(grep -c '^Seccomp:.0' /proc/self/status)"
    status, out, (outcome,) = harness(tmp_path, "--", "sh", "-c", look)
    assert status == 1, out
    assert names(outcome, "undocumented") == {"status", "stderr", "waits sh"}
    assert "alone:  exit 1" in out
    assert "traced: exit 0" in out


def test_statuses_as_a_parent_saw_them(tmp_path: Path, program: Program) -> None:
    status, out, _ = harness(tmp_path, "--keep", tmp_path / "kept", "--", str(program("self_stop")))
    assert status == 0, out
    for log in ("0001.witness", "0002.witness"):
        waits = [line for line in (tmp_path / "kept" / log).read_text().splitlines() if line.startswith("w\t")]
        # waitid: CLD_STOPPED by SIGSTOP and SIGTSTP five times each, CLD_CONTINUED, and the child's own exit code.
        assert waits.count("w\tself_stop\twaitid\tcode 5 status 19") == 5
        assert waits.count("w\tself_stop\twaitid\tcode 5 status 20") == 5
        assert waits[-1] == "w\tself_stop\twaitid\tcode 1 status 6"


def test_a_list_that_is_not_there() -> None:
    done = subprocess.run([sys.executable, HARNESS, "--lists", "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("no list nothing: there are guests, programs")
