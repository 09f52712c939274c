"""What decides about a refused call and can be read of its caller, while it is held at the call's exit.

Only what can have decided for the error at hand is read, and only of the caller itself.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final

from forklore.abi import flags as f
from forklore.abi.resources import KCMP, NSTYPES
from forklore.abi.units import Fd, Tid, Unavailable
from forklore.linux import kcmp
from forklore.linux.limits import room
from forklore.linux.proc import number, read_file, read_link, setting, status

Numbers = dict[str, int]
"""By the names of :class:`forklore.decode.rules.rule.Context`."""

_FIRST_USER_NS: Final = 0xEFFFFFFD
"""PROC_USER_INIT_INO of include/uapi/linux/nsfs.h: the inode of the machine's own user namespace."""
_FIRST_PID_NS: Final = b"pid:[4026531836]"
"""The machine's own, PROC_PID_INIT_INO there."""
_EVERY_ID: Final = 0xFFFFFFFF


def deciding(tid: Tid, refused: int, flags: int, fd: Fd | None = None) -> Numbers:
    """What could be read of ``tid``, whose call was refused with ``refused``.

    ``flags`` is what the call asked for, -1 for anything; ``fd`` the descriptor that it named.
    """
    found = _status(tid)
    reader = _READERS.get(refused)
    if reader is not None:
        found.update(reader(tid, flags))
    if fd is not None:
        found.update(_descriptor(tid, fd))
    return found


def _status(tid: Tid) -> Numbers:
    fields = status(tid)
    if isinstance(fields, Unavailable):
        return {}
    found: Numbers = {}
    for name, field, base in _FIELDS:
        value = number(fields, field, base)
        if value is not None:
            found[name] = value
    tgids = fields.get(b"NStgid", b"").split()
    if tgids:
        found["init"] = int(tgids[-1] == b"1")
    pgrp = fields.get(b"NSpgid", b"").split()
    if pgrp and tgids:
        found["group"] = int(pgrp[-1] == tgids[-1])
    return found


_FIELDS: Final = (
    ("uid", b"Uid", 10), ("threads", b"Threads", 10), ("cap_eff", b"CapEff", 16), ("seccomp", b"Seccomp", 10),
)  # fmt: skip


def _links(tid: Tid) -> Numbers:
    """Whether what the caller makes goes to other namespaces than its own."""
    found = {}
    for kind in ("pid", "time"):
        own = read_link(f"/proc/{tid}/ns/{kind}")
        later = read_link(f"/proc/{tid}/ns/{kind}_for_children")
        if isinstance(own, Unavailable):
            continue
        # ENOENT: a pid namespace that has no process yet (kernel/pid_namespace.c: pidns_for_children_get).
        if not isinstance(later, Unavailable) or (kind == "pid" and later.errno == errno.ENOENT):
            found[f"{kind}_pending"] = int(later != own)
    return found


def _user_namespace(tid: Tid) -> Numbers:
    link = read_link(f"/proc/{tid}/ns/user")
    found = None if isinstance(link, Unavailable) else re.fullmatch(rb"user:\[(\d+)\]", link)
    if not found:
        return {}
    inode = int(found[1])
    return {"user_ns": inode, "user_ns_first": int(inode == _FIRST_USER_NS)}


@cache
def _built() -> int:
    # A type that is not built has no link (fs/proc/namespaces.c: ns_entries).
    return sum(flag for name, flag in NSTYPES.items() if os.path.lexists(f"/proc/self/ns/{name}"))


def _einval(tid: Tid, flags: int) -> Numbers:
    found: Numbers = {}
    if flags & f.NAMESPACES:
        found["ns_built"] = _built()
    if flags & (f.CLONE_THREAD | f.CLONE_VM | f.CLONE_NEWPID):
        found.update(_links(tid))
    if flags < 0:
        found.update({**_user_namespace(tid), **_shared(tid)})
    return found


def _shared(tid: Tid) -> Numbers:
    """Whether another thread of the caller's process has its root and working directory: threads do, as a rule."""
    try:
        others = [int(name) for name in os.listdir(f"/proc/{tid}/task") if int(name) != tid]
    except OSError:
        return {}
    if not others or kcmp.raw(tid, Tid(others[0]), KCMP["fs"]) != 0:
        return {}
    return {"fs_shared": 1}


def _eperm(tid: Tid, flags: int) -> Numbers:
    found = _user_namespace(tid)
    if not flags & f.CLONE_NEWUSER or flags < 0:
        return found
    allowed = setting("/proc/sys/kernel/unprivileged_userns_clone")
    # Without the sysctl, which is Debian's, everyone is allowed.
    found["userns_clone"] = 1 if allowed is None else allowed
    root, ours = read_link(f"/proc/{tid}/root"), read_link("/proc/self/ns/mnt")
    if read_link(f"/proc/{tid}/ns/mnt") == ours and isinstance(root, bytes):
        if root != b"/":
            found["chrooted"] = 1
        elif read_link("/proc/self/root") == b"/" and _root_is_top():
            found["chrooted"] = 0
    mapped = _mapped(tid)
    if mapped is not None:
        found["id_mapped"] = mapped
    return found


@cache
def _root_is_top() -> bool:
    """Whether this process's root is its mount namespace's: no mount lies outside it but the kernel's own first."""
    raw = read_file("/proc/self/mountinfo")
    if isinstance(raw, Unavailable):
        return False
    roots = [line.split() for line in raw.splitlines() if line.split()[4] == b"/"]
    # The first mount of all has number 1 and holds the root's, unseen (fs/namespace.c: init_mount_tree).
    return any(fields[1] in (b"1", fields[0]) for fields in roots)


def _mapped(tid: Tid) -> int | None:
    """Whether the caller's effective ids have a mapping in its user namespace; None where that is not clear."""
    for name in ("uid_map", "gid_map"):
        raw = read_file(f"/proc/{tid}/{name}")
        if isinstance(raw, Unavailable):
            return None
        if not raw.strip():
            return 0
        if int(raw.split()[2]) != _EVERY_ID:
            return None
    return 1


def _eagain(tid: Tid, _flags: int) -> Numbers:
    found = {**_user_namespace(tid), **room(tid)}
    with suppress(OSError):  # it was killed
        found["policy"] = os.sched_getscheduler(tid)
    return found


def _enomem(tid: Tid, _flags: int) -> Numbers:
    found = _links(tid)
    mode = setting("/proc/sys/vm/overcommit_memory")
    if mode is not None:
        found["overcommit_memory"] = mode
    raw, fields = read_file("/proc/meminfo"), status(tid)
    if isinstance(raw, Unavailable) or isinstance(fields, Unavailable):
        return found
    lines = dict(line.split(b":", 1) for line in raw.splitlines() if b":" in line)
    found["commit_limit"] = number(lines, b"CommitLimit") or 0
    found["committed"] = number(lines, b"Committed_AS") or 0
    found["private"] = (number(fields, b"VmData") or 0) + (number(fields, b"VmStk") or 0)
    return found


def _enospc(tid: Tid, _flags: int) -> Numbers:
    none, found = 0, {}
    fields = status(tid)
    if read_link("/proc/self/ns/pid") == _FIRST_PID_NS and not isinstance(fields, Unavailable):
        found["pid_level"] = len(fields.get(b"NStgid", b"").split()) - 1
    for name, flag in NSTYPES.items():
        if setting(f"/proc/sys/user/max_{name}_namespaces") == 0:
            none |= flag
    return {**found, "ns_none": none}


def _emfile(tid: Tid, _flags: int) -> Numbers:
    raw = read_file(f"/proc/{tid}/limits")
    if isinstance(raw, Unavailable):
        return {}
    line = next((line for line in raw.splitlines() if line.startswith(b"Max open files")), b"")
    soft = line.removeprefix(b"Max open files").split()[:1]
    try:
        count = len(os.listdir(f"/proc/{tid}/fd"))
    except OSError:
        return {}
    return {"rlimit_nofile": int(soft[0]), "open_files": count} if soft and soft[0].isdigit() else {}


def _enfile(_tid: Tid, _flags: int) -> Numbers:
    raw = read_file("/proc/sys/fs/file-nr")
    if isinstance(raw, Unavailable):
        return {}
    now, _free, most = map(int, raw.split())
    return {"files_now": now, "files_max": most}


_READERS: Final[dict[int, Callable[[Tid, int], Numbers]]] = {
    errno.EINVAL: _einval, errno.EPERM: _eperm, errno.EAGAIN: _eagain, errno.ENOMEM: _enomem, errno.ENOSPC: _enospc,
    errno.EMFILE: _emfile, errno.ENFILE: _enfile,
}  # fmt: skip


def _descriptor(tid: Tid, fd: Fd) -> Numbers:
    link = read_link(f"/proc/{tid}/fd/{fd}")
    if isinstance(link, Unavailable):
        return {"fd_open": 0} if fd < 0 or link.errno == errno.ENOENT else {}
    if b"pidfd" not in link:
        return {"fd_open": 1}
    about, fields = read_file(f"/proc/{tid}/fdinfo/{fd}"), status(tid)
    if isinstance(about, Unavailable) or isinstance(fields, Unavailable):
        return {"fd_open": 1}
    pid = next((line.split()[1] for line in about.splitlines() if line.startswith(b"Pid:")), None)
    return {"fd_open": 1, "fd_own": int(pid == fields.get(b"Tgid"))}
