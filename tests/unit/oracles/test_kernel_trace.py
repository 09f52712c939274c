"""The text of a tracefs trace, as Linux 6.18 printed it, read into events and lives of tids."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.errors import OracleError
from oracles.kernel import Executed, Exited, Forked, NewTask, parse, program_in, tasks_of
from oracles.tracefs import lost_events
from oracles.tree import Exec

HEAD = b"""\
# tracer: nop
#
# entries-in-buffer/entries-written: 48/48   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
"""
NON_LEADER_EXEC = (
    HEAD
    + b"""\
 bash-5942 [001] ..... 1061.698905: task_newtask: pid=5944 comm=bash clone_flags=1200000 oom_score_adj=0
 bash-5942 [001] ..... 1061.698947: sched_process_fork: comm=bash pid=5942 child_comm=bash child_pid=5944
 strace-5944 [001] ..... 1061.721437: sched_process_exec: filename=/usr/bin/strace pid=5944 old_pid=5944
 strace-5944 [001] .N... 1061.727628: task_newtask: pid=5945 comm=strace clone_flags=1200000 oom_score_adj=0
 strace-5944 [001] ..... 1061.727640: sched_process_fork: comm=strace pid=5944 child_comm=s child_pid=5945
 strace-5945 [000] ..... 1061.727733: sched_process_exit: comm=strace pid=5945 prio=120 group_dead=true
 strace-5944 [001] ..... 1061.733760: task_newtask: pid=5947 comm=strace clone_flags=1200000 oom_score_adj=0
 strace-5944 [001] ..... 1061.733766: sched_process_fork: comm=strace pid=5944 child_comm=s child_pid=5947
 true-5947 [000] ..... 1061.737233: sched_process_exec: filename=./exp pid=5947 old_pid=5947
 true-5947 [001] ..... 1062.055073: task_newtask: pid=5957 comm=exp clone_flags=3d0f00 oom_score_adj=0
 true-5947 [001] ..... 1062.055079: sched_process_fork: comm=exp pid=5947 child_comm=exp child_pid=5957
 true-5947 [001] ..... 1062.073401: sched_process_exit: comm=exp pid=5947 prio=120 group_dead=false
 true-5947 [000] ..... 1062.074454: sched_process_exec: filename=/bin/true pid=5947 old_pid=5957
 true-5947 [000] ..... 1062.128451: sched_process_exit: comm=true pid=5947 prio=120 group_dead=true
"""
)
# As the kernel lays it out: the name in a field of 16, the pid in one of 7.
NON_LEADER_EXEC = re.sub(
    rb"^ (\w+)-(\d+) ",
    lambda found: found[1].rjust(16) + b"-" + found[2].ljust(7) + b" ",
    NON_LEADER_EXEC,
    flags=re.M,
)


def line(by: int, event: str, body: str, comm: str = "sh") -> bytes:
    return f"{comm:>16}-{by:<7d} [000] .....  1061.698905: {event}: {body}\n".encode(
        "utf-8", "surrogateescape"
    )


def newtask(by: int, tid: int, flags: int = 0x1200000, comm: str = "sh") -> bytes:
    return line(by, "task_newtask", f"pid={tid} comm={comm} clone_flags={flags:x} oom_score_adj=0", comm)


def forked(by: int, tid: int) -> bytes:
    return newtask(by, tid) + line(
        by, "sched_process_fork", f"comm=sh pid={by} child_comm=sh child_pid={tid}"
    )


def exited(tid: int) -> bytes:
    return line(tid, "sched_process_exit", f"comm=sh pid={tid} prio=120 group_dead=true")


def test_each_event_is_read_with_its_numbers() -> None:
    first, second, third, *_ = parse(NON_LEADER_EXEC)
    assert first == NewTask(1061_698905_000, 5942, 5944, 0x1200000)
    assert second == Forked(1061_698947_000, 5942, 5944)
    assert third == Executed(1061_721437_000, 5944, 5944, "/usr/bin/strace")
    assert parse(NON_LEADER_EXEC)[-1] == Exited(1062_128451_000, 5947)


def test_the_tracer_and_its_own_helpers_are_no_part_of_the_program() -> None:
    program = program_in(tasks_of(parse(NON_LEADER_EXEC)), tracer=5944, tid=5947)
    assert [task.tid for task in program] == [5947, 5957]


def test_a_thread_that_execs_keeps_its_identity_and_takes_the_leaders_tid() -> None:
    leader, thread = program_in(tasks_of(parse(NON_LEADER_EXEC)), tracer=5944, tid=5947)
    assert (leader.execs, leader.exits) == ([Exec("./exp")], 1)
    assert (thread.execs, thread.exits, thread.thread) == ([Exec("/bin/true", 5957)], 1, True)


def test_a_root_that_the_tracer_did_not_make_is_an_error_naming_both() -> None:
    with pytest.raises(OracleError, match=r"tracer \(pid 5944\) make task 9"):
        program_in(tasks_of(parse(NON_LEADER_EXEC)), tracer=5944, tid=9)


def test_a_tid_that_is_given_out_again_is_another_task() -> None:
    lives = tasks_of(parse(forked(1, 7) + exited(7) + forked(1, 7) + forked(7, 8) + exited(8) + exited(7)))
    assert [(task.tid, task.exits) for task in lives] == [(1, 0), (7, 1), (7, 1), (8, 1)]
    assert lives[3].creator is lives[2]


def test_a_task_without_a_fork_event_was_made_by_the_kernel_itself() -> None:
    lives = tasks_of(parse(forked(1, 7) + newtask(7, 8, 0x80810F00)))
    assert [(task.tid, task.by_call) for task in lives[1:]] == [(7, True), (8, False)]


HOSTILE_NAMES = (" pid=9 comm=x", "a\nb", "x-1 [000]", "# x", "-7   [000]")


@pytest.mark.parametrize("comm", HOSTILE_NAMES)
def test_a_name_chosen_to_look_like_a_trace_does_not_mislead(comm: str) -> None:
    (event,) = parse(newtask(7, 8, comm=comm))
    assert event == NewTask(1061_698905_000, 7, 8, 0x1200000)


@pytest.mark.parametrize("path", ["/a b", "/x pid=1 old_pid=2", "/two\nlines", "/\udcff", "", "/# tracer"])
def test_any_path_comes_out_as_it_was(path: str) -> None:
    (event,) = parse(line(7, "sched_process_exec", f"filename={path} pid=7 old_pid=7"))
    assert event == Executed(1061_698905_000, 7, 7, path)


@pytest.mark.parametrize(
    "text",
    [
        b"garbage\n",
        line(7, "sched_switch", "prev_comm=x"),
        line(7, "task_newtask", "pid=x"),
        b"CPU:1 [LOST 12 EVENTS]\n",
    ],
)
def test_what_is_not_understood_is_an_error_and_not_left_out(text: bytes) -> None:
    with pytest.raises(OracleError, match="kernel's trace"):
        parse(text)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(NON_LEADER_EXEC.splitlines(keepends=True))), st.binary(max_size=40))
def test_any_mixture_of_lines_is_read_or_refused(lines: list[bytes], junk: bytes) -> None:
    try:
        events = parse(b"".join(lines) + junk)
    except OracleError:
        return
    lives = tasks_of(events)
    assert sum(isinstance(event, NewTask) for event in events) == sum(
        task.flags is not None for task in lives
    )


def test_every_counter_of_lost_events_counts() -> None:
    stats = "entries: 3\noverrun: 2\ncommit overrun: 1\nbytes: 284\ndropped events: 4\nread events: 0\n"
    assert lost_events(stats) == 7
    assert lost_events("entries: 3\noverrun: 0\n") == 0
