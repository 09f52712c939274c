"""Building very many objects at once without stopping for the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Hold the cyclic garbage collector off, in this process, while the block runs.

    What a block builds and keeps is looked through again and again otherwise, a third of the time that a long trace
    takes; none of it is in a cycle that could be freed. A collector that is off stays off.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
