"""Whether the bpf engine can be used on this machine, found by using it."""

from __future__ import annotations

import functools

import pytest

from forklore.linux.bpf.loader import LoadError
from forklore.linux.proc import machine
from forklore.sources.bpf.kernel import Events


@functools.cache
def lacking() -> str | None:
    """Why the programs cannot be loaded here; None where they can."""
    arch = machine()
    if arch is None:
        return "forklore has no BPF programs for this machine"
    try:
        Events(arch, buffer=1 << 16).close()
    except LoadError as problem:
        return str(problem)
    return None


def needed() -> None:
    """Skip the test that asks, with the reason."""
    if (why := lacking()) is not None:
        pytest.skip(f"no BPF here: {why}")
