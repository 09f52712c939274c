"""The line that is renewed: what it says, where it may be, and that it is gone in the end."""

from __future__ import annotations

import io
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from happenings import FORK, Story

from forklore.abi.flags import CLONE_UNTRACED
from forklore.cli import progress
from forklore.cli.progress import Progress, Steps, can_renew, reading, shows_on

S = 1_000_000_000


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A stream to a terminal, and the other end of it."""
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        yield stream, ours
    os.close(ours)


def test_what_it_says() -> None:
    story = Story()
    root = story.begin(100)
    first = story.clone(root, 101)
    story.clone(root, 102, FORK | CLONE_UNTRACED, traced=False)
    story.fail(root, 22)
    story.exit(first)
    line = Progress(io.StringIO())
    for event in story.events:
        line.event(event)
    assert line.text(5 * S) == "5 s: 1 task alive, 2 made, the last 4 s ago, 1 creation refused"


def test_it_is_drawn_once_a_second_and_taken_away() -> None:
    out = io.StringIO()
    line = Progress(out)
    waits = [line.idle(t) for t in (0, S // 2, S)]
    assert waits == [1.0, 0.5, 1.0]
    assert out.getvalue().count("forklore:") == 2
    line.close()
    assert out.getvalue().endswith("\r\x1b[K")


def test_only_on_a_terminal_that_can(terminal: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert can_renew(terminal[0])
    assert not can_renew(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not can_renew(terminal[0])


def test_who_writes_to_the_same_terminal(terminal: tuple[TextIO, int]) -> None:
    stream, _ = terminal
    assert shows_on(stream, [2**22 + 1])  # nobody, of whom nothing can be told
    pid = os.fork()
    if pid == 0:
        os.dup2(stream.fileno(), 2)
        os.kill(os.getpid(), 19)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    try:
        assert shows_on(stream, [pid])
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_how_much_of_a_file_is_read(
    terminal: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream, ours = terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_LONG", 1000)
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    monkeypatch.setattr("sys.stderr", stream)
    file, out = tmp_path / "long", io.StringIO()
    file.write_bytes(bytes(10_000))
    with open(file, "rb", buffering=0) as source, reading(str(file), out) as told:
        source.read(5000)
        seen = b""
        while b"read 50 % of 0 MB" not in seen:
            assert len(seen) < 10_000, seen  # the first line may have been written before the read
            seen += os.read(ours, 1000)
        told.write("view")
    assert out.getvalue() == "view"


def test_the_step_that_is_done_is_drawn_once_a_second(
    terminal: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, other = terminal
    now = 100.0
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("time.monotonic", lambda: now)
    steps = Steps()
    for now, name in ((100.9, "early"), (101.0, "fork"), (101.9, "vfork"), (102.0, "clone")):  # noqa: B007 - it is read
        steps.at(lambda name=name: name)  # type: ignore[misc]
    steps.close()
    drawn = b""
    while not drawn.endswith(b"clone\r\x1b[K"):
        assert len(drawn) < 1000, drawn
        drawn += os.read(other, 4096)  # a terminal gives what has come by then
    assert drawn == b"\r\x1b[Kforklore: fork\r\x1b[Kforklore: clone\r\x1b[K"


def test_a_short_file_takes_no_line(tmp_path: Path) -> None:
    out = io.StringIO()
    (tmp_path / "short").write_bytes(b"x")
    with reading(str(tmp_path / "short"), out) as told:
        assert told is out
    with reading("-", out) as told:
        assert told is out
