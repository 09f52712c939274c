"""Rows from logs that are made up, for what no library at hand does."""

from __future__ import annotations

import pytest

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.units import Nanoseconds, Pid, TaskId, Tid
from forklore.features.audit.conclude import derive
from forklore.features.audit.conclude.calls import lines
from forklore.features.audit.record import Became, Born, Happening, ProbeSaid, ProbeWord, Run, SeenCall, TaskEnded

PARENT, CHILD = TaskId(1), TaskId(2)
STACK = 0x7F0000000000


def call(name: str, *words: int, task: TaskId = PARENT, result: int | None = 0, data: bytes | None = None) -> SeenCall:
    number = syscalls.number(Arch.X86_64, name)
    assert number is not None
    return SeenCall(
        task=task, t=Nanoseconds(10), arch=Arch.X86_64, nr=number, name=name, words=(*words, *[0] * (6 - len(words))),
        data=data, result=result, until=Nanoseconds(30), sp=0x7FFF00000000,
    )  # fmt: skip


def run(*log: Happening, injected: tuple[tuple[str, int], ...] = ()) -> Run:
    return Run("posix_spawn", "single", injected, list(log), Pid(100))


BEGIN = ProbeSaid(PARENT, ProbeWord.BEGIN, (0x1000, 720, 0))


def test_a_stack_its_guard_and_the_mask_come_from_the_calls_before() -> None:
    found = derive.row(
        run(
            BEGIN,
            call("mmap", 0, 0x9000, 0, 0x20022, result=STACK),
            call("mprotect", STACK + 0x1000, 0x8000, 3),
            call("rt_sigprocmask", 0, 1, 0, 8, data=b"\xff" * 8),
            call("clone", 0x4111, STACK + 0x9000, result=101),
            Born(PARENT, CHILD, Tid(101), (0, 1, 1, 1, 4, 4)),
            call("setsid", task=CHILD),
            call("execve", 1, task=CHILD, data=b"/bin/true", result=None),
            Became(CHILD),
            call("rt_sigprocmask", 2, 1, 0, 8, data=bytes(8)),
            ProbeSaid(PARENT, ProbeWord.RETURN, (0, 0, 0)),
        )
    )
    (attempt,) = found.attempts
    assert attempt.words == "clone(VM|VFORK|SIGCHLD)"
    assert (attempt.stack.whose, attempt.stack.size, attempt.stack.guard) == ("mapped", 0x9000, 0x1000)
    assert attempt.blocked == "all"
    assert attempt.shared == ["mm"]
    assert (attempt.child, attempt.until) == (["setsid()", "execve(/bin/true)"], "exec")
    assert found.after == ["rt_sigprocmask(SIG_SETMASK, none)"]
    assert (found.held_ns, found.result) == (20, "0")


def test_a_refused_call_and_the_one_that_follows() -> None:
    refused = call("clone3", 1, 88, result=-38, data=bytes(88))
    refused.injected = 38
    found = derive.row(
        run(
            BEGIN, refused, call("vfork", result=101), Born(PARENT, CHILD, Tid(101), None),
            ProbeSaid(PARENT, ProbeWord.RETURN, (101, 0, 0)), injected=(("clone3", 38),),
        )
    )  # fmt: skip
    assert found.injected == "clone3 ENOSYS"
    assert [(a.call, a.refused, a.injected) for a in found.attempts] == [
        ("clone3", "ENOSYS", True), ("vfork", None, False),
    ]  # fmt: skip
    assert found.result == "pid"
    assert found.attempts[1].shared is None
    assert found.attempts[1].stack.whose == "the caller's, borrowed"


def test_a_pid_cache_shows() -> None:
    found = derive.row(
        run(
            BEGIN, call("clone", 17, result=101), Born(PARENT, CHILD, Tid(101), (1, 1, 1, 1, 4, 4)),
            ProbeSaid(CHILD, ProbeWord.USER, (0, 0, 0)), ProbeSaid(CHILD, ProbeWord.IDS, (100, 100, -1)),
            ProbeSaid(CHILD, ProbeWord.SELF, (0x1000, 0, 0)), ProbeSaid(PARENT, ProbeWord.RETURN, (101, 0, 0)),
        )
    )  # fmt: skip
    says = found.attempts[0].says
    assert says is not None
    assert (says.getpid, says.cached_tid, says.gettid) == ("the creator's", "the creator's", "none")
    assert says.pthread_self == "the caller's"


def test_an_exec_failure_through_a_pipe() -> None:
    found = derive.row(
        run(
            BEGIN, call("clone", 0x4111, result=101), Born(PARENT, CHILD, Tid(101), (0, 1, 1, 1, 4, 4)),
            call("execve", 1, task=CHILD, data=b"/no", result=-2), call("write", 4, 1, 4, task=CHILD, result=4),
            call("exit", 127, task=CHILD, result=None), TaskEnded(CHILD, 127 << 8),
            ProbeSaid(PARENT, ProbeWord.RETURN, (2, 0, 0)),
        )
    )  # fmt: skip
    assert found.exec_failure == "through a pipe; the child ends by exit(127)"
    assert found.attempts[0].child == ["execve(/no) = ENOENT", "write()", "exit(127)"]


def test_what_did_not_come_to_the_call_says_why() -> None:
    assert derive.row(run(ProbeSaid(PARENT, ProbeWord.MISSING, (0, 0, 0)))).outcome == "missing"
    cannot = derive.row(run(ProbeSaid(PARENT, ProbeWord.CANNOT, (1, 13, 0))))
    assert (cannot.outcome, cannot.why) == ("cannot", "EACCES")
    died = derive.row(run(TaskEnded(PARENT, 11)))
    assert (died.outcome, died.why) == ("cannot", "it ended by SIGSEGV")
    assert derive.row(run()).why == "it was killed"


@pytest.mark.parametrize("flags", [0x4022, 0x22])
@pytest.mark.parametrize("heap", [1 << 20, 64 << 20])
def test_a_new_arena_is_one_however_it_is_cut_to_size(flags: int, heap: int) -> None:
    lucky = [call("mmap", 0, heap, 0, flags), call("mprotect", 0, 0x21000, 3)]
    cut = [call("mmap", 0, 2 * heap, 0, flags), call("munmap", 0, 0x1000), call("munmap", 0x2000, 0x1000), lucky[1]]
    assert lines(lucky) == lines(cut) == ["[malloc: a new arena]"]
    stack = call("mmap", 0, heap, 0, 0x20022)
    assert lines([stack]) == [f"mmap({heap}, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_STACK)"]
