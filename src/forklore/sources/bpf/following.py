"""What a run without stops and an attachment have in common: programs that are loaded, a follower, and their end."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from forklore.abi.arch import Arch
from forklore.abi.units import Pid
from forklore.linux import proc
from forklore.sources.bpf.blind import refusal
from forklore.sources.bpf.follower import Follower
from forklore.sources.bpf.kernel import STACK, Events, Failures, Filter, cgroups
from forklore.sources.ptrace.options import Options

if TYPE_CHECKING:
    from forklore.sources.source import Emit


def refuse(options: Options) -> None:
    """Raise ValueError for options that need tasks that are held."""
    if (why := refusal(options)) is not None:
        raise ValueError(why)


def loaded(
    arch: Arch, options: Options, *, buffer: int, failures: Failures, everything: Filter | None = None
) -> Events:
    """The kernel's events, as far as the options ask for them. Raises LoadError."""
    return Events(
        arch,
        buffer=buffer,
        argv=options.argv,
        env=options.env,
        everything=everything,
        failures=failures,
        stack=STACK if options.stack_depth else 0,
        meanwhile=lambda: _import_what_walks_stacks() if options.stack_depth else None,
    )


def _import_what_walks_stacks() -> None:
    # While the kernel verifies the programs; of a start it would take a quarter.
    for name in ("sources.bpf.callers", "elf.image.symbols", "elf.image.dynsym"):
        importlib.import_module(f"forklore.{name}")


def told(options: Options, events: Events, buffer: int) -> dict[str, str | int | bool | None]:
    """What the header says of how the trace was made."""
    return {
        **options.record(), "stops": None, "engine": "bpf", "buffer": buffer, "calls_seen_by": events.calls_seen_by,
    }  # fmt: skip


def follower(
    arch: Arch, options: Options, start: int, emit: Emit, events: Events, root: Pid | None = None
) -> Follower:
    """Who makes a trace of the events. ``start``: when the trace began; ``root``: the process that is started."""
    stacks = None
    if options.stack_depth:
        from forklore.sources.bpf.callers import CopiedStacks

        stacks = CopiedStacks(arch, options, emit, events.copy_frames)
    return Follower(
        options,
        start,
        emit,
        events.lost,
        root=root,
        parent_of=proc.parent_of,
        cgroups=cgroups,
        stacks=stacks,
    )
