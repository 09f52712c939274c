"""Frames of Python are told by the bpf engine as they are when a child is made, though nobody is held."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bpf_here import needed
from tracing import ENVIRONMENT, FORKLORE

from forklore.elf.cpython.layout import KNOWN
from forklore.events import jsonl
from forklore.events import records as ev

SCRIPT = """\
import os, select, subprocess, sys, threading

def made():
    return not select.select([0], [], [], 0.02)[0]

def build():
    subprocess.run(["true"])

def fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)

def work():
    over.wait()

over = threading.Event()
while made():  # until the trace has told of it
    build()
sys.stdin.readline()
while made():
    fork()
sys.stdin.readline()
thread = threading.Thread(target=work, name="crew")
thread.start()
sys.stdin.readline()
over.set()
thread.join()
"""


@pytest.fixture(autouse=True)
def _bpf() -> None:
    needed()
    if sys.version_info.minor not in KNOWN:
        pytest.skip(f"no layout of CPython 3.{sys.version_info.minor} is known")


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)  # only so that the programs have the processors


class Traced:
    """A program that waits for its input, and its trace."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path) -> None:
        self._process = process
        self._file = file

    def events(self) -> list[ev.Event]:
        whole = self._file.read_bytes()
        cut = self._file.with_suffix(".cut")
        cut.write_bytes(whole[: whole.rfind(b"\n") + 1])
        return list(jsonl.read(str(cut))) if cut.stat().st_size else []

    def tells(self, what: str) -> bool:
        return self._file.exists() and what in self._file.read_text()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()


@contextmanager
def traced(folder: Path, *command: str) -> Iterator[Traced]:
    file = folder / "trace.jsonl"
    with subprocess.Popen(
        [*FORKLORE, "run", "--engine", "bpf", "-q", "-o", str(file), "--", *command],
        stdin=subprocess.PIPE, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        try:
            wait_until(file.exists)
            yield Traced(process, file)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_who_made_a_child_and_what_a_thread_runs(tmp_path: Path) -> None:
    script = tmp_path / "makes.py"
    script.write_text(SCRIPT)
    with traced(tmp_path, sys.executable, "-S", str(script)) as trace:
        wait_until(lambda: trace.tells('"function":"build"'))
        trace.go_on()
        wait_until(lambda: trace.tells('"function":"fork"'))
        trace.go_on()
        wait_until(lambda: trace.tells('"name":"crew"'))
        trace.go_on()
    events = trace.events()
    scripts = {event.script: event for event in events if isinstance(event, ev.Script)}
    lines = {frame.line for one in scripts.values() for frame in one.frames if frame.function == "fork"}
    assert lines == {SCRIPT.splitlines().index("    pid = os.fork()") + 1}
    assert all(one.late and one.end == "outermost" for one in scripts.values())
    calls = {tuple(frame.function for frame in one.frames[-2:]) for one in scripts.values()}
    assert {("build", "<module>"), ("fork", "<module>"), ("Thread.start", "<module>")} <= calls
    (runs,) = (event.runs for event in events if isinstance(event, ev.Create) and event.runs is not None)
    assert runs.script is not None
    assert (runs.name, runs.script.function) == ("crew", "work")


def test_an_interpreter_that_runs_already_is_known_at_its_first_child(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    script = "import os\nprint(flush=True)\ninput()\nif not os.fork(): os._exit(0)\nos.wait()\ninput()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            program.stdout.readline()
            with subprocess.Popen(
                [*FORKLORE, "attach", "--engine", "bpf", "-q", "-o", str(file), str(program.pid)],
                env=ENVIRONMENT,
            ) as forklore:
                trace = Traced(program, file)
                wait_until(lambda: trace.tells('"event":"begin"'))
                trace.go_on()
                wait_until(lambda: trace.tells('"event":"create"'))
                trace.go_on()
                assert forklore.wait(60) == 0
        finally:
            program.kill()
    (made,) = (event for event in trace.events() if isinstance(event, ev.Create))
    (frames,) = (event.frames for event in trace.events() if isinstance(event, ev.Script))
    assert made.script is not None
    assert [(frame.function, frame.line) for frame in frames] == [("<module>", 4)]
