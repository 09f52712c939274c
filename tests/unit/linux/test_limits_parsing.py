"""The numbers that decide about a new task, out of /proc and cgroup files as kernels write them."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from forklore.abi.units import Tid, Unavailable
from forklore.linux import limits

OF_PROCESS = b"""\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max processes             1023                 31337                processes
Max open files            1024                 1048576              files
"""
STATUS = {b"Uid": b"1000\t1000\t1000\t1000", b"CapEff": b"000001ffffffffff", b"Threads": b"3"}
CGROUP2 = {
    "/sys/fs/cgroup/user/app/pids.max": 200,
    "/sys/fs/cgroup/user/app/pids.current": 10,
    "/sys/fs/cgroup/user/pids.max": 100,
    "/sys/fs/cgroup/user/pids.current": 99,
}


class Machine:
    """Files by path, settings by path, processes by pid."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/proc/7/limits": OF_PROCESS, "/proc/loadavg": b"0.1 0.2 0.3 2/345 678\n"}
        self.settings: dict[str, int] = {}
        self.processes: dict[int, dict[bytes, bytes]] = {7: STATUS}

    def read_file(self, path: str) -> bytes | Unavailable:
        return self.files.get(path) or Unavailable(errno.ENOENT, path)

    def status(self, tid: int) -> dict[bytes, bytes] | Unavailable:
        return self.processes.get(tid) or Unavailable(errno.ENOENT, str(tid))

    def scandir(self, _path: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=str(name)) for name in [*self.processes, 99, "self", "sys"]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(limits, "read_file", made.read_file)
    monkeypatch.setattr(limits, "setting", made.settings.get)
    monkeypatch.setattr(limits, "status", made.status)
    monkeypatch.setattr(os, "scandir", made.scandir)
    return made


def test_of_the_user(machine: Machine) -> None:
    machine.processes[8] = {b"Uid": b"1000\t0\t0\t0", b"Threads": b"4"}
    machine.processes[9] = {b"Uid": b"0\t1000\t1000\t1000", b"Threads": b"100"}
    assert limits.deciding(Tid(7)) == {
        "uid": 1000,
        "cap_eff": (1 << 41) - 1,
        "rlimit_nproc": 1023,
        "user_tasks": 7,
        "threads_now": 345,
    }


def test_no_limit_is_no_number(machine: Machine) -> None:
    machine.files["/proc/7/limits"] = OF_PROCESS.replace(b"1023 ", b"unlimited ")
    found = limits.deciding(Tid(7))
    assert "rlimit_nproc" not in found
    assert "user_tasks" not in found


def test_of_the_system(machine: Machine) -> None:
    machine.settings.update(
        {"/proc/sys/kernel/threads-max": 500, "/proc/sys/kernel/pid_max": 400, "/proc/sys/vm/overcommit_memory": 2}
    )
    found = limits.deciding(Tid(7))
    assert (found["threads_max"], found["pid_max"], found["overcommit_memory"]) == (500, 400, 2)


def test_the_cgroup_with_the_least_room(machine: Machine) -> None:
    machine.files["/proc/7/cgroup"] = b"0::/user/app\n"
    machine.settings.update(CGROUP2)
    found = limits.deciding(Tid(7))
    assert (found["pids_max"], found["pids_current"]) == (100, 99)


def test_a_cgroup_without_a_limit(machine: Machine) -> None:
    machine.files["/proc/7/cgroup"] = b"0::/\n"
    machine.settings.update(CGROUP2)
    assert "pids_max" not in limits.deciding(Tid(7))


def test_cgroups_of_version_1(machine: Machine) -> None:
    machine.files["/proc/7/cgroup"] = b"9:pids:/a:b\n8:cpu,cpuacct:/user\n0::/\n"
    machine.settings.update({"/sys/fs/cgroup/pids/a:b/pids.max": 50, "/sys/fs/cgroup/pids/a:b/pids.current": 50})
    found = limits.deciding(Tid(7))
    assert (found["pids_max"], found["pids_current"]) == (50, 50)


def test_a_limit_of_nothing(machine: Machine) -> None:
    machine.files["/proc/7/cgroup"] = b"0::/closed\n"
    machine.settings.update({"/sys/fs/cgroup/closed/pids.max": 0, "/sys/fs/cgroup/closed/pids.current": 2})
    found = limits.deciding(Tid(7))
    assert (found["pids_max"], found["pids_current"]) == (0, 2)


def test_nothing_can_be_read(machine: Machine) -> None:
    machine.files.clear()
    machine.processes.clear()
    assert limits.deciding(Tid(7)) == {}


def test_of_this_process() -> None:
    found = limits.deciding(Tid(os.getpid()))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    assert found.get("rlimit_nproc", resource.RLIM_INFINITY) == soft
    assert found["uid"] == os.getuid()
    assert found["pid_max"] == int(Path("/proc/sys/kernel/pid_max").read_text())
    assert found["threads_now"] > 0
