"""Exit statuses and messages of ``forklore run``, as env(1) and timeout(1) have them; what run and show print."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, Done, Program, Trace_, bare, run

from forklore.abi.units import Unavailable


def one_line(done: Done) -> str:
    (line,) = done.err.splitlines()
    assert line.startswith("forklore: ")
    assert done.out == ""
    return line


@pytest.mark.parametrize("command", ["./nonexistent/program", "no-such-program-anywhere"])
def test_not_found(command: str) -> None:
    # A directory of PATH that may not be searched makes env say 126: here all of them may.
    environment = {**ENVIRONMENT, "PATH": "/usr/bin:/bin"}
    done = run("--", command, env=environment)
    assert done.status == bare("env", command, env=environment).status == 127
    assert command in one_line(done)


def test_the_name_of_a_recording_cannot_command_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "t\x1b[31m\u202e\nforklore: "
    done = run("-o", file, "--", "true")
    assert done.status == 0
    assert file.exists()
    last = done.err.splitlines()[-1]
    assert last.count(r"/t\x1b[31m\u202e\nforklore: ") == 2
    assert last.isprintable()


def test_not_executable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("#!/bin/sh\n")
    done = run("--", file)
    assert done.status == bare("env", file).status == 126
    assert "chmod +x" in one_line(done)


def test_a_directory(tmp_path: Path) -> None:
    done = run("--", tmp_path)
    assert done.status == bare("env", tmp_path).status == 126
    assert "directory" in one_line(done)


def test_a_missing_interpreter(tmp_path: Path) -> None:
    # execve(2), ENOENT: "The file pathname or a script or ELF interpreter does not exist." The file itself is there.
    file = tmp_path / "script"
    file.write_text("#!/nonexistent/interpreter\n")
    file.chmod(0o755)
    done = run("--", file)
    assert done.status == 126
    assert "interpreter" in one_line(done)


def test_not_a_program_at_all(tmp_path: Path) -> None:
    file = tmp_path / "bad-elf"
    file.write_bytes(b"\x7fELF nothing more")
    file.chmod(0o755)
    assert run("--", file).status == bare("env", file).status


def test_a_script_without_an_interpreter_line(tmp_path: Path, traced: Trace_) -> None:
    # execvp(3): "If the header of a file isn't recognized (the attempted execve(2) failed with the error ENOEXEC),
    # these functions will execute the shell (/bin/sh) with the path of the file as its first argument."
    file = tmp_path / "script"
    file.write_text('echo "$0" "$@"; exit 9\n')
    file.chmod(0o755)
    alone = bare("env", file, "a", "b c")
    traced_run = traced(file, "a", "b c")
    assert (traced_run.status, traced_run.out) == (alone.status, alone.out) == (9, f"{file} a b c\n")
    (image,) = traced_run.root.images
    assert image.argv == (b"/bin/sh", os.fsencode(file), b"a", b"b c")


@pytest.mark.parametrize("arguments", [["--no-such-option", "--", "true"], ["--follow=some", "--", "true"], [],
                                       ["--max-depth=0", "--", "true"]])  # fmt: skip
def test_a_wrong_option(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.status, done.out) == (125, "")
    assert done.err.startswith("forklore")


def test_the_programs_options_are_its_own(traced: Trace_) -> None:
    assert run("-q", "echo", "-q", "--", "--help").out == "-q -- --help\n"


@pytest.mark.parametrize(
    "name", ["fork_tree", "clone_parent", "untraced", "pidns", "exec_nonleader", "clone_failures", "many_threads"]
)
@pytest.mark.parametrize("columns", ["80", "132"])
def test_show_prints_what_run_printed(name: str, columns: str, program: Program, tmp_path: Path) -> None:
    # Byte for byte, the one line apart that says where the trace is: a report knows the trace and nothing else.
    file = tmp_path / "t.jsonl"
    environment = {**ENVIRONMENT, "COLUMNS": columns}
    arguments = ["others"] if name == "exec_nonleader" else []
    live = run("-o", file, "--", program(name), *arguments, env=environment)
    later = bare(*FORKLORE, "show", file, env=environment)
    assert (live.status, later.status, later.err) == (0, 0, "")
    recorded = f"Recorded in {file}; look again with: forklore show {file}\n"
    assert live.err == later.out + recorded
    assert later.out.count("\n") >= 2


@pytest.mark.parametrize("name", ["fork_tree", "untraced", "self_stop"])
def test_the_log_is_the_same_live_and_later(name: str, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    live = run("--log", "-o", file, "--", program(name))
    later = bare(*FORKLORE, "show", "--format=log", file)
    assert live.err == later.out
    assert later.out.count("\n") > 10


@pytest.mark.parametrize("stops", ["seccomp", "syscalls", "events"])
def test_a_program_that_another_tracer_holds(stops: str) -> None:
    # ptrace(2), EPERM: a task has one tracer. What the outer one follows cannot be traced by the inner one.
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    arguments = ("run", f"--stops={stops}", "--", "echo", "ran")
    done = bare("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=none", *FORKLORE, *arguments)
    assert done.status == 125
    assert "another tracer" in one_line(done)


def test_a_tracer_under_forklore(traced: Trace_) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    run = traced("strace", "-f", "-o", "/dev/null", "true")
    assert run.status == 1
    assert "Operation not permitted" in run.err


def test_arguments_and_environment_are_recorded_as_asked(tmp_path: Path, traced: Trace_) -> None:
    environment = {**ENVIRONMENT, "SECRET": "hush"}
    plain = traced("sh", "-c", ": word", env=environment)
    assert plain.root.images[0].argv == (b"sh", b"-c", b": word")
    assert "hush" not in plain.file.read_text()
    without = traced("sh", "-c", ": word", env=environment, options=["--no-argv"])
    assert isinstance(without.root.images[0].argv, Unavailable)
    assert ": word" not in without.file.read_text()
    assert "hush" in traced("sh", "-c", ": word", env=environment, options=["--env"]).file.read_text()
