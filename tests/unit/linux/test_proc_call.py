"""The call that a task is in, as /proc tells it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from forklore.abi import syscalls
from forklore.abi.units import Tid, Unavailable
from forklore.linux import proc


def test_a_sleeping_task_is_in_a_call() -> None:
    here = proc.machine()
    assert here is not None
    command = "import sys, os; os.write(1, b'x'); os.read(0, 1)"
    with subprocess.Popen(["python3", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdin is not None
        assert sleeper.stdout is not None
        assert sleeper.stdout.read(1) == b"x"
        while b"\nState:\tS" not in Path(f"/proc/{sleeper.pid}/status").read_bytes():
            os.sched_yield()
        found = proc.call(Tid(sleeper.pid))
        sleeper.stdin.close()
    if found is None:
        pytest.skip("/proc/PID/syscall may not be read here")
    number, words = found
    assert syscalls.name(here, number) == "read"
    assert (words[0], words[2]) == (0, 1)


@pytest.mark.parametrize(
    "content",
    [b"running\n", b"-1 0x7ffc 0x7f12\n", b"", b"56 0x11\n", Unavailable(1, "Operation not permitted")],
)
def test_one_that_is_in_none_or_cannot_be_read(
    content: bytes | Unavailable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "read_file", lambda *_words: content)
    assert proc.call(Tid(1)) is None
