"""The numbers that decide whether the kernel has room for one more task."""

from __future__ import annotations

import os
import re
from typing import Final

from forklore.abi.patterns import regex
from forklore.abi.units import Tid, Unavailable
from forklore.linux.proc import read_file, setting

_UID_AND_THREADS: Final = regex(rb"^Uid:\t(\d+).*?^Threads:\t(\d+)", re.MULTILINE | re.DOTALL)
_SYSTEM: Final = {"threads_max": "/proc/sys/kernel/threads-max", "pid_max": "/proc/sys/kernel/pid_max"}


def room(tid: Tid) -> dict[str, int]:
    """What could be read of the limits on new tasks that bind a task, and of what counts against them.

    Names as in :class:`forklore.decode.rules.rule.Context`. What counts against RLIMIT_NPROC is :func:`tasks_of`, which
    takes long.
    """
    found = {name: value for name, path in _SYSTEM.items() if (value := setting(path)) is not None}
    soft = _max_processes(tid)
    if soft is not None:
        found["rlimit_nproc"] = soft
    return {**found, **_of_cgroup(tid), **_of_system()}


def _max_processes(tid: Tid) -> int | None:
    # /proc shows what prlimit(2) keeps from tracers without CAP_SYS_RESOURCE.
    raw = read_file(f"/proc/{tid}/limits")
    if isinstance(raw, Unavailable):
        return None
    line = next((line for line in raw.splitlines() if line.startswith(b"Max processes")), b"")
    soft = line.removeprefix(b"Max processes").split()[:1]
    return int(soft[0]) if soft and soft[0].isdigit() else None


def tasks_of(uid: int) -> int:
    """How many tasks a real user has, of those that we may see.

    The kernel counts per user namespace (kernel/ucount.c) and tells nobody; this looks at every process there is, some
    20 µs for each.
    """
    count = 0
    for name in os.listdir("/proc"):
        raw = read_file(f"/proc/{name}/status") if name.isdecimal() else b""
        found = None if isinstance(raw, Unavailable) else _UID_AND_THREADS.search(raw)
        if found and int(found[1]) == uid:
            count += int(found[2])
    return count


def _of_system() -> dict[str, int]:
    raw = read_file("/proc/loadavg")  # its fourth field is "runnable/all tasks"
    if isinstance(raw, Unavailable):
        return {}
    return {"threads_now": int(raw.split()[3].partition(b"/")[2])}


def _of_cgroup(tid: Tid) -> dict[str, int]:
    raw = read_file(f"/proc/{tid}/cgroup")
    if isinstance(raw, Unavailable):
        return {}
    for line in raw.decode(errors="surrogateescape").splitlines():
        _hierarchy, controllers, path = line.split(":", 2)
        if controllers in ("", "pids"):
            roots = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if controllers == "" else ("/sys/fs/cgroup/pids",)
            for root in roots:
                found = _tightest(root, path)
                if found:
                    return found
    return {}


def _tightest(root: str, path: str) -> dict[str, int]:
    # pids.max holds for the whole subtree: the ancestor with the least room decides.
    best: dict[str, int] = {}
    directory = f"{root}/{path.strip('/')}".rstrip("/")
    while directory != root:
        limit, current = setting(f"{directory}/pids.max"), setting(f"{directory}/pids.current")
        room = None if limit is None or current is None else limit - current
        if room is not None and (not best or room < best["pids_max"] - best["pids_current"]):
            best = {"pids_max": limit or 0, "pids_current": current or 0}
        directory = directory.rpartition("/")[0]
    return best
