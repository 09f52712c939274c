"""Logs as people paste them: blanks before every line, a byte order mark, results on the lines after their calls."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from log_events import only, read, tree

from forklore.abi.units import TaskId
from forklore.events.records import Create, Exec, Exit, VforkDone
from forklore.model.build import built
from forklore.model.timing import most_at_once
from forklore.model.vfork_holds import Holding
from forklore.report.styled_lines import plain
from forklore.report.task_card import card_lines
from forklore.sources.files import open_any

STRACE = """\
10 execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0
10 clone(child_stack=NULL, flags=SIGCHLD) = 11
11 exit_group(3) = ?
11 +++ exited with 3 +++
10 +++ exited with 0 +++
"""
LTRACE = """\
SYS_mmap(0, 4096, 3, 34, 0xffffffff)
= 0x7fe3cf832000
__libc_start_main(0x40054c, 1, 0x7fff47008298, 0x4005a0, 0x400590 <unfinished ...>
fork( <unfinished ...>
SYS_clone(0x1200011, 0, 0, 0x7fe3cf8339d0, 0)
= 5967
<... fork resumed> )
= 5967
SYS_exit_group(13 <no return ...>
+++ exited (status 13) +++
"""


def indented(log: str, by: str) -> str:
    return "".join(by + line for line in log.splitlines(keepends=True))


@pytest.mark.parametrize(
    "log",
    [
        STRACE, indented(STRACE, "    "), indented(STRACE, "\t"), "\ufeff" + STRACE, "\ufeff" + indented(STRACE, "  "),
        STRACE.replace(" = ", "\n = "), indented(STRACE.replace(" = ", "\n= "), "  "), "\n" + indented(STRACE, " "),
    ],
)  # fmt: skip
def test_a_pasted_log_of_strace_is_the_log(log: str, tmp_path: Path) -> None:
    events, warnings = read(tmp_path / "log", log)
    assert warnings == []
    assert tree(events) == {1: None, 2: 1}
    assert [event.status for event in only(events, Exit)] == [3 << 8, 0]
    assert [event.path for event in only(events, Exec)] == ["/bin/a"]
    with closing(open_any(tmp_path / "log")) as trace:
        assert trace.header.command == ["a"]


@pytest.mark.parametrize("log", [LTRACE, LTRACE.replace("\n= ", " = "), indented(LTRACE, " ")])
def test_a_pasted_log_of_ltrace_has_the_fork_under_its_parent(log: str, tmp_path: Path) -> None:
    events, warnings = read(tmp_path / "log", log)
    assert warnings == []
    (create,) = only(events, Create)
    assert (create.task, create.tid, create.args[0]) == (1, 5967, 0x1200011)
    assert tree(events) == {1: None, 2: 1}


def test_a_line_that_is_less_indented_than_the_first_ones_is_kept(tmp_path: Path) -> None:
    events, _ = read(tmp_path / "log", indented(STRACE, "  ") * 500 + STRACE)
    assert len(only(events, Create)) == 501


@pytest.mark.parametrize(
    ("vfork", "held"),
    [
        ("10 1700000000.200 vfork() = 11\n", None),
        ("10 1700000000.200 vfork( <unfinished ...>\n10 1700000000.700 <... vfork resumed>) = 11\n", 500_000_000),
        ("10 1700000000.200 vfork() = 11 <0.5>\n", 500_000_000),
    ],
)
def test_how_long_a_vfork_held_is_known_where_its_end_is(vfork: str, held: int | None, tmp_path: Path) -> None:
    start = '10 1700000000.000 execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0\n'
    rest = '11 1700000000.900 execve("/bin/b", ["b"], 0x1 /* 1 var */) = 0\n'
    events, _ = read(tmp_path / "log", start + vfork + rest)
    (done,) = only(events, VforkDone)
    assert (done.t is None) == (held is None)
    trace = built(open_any(tmp_path / "log"))
    child = trace.tasks[TaskId(done.child or 0)]
    assert child.held == held
    hold = Holding(trace).of(child)
    assert hold is not None
    assert (hold.lasted, hold.ran_on) == (held, None if held is None else ())


@pytest.mark.parametrize(
    ("stamps", "lived", "held"),
    [
        (("23:59:58", "23:59:58", "23:59:58", "23:59:59"), None, None),
        (("23:59:58", "23:59:58", "00:00:01", "00:00:02"), 4, 3),
        (("1700000000", "1700000000", "1700000000", "1700000005"), 5, None),
        (("1700000000.000001", "1700000000.000001", "1700000000.000002", "1700000000.000001"), None, None),
        (("1700000000.000000", "1700000000.000000", "1700000003.000000", "1700000004.000000"), 4, 3),
    ],
)
def test_what_stamps_cannot_tell_apart_took_no_known_time(
    stamps: tuple[str, ...], lived: int | None, held: int | None, tmp_path: Path
) -> None:
    """strace -t has whole seconds: what ended in the second in which it began did not take 0.0 µs."""
    first, made, went_on, ended = stamps
    read(
        tmp_path / "log",
        f'10 {first} execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0\n10 {made} vfork( <unfinished ...>\n'
        f'11 {went_on} execve("/bin/b", ["b"], 0x1 /* 1 var */) = 0\n10 {went_on} <... vfork resumed>) = 11\n'
        f"11 {ended} +++ exited with 0 +++\n10 {ended} +++ exited with 0 +++\n",
    )
    trace = built(open_any(tmp_path / "log"))
    child = trace.tasks[TaskId(2)]
    seconds = [None if span is None else span // 10**9 for span in (child.lifetime, child.held, child.exec_after)]
    assert seconds == [lived, held, held]
    card = "\n".join(plain(line) for line in card_lines(built(open_any(tmp_path / "log"), sharing=True), child, 100))
    assert "0.0 µs" not in card
    assert (most_at_once(trace.tasks.values()) is None) == ("." not in first)
