"""Statuses that come while threads are being seized: each is kept as waitpid(2) would have told it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from forklore.abi import ptrace as pt
from forklore.abi.units import Tid
from forklore.linux.tracing import ptrace, seizing
from forklore.linux.tracing.wait import Kind, WaitStatus


@pytest.fixture
def child() -> Iterator[int]:
    """A process that waits for signals, seized by this thread."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        ptrace.seize(Tid(process.pid), int(pt.Option.EXITKILL))
        yield process.pid
        process.kill()


def by_another_thread(child: int) -> tuple[Tid, int]:
    """As the watch of :class:`Seizing` asks: in a thread that traces nobody, and again until there is an answer."""
    found: list[tuple[Tid, int]] = []

    def ask() -> None:
        while not found:
            taken = seizing._status()
            if taken is not None and taken[0] == child:  # and not what another test has left
                found.append(taken)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


def test_a_stop_is_no_end(child: int) -> None:
    # kernel/exit.c: wait_task_stopped tells of a tracee's stop even when only ends are waited for.
    ptrace.interrupt(Tid(child))
    tid, word = by_another_thread(child)
    status = WaitStatus.decode(word)
    assert (tid, status.kind, status.ended) == (child, Kind.TRAP, False)
    assert os.WIFSTOPPED(word)
    assert os.WSTOPSIG(word) & 0x7F == signal.SIGTRAP


def test_a_signals_stop(child: int) -> None:
    os.kill(child, signal.SIGUSR1)
    tid, word = by_another_thread(child)
    assert (tid, WaitStatus.decode(word).kind, os.WSTOPSIG(word)) == (child, Kind.SIGNAL, signal.SIGUSR1)


def test_an_end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    tid, word = by_another_thread(child)
    assert (tid, os.WIFSIGNALED(word), os.WTERMSIG(word)) == (child, True, signal.SIGKILL)
