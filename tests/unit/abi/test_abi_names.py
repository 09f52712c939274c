"""Names of errors, signals, limits and wait options, against those that Python took from the C library."""

from __future__ import annotations

import errno
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.errors import RESTARTS, errno_name, errno_number
from forklore.abi.kcmp import KcmpType
from forklore.abi.signals import CSIGNAL, SIGRTMAX, SIGRTMIN, signal_name, signal_number
from forklore.abi.wait import IdType, WaitOption


def test_errors_are_those_of_the_errno_module() -> None:
    # ENOTSUP is the C library's second name for EOPNOTSUPP; the kernel has only one.
    theirs = {name: number for number, name in errno.errorcode.items() if name != "ENOTSUP"}
    assert len(theirs) > 120
    assert {name: errno_number(name) for name in theirs} == theirs


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (11, "EAGAIN"),
        (22, "EINVAL"),
        (35, "EDEADLK"),
        (38, "ENOSYS"),
        (95, "EOPNOTSUPP"),
        (117, "EUCLEAN"),
        (512, "ERESTARTSYS"),
        (513, "ERESTARTNOINTR"),
        (514, "ERESTARTNOHAND"),
        (516, "ERESTART_RESTARTBLOCK"),
        (0, "errno 0"),
        (999, "errno 999"),
        (-22, "errno -22"),
    ],
)
def test_names_of_errors(number: int, name: str) -> None:
    assert errno_name(number) == name


def test_second_names_of_errors_are_understood() -> None:
    assert errno_number("EWOULDBLOCK") == errno_number("EAGAIN")
    assert errno_number("EDEADLOCK") == errno_number("EDEADLK")
    assert errno_number("EFOO") is None


def test_restarts_are_the_four_that_the_kernel_handles_on_the_way_back() -> None:
    assert sorted(map(errno_name, RESTARTS)) == [
        "ERESTARTNOHAND",
        "ERESTARTNOINTR",
        "ERESTARTSYS",
        "ERESTART_RESTARTBLOCK",
    ]


@given(st.integers(min_value=-5000, max_value=5000))
def test_every_error_has_a_name_that_leads_back(number: int) -> None:
    name = errno_name(number)
    assert errno_number(name) == (None if name.startswith("errno ") else number)


def test_signals_are_those_of_the_signal_module() -> None:
    standard = [known for known in signal.Signals if known < SIGRTMIN]
    assert len(standard) == 31
    assert {known.name: signal_name(known) for known in standard} == {
        known.name: known.name for known in standard
    }
    assert signal_number("SIGIOT") == signal.SIGABRT
    assert signal_number("SIGPOLL") == signal.SIGIO
    assert signal_number("SIGCLD") is None


def test_real_time_signals_count_from_the_kernels_first() -> None:
    assert (SIGRTMIN, SIGRTMAX, CSIGNAL) == (32, 64, 0xFF)
    assert [signal_name(number) for number in (32, 33, 34, 64)] == [
        "SIGRTMIN",
        "SIGRT_1",
        "SIGRT_2",
        "SIGRT_32",
    ]
    assert [signal_name(number) for number in (0, 65, 145, 200, -1)] == [
        "signal 0", "signal 65", "signal 145", "signal 200", "signal -1",
    ]  # fmt: skip


@given(st.integers(min_value=-10, max_value=300))
def test_a_signals_name_leads_back(number: int) -> None:
    name = signal_name(number)
    assert signal_number(name) == (None if name.startswith("signal ") else number)


@given(st.text(max_size=12) | st.from_regex(r"SIGRT_[0-9²٣+ -]{0,5}", fullmatch=True))
def test_no_name_makes_signal_number_raise(name: str) -> None:
    number = signal_number(name)
    assert number is None or signal_number(signal_name(number)) == number


def test_wait_options_are_those_of_the_os_module() -> None:
    for name in ("WNOHANG", "WUNTRACED", "WCONTINUED", "WEXITED", "WSTOPPED", "WNOWAIT"):
        assert WaitOption[name] == getattr(os, name)
    for name in ("P_ALL", "P_PID", "P_PGID", "P_PIDFD"):
        assert IdType[name] == getattr(os, name)
    # linux/wait.h; Python does not have these.
    assert (WaitOption.WALL, WaitOption.WCLONE, WaitOption.WNOTHREAD) == (0x40000000, 0x80000000, 0x20000000)


def test_kcmp_types_are_in_the_order_of_the_manual() -> None:
    assert [kind.name for kind in sorted(KcmpType)] == [
        "FILE", "VM", "FILES", "FS", "SIGHAND", "IO", "SYSVSEM", "EPOLL_TFD",
    ]  # fmt: skip
    assert [int(kind) for kind in KcmpType] == list(range(8))
