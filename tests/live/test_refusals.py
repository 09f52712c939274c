"""Calls that fail: one record each, with the errno that the program itself saw, in the program's order."""

from __future__ import annotations

import os

import pytest
from tracing import Program, Trace_, Traced, creation

from forklore.abi.units import Unavailable


def assert_as_said(run: Traced, word: str) -> None:
    """Every creation of the root, successful or not, is one line ``word … pid= errno=``."""
    made = {int(task.tid): task for task in run.created() if task.creator == run.root.id}
    failures = iter(run.root.failures)
    for line in run.lines(word):
        if line.errno:
            failure = next(failures)
            assert failure.errno == line.errno, line
            assert failure.creation.call == word
            assert failure.reasons, line
            about = failure.creation
        else:
            about = creation(made.pop(line.number("pid")))
        if "size" in line.values:
            assert about.struct_size == line.number("size")
    assert made == {}
    assert next(failures, None) is None


def test_clone3_structs_of_every_size(program: Program, traced: Trace_) -> None:
    assert_as_said(traced(program("clone3_sizes")), "clone3")


def test_structs_that_are_mapped_in_part(program: Program, traced: Trace_) -> None:
    run = traced(program("clone3_sizes"))
    refused = {}
    for line, failure in zip((x for x in run.lines("clone3") if x.errno), run.root.failures, strict=True):
        refused[line["case"]] = failure
    for case in ("null", "unmapped", "cut-off", "tail-cut-off"):
        assert [(r.rule, r.certain) for r in refused[case].reasons] == [("clone3-struct-unreadable", True)], case
    # What was read of it is shown all the same.
    assert refused["tail-cut-off"].creation.flags.names == ("CLONE_FS",)
    assert refused["cut-off"].creation.exit_signal == 17


def test_flags_that_do_not_go_together(program: Program, traced: Trace_) -> None:
    run = traced(program("clone_failures"))
    said = run.lines("clone") + run.lines("clone3")
    refused = [line for line in said if line.errno]
    assert len(refused) > 20
    for failure, line in zip(run.root.failures, refused, strict=True):
        assert (failure.creation.call, failure.errno) == (line.word, line.errno)
        assert failure.creation.flags.raw == line.number("flags")
        assert failure.creation.exit_signal == line.number("exit_signal")
        assert failure.reasons, line
    assert sorted(task.tid for task in run.created()) == sorted(line.number("pid") for line in said if not line.errno)


def test_unshare_and_setns(program: Program, traced: Trace_) -> None:
    run = traced(program("unshare_setns"))
    lines = run.lines("unshare") + run.lines("setns")
    assert len(lines) > 25
    for line in lines:
        (made,) = run.task(line.number("pid")).calls
        assert type(made.call).__name__.lower() == line.word
        assert made.result == (-line.errno or line.number("result")), line
        assert made.call.args[0 if line.word == "unshare" else 1] == line.number("flags")
        if line["what"] == "uts-of-self":
            assert made.target is not None
            assert made.target.startswith("uts:[")


def test_close_range_with_unshare(program: Program, traced: Trace_) -> None:
    run = traced(program("close_range_unshare"))
    line = run.line("close_range")
    (made,) = run.task(line.number("pid")).calls
    assert type(made.call).__name__ == "CloseRange"
    assert made.result == 0
    assert made.call.args[0] == line.number("first")


def test_execs_that_fail_each_for_its_own_reason(program: Program, traced: Trace_) -> None:
    run = traced(program("execfail_variants"))
    failed = run.root.failed_execs
    seen = [pair for search in failed for pair in zip(search.paths, search.errnos, strict=True)]
    lines = run.lines("execve")
    assert [error for _, error in seen] == [line.errno for line in lines]
    for line, (path, _) in zip(lines, seen, strict=True):
        if line["what"] == "bad-pointer":
            assert isinstance(path, Unavailable)
        elif line["what"] == "name-too-long":
            assert isinstance(path, bytes)
            assert path.startswith(line["path"].removesuffix("...").encode())
        else:
            assert path == line["path"].encode()


def test_no_room_for_one_more_process(program: Program, traced: Trace_) -> None:
    # fork(2), EAGAIN: "the RLIMIT_NPROC soft resource limit ... was reached". It counts the user's tasks.
    user = 61000 + os.getpid() % 4000 if os.geteuid() == 0 else os.getuid()
    run = traced(program("nproc_eagain"), str(user))
    line = run.line("refused")
    (failure,) = run.trace.failures
    assert failure.errno == line.errno
    assert failure.limits["rlimit_nproc"] == line.number("limit")
    assert failure.limits["uid"] == line.number("uid")
    assert failure.limits["user_tasks"] >= line.number("limit")
    assert len(run.created()) == line.number("made")
    (certain,) = (reason for reason in failure.reasons if reason.certain)
    assert "RLIMIT_NPROC" in certain.text
    assert str(line.number("limit")) in certain.text


def test_a_search_through_path_is_one_failure(program: Program, traced: Trace_) -> None:
    run = traced(program("path_search"))
    line = run.line("child")
    task = run.task(line.number("pid"))
    (search,) = task.failed_execs
    name = line["path"].rpartition("/")[2]
    assert search.paths == [f"/nonexistent/{letter}/{name}".encode() for letter in "abc"]
    assert [image.file for image in task.images] == [line["path"].encode()]


@pytest.mark.parametrize("stops", ["seccomp", "syscalls"])
def test_the_two_ways_to_see_calls_see_the_same_refusals(stops: str, program: Program, traced: Trace_) -> None:
    run = traced(program("clone_failures"), options=[f"--stops={stops}"])
    refused = [line.errno for line in run.lines("clone") + run.lines("clone3") if line.errno]
    assert [failure.errno for failure in run.trace.failures] == refused


def test_thousands_of_refusals_in_a_row(program: Program, traced: Trace_) -> None:
    """What decides is told of each, though the user's tasks are not counted for each."""
    user = 61000 + os.getpid() % 4000 if os.geteuid() == 0 else os.getuid()
    run = traced(program("nproc_eagain"), str(user), "5", "7001")
    assert len(run.trace.failures) == 7001
    limit = run.line("refused").number("limit")
    for failure in run.trace.failures:
        assert failure.limits["user_tasks"] >= limit
        assert [reason.rule for reason in failure.reasons if reason.certain] == ["rlimit-nproc"]


def test_only_what_decides_is_read(program: Program, traced: Trace_) -> None:
    for failure in traced(program("clone3_sizes")).trace.failures:
        assert "cap_eff" in failure.limits
        assert failure.limits.keys().isdisjoint(("user_tasks", "rlimit_nproc", "threads_now", "pids_max"))
