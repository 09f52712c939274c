"""Durations, counts, names and escapes at their boundaries."""

from __future__ import annotations

import shlex

import pytest
from happenings import Story
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.events.records import ExecAt
from forklore.model.tasks import Death
from forklore.report.words import words
from forklore.report.words.deaths import death_words
from forklore.report.words.vfork_memory import borrowed_words

US, MS, S, MIN = 1_000, 1_000_000, 1_000_000_000, 60_000_000_000


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0.0 µs"),
        (49, "0.0 µs"),
        (999, "1.0 µs"),
        (9_949, "9.9 µs"),
        (9_999, "10 µs"),
        (10 * US, "10 µs"),
        (99 * US, "99 µs"),
        (99_600, "0.1 ms"),
        (100 * US, "0.1 ms"),
        (1 * MS, "1.0 ms"),
        (9_940 * US, "9.9 ms"),
        (9_999 * US, "10 ms"),
        (10 * MS, "10 ms"),
        (999 * MS, "999 ms"),
        (999_600 * US, "1.0 s"),
        (1 * S, "1.0 s"),
        (9_999 * MS, "10 s"),
        (10 * S, "10 s"),
        (119 * S, "119 s"),
        (119_600 * MS, "2 min 0 s"),
        (2 * MIN, "2 min 0 s"),
        (3 * MIN + 5 * S, "3 min 5 s"),
        (59 * S + 600 * MS + 4 * MIN, "5 min 0 s"),
        (24 * 60 * MIN, "1440 min 0 s"),
        (-5 * MS, "-5.0 ms"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert words.span(ns) == text


UNITS = {"µs": US, "ms": MS, "s": S}


@given(st.integers(0, 2 * MIN - S))
@settings(max_examples=300, deadline=None)
def test_a_duration_is_near_what_it_says(ns: int) -> None:
    number, unit = words.span(ns).split(" ")
    assert len(number) <= 3
    assert abs(float(number) * UNITS[unit] - ns) <= max(0.06 * ns, 50) or 99_500 <= ns < MS


@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62))
@settings(max_examples=100, deadline=None)
def test_durations_have_at_most_four_words(a: int, b: int) -> None:
    for ns in (a, b, -a):
        assert len(words.span(ns).split(" ")) in (2, 4)


def test_a_duration_that_is_negative_is_the_positive_one_with_a_sign() -> None:
    assert words.span(-1) == "-" + words.span(1)


@given(st.binary())
@settings(max_examples=300, deadline=None)
def test_nothing_unprintable_is_left(raw: bytes) -> None:
    assert words.base_name(raw).isprintable()
    assert words.path(raw).isprintable()
    assert words.command((raw, raw)).isprintable()


def test_paths() -> None:
    assert words.path(b"/bin/ls") == "/bin/ls"
    assert words.path(b"") == '""'
    assert words.path(Unavailable(14, "not\nmapped")) == r"? (not\nmapped)"
    names = [words.base_name(raw) for raw in (b"/usr/bin/ls", b"ls", b"/usr/", b"/", b"")]
    assert names == ["ls", "ls", "usr", "/", ""]


def test_a_command_can_be_given_to_a_shell() -> None:
    argv = (b"printf", b"%s\\n", b"a b", b"", b"it's", "ü".encode())
    assert shlex.split(words.command(argv)) == [raw.decode() for raw in argv]


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (Death(code=0), "exit 0"),
        (Death(code=255), "exit 255"),
        (Death(signal=11, core=True), "SIGSEGV (core dumped)"),
        (Death(signal=15, sender=4711), "SIGTERM from 4711"),  # type: ignore[arg-type]
        (Death(signal=34), "SIGRT_2"),  # as strace has it
        (Death(signal=99), "99"),
        (Death(), "ended"),
        (Death(signal=9, sender=4711, by="call"), "SIGKILL from 4711"),  # type: ignore[arg-type]
        (Death(signal=9, sender=1, by="tracer"), "SIGKILL by forklore"),  # type: ignore[arg-type]
        (Death(signal=9, by="oom"), "SIGKILL, perhaps by the OOM killer"),
        (Death(signal=11, address=16), "SIGSEGV at 0x10"),
        (Death(signal=8, address=16), "SIGFPE"),
    ],
)
def test_deaths(end: Death, text: str) -> None:
    assert death_words(end).endswith(text)


def test_counts() -> None:
    assert words.count(1, "process", "processes") == "1 process"
    assert words.count(0, "task") == "0 tasks"
    assert words.count(12_345, "task") == "12,345 tasks"


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (None, "execve /d/x"),
        (ExecAt(fd=-100, path="x"), "execveat(AT_FDCWD, x)"),
        (ExecAt(fd=3, directory="/d", path="", flags=0x1000), 'execveat(3 [/d], "", AT_EMPTY_PATH)'),
        (ExecAt(fd=3, directory="/\x1b", path="x", flags=0x20100),
         "execveat(3 [/\\x1b], x, AT_SYMLINK_NOFOLLOW|0x20000)"),
        (ExecAt(fd=9, directory=Unavailable(9, "descriptor 9 is not open"), path="x"),
         "execveat(9 [descriptor 9 is not open], x)"),
    ],
)  # fmt: skip
def test_how_a_file_was_executed(at: ExecAt | None, text: str) -> None:
    assert words.executed(b"/d/x", at, "execve ") == text


DATA = ev.Written(16, 1, "data", "", "00", "2a", [])
STACK = ev.Written(32, 1, "live stack", "", "00", "2a", [])


@pytest.mark.parametrize(
    ("changes", "threads", "ran_on", "text"),
    [
        ([DATA, STACK], 1, False, "changed 2 places of 100's memory: data, stack"),
        ([DATA, STACK], 1, True, "changed 1 place of 100's memory: data (or 100 itself did, which ran on)"),
        ([DATA], 3, True,
         "changed 1 place of 100's memory: data (or 100 itself did, which ran on, or one of its 2 other threads did)"),
        ([STACK], 1, True, "changed nothing of 100's memory beyond its stack"),
        ([], 1, False, "changed nothing of 100's memory that stays"),
        (Unavailable(0, "its creator ended"), None, True, "changes of 100's memory not known: its creator ended"),
    ],
)  # fmt: skip
def test_what_a_child_left_changed(
    changes: list[ev.Written] | Unavailable, threads: int | None, ran_on: bool, text: str
) -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101, 0x100)
    record = ev.Borrowed(t=1, task=child, creator=root, changes=changes, threads=threads, ran_on=ran_on)
    assert borrowed_words(record, story.end().trace()) == text
