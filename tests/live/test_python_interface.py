"""``forklore.trace`` and ``forklore.load``: the same trace as a value, and nothing of the caller's taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, Program, bare
from tree_shape import shape

import forklore
from forklore.api import TraceFailedError


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])  # the tracer is a process of its own


def test_a_trace_as_a_value(tmp_path: Path) -> None:
    trace = forklore.trace(["sh", "-c", "(exit 3); /bin/true; exit 4"], output=tmp_path / "t.jsonl")
    (root,) = trace.roots
    assert root.death is not None
    assert root.death.code == 4
    codes = [death.code for child in root.children if (death := trace.tasks[child].death)]
    assert codes == [3, 0]
    assert shape(forklore.load(tmp_path / "t.jsonl")) == shape(trace)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(TraceFailedError, match="no-such-program-anywhere") as caught:
        forklore.trace(["no-such-program-anywhere"])
    assert caught.value.status == 127


def test_a_program_that_ends_with_a_status_of_ours() -> None:
    # 127 is what env(1) and we say for a program that is not there; here it is the program's own.
    (root,) = forklore.trace(["sh", "-c", "exit 127"]).roots
    assert root.death is not None
    assert root.death.code == 127


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="ENOSYS"):
        forklore.trace(["true"], stops="seccomp", follow="none")


def test_the_programs_directory_and_environment(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = "import os, sys; open(sys.argv[1], 'w').write(repr((os.getcwd(), dict(os.environb))))"
    forklore.trace([sys.executable, "-ISc", script, seen], cwd="/usr", env={"A": "1 = 2", "B": ""})
    expected = bare(sys.executable, "-ISc", script, seen, cwd="/usr", env={"A": "1 = 2", "B": ""})
    assert expected.status == 0
    written = seen.read_text()
    forklore.trace([sys.executable, "-ISc", script, seen], cwd="/usr", env={"A": "1 = 2", "B": ""})
    assert seen.read_text() == written


def test_the_callers_children_are_its_own() -> None:
    # A tracer in this process would wait for all of its children, this one too.
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        forklore.trace(["true"])
        assert child.stdin is not None
        child.stdin.close()
        assert os.waitpid(child.pid, 0) == (child.pid, 0)
        child.returncode = 0


def test_every_option(program: Program) -> None:
    path = program("fork_tree")
    assert len(forklore.trace([path, "2", "2"]).tasks) == 7
    assert len(forklore.trace([path, "2", "2"], follow="none").tasks) == 3  # the root, and two that were let go
    assert len(forklore.trace([path, "2", "2"], max_depth=1).tasks) == 7
    assert forklore.trace([path], stops="syscalls").header.options["stops"] == "syscalls"
    assert forklore.trace([path], wait="root", leave="detach").header.options["leave"] == "detach"
    assert forklore.trace([path], follow_untraced=False).header.options["follow_untraced"] is False


def test_what_is_recorded(tmp_path: Path) -> None:
    small = forklore.trace(["sh", "-c", "true"], record_argv=False, observe="none", record_env=True, stack_depth=0)
    options = small.header.options
    assert (options["argv"], options["env"], options["observe"], options["stack_depth"]) == (False, True, "none", 0)
    few = forklore.trace(["sh", "-c", "(true); (true); true"], max_events=3)
    assert few.warnings
    rotated = forklore.trace(["sh", "-c", "for i in 1 2 3 4 5; do (true); done"], rotate="2K,2", output=tmp_path / "t")
    assert rotated.header.continues is not None
    assert rotated.end_reason == "done"
    assert len(list(tmp_path.iterdir())) == 2
