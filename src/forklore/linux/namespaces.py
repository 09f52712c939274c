"""The namespaces of a task, by inode number: /proc/TID/ns (namespaces(7))."""

from __future__ import annotations

import errno
import os
from typing import Final

from forklore.abi.errors import errno_name
from forklore.abi.resources import link_names
from forklore.abi.units import NsInode, Tid, Unavailable
from forklore.linux.kcmp import access_rule, is_zombie

NAMES: Final = link_names()
"""The links of /proc/TID/ns: the eight kinds, and the two that only the next child or execve enters."""

FIRST_PID: Final = NsInode(0xEFFFFFFC)
"""The pid namespace that all others are in (include/linux/proc_ns.h: PROC_PID_INIT_INO)."""

Namespaces = dict[str, NsInode | Unavailable]
"""By the names of :data:`NAMES`."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def namespaces(tid: Tid, names: tuple[str, ...] = NAMES) -> Namespaces:
    """The inode of each namespace of a task.

    ENOENT for ``pid_for_children`` says that the namespace has no process yet: unshare(CLONE_NEWPID) made it, and
    the next child will be its init.
    """
    try:
        directory = os.open(f"/proc/{tid}/ns", _DIRECTORY)
    except OSError as problem:
        return dict.fromkeys(names, _refused(tid, "pid", problem))
    found: Namespaces = {}
    readlink = os.readlink
    lost: Unavailable | None = None
    try:
        for name in names:
            try:
                link = readlink(name, dir_fd=directory)
            except OSError as problem:
                # All but a missing link have one reason, which takes some reading to find.
                if problem.errno == errno.ENOENT or lost is None:
                    lost = _refused(tid, name, problem)
                found[name] = lost
            else:
                found[name] = NsInode(int(link[link.index("[") + 1 : -1]))
    finally:
        os.close(directory)
    return found


def _refused(tid: Tid, name: str, problem: OSError) -> Unavailable:
    number = problem.errno or 0
    if number == errno.ESRCH or not os.path.lexists(f"/proc/{tid}"):
        return Unavailable(errno.ESRCH, f"ESRCH: there is no task {tid}")
    if number in (errno.EACCES, errno.EPERM):
        return Unavailable(number, f"{errno_name(number)}: {access_rule(tid)}")
    if number == errno.ENOENT:
        if not os.path.lexists(f"/proc/self/ns/{name}"):
            return Unavailable(number, f"ENOENT: this kernel has no {name} namespaces")
        if is_zombie(tid):
            return Unavailable(number, f"ENOENT: {tid} has ended and left its namespaces")
        if name == "pid_for_children":
            return Unavailable(number, "ENOENT: a new pid namespace that has no process yet")
    return Unavailable(number, f"{errno_name(number)}: /proc/{tid}/ns/{name}")
