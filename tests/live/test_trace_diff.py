"""Traces of real programs compared: two runs of one program do not differ, and of two programs what differs is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, Done, Program, Trace_, bare


def diff(*words: str | Path) -> Done:
    return bare(*FORKLORE, "diff", *words)


@pytest.mark.parametrize("name", ["posix_spawn_one", "clone_failures", "stack_calls", "threads_exit_group"])
def test_two_runs_of_a_program_do_not_differ(name: str, program: Program, traced: Trace_) -> None:
    first, second = traced(program(name)), traced(program(name))
    done = diff(first.file, second.file)
    assert (done.status, done.err) == (0, ""), done.out


def test_a_shared_table_of_descriptors_is_told_of(program: Program, traced: Trace_) -> None:
    command = program("flag_files")
    old, new = traced(command, "without"), traced(command, "with")
    done = diff("--format", "json", old.file, new.file)
    assert done.status == 1, done.err
    made, shared = json.loads(done.out)["changes"]
    assert [(each["call"], each["before"], each["now"]) for each in made["manners"]] == [
        ("clone(SIGCHLD)", 1, 0), ("clone(FILES|SIGCHLD)", 0, 1),
    ]  # fmt: skip
    assert (made["program"], made["caller"]) == (command.name, shared["caller"])
    observed = ["asked", "observed"] if "kcmp" in old.file.read_text() else ["asked"]
    assert (shared["resource"], shared["how"], shared["before"], shared["now"]) == ("files", observed, "none", "all")


def test_a_program_that_fails_otherwise(traced: Trace_) -> None:
    how = {"env": {**ENVIRONMENT, "PATH": "/usr/bin:/bin"}}
    old = traced("/bin/sh", "-c", "/bin/true; sh -c 'exit 3'; :", **how)
    new = traced("/bin/sh", "-c", "/no/such/program; sh -c 'exit 0'; :", **how)
    done = diff(old.file, new.file)
    assert done.status == 1, done.err
    assert "sh no longer executes /bin/true (was once)" in done.out
    assert "sh now fails to execute /no/such/program with ENOENT" in done.out
    assert "exit 3 once before, never now" in done.out
