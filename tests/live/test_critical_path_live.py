"""Where the time of real programs went: who waited for whom, as a shell's own structure has it."""

from __future__ import annotations

import json
from pathlib import Path

from tracing import FORKLORE, Trace_, bare, run

from forklore.model.critical_path import CriticalPath, critical_path
from forklore.model.tasks import Trace


def path_of(trace: Trace) -> CriticalPath:
    path = critical_path(trace)
    assert isinstance(path, CriticalPath)
    return path


def test_a_pipe_leads_to_its_writer(traced: Trace_) -> None:
    path = path_of(traced("sh", "-c", "sleep 0.3 | sh -c 'read line; exec sleep 0.1'; true").trace)
    first, second = [step for step in path.steps if step.length > 50_000_000 and step.program == b"sleep"]
    assert (first.length > 250_000_000, second.task == first.task) == (True, False)
    assert next(step.after for step in path.steps if step.task == second.task) == "pipe"


def test_of_two_jobs_the_longer_one_counts(traced: Trace_) -> None:
    trace = traced("sh", "-c", "sleep 0.1 & sleep 0.4 & wait").trace
    sleeping = [step for step in path_of(trace).steps if step.program == b"sleep" and step.length > 50_000_000]
    assert len(sleeping) == 1
    assert trace.tasks[sleeping[0].task].images[-1].argv == (b"sleep", b"0.4")


def test_that_a_shell_waited_is_seen(traced: Trace_) -> None:
    path = path_of(traced("sh", "-c", "sleep 0.1; sleep 0.1; true").trace)
    waits = [step for step in path.steps if step.after == "wait"]
    assert waits
    assert all(step.sure for step in waits)


def test_run_shows_it_and_json_has_it(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    done = run("--view", "time", "-o", file, "--", "sh", "-c", "true; true")
    assert "Critical path: " in done.err
    shown = bare(*FORKLORE, "show", "--view", "time", "--format", "json", file)
    found = json.loads(shown.out)
    assert found["format"]["name"] == "forklore-time"
    assert found["cpu"] > 0
    path = found["critical_path"]
    assert sum(step["until"] - step["since"] for step in path["steps"]) == path["length"]
