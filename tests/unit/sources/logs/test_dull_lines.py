"""Lines that are passed over say nothing: the events of a log are those of reading every line of it."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_events import DATA

from forklore.events import lines
from forklore.events.lines import TraceError
from forklore.events.records import Event
from forklore.sources.files import open_any
from forklore.sources.logs.strace.dull import DullLines
from forklore.sources.logs.strace.reader import StraceReader

STAMPS: dict[str, Callable[[int], str]] = {
    "none": lambda _n: "",
    "-ttt": lambda n: f"{1_795_000_000 + n // 3}.{n % 1000:03} ",
    "-tt": lambda n: f"{(n * 7) % 24:02}:{n % 60:02}:00.{n % 1000:03} ",
    "-t": lambda n: f"{23 if n < 40 else 0:02}:{n % 60:02}:00 ",
    "-r": lambda n: f"     0.{n % 1000:06} ",
    "mixed": lambda n: f"{1_795_000_000 + n}.5 " if n % 5 else "23:00:00 ",
}
DULL = [
    'read(3, "\\177ELF"..., 832) = 832', "brk(NULL) = 0x1000", "close(3) = -1 EBADF (Bad file descriptor)",
    "futex(0x7f, FUTEX_WAIT <unfinished ...>", "<... futex resumed>) = 0", "[00007f1c] lseek(3, 0, SEEK_SET) = 0",
    'write(1, "<... futex resumed>) = 0", 5) = 5', "newfstatat(3, \"\", {st_mode=S_IFREG|0644, ...}, 0) = 0",
]  # fmt: skip
TOLD = [
    "fork() = {child}", "vfork( <unfinished ...>", "<... vfork resumed>) = {child}", "+++ exited with 3 +++",
    "+++ killed by SIGSEGV +++", "--- SIGSEGV {{si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x10}} ---",
    'execve("/bin/a", ["a"], 0x1) = 0', "--- stopped by SIGSTOP ---", "gettid() = 2", "wait4(-1, NULL, 0, NULL) = 2",
    "--- SIGCHLD {{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=2, si_status=7}} ---", "exit_group(0) = ?", "garbage",
    "clone(child_stack=NULL, flags=CLONE_NEWPID|SIGCHLD) = {child}", "clone(strace: Process 14 attached",
]  # fmt: skip


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    """Mostly dull lines, of a few tasks, stamped in one of the ways, with some that tell of tasks in between."""
    stamp = STAMPS[draw(st.sampled_from(sorted(STAMPS)))]
    prefix = draw(st.sampled_from(["{tid} ", "{tid}<comm> ", "[pid {tid}] ", "[pid    {tid}] "]))
    text = ['10 execve("/a", ["a"], 0x1) = 0']
    dice = random.Random(draw(st.integers(0, 2**32)))
    for number in range(draw(st.integers(0, 120))):
        tid = dice.choice([10, 10, 10, 11, 12, 13, 4194304, 0])
        child = dice.choice([2, 11, 12, 13])
        what = dice.choice(DULL) if dice.random() < 0.8 else dice.choice(TOLD).format(child=child)
        text.append(prefix.format(tid=tid) + stamp(number) + what)
    return "\n".join(text).encode() + draw(st.sampled_from([b"", b"\n", b"\n\n"]))


def every_line(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DullLines, "__call__", lambda _self, _part, at: at)


def told(path: Path) -> tuple[list[Event], list[str]] | TraceError:
    try:
        trace = open_any(path)
        return list(trace), trace.warnings
    except TraceError as error:
        return error


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs(), limit=st.sampled_from([7, 100, 4096, 1 << 18]))
def test_the_events_are_the_same(tmp_path: Path, log: bytes, limit: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BUFFER", limit)
        passed_over = told(path)
        every_line(patch)
        read = told(path)
    assert repr(passed_over) == repr(read)


@pytest.mark.parametrize("path", sorted(DATA.glob("strace-*.log")), ids=lambda path: path.stem)
@pytest.mark.parametrize("packed", [False, True])
def test_real_logs(path: Path, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_bytes(gzip.compress(path.read_bytes()) if packed else path.read_bytes())
    passed_over = told(log)
    every_line(monkeypatch)
    assert repr(passed_over) == repr(told(log))


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The lines that are looked at."""
    lines_fed: list[bytes] = []
    feed = StraceReader.feed

    def counted(self: StraceReader, line: bytes, number: int) -> None:
        lines_fed.append(line)
        feed(self, line, number)

    monkeypatch.setattr(StraceReader, "feed", counted)
    return lines_fed


def test_the_first_call_that_is_resumed_is_looked_at(tmp_path: Path, fed: list[bytes]) -> None:
    """It tells that a line stands where its call returned."""
    dull = "10 close(3) = -1 EBADF (Bad file descriptor)\n10 futex(0x7f <unfinished ...>\n10 <... futex resumed>) = 0\n"
    (tmp_path / "log").write_text('10 execve("/a", ["a"], 0x1) = 0\n' + dull * 500)
    list(open_any(tmp_path / "log"))
    assert sum(b"resumed" in line for line in fed) == 1


def test_most_lines_of_a_log_are_not_looked_at(tmp_path: Path, fed: list[bytes]) -> None:
    """Otherwise the two ways would be one, and the tests above would prove nothing."""
    for stamp in ("none", "-ttt"):
        fed.clear()
        body = "".join(f"10 {STAMPS[stamp](n)}{DULL[n % 3]}\n" for n in range(1000))
        (tmp_path / "log").write_text(f'10 {STAMPS[stamp](0)}execve("/a", ["a"], 0x1) = 0\n{body}')
        list(open_any(tmp_path / "log"))
        assert len(fed) < 20, stamp


def test_lines_are_counted_where_they_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    dull = b"".join(b"10 close(3) = -1 EBADF (Bad file descriptor)\n" for _ in range(700))
    path.write_bytes(b'10 execve("/a", ["a"], 0x1) = 0\n' + dull + b"11 brk(NULL) = 0\n" + dull)
    trace = open_any(path)
    list(trace)
    assert trace.warnings == [f"{path}:702: a task whose creation the log does not show"]


@pytest.mark.parametrize("length", [1000, 4000, 5000, 20_000])
def test_a_long_line_among_them(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 4096)
    monkeypatch.setattr(lines, "_BUFFER", 512)
    path = tmp_path / "log"
    dull = b"10 close(3) = -1 EBADF (Bad file descriptor)\n" * 5
    long = b'10 write(1, "%s", 9) = 9\n' % (b"x" * length)
    path.write_bytes(b'10 execve("/a", ["a"], 0x1) = 0\n' + dull + long + dull + b"11 brk(NULL) = 0\n")
    trace = open_any(path)
    list(trace)
    too_long = [f"{path}:7: lines too long to read"] if length > 4096 else []
    assert trace.warnings == [*too_long, f"{path}:13: a task whose creation the log does not show"]
