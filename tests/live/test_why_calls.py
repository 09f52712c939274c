"""`forklore why` of every call that waits: what for, who could end it, and until when, each in its plainest form."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import Final

import pytest
from hanging import Hanging, hanging, made, scenarios
from programs import Missing

from forklore.features.why.conclude import Certainty, Conclusion, conclude
from forklore.features.why.graph import Graph, Role
from forklore.features.why.observe.observe import observe
from forklore.features.why.sentences import headline

EMPTY: Final = r"data or the end of pipe:\[\d+\], which is empty: \d+ calls still holds its write end \(fd 4\)"
FULL: Final = r"room in pipe:\[\d+\], which is full: \d+ calls still holds its read end \(fd 3\) and waits for a signal"
PEER: Final = r": \d+ calls has the other end \(fd \d\) and waits for a signal"
LISTENS: Final = r": \d+ calls listens there \(fd 3\) and waits for a signal"
TIME: Final = r"for 16[56] min( \d+ s)? more at most"
PATIENCE: Final = 30.0
TCP: Final = r"127\.0\.0\.1:\d+"
LEASE: Final = (
    r"waits for /tmp/forklore-call-\w+, on which another process has a lease that it is to give up:"
    r" \d+ calls has the lease \(fd 3\) and waits for a signal"
)
CHILD: Final = r"waits for its child \d+ calls to end: \d+ calls waits for a signal"
JOB: Final = r"\d+ calls waits for its child \d+ calls to end: \d+ calls is stopped, and waits to be continued: "
ROWS: Final[dict[str, tuple[str, str]]] = {
    "splice_empty": ("held", EMPTY),
    "splice_full": ("held", FULL),
    "splice_file_full": ("held", FULL),
    "tee_empty": ("held", EMPTY),
    "tee_full": ("held", FULL),
    "vmsplice_full": ("held", FULL),
    "vmsplice_empty": ("held", EMPTY),
    "sendfile_full": ("held", FULL),
    "readv_empty": ("held", EMPTY),
    "socket_full": ("held", r"room in the Unix socket \(socket:\[\d+\]\), whose peer is socket:\[\d+\]" + PEER),
    "socket_message": ("held", r"data on the Unix socket \(socket:\[\d+\]\), whose peer is socket:\[\d+\]" + PEER),
    "unix_server": ("idle", r"waits for connections on the Unix socket @forklore-\d+\."),
    "unix_unaccepted": ("held", r"to the Unix socket @forklore-\d+, not accepted yet" + LISTENS),
    "unix_backlog": ("held", r"waits for the Unix socket @forklore-\d+ to take its connection" + LISTENS),
    "tcp_unaccepted": ("held", rf"data on the connection TCP {TCP} ↔ {TCP}, not accepted yet" + LISTENS),
    "tcp_backlog": ("held", rf"waits for TCP {TCP} to take its connection" + LISTENS),
    "tcp_held": ("held", rf"data on the connection TCP {TCP} ↔ {TCP}" + PEER),
    "sendfile_socket": ("held", rf"room in the connection TCP {TCP} ↔ {TCP}" + PEER),
    "datagram": ("idle", rf"waits for datagrams on UDP {TCP}\."),
    "ppoll_held": ("held", EMPTY),
    "ppoll_time": ("sleeps", TIME),
    "select_write": ("held", FULL),
    "epoll_pwait_held": ("held", EMPTY),
    "epoll_pwait2_time": ("sleeps", TIME),
    "epoll_nested": ("held", EMPTY),
    "epoll_stale": ("remote", r"the file that was descriptor 3 when it was watched, and is closed there"),
    "poll_full": ("held", FULL),
    "poll_pause": ("signal", "waits for a signal: it polls no descriptor"),
    "io_uring": ("remote", r"completions of the io_uring that is descriptor 3 \(1 request for an event on a desc"),
    "timer_set": ("sleeps", f"waits for a timer, {TIME}"),
    "timer_unset": ("remote", "waits for a timer that is not set"),
    "signal_descriptor": ("signal", r"waits for a signal \(SIGUSR2\)"),
    "file_events": ("idle", "a change of the files that it watches"),
    "nanosleep_long": ("sleeps", f"sleeps, {TIME}"),
    "until_realtime": ("sleeps", f"sleeps, {TIME}"),
    "until_monotonic": ("sleeps", f"sleeps, {TIME}"),
    "until_boottime": ("sleeps", f"sleeps, {TIME}"),
    "until_atomic_time": ("sleeps", f"sleeps, {TIME}"),
    "until_processor_time": ("sleeps", "sleeps, with a timeout"),
    "pauses": ("signal", "waits for a signal"),
    "suspends": ("signal", "waits for a signal"),
    "futex_words": ("word", r"any of 2 futexes \(words\[0\] \(calls.c:\d+\), words\[1\] \(calls.c:\d+\)\)"),
    "waits_by_pidfd": ("signal", CHILD),
    "waits_by_id": ("signal", CHILD),
    "waits_for_group": ("signal", r"waits for a child of process group (\d+) to end \(\1 calls\): \1 calls waits"),
    "ofd_ranges": ("held", r"of bytes 10 to 19 on /tmp/forklore-call-\w+: \d+ calls has the lock \(fd 4\)"),
    "lease": ("held", LEASE),
    "lease_truncate": ("held", LEASE),
    "semaphore_zero": ("word", r"SysV semaphore 0 of set \d+ to become 0 \(\d+ calls was the last to change it\)"),
    "semaphore_time": ("sleeps", rf"SysV semaphore 0 of set \d+, {TIME}"),
    "queue_full": ("word", r"room in SysV queue \d+ \(nobody was seen yet to take a message from it\)"),
    "posix_queue_full": ("held", r"room in the queue /forklore-\d+ .*: \d+ calls still holds its read end \(fd 3\)"),
    "background_write": ("stopped", JOB + r".* was stopped \(SIGTTOU\) as it wanted to write to /dev/pts/\d+"),
    "background_settings": ("stopped", JOB + r".*\(SIGTTOU\) as it wanted to change the settings of /dev/pts/\d+"),
    "background_takes": ("stopped", JOB + r".*\(SIGTTOU\) as it wanted to become the foreground of /dev/pts/\d+"),
    "background_forgotten": ("stopped", JOB + r".* wants to read from /dev/pts/\d+, for which SIGTTIN stops it \(by"),
    "suspended": ("stopped", r"is stopped, and waits to be continued: SIGTSTP has stopped it \(process group"),
}  # fmt: skip


def program(**how: bool) -> str:
    try:
        return str(made("calls.c", **how))
    except Missing as missing:
        pytest.skip(str(missing))


def asleep(found: Hanging, said: str) -> tuple[Graph, Conclusion]:
    """The answer about a program that may sleep for something else before it does for what it waits for, which is
    ``said``."""
    end = time.monotonic() + PATIENCE
    while True:
        graph = observe([found.asked])
        (answer,) = conclude(graph)
        there = answer.chain.root != "runs" and re.search(said, headline(graph, answer.chain))
        if there or time.monotonic() > end:
            return graph, answer
        time.sleep(0.002)


def test_every_call_has_its_answer() -> None:
    assert scenarios(made("calls.c")) == list(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_what_a_call_waits_for(name: str) -> None:
    check(name, program())


@pytest.mark.parametrize(
    ("name", "time64"),
    [("semaphore_time", False), ("semaphore_time", True), ("queue_full", False), ("ppoll_time", True)],
)
def test_32_bit_programs_have_other_calls_for_the_same(name: str, time64: bool) -> None:
    # SysV's by way of ipc(2), times of 32 bits; with times of 64 bits calls of their own.
    check(name, program(m32=True, time64=time64))


def check(name: str, program: str) -> None:
    root, said = ROWS[name]
    with hanging([program, name], stdin=subprocess.PIPE) as found:
        graph, answer = asleep(found, said.replace(TIME, f"(?:{TIME}|with a timeout)"))
    text = headline(graph, answer.chain)
    if answer.chain.first.asleep is None and said.endswith(TIME) and not name.startswith(("until_", "timer_")):
        # The kernel has forgotten since when: it moved the task to another processor (kernel/sched/fair.c:
        # migrate_task_rq_fair).
        said = said.replace(TIME, "with a timeout")
    assert re.search(said, text), text
    assert answer.chain.root == root, text
    assert answer.chain.certainty is not Certainty.CERTAIN, text
    named = {int(ender.pid) for task in graph.tasks.values() for ender in task.wait.enders}
    if found.words("holds"):
        first = graph.tasks[answer.chain.first.tid]
        assert [int(each.pid) for each in first.wait.enders] == [int(found.words("holds")[0][0])], text
        assert int(found.words("holds-not")[0][0]) not in {int(each.pid) for each in first.wait.enders}
    if root == "held":
        assert named & {int(words[0]) for words in found.words("wait")}, "nobody is named who was put there"


def test_a_semaphore_of_another_ipc_namespace_is_not_asked_for_in_ours() -> None:
    if os.geteuid() != 0:
        pytest.skip("an IPC namespace takes root")
    with hanging(["unshare", "--ipc", program(), "queue_full"]) as found:
        graph = observe([found.asked])
        (answer,) = conclude(graph)
        assert "which is not asked" in headline(graph, answer.chain)
        assert not [each for each in answer.chain.first.wait.enders if each.role is Role.LAST]
