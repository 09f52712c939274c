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
    return found is not None and is_servers_device(tid, found)


def is_servers_device(tid: Tid, device: tuple[int, int]) -> bool:
    """Whether a server answers for what is mapped from a device; (0, 0) is that of memory without a file."""
    if device == (0, 0):
        return False
    kind = strangers_file.kind_of_device(tid, *device)
    if kind:
        return strangers_file.is_servers(kind)
    return device[0] == 0 and device != _shared_memory()


def _shared_memory() -> tuple[int, int]:
    if not _own:
        fd = os.memfd_create("forklore-device", os.MFD_CLOEXEC)
        try:
            device = os.fstat(fd).st_dev
        finally:
            os.close(fd)
        _own.append((os.major(device), os.minor(device)))
    return _own[0]
