"""`forklore doctor` on this machine: as we are, as an ordinary user, under a tracer, with less allowed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
NOBODY = 65534


def doctor(*before: str, source: Path = SOURCE) -> dict[str, Any]:
    command = [*before, sys.executable, "-m", "forklore", "doctor", "--format", "json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), *filter(None, sys.path)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    whole: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if whole["can_trace"] else 1)
    return whole


def state(whole: dict[str, Any], name: str) -> str:
    (found,) = (check["state"] for check in whole["checks"] if check["name"] == name)
    return str(found)


def kernel_says(name: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split()[1]
    raise AssertionError(f"no {name} in /proc/self/status")


def test_what_it_read_is_what_the_kernel_says() -> None:
    facts = doctor()["facts"]
    assert facts["capabilities"] == int(kernel_says("CapEff"), 16)
    assert facts["uid"] == os.geteuid()
    assert facts["kernel"] == os.uname().release
    assert facts["seccomp_mode"] == int(kernel_says("Seccomp"))
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    assert facts["yama"] == (int(scope.read_text()) if scope.exists() else None)


def test_it_leaves_no_child_and_no_descriptor_behind() -> None:
    script = (
        "import os\n"
        "from forklore.features.doctor.observe import collect\n"
        "collect()\n"  # imports what is imported late
        "before = sorted(os.listdir('/proc/self/fd'))\n"
        "collect()\n"
        "assert sorted(os.listdir('/proc/self/fd')) == before\n"
        "try:\n"
        "    os.waitpid(-1, 0)\n"
        "except ChildProcessError:\n"
        "    print('none')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("none\n", "")


def test_under_strace_it_names_the_tracer_that_is_in_the_way() -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine")
    whole = doctor("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=none")
    assert whole["facts"]["tracer_name"] == "strace"
    assert state(whole, "ptrace") == "blocked"
    others = [name for name in ("bpf", "perf") if state(whole, f"{name} engine") == "ok"]
    assert whole["can_trace"] is bool(others)
    assert (f"--engine {' or '.join(others)} alone" if others else "cannot trace") in whole["verdict"]
    (remedy,) = (check["remedy"] for check in whole["checks"] if check["name"] == "ptrace")
    assert "strace (pid " in remedy


def test_no_new_privs_is_seen() -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv on this machine (package: util-linux)")
    whole = doctor("setpriv", "--no-new-privs")
    assert whole["facts"]["no_new_privs"] is True
    assert whole["facts"]["filter_plain"] is True


AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


def test_an_ordinary_user_traces_with_less(open_folder: Path) -> None:
    readable = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", "import psutil, msgspec"], capture_output=True, check=False
    )
    if readable.returncode != 0:
        pytest.skip(f"{sys.executable} and its packages cannot be read by uid {NOBODY}")
    whole = doctor(*AS_NOBODY, source=open_folder / "src")
    assert whole["facts"]["uid"] == NOBODY
    assert whole["facts"]["capabilities"] == 0
    assert whole["facts"]["filter_plain"]["errno"] == 13
    assert whole["facts"]["filter_no_new_privs"] is True
    assert state(whole, "seccomp") == "limited"
    assert state(whole, "capabilities") == "limited"
    assert whole["facts"]["page_frames"] is False


needs_x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="profiled.py has the numbers of x86_64")
PROFILED = str(Path(__file__).with_name("profiled.py"))
READV, KCMP, PIDFD_OPEN, WAIT4 = 310, 312, 434, 61


@needs_x86_64
def test_a_profile_that_kills_for_another_abi_does_not_kill_it() -> None:
    whole = doctor(sys.executable, PROFILED, str(KCMP))
    assert state(whole, "kcmp") == "limited"
    assert whole["facts"]["abis"]["i386"] is False
    assert "SIGSYS" in whole["facts"]["abis"]["x32"]["why"]


@needs_x86_64
@pytest.mark.parametrize(
    ("refused", "status", "said"),
    [
        (READV, 3, "Not known: the arguments of 2 programs: EPERM on reading memory"),
        (KCMP, 3, "Not known: what is really shared by 1 task: EPERM from kcmp(2)"),
        (PIDFD_OPEN, 125, "(pidfd_open: Operation not permitted): a container's seccomp profile refuses a call"),
    ],
)
def test_what_a_profile_refuses_is_told(refused: int, status: int, said: str) -> None:
    run = ["-m", "forklore", "run", "-v", "--columns=132", "--", "sh", "-c", "ls >/dev/null; exit 3"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, sys.path)])}
    command = [sys.executable, PROFILED, str(refused), sys.executable, *run]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert said in done.stderr


@needs_x86_64
def test_where_nothing_can_be_tried_it_says_so() -> None:
    command = [sys.executable, PROFILED, str(WAIT4), sys.executable, "-m", "forklore", "doctor"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, sys.path)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "nothing can be tried here" in done.stderr
