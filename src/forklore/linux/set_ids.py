"""What a set-user-id or set-group-id program was to get by its execve, and what it got."""

from __future__ import annotations

import stat
from typing import Final

from msgspec import Struct

from forklore.abi.flags import AT_FDCWD
from forklore.abi.units import Tid, Unavailable
from forklore.linux import proc

_EFFECTIVE: Final = 1
"""Of the four numbers of Uid and Gid in /proc/PID/status (proc_pid_status(5))."""


class SetIds(Struct, frozen=True, gc=False):
    """Of one exec. ``uid``, ``gid``: of the file, where its mode has the bit, else None."""

    uid: int | None
    gid: int | None
    euid: int
    egid: int


def set_ids(tid: Tid) -> SetIds | None:
    """Of the program that a held task has just executed; None where its file has neither bit, or cannot be looked at.

    Nobody is waited for: the file may lie where a server answers (:func:`forklore.linux.files.file_calls.status`).
    """
    from forklore.linux.files.file_calls import status  # what it takes is loaded with the first stack in any case

    try:
        file = status(AT_FDCWD, b"/proc/%d/exe" % tid)
    except OSError:
        return None
    # Without the group's right to execute the bit means something else (fs/exec.c: bprm_fill_uid).
    by_group = file.mode & stat.S_ISGID and file.mode & stat.S_IXGRP
    if not (file.mode & stat.S_ISUID or by_group):
        return None
    fields = proc.status(tid)
    if isinstance(fields, Unavailable):
        return None
    euid, egid = (int(fields[name].split()[_EFFECTIVE]) for name in (b"Uid", b"Gid"))
    return SetIds(
        uid=file.uid if file.mode & stat.S_ISUID else None, gid=file.gid if by_group else None, euid=euid, egid=egid
    )
