"""`forklore run --timeout`: a program that takes too long is ended as timeout(1) does, and told why first."""

from __future__ import annotations

import subprocess

import bpf_here
import pytest
from hanging import made
from tracing import ENVIRONMENT, FORKLORE

import forklore


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FORKLORE, "run", *words], capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False
    )


def test_a_program_that_is_quick_enough_ends_as_it_does() -> None:
    done = run("--timeout", "60", "-q", "--", "sh", "-c", "exit 7")
    assert (done.returncode, done.stderr) == (7, "")


def test_why_is_said_before_the_signal_is_sent() -> None:
    done = run("--timeout", "1.5", "-q", "--", str(made("forked.c")), "logging_lock")
    assert done.returncode == 124
    said = " ".join(done.stderr.split())
    assert "has not ended after 1.5 s; why, and then SIGTERM" in said
    assert "is deadlocked for certain" in said
    assert "log_lock (forked.c:" in said


def test_another_signal_and_the_trace_tells_it() -> None:
    done = run("--timeout", "0.5", "--signal", "INT", "--", "sleep", "1000")
    assert done.returncode == 124
    assert "SIGINT" in done.stderr
    assert "sleep sleeps, for" in done.stderr


def test_what_ignores_the_signal_is_killed_later() -> None:
    done = run(
        "--timeout", "0.5", "--kill-after", "0.5", "-q", "--", "sh", "-c", "trap '' TERM; while :; do sleep 1000; done"
    )
    assert done.returncode == 137
    assert "--kill-after: it has not ended 0.5 s later: SIGKILL" in done.stderr


def test_the_status_is_that_of_the_limit_even_if_the_program_ends_well_then() -> None:
    assert run("--timeout", "0.5", "-q", "--", "sh", "-c", "trap 'exit 0' TERM; sleep 1000").returncode == 124


def test_who_is_stopped_gets_the_signal_too() -> None:
    assert run("--timeout", "0.5", "-q", "--", "sh", "-c", "kill -STOP $$").returncode == 124


def test_what_is_left_behind_does_not_hold_it_for_ever() -> None:
    done = run("--timeout", "1", "-q", "--", "sh", "-c", "(trap '' TERM; exec sleep 1000) & exit 0")
    assert done.returncode == 124


@pytest.mark.parametrize("words", [["--timeout", "soon"], ["--timeout", "0"], ["--timeout", "1", "--signal", "NONE"]])
def test_what_is_no_time_and_no_signal_is_refused_in_words(words: list[str]) -> None:
    done = run(*words, "--", "true")
    assert done.returncode == 125
    assert "is no time" in done.stderr or "is no signal" in done.stderr


# By the bpf engine, which does not hold what it follows


def by_bpf(*words: str) -> subprocess.CompletedProcess[str]:
    bpf_here.needed()
    return run("--engine", "bpf", *words)


def test_bpf_says_why_before_the_signal_is_sent() -> None:
    done = by_bpf("--timeout", "1.5", "-q", "--", str(made("forked.c")), "logging_lock")
    assert done.returncode == 124, done
    said = " ".join(done.stderr.split())
    assert "has not ended after 1.5 s; why, and then SIGTERM" in said
    assert "is deadlocked for certain" in said
    assert "log_lock (forked.c:" in said


def test_bpf_another_signal_and_the_trace_tells_it() -> None:
    done = by_bpf("--timeout", "0.5", "--signal", "INT", "--", "sleep", "1000")
    assert done.returncode == 124, done
    assert "sleep sleeps, for" in done.stderr
    assert "SIGINT" in done.stderr


def test_bpf_what_ignores_the_signal_is_killed_later() -> None:
    done = by_bpf(
        "--timeout", "0.5", "--kill-after", "0.5", "-q", "--", "sh", "-c", "trap '' TERM; while :; do sleep 1000; done"
    )
    assert done.returncode == 137, done
    assert "--kill-after: it has not ended 0.5 s later: SIGKILL" in done.stderr


def test_bpf_the_status_is_that_of_the_limit_even_if_the_program_ends_well_then() -> None:
    assert by_bpf("--timeout", "0.5", "-q", "--", "sh", "-c", "trap 'exit 0' TERM; sleep 1000").returncode == 124
    assert by_bpf("--timeout", "60", "-q", "--", "sh", "-c", "exit 7").returncode == 7


def test_bpf_who_is_stopped_gets_the_signal_too() -> None:
    assert by_bpf("--timeout", "0.5", "-q", "--", "sh", "-c", "kill -STOP $$").returncode == 124


def test_bpf_what_is_left_behind_does_not_hold_it_for_ever() -> None:
    done = by_bpf("--timeout", "1", "-q", "--", "sh", "-c", "(trap '' TERM; exec sleep 1000) & exit 0")
    assert done.returncode == 124, done


def test_in_python() -> None:
    trace = forklore.trace(["sleep", "1000"], timeout=0.5)
    (root,) = trace.roots
    assert root.death is not None
    with pytest.raises(ValueError, match="timeout=0 is no number of seconds"):
        forklore.trace(["true"], timeout=0)
