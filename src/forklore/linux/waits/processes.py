"""Which processes are meant: by name, or as those that a forklore traces."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.linux import proc, tasks


def named(name: str) -> list[Pid]:
    """The processes of a name: the kernel's (at most 15 bytes) or that of the program's file."""
    wanted, found = os.fsencode(name), []
    for pid in tasks.all_pids():
        if pid == os.getpid():
            continue
        comm = proc.comm(Tid(int(pid)))
        if isinstance(comm, Unavailable):
            continue
        if comm == wanted or _program(pid) == wanted:
            found.append(pid)
    return found


def _program(pid: Pid) -> bytes:
    arguments = proc.arguments(Tid(int(pid)))
    return b"" if isinstance(arguments, Unavailable) or not arguments else os.path.basename(arguments[0])


def ended_within(pids: Iterable[Pid], seconds: float) -> bool:
    """Wait until all of some processes have ended, at most so long; whether they have."""
    end = time.monotonic() + seconds
    poll, left = select.poll(), {}
    try:
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                continue  # ended
            left[descriptor] = descriptor
            poll.register(descriptor, select.POLLIN)
        while left and (rest := end - time.monotonic()) > 0:
            for descriptor, _event in poll.poll(rest * 1000):
                poll.unregister(descriptor)
                os.close(left.pop(descriptor))
        return not left
    finally:
        for descriptor in left.values():
            os.close(descriptor)


def traced_by_forklore() -> list[Pid]:
    """The processes that are traced by a forklore of any user, as far as can be seen."""
    found = []
    known: dict[Tid, bool] = {}
    for pid in tasks.all_pids():
        tracer = tasks.tracer_of(Tid(int(pid)))
        if tracer is None:
            continue
        if tracer not in known:
            known[tracer] = _is_forklore(tracer)
        if known[tracer]:
            found.append(pid)
    return found


def _is_forklore(tid: Tid) -> bool:
    leader = tasks.leader_of(tid)
    arguments = proc.arguments(tid if isinstance(leader, Unavailable) else Tid(int(leader)))
    if isinstance(arguments, Unavailable):
        return False
    return any(os.path.basename(word) == b"forklore" for word in arguments[:4])
