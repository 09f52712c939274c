"""`forklore why` of programs that hang, each with a root cause that is known because it was built in.

A proof that a pipe's other end, or an open file with a lock, is held by nobody else takes a BPF program that asks the
kernel how many hold it, or that the descriptors of all processes may be read. Where neither can be, that is what keeps
the answer from being certain, and no other reason may.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import Final

import pytest
from hanging import Hanging, answered, hanging, made, scenarios, uncounted
from programs import Missing
from tracing import ENVIRONMENT

from forklore.abi.units import Pid
from forklore.features.why.conclude import Certainty, conclude
from forklore.features.why.observe.observe import observe
from forklore.features.why.sentences import headline
from forklore.linux import tasks

CERTAIN, LIKELY, OPEN = Certainty.CERTAIN, Certainty.LIKELY, Certainty.OPEN
COUNTED: Final = "certain if the kernel tells how many hold it, or the descriptors of all processes may be read"
Row = tuple[str, str, str, tuple[str, ...]]

LOCKS: Final[dict[str, Row]] = {
    "relock": ("self", CERTAIN, "has locked itself", ("first (locks.c:", "a mutex")),
    "abba": ("cycle", CERTAIN, "deadlocked for certain", ("first (locks.c:", "second (locks.c:")),
    "abba_recursive": ("cycle", CERTAIN, "a recursive mutex", ()),
    "abba_errorcheck": ("cycle", CERTAIN, "an errorcheck mutex", ()),
    "abba_adaptive": ("cycle", CERTAIN, "an adaptive mutex", ()),
    "abba_robust": ("cycle", CERTAIN, "a robust mutex", ()),
    "inherit_join": ("cycle", CERTAIN, "a mutex with priority inheritance", ("the end of its thread",)),
    "owner_ended": ("owner_gone", CERTAIN, "of its own, which has ended since, has left locked", ("first (locks.c:",)),
    "rwlock_writer": ("cycle", CERTAIN, "table (locks.c:", ("a read-write lock",)),
    "join_ring": ("cycle", CERTAIN, "the end of its thread", ()),
    "semaphore": ("nobody", CERTAIN, "items (locks.c:", ("a semaphore", "no other task shares its memory")),
    "condition": ("nobody", CERTAIN, "changed (locks.c:", ("a condition variable",)),
    "lost_wakeup": ("cycle", CERTAIN, "its other thread waits for ever as well", ("a condition variable",)),
    "barrier": ("cycle", CERTAIN, "meeting (locks.c:", ("a barrier",)),
    "once_recursive": ("nobody", CERTAIN, "once (locks.c:", ("a pthread_once",)),
    "stdio": ("nobody", CERTAIN, "no other task shares its memory", ()),
    "leader_ended": ("signal", OPEN, "the end of its other thread", ()),
}
FORKED: Final[dict[str, Row]] = {
    "logging_lock": ("copied_lock", CERTAIN, "a thread of its creator", ("log_lock (forked.c:", "was forked")),
    "own_lock": ("copied_lock", CERTAIN, "its creator, had locked when", ("log_lock (forked.c:",)),
    "allocator_lock": ("copied_lock", CERTAIN, "arena_lock (forked.c:", ("no other task shares its memory",)),
    "stdio_lock": ("copied_lock", CERTAIN, "a lock of stdio", ("a thread of its creator",)),
    "vfork_sleeps": ("signal", OPEN, "its vfork child", ("to execute a program or to end",)),
    "vfork_lock": ("cycle", CERTAIN, "its vfork child", ("log_lock (forked.c:",)),
    "stopped_child": ("stopped", LIKELY, "is stopped", ("SIGCONT",)),
    "zombie": ("unreaped", LIKELY, "is a zombie", ("exit 3", "its parent, has not waited for it")),
    "init_reaps_nothing": ("signal", OPEN, "It has not waited for 1 child that has ended", ()),
    "traced": ("traced", OPEN, "is its tracer", ()),
}
ENDS: Final[dict[str, Row]] = {
    "pipe_self": ("self", COUNTED, "it holds the only write end itself", ("which is empty",)),
    "pipe_two_ends": ("held", OPEN, "still holds its write end (fd", ()),
    "pipe_one_generation": ("held", OPEN, "still holds its write end (fd", ("started",)),
    "pipe_three_generations": ("held", OPEN, "still holds its write end (fd", ("started",)),
    "pipes_full": ("cycle", COUNTED, "which is full", ()),
    "wait_for_reader": ("cycle", COUNTED, "its child", ("which is empty",)),
    "fifo_open": ("nobody", OPEN, "somebody to open the other end of the FIFO fifo", ()),
    "socket_self": ("self", LIKELY, "it holds the only other end itself", ("SO_RCVTIMEO",)),
    "socket_both_read": ("cycle", LIKELY, "whose other end", ("SO_RCVTIMEO",)),
    "tcp_both_read": ("cycle", LIKELY, "TCP 127.0.0.1:", ()),
    "server": ("idle", OPEN, "connections on TCP 0.0.0.0:", ()),
    "poll_self": ("self", COUNTED, "it holds the only write end itself", ()),
    "epoll_held": ("held", OPEN, "still holds its write end", ()),
    "select_held": ("held", OPEN, "still holds its write end", ()),
    "event_counter": ("self", LIKELY, "an event on eventfd", ()),
    "pidfd": ("signal", OPEN, "the end of", ()),
    "flock_cycle": ("cycle", COUNTED, "a lock (flock) on /tmp/forklore-lock-", ()),
    "ofd_cycle": ("cycle", COUNTED, "a lock (fcntl, of an open file) on /tmp/forklore-lock-", ()),
    "posix_lock": ("held", OPEN, "has the lock", ()),
    "sysv_semaphore": ("word", OPEN, "was the last to change it", ()),
    "sysv_queue": ("word", OPEN, "a message in SysV queue", ()),
    "posix_queue": ("self", LIKELY, "a message in the queue /forklore-", ()),
    "terminal_held": ("held", OPEN, "output on the terminal /dev/pts/", ()),
    "background_read": ("stopped", LIKELY, "it is in the background and wants to read from /dev/pts/", ("SIGTTIN",)),
    "prompt": ("input", OPEN, "somebody to type on /dev/pts/", ()),
    "waits_for_signal": ("signal", OPEN, "the signal SIGUSR1", ()),
    "sleeps_long": ("sleeps", OPEN, "sleeps, ", ()),
    "spins": ("runs", OPEN, "runs", ()),
}
ZOO: Final = {"locks.c": LOCKS, "forked.c": FORKED, "ends.c": ENDS}
NEEDS_ROOT: Final = frozenset({"init_reaps_nothing"})


def program(source: str, **how: bool) -> str:
    try:
        return str(made(source, **how))
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("source", ZOO)
def test_every_scenario_has_its_answer(source: str) -> None:
    assert scenarios(made(source)) == list(ZOO[source])


@pytest.mark.parametrize(("source", "name"), [(source, name) for source, rows in ZOO.items() for name in rows])
def test_the_root_cause_is_named(source: str, name: str) -> None:
    root, certainty, phrase, more = ZOO[source][name]
    with hanging([program(source), name]) as found:
        graph = observe([found.asked])
        (answer,) = conclude(graph)
    said = headline(graph, answer.chain)
    assert answer.chain.root == root, said
    for part in (phrase, *more):
        assert part in said, said
    check(answer.chain.certainty, certainty, answer.chain.why, said)


ZERO = 'echo 0 0 0 0 > /proc/sys/kernel/sem && echo 0 > /proc/sys/kernel/msgmni && exec "$@"'
LIMITED = {
    "posix_queue": ("mq_open", ["prlimit", "--msgqueue=0", "--"]),
    "sysv_queue": ("msgget", ["unshare", "--ipc", "sh", "-c", ZERO, "sh"]),
    "sysv_semaphore": ("semget", ["unshare", "--ipc", "sh", "-c", ZERO, "sh"]),
}


@pytest.mark.parametrize("name", LIMITED)
def test_what_others_have_used_up_skips_with_that_reason(name: str) -> None:
    call, limited = LIMITED[name]
    if shutil.which(limited[0]) is None or ("--ipc" in limited and os.geteuid() != 0):
        pytest.skip(f"{limited[0]} (package: util-linux) is not there, or an IPC namespace takes root")
    with (
        pytest.raises(pytest.skip.Exception, match=f"{call} fails here"),
        hanging([*limited, program("ends.c"), name]),
    ):
        pytest.fail("it hangs although there is nothing that it could wait for")


def check(found: Certainty, wanted: str, doubt: str, said: str) -> None:
    if wanted == COUNTED and (lacking := uncounted()) is not None and doubt.startswith("the descriptors of "):
        assert found is LIKELY, said
        assert f"nor does the kernel tell how many have it: {lacking.split(':')[0]}" in doubt, said
        return
    assert found is (CERTAIN if wanted == COUNTED else wanted), f"{said} (doubt: {doubt})"


def test_numbers_in_a_pid_namespace_are_its_own() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a pid namespace takes root and unshare (package: util-linux)")
    command = ["unshare", "--pid", "--fork", "--kill-child", program("forked.c"), "logging_lock"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("ask"):
                break
        (init,) = tasks.descendants(Pid(child.pid))[1:2]
        graph, answer = answered(Hanging(int(init)), "copied_lock", CERTAIN)
        said = headline(graph, answer.chain)
        assert f"a thread of its creator {init}" in said, said
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


IN_NAMESPACE: Final = """
import os, subprocess, sys
from forklore.features.why.conclude import conclude
from forklore.features.why.observe.observe import observe
ends = [int(word) for word in sys.argv[1].split()]
hung = subprocess.Popen(sys.argv[2:], stdin=0, stdout=subprocess.PIPE, text=True, pass_fds=ends)
for end in ends:
    os.close(end)
while not hung.stdout.readline().startswith("ask"):
    pass
while True:  # until all of it is asleep, as /proc shows
    (answer,) = conclude(observe([hung.pid]))
    if answer.chain.certainty != "open" and not answer.chain.why.endswith("while it was looked at"):
        break
print(answer.chain.root, answer.chain.certainty, answer.chain.why)
hung.kill()
"""


def said_in_a_namespace(*command: str, ends: tuple[int, ...] = ()) -> str:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a pid namespace takes root and unshare (package: util-linux)")
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", IN_NAMESPACE,
         " ".join(map(str, ends)), *command],
        pass_fds=ends, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout.strip()


OUTSIDE: Final = "self likely processes outside of this pid namespace are not seen, and one could hold it; nor does the"


def test_a_lock_is_certain_in_a_pid_namespace() -> None:
    assert said_in_a_namespace(program("locks.c"), "relock") == "self certain"


def test_a_pipe_is_certain_in_a_pid_namespace_where_the_kernel_tells_that_nobody_outside_has_it() -> None:
    said = said_in_a_namespace(program("ends.c"), "pipe_self")
    assert said == "self certain" if uncounted() is None else said.startswith(OUTSIDE)


def test_a_pipe_that_somebody_outside_of_the_pid_namespace_has_is_not_certain() -> None:
    ends = os.pipe()
    try:  # unshare has it, too, outside
        said = said_in_a_namespace("sh", "-c", f"echo ask; exec cat /proc/self/fd/{ends[0]}", ends=ends)
    finally:
        for end in ends:
            os.close(end)
    counted = rf"self likely fd {ends[1]} of \d+ is open somewhere else, too: .* or out of sight"
    assert re.match(counted if uncounted() is None else OUTSIDE, said), said
