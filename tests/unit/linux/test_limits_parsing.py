"""The numbers that decide about a new task, out of /proc and cgroup files as kernels write them."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from forklore.abi.units import Tid, Unavailable
from forklore.linux import limits

OF_PROCESS = b"""\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max processes             1023                 31337                processes
Max open files            1024                 1048576              files
"""
CGROUP2 = {
    "/sys/fs/cgroup/user/app/pids.max": 200,
    "/sys/fs/cgroup/user/app/pids.current": 10,
    "/sys/fs/cgroup/user/pids.max": 100,
    "/sys/fs/cgroup/user/pids.current": 99,
}


def status(uids: str, threads: int) -> bytes:
    return f"Name:\tx\nUid:\t{uids}\nGid:\t7\t7\t7\t7\nThreads:\t{threads}\nSigQ:\t0/9\n".encode()


class Machine:
    """Files by path, settings by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/proc/7/limits": OF_PROCESS, "/proc/loadavg": b"0.1 0.2 0.3 2/345 678\n"}
        self.settings: dict[str, int] = {}

    def read_file(self, path: str) -> bytes | Unavailable:
        return self.files.get(path) or Unavailable(errno.ENOENT, path)

    def listdir(self, _path: str) -> list[str]:
        return [*(path.split("/")[2] for path in self.files if path.endswith("/status")), "99", "self", "sys"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(limits, "read_file", made.read_file)
    monkeypatch.setattr(limits, "setting", made.settings.get)
    monkeypatch.setattr(os, "listdir", made.listdir)
    return made


def test_of_the_user(machine: Machine) -> None:
    machine.files["/proc/7/status"] = status("1000\t1000\t1000\t1000", 3)
    machine.files["/proc/8/status"] = status("1000\t0\t0\t0", 4)
    machine.files["/proc/9/status"] = status("0\t1000\t1000\t1000", 100)
    machine.files["/proc/10/status"] = status("10001\t1000\t1000\t1000", 100)
    assert limits.tasks_of(1000) == 7
    assert limits.room(Tid(7)) == {"rlimit_nproc": 1023, "threads_now": 345}


def test_no_limit_is_no_number(machine: Machine) -> None:
    machine.files["/proc/7/limits"] = OF_PROCESS.replace(b"1023 ", b"unlimited ")
    assert "rlimit_nproc" not in limits.room(Tid(7))


def test_of_the_system(machine: Machine) -> None:
    machine.settings.update({"/proc/sys/kernel/threads-max": 500, "/proc/sys/kernel/pid_max": 400})
    found = limits.room(Tid(7))
    assert (found["threads_max"], found["pid_max"]) == (500, 400)


def test_the_cgroup_with_the_least_room(machine: Machine) -> None:
    machine.files["/proc/7/cgroup"] = b"0::/user/app\n"
    machine.settings.update(CGROUP2)
    found = limits.room(Tid(7))
    assert (found["pids_max"], found["pids_current"]) == (100, 99)


def test_a_cgroup_without_a_limit(machine: Machine) -> None:
    machine.files["/proc/7/cgroup"] = b"0::/\n"
    machine.settings.update(CGROUP2)
    assert "pids_max" not in limits.room(Tid(7))


def test_cgroups_of_version_1(machine: Machine) -> None:
    machine.files["/proc/7/cgroup"] = b"9:pids:/a:b\n8:cpu,cpuacct:/user\n0::/\n"
    machine.settings.update({"/sys/fs/cgroup/pids/a:b/pids.max": 50, "/sys/fs/cgroup/pids/a:b/pids.current": 50})
    found = limits.room(Tid(7))
    assert (found["pids_max"], found["pids_current"]) == (50, 50)


def test_a_limit_of_nothing(machine: Machine) -> None:
    machine.files["/proc/7/cgroup"] = b"0::/closed\n"
    machine.settings.update({"/sys/fs/cgroup/closed/pids.max": 0, "/sys/fs/cgroup/closed/pids.current": 2})
    found = limits.room(Tid(7))
    assert (found["pids_max"], found["pids_current"]) == (0, 2)


def test_nothing_can_be_read(machine: Machine) -> None:
    machine.files.clear()
    assert limits.tasks_of(1000) == 0
    assert limits.room(Tid(7)) == {}


def test_of_this_process() -> None:
    found = limits.room(Tid(os.getpid()))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    assert found.get("rlimit_nproc", resource.RLIM_INFINITY) == soft
    assert limits.tasks_of(os.getuid()) > 0
    assert found["pid_max"] == int(Path("/proc/sys/kernel/pid_max").read_text())
    assert found["threads_now"] > 0
