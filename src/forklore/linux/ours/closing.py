"""Closing what the kernel takes long to let go of, without waiting for it.

Who closes the last descriptor of a perf event with a BPF program waits until no processor can run that program any more
(kernel/trace/bpf_trace.c: perf_event_detach_bpf_prog), some hundredths of a second for each. A child that has them too
and ends after us waits in our stead.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Final

from forklore.abi.units import Fd

NAME: Final = b"forklore-closes"
"""What that process is called, for whoever sees it."""
_MOST: Final = 1 << 20


def close_elsewhere(descriptors: Sequence[Fd]) -> None:
    """Close them here, and have them closed for good by a process of its own, which ends by itself."""
    if descriptors and threading.active_count() == 1:  # a thread could hold a lock that the child then needs
        read, write = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _outlive(descriptors, read)
        os.close(read)
        os.waitpid(child, 0)
        descriptors = [*descriptors, Fd(write)]
    for fd in descriptors:
        os.close(fd)


def _outlive(descriptors: Sequence[Fd], gate: int) -> None:
    try:
        if os.fork() == 0:  # nobody's child: nobody has to wait for it
            with open("/proc/self/comm", "wb", buffering=0) as name:
                name.write(NAME)
            kept = sorted({*descriptors, gate})
            for first, after in zip([-1, *kept], [*kept, _MOST], strict=True):
                os.closerange(first + 1, after)
            os.read(gate, 1)  # until ours are closed
    finally:
        os._exit(0)
