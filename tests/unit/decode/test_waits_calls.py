"""Calls that wait, by name and arguments."""

from __future__ import annotations

from forklore.decode.waits.calls import CALLS, unfolded


def test_what_ipc_is_for() -> None:
    # i386's semtimedop(65593, sops, 1, timeout) as /proc/PID/syscall has it.
    words = (4, 65593, 1, 0, 0xFFFD9BAA, 0xFFFD9B58)
    assert unfolded("ipc", words) == ("semtimedop", (65593, 0xFFFD9BAA, 1, 0xFFFD9B58))
    assert unfolded("ipc", (1 << 16 | 12, 7, 64, 0, 0x1000, 2)) == ("msgrcv", (7, 0x1000, 64, 2, 0))
    assert unfolded("ipc", (11, 7, 64, 0, 0x1000, 0)) == ("msgsnd", (7, 0x1000, 64, 0))
    assert {unfolded("ipc", (number,) * 6)[0] for number in (1, 4, 11, 12)} <= CALLS.keys()


def test_what_it_is_not_for() -> None:
    assert unfolded("ipc", (2, 1, 2, 3, 4, 5)) == ("ipc", (2, 1, 2, 3, 4, 5)), "semget does not wait"
    assert unfolded("read", (4, 1, 2, 3, 4, 5)) == ("read", (4, 1, 2, 3, 4, 5))
