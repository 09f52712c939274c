"""The order in which the threads of a process are seized, with a kernel that does what it may at the worst moment."""

from __future__ import annotations

import errno
import os

import pytest

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.linux import proc
from forklore.linux.ours import this_process
from forklore.linux.tracing import ptrace, seizing
from forklore.linux.tracing.seizing import Seizing

PID = Pid(100)


class Kernel:
    """A process with a leader and threads. ``before``: what happens just before a tid is seized, or after a list."""

    def __init__(self, *tids: int) -> None:
        self.threads = dict.fromkeys(tids, 0)
        """Their tracer."""
        self.zombies: set[int] = set()
        self.refuses: set[int] = set()
        self.ending: dict[int, int] = {}
        """How often a tid is still that of a task that ends when it is asked for, and looks alive afterwards."""
        self.before: dict[int, list[tuple[str, int]]] = {}
        self.hidden: set[int] = set()
        """Left out of the next list."""
        self.asked: list[int] = []
        self.cloning: dict[int, tuple[int, int]] = {}
        """Threads that run, in the middle of making another when they were seized: how often they are looked at until
        that is made, and its tid."""
        self.interrupted: list[int] = []

    def thread_ids(self, _pid: Pid) -> list[Tid] | Unavailable:
        if not self.threads:
            return Unavailable(errno.ENOENT, "gone")
        listed = [Tid(tid) for tid in self.threads if tid not in self.hidden]
        self.hidden.clear()
        return listed

    def seize(self, tid: Tid, _options: int) -> None:
        self.asked.append(tid)
        for what, other in self.before.pop(tid, []):
            if what == "born":
                self.threads[other] = 0
            elif what == "exec":  # by ``other``, which takes the leader's tid, traced or not
                tracer = os.getpid() if other == tid else self.threads[other]
                self.threads = {int(PID): tracer}
                self.zombies.clear()
                if other == tid:
                    return  # the seize was for that thread, whatever its tid is now
        if tid not in self.threads:
            raise ProcessLookupError
        if self.ending.get(tid, 0):
            self.ending[tid] -= 1
            raise PermissionError(errno.EPERM, "Operation not permitted")
        if tid in self.zombies or tid in self.refuses or self.threads[tid]:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        self.threads[tid] = os.getpid()

    def status(self, tid: int) -> dict[bytes, bytes] | Unavailable:
        if tid not in self.threads:
            return Unavailable(errno.ENOENT, "gone")
        return {
            b"State": self._state(tid),
            b"TracerPid": str(self.threads[tid]).encode(),
            b"Threads": str(len(self.threads)).encode(),
            b"Tgid": str(PID).encode(),
        }


    def _state(self, tid: int) -> bytes:
        if tid in self.zombies:
            return b"Z (zombie)"
        if tid not in self.cloning:
            return b"t (tracing stop)" if tid in self.interrupted else b"S (sleeping)"
        looks, made = self.cloning[tid]
        if looks and self.threads[tid]:
            self.cloning[tid] = looks - 1, made
        elif not looks:
            self.made(tid)
        return b"R (running)"

    def made(self, tid: int) -> None:
        _, other = self.cloning.pop(tid)
        self.threads[other] = 0  # the call began when nobody traced its caller

    def interrupt(self, tid: Tid) -> None:
        self.interrupted.append(tid)
        if tid in self.cloning:
            self.made(tid)


def take(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tid | Unavailable], Seizing]:
    monkeypatch.setattr(seizing, "thread_ids", kernel.thread_ids)
    monkeypatch.setattr(ptrace, "seize", kernel.seize)
    monkeypatch.setattr(ptrace, "interrupt", kernel.interrupt)
    monkeypatch.setattr(proc, "status", kernel.status)
    monkeypatch.setattr(seizing, "state", lambda _tid: Unavailable(errno.EACCES, "not told"))
    monkeypatch.setattr(seizing, "_status", lambda: None)
    monkeypatch.setattr(seizing, "_is_closed", kernel.refuses.__contains__)
    one = Seizing(0)
    return list(one.process(PID, lambda _tid: False)), one


def test_all_threads_and_those_born_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100, 101, 102)
    kernel.before = {102: [("born", 103)], 103: [("born", 104)]}
    assert take(kernel, monkeypatch)[0] == [100, 101, 102, 103, 104]


def test_a_thread_that_was_being_made_when_its_creator_was_seized(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100, 101)
    kernel.cloning = {101: (5, 102), 102: (3, 103)}
    assert take(kernel, monkeypatch)[0] == [100, 101, 102, 103]
    assert kernel.interrupted == []


def test_a_thread_that_runs_on_and_on_is_asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100, 101)
    kernel.cloning = {101: (1 << 30, 102)}
    assert take(kernel, monkeypatch)[0] == [100, 101, 102]
    assert kernel.interrupted == [101]


def test_a_list_that_ended_early(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100, 101, 102)
    kernel.before = {100: [("born", 103)]}
    kernel.hidden = {101, 102}
    assert set(take(kernel, monkeypatch)[0]) == {100, 101, 102, 103}


def test_a_thread_that_was_not_seized_executes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader was seized, and its tid is another task now: it comes a second time."""
    kernel = Kernel(100, 101, 102)
    kernel.before = {101: [("exec", 102)]}
    taken, one = take(kernel, monkeypatch)
    assert taken == [100, 100]
    assert kernel.threads == {100: os.getpid()}
    assert one.executed == []


def test_a_zombie_leader_whose_tid_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100, 101, 102)
    kernel.zombies = {100}
    kernel.before = {101: [("exec", 102)]}
    assert take(kernel, monkeypatch)[0] == [100]
    assert kernel.threads == {100: os.getpid()}


def test_a_seize_that_waited_for_the_execve_of_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100, 101)
    kernel.zombies = {100}
    kernel.before = {101: [("exec", 101)]}
    taken, one = take(kernel, monkeypatch)
    assert taken == [101, 100]
    assert one.executed == [101]


def test_who_was_ending_whenever_it_was_asked_for_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is with threads that execute on and on: kernel/ptrace.c: ptrace_attach refuses by exit_state."""
    kernel = Kernel(100, 101)
    kernel.ending = {100: 300}
    monkeypatch.setattr(seizing, "_PAUSE", 0.0)
    assert take(kernel, monkeypatch)[0] == [100, 101]
    assert kernel.asked.count(100) == 301


def test_who_ends_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100)
    kernel.ending = {100: 1 << 60}
    monkeypatch.setattr(seizing, "_ENOUGH", 0.0)
    (refusal,) = take(kernel, monkeypatch)[0]
    assert isinstance(refusal, Unavailable)
    assert "it was ending whenever it was asked for" in refusal.why


def test_a_refusal_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100, 101)
    kernel.refuses = {100}
    refusal, taken = take(kernel, monkeypatch)[0]
    assert isinstance(refusal, Unavailable)
    assert "does not let us trace 100" in refusal.why
    assert taken == 101
    assert kernel.asked.count(100) == 1


SYS_PTRACE = 1 << 19


@pytest.mark.parametrize(
    ("ours", "scope", "theirs", "said"),
    [
        (SYS_PTRACE, 3, {}, "ptrace_scope is 3"),
        (SYS_PTRACE, 1, {b"Uid": b"0 0 0 0"}, "not even with CAP_SYS_PTRACE"),
        (0, 1, {b"Uid": b"7\t8\t7\t7"}, "it has the uid 8, we have 7"),
        (0, None, {b"Gid": b"7\t7\t0\t7"}, "it has the gid 0, we have 7"),
        (0, 1, {}, "ptrace_scope is 1: run as root"),
        (2, 0, {b"CapPrm": b"0000000000000006"}, "capabilities that we lack"),
        (6, None, {b"CapPrm": b"0000000000000006"}, "not dumpable"),
    ],
)
def test_why_a_refusal(
    ours: int, scope: int | None, theirs: dict[bytes, bytes], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(this_process, "effective_capabilities", lambda: ours)
    monkeypatch.setattr(proc, "setting", lambda _path: scope)
    monkeypatch.setattr(os, "getuid", lambda: 7)
    monkeypatch.setattr(os, "getgid", lambda: 7)
    assert said in seizing._why_closed({b"Uid": b"7\t7\t7\t7", b"Gid": b"7\t7\t7\t7", **theirs})


def test_a_traced_one_is_named_with_its_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(100)
    kernel.threads[100] = 77
    (refusal,) = take(kernel, monkeypatch)[0]
    assert isinstance(refusal, Unavailable)
    assert refusal.why == "100 is traced by 77 already"


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    (refusal,) = take(Kernel(), monkeypatch)[0]
    assert isinstance(refusal, Unavailable)


@pytest.mark.parametrize(
    ("ours", "scope", "said"),
    [
        (0, None, None), (0, 0, None), (0, 1, None), (0, 2, "sysctl kernel.yama.ptrace_scope=1"),
        (SYS_PTRACE, 2, None), (0, 3, "--engine bpf"), (SYS_PTRACE, 3, "--engine bpf"),
    ],
)  # fmt: skip
def test_where_not_even_a_child_may_be_traced(
    monkeypatch: pytest.MonkeyPatch, ours: int, scope: int | None, said: str | None
) -> None:
    monkeypatch.setattr(this_process, "effective_capabilities", lambda: ours)
    monkeypatch.setattr(proc, "setting", lambda _path: scope)
    why = seizing.why_no_child()
    assert (why is None) is (said is None)
    assert said is None or said in (why or "")
