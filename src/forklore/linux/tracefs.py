"""The kernel's tracepoints as tracefs lists them: their numbers, and where the fields of their records lie.

Where tracefs is not mounted it is mounted for this process alone.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Final

from forklore.abi.units import Fd
from forklore.linux.detached import mounted
from forklore.linux.lockdown import lockdown

_PLACES: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_FIELD: Final = re.compile(rb"field:[^;]*?(\w+)(?:\[\w*\])?;\s*offset:(\d+);\s*size:(\d+);")


class Tracefs:
    """The numbers of tracepoints. Raises OSError where tracefs can be neither read nor mounted."""

    def __init__(self) -> None:
        self._fd = self._open()

    @staticmethod
    def _open() -> Fd:
        for place in _PLACES:
            if os.access(f"{place}/events/syscalls", os.R_OK | os.X_OK):
                return Fd(os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        if lockdown() == "confidentiality":
            # Nothing in it may be read then, and to unmount it kills who does, with a lock held: an inode that was
            # never put on a list is taken from it (fs/tracefs/inode.c: tracefs_destroy_inode, seen with Linux 6.12).
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), "mounting tracefs in lockdown's confidentiality mode")
        return mounted("tracefs")

    def number(self, group: str, name: str) -> int | None:
        """Of a tracepoint; None where this kernel has none of that name. Raises OSError."""
        found = self._read(f"events/{group}/{name}/id", 32)
        return None if found is None else int(found)

    def fields(self, group: str, name: str) -> dict[str, tuple[int, int]]:
        """Where each field of its records lies, and how many bytes it has; none where there is no such tracepoint."""
        found = self._read(f"events/{group}/{name}/format", 1 << 16)
        return {} if found is None else fields(found)

    def _read(self, path: str, most: int) -> bytes | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        try:
            return os.read(fd, most)
        finally:
            os.close(fd)

    def close(self) -> None:
        """It is mounted no more, where it was for us."""
        os.close(self._fd)


def fields(described: bytes) -> dict[str, tuple[int, int]]:
    """Out of a tracepoint's ``format``: field to offset and size. Of a ``__data_loc`` they are those of its word."""
    return {name.decode(): (int(offset), int(size)) for name, offset, size in _FIELD.findall(described)}
