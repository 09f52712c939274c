"""Fixtures of the live tests: test programs by name, and runs of them under forklore."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Final

import pytest
from programs import Missing, build
from tracing import Program, Trace_, Traced, trace

NOBODY: Final = 65534
_SOURCE: Final = Path(__file__).resolve().parents[2] / "src"
_PATIENCE: Final = 300
"""Seconds until a test that hangs fails: no test waits that long."""

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
    # nohup and the background jobs of shells leave some of them ignored, and what is traced would inherit that.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _does_not_hang() -> Iterator[None]:
    def fail(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"still not over after {_PATIENCE} s")

    if signal.getitimer(signal.ITIMER_REAL)[0]:  # who runs the tests has a limit of their own
        yield
        return
    former = signal.signal(signal.SIGALRM, fail)
    # Again and again: leaving a `with` may wait, too.
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE, _PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@pytest.fixture(scope="session")
def _open_source() -> Iterator[Path]:
    # Compiled once: those who read it here may not write.
    with TemporaryDirectory(prefix="forklore-open-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(_SOURCE, folder / "src")
        compileall.compile_dir(folder / "src", quiet=2)
        yield folder / "src"


@pytest.fixture
def open_folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory that every user can look into, with a copy of the package in ``src`` and a ``home`` of uid 65534.

    Not in tmp_path: what is above that is closed by every pytest that starts. For tests that become another user,
    which are skipped where that cannot be.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv on this machine (package: util-linux)")
    with TemporaryDirectory(prefix="forklore-nobody-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "home").mkdir()
        os.chown(folder / "home", NOBODY, NOBODY)
        (folder / "src").symlink_to(request.getfixturevalue("_open_source"))
        yield folder


@pytest.fixture
def program() -> Program:
    """``program("fork_tree", libc="musl")``: its executable; the test is skipped where it cannot be compiled."""

    def built(name: str, **how: Any) -> Path:
        try:
            return build(name, **how)
        except Missing as missing:
            pytest.skip(str(missing))

    return built


@pytest.fixture
def traced(tmp_path: Path) -> Trace_:
    """``traced(program, "argument", options=["--follow=none"])``: a run under forklore and its trace."""
    count = 0

    def run(*command: Any, **how: Any) -> Traced:
        nonlocal count
        count += 1
        return trace(tmp_path / f"trace-{count}.jsonl", command, **how)

    return run
