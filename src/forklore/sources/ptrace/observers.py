"""The observers that the options ask for; what they do not ask for is not loaded, for the time to start counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forklore.abi.arch import Arch
from forklore.sources.ptrace.observer import Observer
from forklore.sources.ptrace.options import Observe, Options

if TYPE_CHECKING:
    from forklore.sources.outbox import Outbox
    from forklore.sources.ptrace.callers import Callers


def callers_of(machine: Arch, options: Options, out: Outbox) -> Callers | None:
    """Who reads call stacks."""
    if options.stack_depth == 0:
        return None
    from forklore.sources.ptrace.callers import Callers

    return Callers(machine, options, out)


def observers_of(options: Options, emit: Outbox, callers: Callers | None) -> list[Observer]:
    """All of them, in the order in which they look."""
    observers: list[Observer] = [] if callers is None else [callers]
    if options.observe in (Observe.AUTO, Observe.FULL):
        from forklore.sources.ptrace.exec_descriptors import ExecDescriptors

        observers.append(ExecDescriptors(emit))
    if options.cow:
        from forklore.sources.ptrace.cow import Copies

        observers.append(Copies(emit))
    if options.vfork_writes:
        from forklore.sources.ptrace.vfork_memory import VforkMemory

        observers.append(VforkMemory(emit, callers.names if callers else None, callers.where if callers else None))
    return observers
