"""The file behind a mapping, whatever became of its name: replaced, deleted, or hidden by a mount namespace."""

from __future__ import annotations

import os
import stat

from forklore.abi.units import Tid, Unavailable
from forklore.linux.mappings import Mapping, MappingKind
from forklore.linux.proc import unavailable


def open_mapped(tid: Tid, mapping: Mapping) -> int | Unavailable:
    """A descriptor of the very file that ``tid`` has mapped: by its name as ``tid`` sees it, else by the mapping.

    /proc/PID/map_files needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)). What is no regular
    file is not opened: a device may act when it is.
    """
    if mapping.kind is not MappingKind.FILE:
        return Unavailable(0, "no file lies behind this mapping")
    named = _open(os.fsencode(f"/proc/{tid}/root") + mapping.path, mapping)
    if isinstance(named, int):
        return named
    mapped = _open(os.fsencode(f"/proc/{tid}/map_files/{mapping.start:x}-{mapping.end:x}"), mapping)
    if isinstance(mapped, int):
        return mapped
    return named if mapped.errno else mapped


def _open(path: bytes, mapping: Mapping) -> int | Unavailable:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return Unavailable(0, "it is no regular file")
        if found.st_ino != mapping.inode:
            return Unavailable(0, "the file of this name was replaced since it was mapped")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as problem:
        return unavailable(problem, os.fsdecode(path))
    except ValueError:
        return Unavailable(0, "its name holds a NUL")
