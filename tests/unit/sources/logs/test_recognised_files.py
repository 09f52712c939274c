"""What a file is, is told by its content; and no content at all can surprise the readers."""

from __future__ import annotations

import gzip
import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from log_events import DATA, events_of

from forklore.events import lines
from forklore.events.check import Checker
from forklore.events.lines import TraceError
from forklore.sources.files import open_any

LOGS = sorted(DATA.glob("*.log"))
TOOLS = {path.name: path.name.partition("-")[0].replace("_", " ") for path in LOGS}


@pytest.mark.parametrize("name", TOOLS)
def test_real_logs_are_told_apart_whatever_their_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes((DATA / name).read_bytes())
    trace = open_any(path)
    assert trace.header.source.tool == TOOLS[name]
    assert trace.header.blind
    events_of(trace)


def test_our_own_form_through_gzip_and_a_fifo(tmp_path: Path) -> None:
    content = (
        b'{"format":"forklore-trace","version":[1,0],"source":{"tool":"forklore"},"clock":{"start":1,"wall":null}}\n'
        b'{"event":"begin","t":0,"task":1,"tid":5,"tgid":5,"how":"root"}\n{"event":"end","t":1,"reason":"done","events":1}\n'
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(gzip.compress(content),))
    writer.start()
    trace = open_any(fifo)
    assert len(events_of(trace)) == 2
    writer.join(10)
    assert trace.header.source.tool == "forklore"


@pytest.mark.parametrize("name", ["strace-sh.log", "ltrace-calls.log"])
def test_a_log_through_gzip(name: str, tmp_path: Path) -> None:
    packed = tmp_path / "log"
    packed.write_bytes(gzip.compress((DATA / name).read_bytes()))
    assert events_of(open_any(packed)) == events_of(open_any(DATA / name))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0" * 99, "binary data"),
        (b"dear diary,\nnothing happened\n", "“dear diary,” and no line of their kind among the first 2"),
        (b"\n\n\n", "no line of their kind"),
        (b'{"a": 1}\n', "format"),
        (b"[1, 2]\n", "[1, 2]"),
        (b"% time     seconds  usecs/call     calls    errors syscall\n---\n", "a summary of strace -c, which counts"),
        (b"\n% time     seconds  usecs/call     calls      function\n", "a summary of ltrace -c, which counts"),
        (b"\n Summary of events:\n", "a summary of perf trace -s, which counts"),
    ],
)
def test_anything_else_is_an_error_that_names_what_was_looked_for(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(TraceError) as caught:
        open_any(path)
    assert found in caught.value.found
    assert str(path) in str(caught.value)
    assert "trace" in caught.value.expected


def test_what_cannot_be_opened_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_any(tmp_path / "none")


def test_program_output_may_come_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"building...\nSYS_tem: ok\n" * 200 + (DATA / "strace-sh.log").read_bytes())
    trace = open_any(path)
    assert len(events_of(trace)) == 12
    assert trace.header.source.tool == "strace"


def test_that_output_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"progress": 1}\n' + (DATA / "strace-sh.log").read_bytes())
    assert len(events_of(open_any(path))) == 12


def test_a_trace_can_be_left_unread() -> None:
    trace = open_any(LOGS[0])
    trace.close()
    with pytest.raises(ValueError, match="closed"):
        list(trace)


def test_lines_that_are_too_long_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 4096)
    path = tmp_path / "log"
    log = (DATA / "strace-sh.log").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*log[:3], b"5 write(1, " + b"x" * 9000 + b"\n", *log[3:]]))
    trace = open_any(path)
    assert events_of(trace) == events_of(open_any(DATA / "strace-sh.log"))
    assert trace.warnings == [f"{path}:4: lines too long to read"]


def survives(path: Path, log: bytes) -> None:
    """The log is read to its end as a consistent trace, or is refused as none."""
    path.write_bytes(log)
    try:
        trace = open_any(path)
    except TraceError:
        return
    check = Checker()
    for event in trace:
        check(event)
    assert check.end is not None
    assert all(text.isprintable() for text in trace.warnings)


slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("second", [b"1795394855.407597", b"999999999999.9"])
def test_a_stamp_that_is_lifetimes_away_from_the_first_is_none(tmp_path: Path, second: bytes) -> None:
    first = b"11795394855.4" if second.startswith(b"1") else b"1795394855.4"
    survives(tmp_path / "log", b"7 %s SYS_brk(0) = 0\n7 %s SYS_fork() = 8\n" % (first, second))


@slow
@given(data=st.data())
def test_a_cut_and_corrupted_log(tmp_path: Path, data: st.DataObject) -> None:
    log = bytearray(data.draw(st.sampled_from(LOGS)).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(log)))
        log[at : at + data.draw(st.integers(0, 60))] = data.draw(st.binary(max_size=12))
    survives(tmp_path / "log", bytes(log[: data.draw(st.integers(0, len(log)))]))


@slow
@given(st.sampled_from(LOGS), st.integers(0, 2**32), st.booleans())
@example(DATA / "strace-python.log", 2881, True)
@example(DATA / "strace-pidns.log", 6645, False)
def test_a_log_in_another_order(tmp_path: Path, source: Path, seed: int, drop: bool) -> None:
    order = random.Random(seed)
    log = source.read_bytes().splitlines(keepends=True)
    order.shuffle(log)
    survives(tmp_path / "log", b"".join(log[: len(log) // 2] if drop else log))


PIECES = [
    b"10 ", b"11 ", b"[pid 12] ", b"12:00:00 ", b"1.5 ", b"clone(", b"fork(", b"vfork(", b"clone3({", b"SYS_clone(",
    b"SYS_435(", b"SYS_execve(", b"execve(", b'"a', b'"', b"[", b"]", b"}", b"flags=", b"CLONE_VM", b"|", b"SIGCHLD",
    b", ", b")", b" = ", b"11", b"-1 EINVAL (Invalid argument)", b"? ERESTARTNOINTR", b" <unfinished ...>", b"set_tid=",
    b"<... clone resumed>", b"<... execve resumed>", b"<... SYS_vfork resumed> ", b"<... vfork resumed>", b"\n", b"\n",
    b"<pid changed to 10 ...>", b"+++ exited with 0 +++", b"+++ superseded by execve in pid 11 +++", b"unshare(",
    b"+++ killed by SIGSEGV +++", b"--- Called exec() ---", b"strace: Process 13 attached\n", b"0x", b"/* ", b" */",
    b"=>",
    b"--- SIGSEGV {si_signo=SIGSEGV, si_code=1} ---", b"--- stopped by SIGSTOP ---", b"CLONE_NEWPID", b"exit_group(",
    b"2 /* 14 in strace's PID NS */", b"3<uts:[4]>", b"setns(", b"\\", b"\xff", b"4194304 ",
    b"[ Process PID=10 runs in x32 mode. ]", b"clone(child_stack=NULL, flags=CLONE_NEWPID|SIGCHLD) = 11\n11 ",
    b"11 clone(child_stack=NULL, flags=SIGCHLD) = 2\n", b"gettid() = 2\n", b" (INJECTED)",
    b"11 wait4(-1, NULL, 0, NULL) = 2\n", b"Process 10 resumed (parent 9 ready)\n",
    b"SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=2, si_status=7} ---\n",
]  # fmt: skip


@settings(slow, max_examples=250)
@given(st.booleans(), st.lists(st.sampled_from(PIECES), max_size=60))
def test_hostile_lines(tmp_path: Path, as_ltrace: bool, pieces: list[bytes]) -> None:
    start = b"10 SYS_brk(0) = 1\n" * 3 if as_ltrace else b'10 execve("/a", ["a"], 0x1) = 0\n' * 3
    survives(tmp_path / "log", start + b"".join(pieces))


@pytest.mark.parametrize(
    "hostile",
    [b'"' + b'\\"' * 400_000, b"/*" * 400_000, b" " * 800_000, b"1<" * 400_000, b"(" * 800_000, b"a->" * 300_000,
     b"SYS_" * 200_000, b"[pid 1] " * 100_000, b"strace: Process 1 " * 50_000],
    ids=["quotes", "comments", "spaces", "descriptors", "brackets", "arrows", "names", "prefixes", "notices"],
)  # fmt: skip
def test_long_hostile_lines_take_linear_time(hostile: bytes, tmp_path: Path) -> None:
    """Each would take minutes if its length went in squared."""
    for start, call in (
        (b'10 execve("/a", ["a"], 0x1) = 0\n', b"10 clone("),
        (b"10 SYS_brk(0) = 1\n", b"10 SYS_clone("),
    ):
        survives(tmp_path / "log", start * 3 + call + hostile + b"\n" + hostile + b"\n10 " + hostile + b"\n")
