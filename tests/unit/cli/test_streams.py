"""The command's own stdout and stderr: encodings, readers that leave, full disks, and the terminal behind a pipe."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parents[3]
TRACE = str(ROOT / "traces/python.forklore.jsonl")
LARGE = ("show", "--format=json", str(ROOT / "traces/make.forklore.jsonl"))
COMMANDS = {
    "explain": ("explain", "fork", "vfork"),
    "tree": ("show", TRACE),
    "log": ("show", "--format=log", TRACE),
    "json": LARGE,
    "doctor": ("doctor",),
    "inspect": ("inspect", str(os.getpid())),
    "diff": ("diff", TRACE, TRACE),
    "help": ("--help",),
    "help of a verb": ("show", "--help"),
}
every_command = pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
buffered_or_not = pytest.mark.parametrize("unbuffered", ["", "1"])
Output = int | IO[bytes]


def begun(
    *words: str, stdout: Output, stderr: Output = subprocess.PIPE, stdin: Output | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "PYTHONUNBUFFERED")}
    variables |= {"PYTHONPATH": str(ROOT / "src"), **environment}
    command = [sys.executable, "-m", "forklore", *words]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=variables)


def ended(*words: str, stdout: Output, **environment: str) -> tuple[int, bytes]:
    process = begun(*words, stdout=stdout, stderr=subprocess.PIPE, stdin=None, **environment)
    said = process.communicate()[1]
    return process.returncode, said


@contextmanager
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    ours, theirs = os.pipe()
    with open(ours, "rb") as reading, open(theirs, "wb") as writing:
        yield reading, writing


@every_command
@buffered_or_not
def test_a_reader_that_leaves_is_no_error(words: tuple[str, ...], unbuffered: str) -> None:
    with pipe() as (reading, writing):
        reading.close()
        assert ended(*words, stdout=writing, PYTHONUNBUFFERED=unbuffered) == (141, b"")


@buffered_or_not
def test_a_reader_that_leaves_in_the_middle_is_none_either(unbuffered: str) -> None:
    # More than a pipe holds: a single write(2) is cut short when the reader goes.
    with pipe() as (reading, writing):
        process = begun(*LARGE, stdout=writing, PYTHONUNBUFFERED=unbuffered)
        writing.close()
        assert reading.read(1) == b"{"
        reading.close()
        assert process.communicate()[1] == b""
        assert process.returncode == 141


@every_command
@buffered_or_not
def test_a_full_disk_is_told(words: tuple[str, ...], unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        told = ended(*words, stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert told == (1, b"forklore: standard output: No space left on device\n")


@pytest.mark.parametrize("words", [("show", "/nowhere/t"), ("explain", "nonsense"), ("run", "--", "/nowhere/x")])
def test_where_nothing_can_be_said_the_status_says_it(words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        silent = begun(*words, stdout=subprocess.DEVNULL, stderr=full).wait()
    assert silent == ended(*words, stdout=subprocess.DEVNULL)[0] != 0


@buffered_or_not
def test_a_pipe_that_somebody_made_non_blocking_gets_all(unbuffered: str) -> None:
    with pipe() as (reading, writing):
        os.set_blocking(writing.fileno(), False)
        process = begun(*LARGE, stdout=writing, PYTHONUNBUFFERED=unbuffered)
        writing.close()
        whole = reading.read()
        assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert whole == subprocess.run(process.args, stdout=subprocess.PIPE, check=True).stdout


@every_command
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict", "utf-8"])
def test_any_encoding_will_do(words: tuple[str, ...], encoding: str) -> None:
    process = begun(*words, stdout=subprocess.PIPE, PYTHONIOENCODING=encoding)
    out, said = process.communicate()
    assert said == b""
    assert process.returncode <= (words == COMMANDS["doctor"])  # which says by it whether tracing works here
    text = out.decode("utf-8" if words == LARGE else encoding.partition(":")[0])
    assert len(text.splitlines()) > 3 or words == LARGE or words[0] == "diff"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_the_tree_keeps_its_columns_without_the_signs(encoding: str) -> None:
    process = begun("show", "--columns=80", TRACE, stdout=subprocess.PIPE, PYTHONIOENCODING=encoding)
    lines = process.communicate()[0].decode(encoding).splitlines()
    assert max(map(len, lines)) == 80
    assert [line for line in lines if line.startswith("0.140 |- ") and line.endswith(" 2.4 ms")]
    assert [line for line in lines if "<- work.py:17   " in line and line.endswith(" 20 ms")]


def test_errors_are_told_in_any_encoding() -> None:
    process = begun("show", "/nowhere/→ü", stdout=subprocess.DEVNULL, PYTHONIOENCODING="ascii:strict")
    assert process.communicate()[1] == b"forklore: /nowhere/->\\xfc: No such file or directory\n"


@pytest.mark.parametrize("at", ["stderr", "stdin"])
@pytest.mark.parametrize(("columns", "wanted"), [(57, 57), (130, 130), (0, 80)])
def test_behind_a_pipe_the_width_is_that_of_the_terminal(at: str, columns: int, wanted: int) -> None:
    master, terminal = os.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        if at == "stderr":
            process = begun(*LARGE[::2], stdout=subprocess.PIPE, stderr=terminal)
        else:
            process = begun(*LARGE[::2], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=terminal)
        widest = max(map(len, process.communicate()[0].decode().splitlines()))
        assert wanted - 2 <= widest <= wanted
    finally:
        os.close(terminal)
        os.close(master)
