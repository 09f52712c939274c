"""A signal that asks to end is heard whenever it comes, before the wait or during it.

A test runner may have threads that take a signal of the process; so each is sent to this thread, which waits.
"""

from __future__ import annotations

import select
import signal
import threading
from collections.abc import Iterator

import pytest

from forklore.linux.ours import leaving
from forklore.linux.ours.asked_to_end import AskedToEnd, Polled

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _nothing_hurries_afterwards() -> Iterator[None]:
    yield
    leaving.begin()


@pytest.fixture
def asked() -> Iterator[AskedToEnd]:
    handlers = {number: signal.getsignal(number) for number in ENDING}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    made = AskedToEnd()
    made.keep()
    yield made
    while signal.sigtimedwait(ENDING, 0) is not None:
        continue
    made.close()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_just_before_the_wait(asked: AskedToEnd, number: signal.Signals) -> None:
    """Where a Python handler would run, return, and leave the wait to itself."""
    signal.raise_signal(number)
    assert asked.wait(None) is True
    assert leaving.overdue() is False
    assert leaving._Leaving.asked, "what is looked up from now on has little time"


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_during_the_wait(asked: AskedToEnd, number: signal.Signals) -> None:
    threading.Thread(target=signal.pthread_kill, args=(threading.get_ident(), number)).start()
    assert asked.wait(None) is True


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_there_is_nothing_to_wait_for(asked: AskedToEnd, seconds: float | None) -> None:
    threading.Thread(target=asked.cancel).start()
    assert asked.wait(seconds) is None
    assert asked.wait(seconds) is None


def test_asked_by_a_call(asked: AskedToEnd) -> None:
    asked.ask()
    assert asked.wait(None) is True


def test_the_time_is_over(asked: AskedToEnd) -> None:
    assert asked.wait(0.001) is False
    assert asked.wait(0) is False


def test_asked_before_the_signals_are_kept() -> None:
    made = AskedToEnd()
    made.ask()
    assert made.wait(None) is True


def test_a_signal_too_late_ends_nobody(asked: AskedToEnd) -> None:
    signal.raise_signal(signal.SIGTERM)
    asked.close()
    asked.keep()
    assert asked.wait(0) is False, "it was delivered, and did nothing"


@pytest.fixture
def polled() -> Iterator[Polled]:
    handlers = {number: signal.getsignal(number) for number in ENDING}
    made = Polled()
    made.keep()
    yield made
    made.close()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_just_before_a_loop_polls(polled: Polled, number: signal.Signals) -> None:
    """Engines that stop nothing wait for descriptors, without a limit."""
    assert select.select([polled.fd], [], [], 0)[0] == []
    signal.raise_signal(number)
    assert polled.said
    assert select.select([polled.fd], [], [], 0)[0] == [polled.fd]
    assert leaving._Leaving.asked


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_a_loop_polls(polled: Polled, number: signal.Signals) -> None:
    threading.Thread(target=signal.pthread_kill, args=(threading.get_ident(), number)).start()
    assert select.select([polled.fd], [], [])[0] == [polled.fd]
    assert polled.said


def test_a_loop_is_asked_by_a_call_as_often_as_one_likes(polled: Polled) -> None:
    for _ in range(1 << 17):  # more than a pipe holds
        polled.ask()
    assert select.select([polled.fd], [], [], 0)[0] == [polled.fd]
