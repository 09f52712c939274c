"""The numbers that decide whether the kernel has room for one more task."""

from __future__ import annotations

import os
from typing import Final

from forklore.abi.units import Tid, Unavailable
from forklore.linux.proc import number, read_file, setting, status

_SYSTEM: Final = {
    "threads_max": "/proc/sys/kernel/threads-max",
    "pid_max": "/proc/sys/kernel/pid_max",
    "overcommit_memory": "/proc/sys/vm/overcommit_memory",
}


def deciding(tid: Tid) -> dict[str, int]:
    """What could be read of the limits on new tasks, for a task that is held.

    Names as in ``forklore.decode.rules.table``.
    """
    found = {name: value for name, path in _SYSTEM.items() if (value := setting(path)) is not None}
    found.update(_of_user(tid))
    found.update(_of_cgroup(tid))
    found.update(_of_system())
    return found


def _of_user(tid: Tid) -> dict[str, int]:
    found: dict[str, int] = {}
    fields = status(tid)
    if isinstance(fields, Unavailable):
        return found
    uid = number(fields, b"Uid")
    capabilities = number(fields, b"CapEff", 16)
    if capabilities is not None:
        found["cap_eff"] = capabilities
    soft = _max_processes(tid)
    if soft is not None:
        found["rlimit_nproc"] = soft
        if uid is not None:
            found["user_tasks"] = _tasks_of(uid)
    if uid is not None:
        found["uid"] = uid
    return found


def _max_processes(tid: Tid) -> int | None:
    # /proc shows what prlimit(2) keeps from tracers without CAP_SYS_RESOURCE.
    raw = read_file(f"/proc/{tid}/limits")
    if isinstance(raw, Unavailable):
        return None
    line = next((line for line in raw.splitlines() if line.startswith(b"Max processes")), b"")
    soft = line.removeprefix(b"Max processes").split()[:1]
    return int(soft[0]) if soft and soft[0].isdigit() else None


def _tasks_of(uid: int) -> int:
    # The kernel counts per user namespace and real uid (ucounts); /proc shows the tasks that we may see.
    count = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        fields = status(int(entry.name))
        if not isinstance(fields, Unavailable) and number(fields, b"Uid") == uid:
            count += number(fields, b"Threads") or 0
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
