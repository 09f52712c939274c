"""What becomes of a fault in the first process of a pid namespace, which nothing but a fault may end."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import cast

import pytest

from forklore.abi.arch import Arch
from forklore.abi.units import Tid
from forklore.linux.tracing import ptrace
from forklore.sources.ptrace.kernel import Linux
from forklore.sources.ptrace.signal_delivery import Delivery
from forklore.sources.ptrace.tracee import Tracee

TRAP_BRKPT, SI_USER = 1, 0


@pytest.mark.parametrize(
    ("machine", "number", "code", "let_go"),
    [
        (Arch.X86_64, signal.SIGSEGV, 1, True),
        (Arch.AARCH64, signal.SIGSEGV, 1, True),
        (Arch.X86_64, signal.SIGTRAP, TRAP_BRKPT, False),  # int3 is over when its signal comes
        (Arch.AARCH64, signal.SIGTRAP, TRAP_BRKPT, True),  # brk is executed again
        (Arch.RISCV64, signal.SIGTRAP, TRAP_BRKPT, True),
        (Arch.AARCH64, signal.SIGTRAP, SI_USER, False),  # somebody sent it
        (Arch.AARCH64, signal.SIGTERM, 1, False),
    ],
)
def test_it_is_let_go_if_it_would_fault_for_ever(
    machine: Arch, number: signal.Signals, code: int, let_go: bool
) -> None:
    class Faulting(Linux):
        def signal_info(self, _tid: Tid) -> ptrace.SignalInfo:
            return ptrace.SignalInfo(number, code, None, None)

        def registers(self, _tid: Tid) -> ptrace.Registers:
            return cast("ptrace.Registers", SimpleNamespace(layout=None))

        def dies_of(self, _tid: Tid, _signal: int) -> bool:
            return True

    task = cast("Tracee", SimpleNamespace(tid=7, last_signal=None))
    assert Delivery(Faulting(), machine).of(task, number, 0, to_root=False) == (None if let_go else number)
