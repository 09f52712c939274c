"""Terminals and signals from outside: what is meant for the program reaches it, once, and forklore reports its end."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, TIMEOUT, Program, bare, until_event

import forklore

COUNTS = """
import os, select, signal
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT)
got, (woken, wake) = [], os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
for number in numbers:
    signal.signal(number, lambda number, frame: None)
os.write(1, b"ready %d\\n" % os.getpid())
while True:
    ready = select.select([0, woken], [], [])[0]
    if woken in ready:
        for number in os.read(woken, 100):
            got.append(b"%d" % number)
            os.write(1, b"signal %d\\n" % number)
    elif not os.read(0, 100).strip():
        break
    else:
        os.write(1, b"counted " + b",".join(got) + b"\\n")
"""
"""A program that says each signal as it comes, and at each line of input which came so far.

The handler in C writes to a pipe: one in Python would run only after the next input if it came just before a read.
"""


class Terminal:
    """The master end of a pseudo-terminal with a program on the other end, as its session's leader."""

    def __init__(self, master: int, pid: int) -> None:
        self.master, self.pid = master, pid
        self.text = ""

    def until(self, words: str) -> str:
        """Read until the program has said so; what came up to there."""
        while words not in self.text:
            assert select.select([self.master], [], [], TIMEOUT)[0], f"no {words!r} in {self.text!r}"
            try:
                data = os.read(self.master, 4096)
            except OSError:  # EIO: the last process on the other side is gone
                data = b""
            assert data, f"no {words!r} in {self.text!r}"
            self.text += data.decode()
        before, _, self.text = self.text.partition(words)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def rest(self) -> str:
        """What is said until all processes on the terminal have ended."""
        while True:
            assert select.select([self.master], [], [], TIMEOUT)[0], self.text
            try:
                data = os.read(self.master, 4096)
            except OSError:
                return self.text
            if not data:
                return self.text
            self.text += data.decode()

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def terminal(*command: str | os.PathLike[str]) -> Iterator[Terminal]:
    pid, master = pty.fork()
    if pid == 0:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and no shell would hand that on
            signal.signal(number, signal.SIG_DFL)
        words = [os.fspath(word) for word in command]
        os.execve(words[0], words, {**ENVIRONMENT, "COLUMNS": "100", "TERM": "dumb"})
    attributes = termios.tcgetattr(master)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(master, termios.TCSANOW, attributes)
    try:
        yield Terminal(master, pid)
    finally:
        os.close(master)


def test_the_program_keeps_the_terminal(program: Program) -> None:
    path = program("env_status")

    def found(*command: str | os.PathLike[str]) -> list[str]:
        with terminal(*command) as term:
            said = term.rest().splitlines()
            assert term.status() == 0
        # The session's leader is forklore when it is there: relations is the one line that may say so.
        return [line for line in said if not line.startswith(("ids ", "relations ", "status Seccomp:", "status NoNew"))]

    alone = found(path)
    assert "tty controlling=1 foreground=1" in alone
    assert found(*FORKLORE, "run", "-q", "--", path) == alone


@pytest.mark.parametrize(("key", "number"), [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)])
def test_ctrl_c_reaches_the_program_once(key: str, number: int) -> None:
    # The terminal sends to the whole foreground process group (tty_ioctl(4)): the program has it already, and forklore
    # neither dies of it nor passes it on a second time.
    with terminal(*FORKLORE, "run", "--", sys.executable, "-c", COUNTS) as term:
        term.until("ready")
        term.type(key)
        term.until(f"signal {number:d}")
        term.type("count\n")
        term.until(f"counted {number:d}\r\n")
        term.type("again\n")
        term.until(f"counted {number:d}\r\n")
        term.type("\n")
        tree = term.rest()
        assert "exit 0" in tree
        assert term.status() == 0


def test_its_line_is_on_the_terminal_where_all_output_is_in_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = f"TERM=xterm exec {shlex.join(map(os.fspath, FORKLORE))} run -- sh -c 'echo one; cat; exit 3' > {out} 2>&1"
    with terminal("/bin/sh", "-c", line) as term:
        assert re.search(r"forklore: \d+ s: 1 task alive$", term.until(", 0 made"))
        term.type("two\n\x04")
        assert term.rest().endswith("\r\x1b[K")
        assert term.status() == 3
    written = out.read_text()
    assert written.startswith("one\ntwo\n")
    assert " alive" not in written
    assert "exit 3" in written


@pytest.mark.parametrize("where", ["", "2>&1 | cat", "2>/dev/null", ">/dev/null"])
def test_its_line_is_not_among_the_programs_output(where: str) -> None:
    ours = shlex.join(map(os.fspath, FORKLORE))
    line = f"TERM=xterm {ours} run -- sh -c 'echo one >&2; echo one; cat; exit 3' {where}"
    with terminal("/bin/sh", "-c", line) as term:
        before = term.until("one")
        term.type("\x04")
        assert " alive" not in before + term.rest()
        assert term.status() == (0 if "|" in where else 3)


def test_a_program_that_ctrl_c_ends(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    with terminal(*FORKLORE, "run", "-o", str(file), "--", "sh", "-c", "echo ready; exec cat") as term:
        term.until("ready")
        term.type("\x03")
        assert "SIGINT" in term.rest()
        assert term.status() == -signal.SIGINT
    (root,) = forklore.load(file).tasks.values()
    assert root.death is not None
    assert root.death.signal == signal.SIGINT


def test_ctrl_z_stops_both_and_fg_continues(tmp_path: Path) -> None:
    # An interactive shell stops and continues its job: the whole group, forklore included. Whether the program is seen
    # to stop depends on who stops first; that it goes on does not.
    file = tmp_path / "t.jsonl"
    with terminal("/bin/bash", "--norc", "--noprofile", "--noediting", "-i") as term:
        term.type("PS1=\n")
        term.type(" ".join(FORKLORE) + f" run -q -o {file} -- sh -c 'echo re''ady; cat; echo af''ter'\n")
        term.until("ready")
        term.type("\x1a")
        term.until("Stopped")
        term.type("fg\n")
        term.type("hello\n")
        term.until("hello")
        term.type("\x04")
        term.until("after")
        term.type("exit\n")
        term.rest()
        assert term.status() == 0
    trace = forklore.load(file)
    assert trace.end_reason == "done"
    assert {stop.signal for task in trace.tasks.values() for stop in task.stops} <= {signal.SIGTSTP}
    assert all(stop.resumed is not None for task in trace.tasks.values() for stop in task.stops)


class Talk:
    """COUNTS under forklore, in a process group of its own that forklore leads, spoken to through pipes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [*FORKLORE, "run", "-q", "--", sys.executable, "-c", COUNTS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, process_group=0, bufsize=0,
        )  # fmt: skip
        self.forklore = self._process.pid
        self._text = b""
        self.pid = int(self.line().removeprefix("ready "))

    def line(self) -> str:
        """The next line that it says."""
        assert self._process.stdout is not None
        while b"\n" not in self._text:
            assert select.select([self._process.stdout], [], [], TIMEOUT)[0], "it says nothing"
            data = os.read(self._process.stdout.fileno(), 4096)
            assert data, "it ended"
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def ask(self) -> str:
        """Which signals came so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"count\n")
        assert self.line().startswith("counted"), "a signal came late"
        self._process.stdin.write(b"count\n")
        return self.line().removeprefix("counted ")

    def close(self) -> int:
        """End it; forklore's exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait(TIMEOUT)

    def kill(self) -> None:
        """After a failure: leave nothing behind."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def talk() -> Iterator[Talk]:
    one = Talk()
    try:
        yield one
    finally:
        one.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_for_forklore_alone_is_passed_on_once(number: int, talk: Talk) -> None:
    # `timeout` and service managers know forklore's pid only.
    os.kill(talk.forklore, number)
    assert talk.line() == f"signal {number:d}"
    assert talk.ask() == f"{number:d}"
    assert talk.close() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_for_the_whole_group_arrives_once(number: int, talk: Talk) -> None:
    # kill(2) with a negative pid reaches the program by itself; what forklore got is the same signal again.
    os.killpg(talk.forklore, number)
    assert talk.line() == f"signal {number:d}"
    assert talk.ask() == f"{number:d}"
    assert talk.close() == 0


def test_two_signals_are_two(talk: Talk) -> None:
    # To the program, and then to forklore, from one sender: neither stands for the other. Within a second they would be
    # taken for one kill of the group, for nothing in a siginfo tells the two apart.
    os.kill(talk.pid, signal.SIGUSR1)
    assert talk.line() == f"signal {signal.SIGUSR1:d}"
    moment = time.monotonic() + 1.1
    while time.monotonic() < moment:
        assert talk.ask() == f"{signal.SIGUSR1:d}"
    os.kill(talk.forklore, signal.SIGUSR1)
    assert talk.line() == f"signal {signal.SIGUSR1:d}"
    assert talk.ask() == f"{signal.SIGUSR1:d},{signal.SIGUSR1:d}"
    assert talk.close() == 0


def test_each_of_many_group_signals_arrives_once(talk: Talk) -> None:
    for count in range(1, 24):
        os.killpg(talk.forklore, signal.SIGUSR1)
        assert talk.line() == f"signal {signal.SIGUSR1:d}"
        assert talk.ask() == ",".join([f"{signal.SIGUSR1:d}"] * count)
    assert talk.close() == 0


def test_what_is_passed_on_keeps_its_sender(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    with subprocess.Popen(
        [*FORKLORE, "run", "-q", "-o", file, "--", "sh", "-c", "echo ready; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == -signal.SIGTERM
    (root,) = forklore.load(file).tasks.values()
    assert root.death is not None
    assert (root.death.signal, root.death.sender) == (signal.SIGTERM, os.getpid())


def test_a_signal_ends_what_the_program_left(tmp_path: Path) -> None:
    # The program is gone, its child reads from a pipe that nobody closes: SIGTERM asks forklore itself to end.
    ends = os.pipe()
    file = tmp_path / "t.jsonl"
    with subprocess.Popen(
        [*FORKLORE, "run", "-q", "-o", file, "--", "sh", "-c", "exec 3<&0; cat <&3 & exit 6"],
        stdin=ends[0], env=ENVIRONMENT, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(ends[0])
        until_event(file, "exit")
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 6
    os.close(ends[1])
    deaths = [task.death for task in forklore.load(file).tasks.values()]
    assert [(death.code, death.signal) for death in deaths if death] == [(6, None), (None, signal.SIGKILL)]


def test_bash_reports_the_signal() -> None:
    done = bare("bash", "-c", " ".join(FORKLORE) + " run -q -- sh -c 'kill -TERM $$'; echo $?")
    assert done.out == f"{128 + signal.SIGTERM}\n"
