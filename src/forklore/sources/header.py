"""What every trace that is made here begins with, by whichever engine: the machine and the header."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from forklore.abi.arch import Arch
from forklore.abi.units import Tid
from forklore.events import records as ev
from forklore.linux import limits, proc
from forklore.version import VERSION


class TraceRefusedError(Exception):
    """The machine or its kernel does not let this program be traced; the text says why and what to do."""


def machine() -> Arch:
    """The arch of this machine. Raises TraceRefusedError where forklore does not know it."""
    found = proc.machine()
    if found is None:
        raise TraceRefusedError(
            f"this machine is a {os.uname().machine}; forklore traces on x86_64, aarch64 and riscv64"
        )
    return found


def header(
    arch: Arch,
    start: int,
    options: dict[str, str | int | bool | None],
    blind: list[ev.Blind],
    command: Sequence[str | os.PathLike[str]] = (),
) -> ev.Header:
    """What a trace of this machine says of itself; ``start`` is when it began, in ns of the monotonic clock.

    ``options``: as the source was told to go about it; ``blind``: what it cannot see; ``command``: what it runs.
    """
    system = os.uname()
    return ev.Header(
        source=ev.Source("forklore", VERSION),
        host=system.nodename,
        kernel=system.release,
        arch=arch,
        boot_id=proc.boot_id(),
        clock=ev.Clock(start, time.time_ns()),
        command=[ev.text(os.fsencode(word)) for word in command],
        options=options,
        uid=os.getuid(),
        limits=limits.room(Tid(os.getpid())),
        blind=blind,
    )
