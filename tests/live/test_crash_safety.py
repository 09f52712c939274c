"""Forklore dies, its disk is full, its reader goes away: the program is not harmed and the file can be read."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, TIMEOUT, Program, bare, run, until_event

import forklore


@pytest.mark.parametrize("stops", ["seccomp", "events"])
def test_a_killed_tracer_takes_all_its_tracees_along(stops: str, tmp_path: Path) -> None:
    # PTRACE_O_EXITKILL. Every process below holds the pipe's write end: its reader sees the end of it when the last one
    # is gone, announced or not.
    heard, held = os.pipe()
    file = tmp_path / "t.jsonl"
    script = "for n in 1 2; do (while :; do (true); /bin/true; true | cat; echo $n; done) & done; wait"
    process = subprocess.Popen(
        [*FORKLORE, "run", "-o", file, f"--stops={stops}", "--", "sh", "-c", script],
        stdout=held, env=ENVIRONMENT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(held)
    until_event(file, "create", 41)
    process.kill()
    assert process.wait(TIMEOUT) == -signal.SIGKILL
    while select.select([heard], [], [], TIMEOUT)[0]:
        if not os.read(heard, 65536):
            break
    else:
        pytest.fail(f"some tracee lives on {TIMEOUT} s after its tracer")
    os.close(heard)
    trace = forklore.load(file)
    assert len(trace.tasks) > 41
    assert trace.end_reason is None
    (warning,) = trace.warnings
    assert "cut off" in warning
    shown = bare(*FORKLORE, "show", file)
    assert shown.status == 0
    assert "cut off" in shown.err


def test_a_full_disk(program: Program) -> None:
    # /dev/full fails every write with ENOSPC (full(4)).
    alone = bare(program("leader_exits_first"), "7")
    done = run("-q", "-o", "/dev/full", "--", program("leader_exits_first"), "7")
    assert done.status == alone.status == 7
    assert len(done.lines("child")) == len(alone.lines("child")) == 1
    (message,) = done.err.splitlines()
    assert message.startswith("forklore: the trace in /dev/full is not whole: No space left on device; ")


def test_a_fifo(tmp_path: Path) -> None:
    fifo, copy = tmp_path / "fifo", tmp_path / "copy"
    os.mkfifo(fifo)
    with subprocess.Popen(["sh", "-c", f"cat {fifo} > {copy}"]) as reader:
        done = run("-o", fifo, "--", "sh", "-c", "true; exit 3")
        assert reader.wait(TIMEOUT) == 0
    assert done.status == 3
    assert "exit 3" in done.err  # the tree is made all the same, though a FIFO cannot be read twice
    assert forklore.load(copy).end_reason == "done"


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["head", "-1", fifo], stdout=subprocess.DEVNULL) as reader:
        gone = f"while kill -0 {reader.pid} 2>/dev/null; do true; done; exit 3"
        waiter = subprocess.Popen([*FORKLORE, "run", "-q", "-o", fifo, "--", "sh", "-c", gone],
                                  env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert reader.wait(TIMEOUT) == 0
        _, complaint = waiter.communicate(timeout=TIMEOUT)
    assert waiter.returncode == 3
    assert "Broken pipe" in complaint


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_the_file_is_the_users_own(mask: int, tmp_path: Path) -> None:
    # Arguments of programs are nobody else's business, whatever the umask lets through.
    file = tmp_path / "t"
    done = run("-q", "-o", file, "--", "sh", "-c", "umask", preexec_fn=lambda: os.umask(mask))
    assert done.out == f"{mask:04o}\n"
    assert file.stat().st_mode & 0o777 == 0o600 & ~mask


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    done = run("-o", tmp_path / "missing" / "t", "--", "touch", marker)
    assert done.status == 125
    assert str(tmp_path / "missing" / "t") in done.err
    assert not marker.exists()  # it is found out before the program starts
