"""Programs on the kernel's classic tracepoints, by perf_event_open(2)."""

from __future__ import annotations

import os

from forklore.abi.units import Fd
from forklore.linux.perf.events import EVERY, TRACEPOINT, Attributes, Request, open_event, request


def attach(program: Fd, number: int, what: str) -> Fd:
    """Run a program at each event of a tracepoint, on every processor, until the descriptor is closed."""
    event = open_event(Attributes(TRACEPOINT, number), EVERY, 0, what)
    try:
        request(event, Request.SET_BPF, program, what)
        request(event, Request.ENABLE, 0, what)
    except OSError:
        os.close(event)
        raise
    return event
