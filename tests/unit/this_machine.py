"""What the machine that the tests run on is: its instructions, and how fast it computes."""

from __future__ import annotations

import functools
import sysconfig
import time
from pathlib import Path
from typing import Final

import pytest

from forklore.abi.arch import Arch
from forklore.linux import proc

_MACHINE: Final = proc.machine()
assert _MACHINE is not None, "the tests run where forklore does"
NATIVE: Final = _MACHINE
"""What the compiler makes without being told."""

LIBRARIES: Final = Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "")
"""Debian's folder of shared libraries."""

_LOOPS: Final = 500_000
_USUAL: Final = 0.05
"""Seconds of processor time that the loops take at most on a machine that is not emulated."""

x86_64_only: Final = pytest.mark.skipif(NATIVE is not Arch.X86_64, reason="the code is x86_64's")


@functools.cache
def _slowness() -> float:
    started = time.thread_time()
    total = 0
    for number in range(_LOOPS):
        total += number & 3
    return max(1.0, (time.thread_time() - started) / _USUAL)


def processor_time(seconds: float) -> float:
    """As much processor time as ``seconds`` of a usual machine, for limits that show that work is bounded."""
    return seconds * _slowness()
