"""`forklore why` of processes that come and go while it looks, and of numbers that are another's a moment later."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hanging import made
from programs import Missing
from tracing import ENVIRONMENT

RUN = Path(__file__).with_name("why_churn_run.py")
FEW_NUMBERS = 340
LOOKS = {"12": "20", "70": "4"}


def program() -> str:
    try:
        return str(made("churn.c"))
    except Missing as missing:
        pytest.skip(str(missing))


def looked(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("lanes", ["12", "70"])
def test_no_edge_leads_to_who_was_not_meant(lanes: str) -> None:
    # Of 70 lanes all that is looked at is more than is told one by one.
    told = looked(sys.executable, str(RUN), program(), lanes, LOOKS[lanes])
    assert told["wrong"] == []
    assert told["certain"] == []
    assert told["edges"] > 0


def test_nor_where_numbers_are_used_again_at_once() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a pid namespace takes root and unshare (package: util-linux)")
    script = 'echo "$1" > /proc/sys/kernel/pid_max || exit 77; shift; exec "$@"'
    inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
    before = Path("/proc/sys/kernel/pid_max").read_text()
    release = tuple(int(word) for word in os.uname().release.split(".")[:2])
    if release < (6, 14):
        pytest.skip(f"pid_max is one for all pid namespaces before Linux 6.14; this is {os.uname().release}")
    told = looked(*inside, script, "sh", str(FEW_NUMBERS), sys.executable, str(RUN), program(), "12", LOOKS["12"])
    assert Path("/proc/sys/kernel/pid_max").read_text() == before
    assert told["wrong"] == []
    assert told["certain"] == []
    assert told["edges"] > 0
