"""What strace -ff wrote, a file a task, is one log: by time stamps, and by what calls returned where there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_events import DATA, events_of, only, tree

from forklore.events.check import Checker
from forklore.events.lines import TraceError
from forklore.events.records import Create, Exec, Exit, Gone
from forklore.sources.files import open_any, open_several

REAL = DATA / "strace-ff-takeover"


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_a_real_one_without_time_stamps() -> None:
    events = events_of(trace := open_any(REAL))
    assert trace.warnings == []
    assert trace.header.source.tool == "strace"
    assert sorted(tree(events).values(), key=str) == [1, 1, 1, None]
    assert [e.path for e in only(events, Exec)] == ["./takeover", "/usr/bin/true", "./takeover"]
    assert [e.why for e in only(events, Gone)] == ["superseded"]
    assert [e.status for e in only(events, Exit)][-1] == 5 << 8
    assert all(e.t is None for e in events)


def test_a_prefix_and_a_list_of_files_are_the_same(tmp_path: Path) -> None:
    whole = events_of(open_any(REAL))
    assert events_of(open_any(REAL / "log")) == whole
    assert events_of(open_several(sorted(REAL.iterdir(), reverse=True))) == whole
    folder = tmp_path / "with others"
    shutil.copytree(REAL, folder)
    (folder / "notes.txt").write_text("not one of them")
    assert events_of(open_any(folder)) == whole


@pytest.mark.parametrize("stamps", [("1795000000.5 ", "1795000000.7 ", "1795000000.6 "), ("", "", "")])
def test_a_child_begins_after_its_creation_began(stamps: tuple[str, str, str], tmp_path: Path) -> None:
    made, waited, ran = stamps
    log = written(
        tmp_path / "set",
        log_20=f'{made}execve("/a", ["a"], 0x1) = 0\n{made}fork() = 11\n{waited}wait4(-1, NULL, 0, NULL) = 11\n'
        f"{waited}+++ exited with 0 +++\n",
        log_11=f"{ran}fork() = 12\n{ran}+++ exited with 3 +++\n",
        log_12=f"{ran}+++ exited with 4 +++\n",
    )
    events = events_of(trace := open_any(log))
    assert trace.warnings == []
    assert tree(events) == {1: None, 2: 1, 3: 2}
    assert [(e.task, e.status) for e in only(events, Exit)] == [(3, 4 << 8), (2, 3 << 8), (1, 0)]


def test_times_of_day_go_on_past_midnight(tmp_path: Path) -> None:
    log = written(
        tmp_path / "set",
        log_10="23:59:59.9 fork() = 11\n00:00:02.0 +++ exited with 0 +++\n",
        log_11="00:00:01.0 +++ exited with 3 +++\n",
    )
    events = events_of(open_any(log))
    assert [(e.task, e.t) for e in only(events, Exit)] == [(2, 1_100_000_000), (1, 2_100_000_000)]


def test_times_since_the_line_before_tell_nothing_of_other_files(tmp_path: Path) -> None:
    log = written(
        tmp_path / "set",
        log_10="     0.000000 fork() = 11\n     0.500000 +++ exited with 0 +++\n",
        log_11="     0.000000 +++ exited with 3 +++\n",
    )
    events = events_of(open_any(log))
    assert tree(events) == {1: None, 2: 1}
    assert all(event.t is None for event in events)


def test_a_pid_of_the_log_s_own_namespace_beside_an_inner_one(tmp_path: Path) -> None:
    log = written(
        tmp_path / "set",
        log_10="clone(child_stack=NULL, flags=CLONE_NEWPID|SIGCHLD) = 11\n",
        log_11="fork() = 2 /* 12 in strace's PID NS */\n",
        log_12="+++ exited with 3 +++\n",
    )
    (_, inner) = only(events_of(open_any(log)), Create)
    assert (inner.tid, inner.ns_tids) == (12, [12, 2])


def test_messages_name_the_file_and_its_own_line(tmp_path: Path) -> None:
    log = written(
        tmp_path / "set",
        log_10="brk(NULL) = 0x1\nbrk(NULL) = 0x1\nclone(gibberish\n+++ exited with 0 +++\n",
        log_12="+++ exited with 3 +++\n",
    )
    trace = open_any(log)
    list(trace)
    assert f"{log}/log.10:3: lines with clone that are cut off" in trace.warnings
    assert f"{log}/log.12:1: a task whose creation the log does not show" in trace.warnings


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, "a directory without files named PREFIX.PID"),
        ({"notes": "x"}, "a directory without files named PREFIX.PID"),
        ({"a.10": "x", "b.11": "x"}, "2 prefixes"),
        ({"a.10": "dear diary\n"}, "no line of their kind"),
        ({"a.0": "x"}, "the name “a.0”"),
        ({"t.1": '{"format":"forklore-trace"}'}, "forklore's own, such as t.1: name one"),
    ],
)
def test_what_is_no_set(files: dict[str, str], found: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(TraceError) as caught:
        open_any(tmp_path)
    assert found in caught.value.found
    assert str(tmp_path) in str(caught.value)


def test_several_files_must_be_of_one_set(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"named PREFIX\.PID"):
        open_several([REAL / "log", tmp_path / "x"])
    with pytest.raises(FileNotFoundError):
        open_several([tmp_path / "log.1", tmp_path / "log.2"])


PIECES = [
    "fork() = 11\n", "fork() = 12\n", "clone(flags=SIGCHLD) = 2 /* 12 in strace's PID NS */\n", "vfork() = 10\n",
    'execve("/a", ["a"], 0x1) = 0\n', "+++ exited with 0 +++\n", "+++ superseded by execve in pid 11 +++\n",
    'execve("/a", ["a"] <pid changed to 10 ...>\n', "<... execve resumed>) = 0\n", "read(", "\n", "\0", "é",
    "1795000000.5 brk(0) = 0\n", "23:00:00 brk(0) = 0\n", "     0.1 brk(0) = 0\n", "00:00:00.5 fork() = 11\n",
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from([10, 11, 12, 4194303]), st.lists(st.sampled_from(PIECES), max_size=12)))
def test_any_set_is_a_consistent_trace_or_refused(tmp_path: Path, files: dict[int, list[str]]) -> None:
    shutil.rmtree(folder := tmp_path / "set", ignore_errors=True)
    folder.mkdir()
    for pid, pieces in files.items():
        (folder / f"log.{pid}").write_text("".join(pieces))
    check, refused = Checker(), ""
    try:
        trace = open_any(folder)
        for event in trace:
            check(event)
    except TraceError as error:
        refused = str(error)
    if refused:
        assert str(folder) in refused
        return
    assert check.end is not None
    assert all(text.isprintable() for text in trace.warnings)
