"""One kill(2) of a process group is one signal for the program, whichever copy comes first."""

from __future__ import annotations

from signal import struct_siginfo

from forklore.sources.ptrace.relayed_signals import Relayed

MS = 1_000_000
USR1, SHELL, OTHER = 10, 400, 401
FROM_SHELL = struct_siginfo((USR1, 0, 0, SHELL, 1000, 0, 0))


def test_what_is_passed_on_after_the_programs_own_is_a_second_one() -> None:
    relayed = Relayed()
    assert not relayed.by_itself(USR1, SHELL, 0)
    relayed.passed(USR1, FROM_SHELL, MS)
    assert relayed.by_us(USR1, 2 * MS)


def test_the_programs_own_after_what_was_passed_on_is_a_second_one() -> None:
    relayed = Relayed()
    relayed.passed(USR1, FROM_SHELL, 0)
    assert not relayed.by_us(USR1, MS)
    assert relayed.by_itself(USR1, SHELL, 2 * MS)
    assert not relayed.by_itself(USR1, SHELL, 3 * MS), "one stands for one"


def test_another_senders_signal_is_another_signal() -> None:
    relayed = Relayed()
    assert not relayed.by_itself(USR1, OTHER, 0)
    relayed.passed(USR1, FROM_SHELL, MS)
    assert not relayed.by_us(USR1, 2 * MS)
    assert not relayed.by_itself(USR1, OTHER, 3 * MS)


def test_much_later_is_another_signal() -> None:
    relayed = Relayed()
    relayed.passed(USR1, FROM_SHELL, 0)
    assert not relayed.by_us(USR1, MS)
    assert not relayed.by_itself(USR1, SHELL, 500 * MS)
    relayed.passed(USR1, FROM_SHELL, 5000 * MS)
    assert not relayed.by_us(USR1, 5001 * MS)


def test_two_kills_before_the_first_is_passed_on() -> None:
    relayed = Relayed()
    assert not relayed.by_itself(USR1, SHELL, 0)
    assert not relayed.by_itself(USR1, SHELL, MS)
    for t in (2 * MS, 4 * MS):
        relayed.passed(USR1, FROM_SHELL, t)
        assert relayed.by_us(USR1, t + MS)
    relayed.passed(USR1, FROM_SHELL, 6 * MS)
    assert not relayed.by_us(USR1, 7 * MS), "a third one is nobody's second"
