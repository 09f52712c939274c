"""A log of one process has no pid: every view says so, and none shows a number in its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forklore.cli.main import main

LOG = """\
execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0
vfork() = 11
clone(child_stack=NULL, flags=CLONE_NEWPID|SIGCHLD) = 12
clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=NULL, stack_size=0}, 88) = -1 EAGAIN (no)
+++ exited with 2 +++
"""


@pytest.mark.parametrize(
    "asked",
    [
        (), ("--format", "log"), ("--view", "sharing"), ("--view", "sites"), ("--view", "descriptors"),
        ("--view", "task", "#1"), ("--view", "task", "#2"), ("--format", "json"), ("--format", "folded"),
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("log", [LOG, LOG.partition("\n")[2], LOG.replace("clone(", "SYS_clone(")], ids=len)
def test_no_view_shows_a_pid_that_is_not_known(
    asked: tuple[str, ...], log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_text(log)
    view, number = (asked[:2], asked[2:]) if "task" in asked else (asked, ())
    assert main(["show", *view, str(path), *number]) == 0
    said = capsys.readouterr().out
    assert not re.search(r'(?:^|[ ?│├└─])0 (?:a|→)|"(?:tid|tgid)": ?0\b|\bof 0\b|by 0\b', said, re.MULTILINE)
    if view in ((), ("--format", "log"), ("--view", "sharing"), ("--view", "task")):
        assert "pid unknown" in said


def test_nobody_is_found_by_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text(LOG)
    assert main(["show", "--view", "task", str(tmp_path / "log"), "0"]) == 1
    assert "no task of this trace has the tid 0" in capsys.readouterr().err
