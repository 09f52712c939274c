"""Which memory of a traced program is mapped from a file that a server answers for: FUSE, a network's file system."""

from __future__ import annotations

import os
from typing import Final

from forklore.abi.units import Address, Tid
from forklore.linux import mappings
from forklore.linux.files import strangers_file

_own: Final[list[tuple[int, int]]] = []
"""The device of the kernel's own mount for shared memory, which no mountinfo has; empty: not asked for yet."""


def is_served(tid: Tid, address: Address) -> bool:
    """Whether a server answers for the page at ``address``, which is not in memory.

    A file whose mount cannot be seen from here is taken for a server's if it lies on no disk.
    """
    found = mappings.device_at(tid, address)
    if found is None or found == (0, 0):
        return False  # nothing is mapped there, or no file
    kind = strangers_file.kind_of_device(tid, *found)
    if kind:
        return strangers_file.is_servers(kind)
    return found[0] == 0 and found != _shared_memory()


def _shared_memory() -> tuple[int, int]:
    if not _own:
        fd = os.memfd_create("forklore-device", os.MFD_CLOEXEC)
        try:
            device = os.fstat(fd).st_dev
        finally:
            os.close(fd)
        _own.append((os.major(device), os.minor(device)))
    return _own[0]
