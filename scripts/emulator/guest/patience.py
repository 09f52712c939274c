"""A pytest plugin: time limits of the tests, made for real machines, are longer in an emulated one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import hypothesis
import pytest

FACTOR = float(os.environ.get("FORKLORE_PATIENCE", "1"))
LIMIT = 30 * FACTOR
"""Seconds: the tests' own limit for one run of a program (``tracing.TIMEOUT``), and what others grow to at most."""
ONE_TEST = 2 * LIMIT
"""Seconds after which a test counts as stuck."""

_wait = subprocess.Popen.wait
_communicate = subprocess.Popen.communicate


def _longer(seconds: float | None) -> float | None:
    return None if seconds is None else max(seconds, min(seconds * FACTOR, LIMIT))


def _patient_wait(self: subprocess.Popen[Any], timeout: float | None = None) -> int:
    return _wait(self, _longer(timeout))


def _patient_communicate(
    self: subprocess.Popen[Any], input: bytes | str | None = None, timeout: float | None = None
) -> tuple[Any, Any]:
    return _communicate(self, input, _longer(timeout))


def pytest_configure() -> None:
    """The limits of subprocess and of hypothesis."""
    subprocess.Popen.wait = _patient_wait  # type: ignore[method-assign]
    subprocess.Popen.communicate = _patient_communicate  # type: ignore[method-assign]
    slow = hypothesis.HealthCheck.too_slow
    hypothesis.settings.register_profile("emulated", deadline=None, suppress_health_check=[slow])
    hypothesis.settings.load_profile("emulated")


def pytest_collectstart() -> None:
    """``tracing.TIMEOUT``, for what waits without subprocess. Test modules take it by name when they are imported."""
    tracing = sys.modules.get("tracing")
    if tracing is not None:
        tracing.TIMEOUT = int(LIMIT)  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """One stuck test does not take the others' time."""

    def stuck(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"stuck for {ONE_TEST:.0f} s")

    previous = signal.signal(signal.SIGALRM, stuck)
    signal.setitimer(signal.ITIMER_REAL, ONE_TEST)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
