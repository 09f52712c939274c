"""A wait status word as a value, compared with what os and python-ptrace make of the same word."""

from __future__ import annotations

import ctypes
import os
import signal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ptrace import binding

from forklore.linux.tracing.wait import Kind, WaitStatus

WORDS = st.integers(0, (1 << 32) - 1)
LIKELY = st.builds(
    lambda event, signal_, low: event << 16 | signal_ << 8 | low,
    st.integers(0, 7) | st.integers(126, 130),
    st.integers(0, 255),
    st.sampled_from([0, 1, 9, 11, 0x7F, 0x80, 0x8B, 0xFF]),
)
EVENTS = {
    binding.PTRACE_EVENT_FORK: Kind.FORK,
    binding.PTRACE_EVENT_VFORK: Kind.VFORK,
    binding.PTRACE_EVENT_CLONE: Kind.CLONE,
    binding.PTRACE_EVENT_EXEC: Kind.EXEC,
    5: Kind.VFORK_DONE,  # python-ptrace exports no name for it and the next two
    6: Kind.EXIT,
    7: Kind.SECCOMP,
}
STOPS = {Kind.SIGNAL, Kind.GROUP_STOP, Kind.TRAP, Kind.SYSCALL, Kind.UNKNOWN, *EVENTS.values()}


def stop(number: int, event: int = 0) -> int:
    return event << 16 | number << 8 | 0x7F


@given(WORDS | LIKELY)
@example(0xFFFF)
@example(0xFF)
@settings(max_examples=500, deadline=None)
def test_any_word_gives_an_answer_that_os_agrees_with(word: int) -> None:
    decoded = WaitStatus.decode(word)
    assert decoded.status == word
    assert str(decoded)
    status = ctypes.c_int(word).value
    assert os.WIFEXITED(status) == (decoded.kind is Kind.EXITED)
    assert os.WIFSIGNALED(status) == (decoded.kind is Kind.KILLED)
    assert os.WIFCONTINUED(status) == (decoded.kind is Kind.CONTINUED)
    assert decoded.ended == (os.WIFEXITED(status) or os.WIFSIGNALED(status))
    if os.WIFEXITED(status):
        assert decoded.code == os.WEXITSTATUS(status)
    elif os.WIFSIGNALED(status):
        assert decoded.signal == os.WTERMSIG(status)
        assert decoded.core == os.WCOREDUMP(status)
    elif os.WIFSTOPPED(status):
        assert decoded.kind in STOPS
        if decoded.kind not in (Kind.SYSCALL, Kind.TRAP):
            assert decoded.signal == os.WSTOPSIG(status)
    else:
        assert decoded.kind in (Kind.CONTINUED, Kind.UNKNOWN)


@given(st.integers(1, 255), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_events_are_those_of_python_ptrace(number: int, event: int) -> None:
    word = stop(number, event)
    decoded = WaitStatus.decode(word)
    told = binding.WPTRACEEVENT(word)
    assert told == event
    if event in EVENTS:
        assert decoded.kind is EVENTS[told]
    else:
        assert decoded.kind not in EVENTS.values()


@pytest.mark.parametrize(
    ("word", "kind", "text"),
    [
        (0, Kind.EXITED, "exit 0"),
        (0x2A00, Kind.EXITED, "exit 42"),
        (0x0B, Kind.KILLED, "killed by SIGSEGV"),
        (0x8B, Kind.KILLED, "killed by SIGSEGV (core dumped)"),
        (stop(signal.SIGUSR1), Kind.SIGNAL, "signal SIGUSR1"),
        (stop(signal.SIGTRAP), Kind.SIGNAL, "signal SIGTRAP"),
        (stop(signal.SIGTRAP | 0x80), Kind.SYSCALL, "syscall"),
        (stop(signal.SIGTRAP, 128), Kind.TRAP, "trap"),
        (stop(signal.SIGTSTP, 128), Kind.GROUP_STOP, "group-stop SIGTSTP"),
        (stop(signal.SIGTRAP, 1), Kind.FORK, "fork SIGTRAP"),
        (stop(signal.SIGTRAP, 5), Kind.VFORK_DONE, "vfork-done SIGTRAP"),
        (stop(signal.SIGTRAP, 99), Kind.UNKNOWN, "unknown SIGTRAP"),
        (0xFFFF, Kind.CONTINUED, "continued"),
    ],
)
def test_in_words(word: int, kind: Kind, text: str) -> None:
    decoded = WaitStatus.decode(word)
    assert decoded.kind is kind
    assert str(decoded) == text


def test_real_statuses() -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "kill -KILL $$"], {})
    decoded = WaitStatus.decode(os.waitpid(pid, 0)[1])
    assert (decoded.kind, decoded.signal, decoded.core) == (Kind.KILLED, signal.SIGKILL, False)
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
    assert WaitStatus.decode(os.waitpid(pid, 0)[1]).code == 7
