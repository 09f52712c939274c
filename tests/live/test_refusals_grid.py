"""scripts/refusals, in small: the first reason of every refusal is the true one, in each of its contexts."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "refusals"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="its contexts become other users and limit cgroups: it takes root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the probe's machine code is x86_64's"),
    pytest.mark.skipif(
        not any(Path(path).exists() for path in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/cgroup.controllers")),
        reason="there is no cgroup hierarchy with the pids controller",
    ),
]


def test_every_first_reason_is_the_true_one() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--calls", "23", "--seed", "11"],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if ": 23 calls, " in line]
    left_out = "SCHED_DEADLINE is left out: this process may not run on every processor" in done.stdout.splitlines()
    assert left_out is (len(os.sched_getaffinity(0)) < (os.cpu_count() or 0))
    assert len(lines) == 13 - left_out
    assert all(int(line.split(", ")[-2].split()[0]) > 0 for line in lines), "a context without a refusal proves nothing"
