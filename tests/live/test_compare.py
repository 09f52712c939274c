"""scripts/compare on this machine: the oracles agree with forklore, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMPARE = Path(__file__).resolve().parents[2] / "scripts" / "compare"
INSTANCES = Path("/sys/kernel/tracing/instances")

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="no strace on this machine")
needs_tracefs = pytest.mark.skipif(
    not os.access(INSTANCES, os.W_OK), reason=f"{INSTANCES} cannot be written: not root, or no tracefs"
)


def compare(*arguments: str, before: tuple[str, ...] = ()) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [*before, sys.executable, str(COMPARE), "--json", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@needs_strace
@needs_tracefs
def test_a_pipeline_agrees_with_both_oracles() -> None:
    status, outcomes = compare("--", "sh", "-c", "true | cat; (exit 3); exec true")
    assert [outcome["differences"] for outcome in outcomes] == [[], [], []]
    assert [outcome["oracle"] for outcome in outcomes] == ["kernel", "kernel against strace", "strace"]
    assert status == 0


@needs_strace
def test_without_tracepoints_strace_alone_is_asked() -> None:
    if os.geteuid() == 0:
        if shutil.which("unshare") is None:
            pytest.skip("no unshare on this machine (package: util-linux)")
        before: tuple[str, ...] = ("unshare", "--pid", "--fork", "--mount-proc")
        if subprocess.run([*before, "true"], capture_output=True, check=False).returncode != 0:
            pytest.skip("a pid namespace cannot be made here")
    else:
        before = ()
    status, outcomes = compare("--", "sh", "-c", "true | cat", before=before)
    assert [(outcome["oracle"], outcome["agree"]) for outcome in outcomes] == [("kernel", None), ("strace", True)]
    assert status == 2


@needs_tracefs
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_tracefs_instance_goes_even_if_the_comparison_is_ended(tmp_path: Path, number: int) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [sys.executable, str(COMPARE), "--oracle", "kernel", "--", "sh", "-c", f"echo up > {fifo}; exec cat {fifo}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert fifo.read_text() == "up\n"
            instance = INSTANCES / f"forklore-{process.pid}"
            assert instance.is_dir()
            # To the process alone, and as the terminal does it, to the whole group.
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            process.wait(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert not instance.exists()
