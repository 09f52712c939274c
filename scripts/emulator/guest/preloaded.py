"""A pytest plugin: ``python -m forklore`` is forked from the tests' own process, with everything imported already.

Where an import costs seconds this is several times as fast. What it runs is the same code, but not a fresh process:
it has the memory and the command line of pytest. For looking at many tests in little time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

FRESH = ("test_surroundings.py", "test_transparency.py", "test_transparency_harness.py")
"""Files of tests of what a process has from its start: environment, descriptors, limits."""

_COMMAND = [sys.executable, "-m", "forklore"]
_execute_child: Callable[..., None] = subprocess.Popen._execute_child  # type: ignore[attr-defined]


def pytest_configure() -> None:
    """Import all of forklore."""
    import forklore
    from forklore.export.table import CannotExportError

    for module in pkgutil.walk_packages(forklore.__path__, "forklore."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except (ImportError, CannotExportError):
                continue  # for a package that not everybody has: whoever asks for it is told


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Some tests have theirs started as ever."""
    start = _execute_child if item.path.name in FRESH else _forked
    subprocess.Popen._execute_child = start  # type: ignore[attr-defined]


def _forked(
    self: subprocess.Popen[Any], args: Any, executable: Any, preexec_fn: Any, close_fds: bool,  # noqa: ANN401
    pass_fds: Iterable[int], cwd: Any, env: Mapping[str, str] | None, *others: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    # The order of the arguments is CPython's: Lib/subprocess.py, Popen._execute_child, 3.11 to 3.13.
    words = [os.fspath(word) for word in args] if not isinstance(args, str | bytes) else []
    pipes, credentials = others[3:9], others[10:14]
    new_session, group = others[14], others[15]
    plain = all(value is None or value == -1 for value in credentials) and executable in (None, *_COMMAND)
    if words[:3] != _COMMAND or not plain:
        _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # a collection in the child would write to, and so copy, all pages of the tests' process
    pid = os.fork()
    if pid == 0:
        keep = pass_fds if close_fds else None
        _become(words, (pipes[0], pipes[3], pipes[5]), preexec_fn, keep, cwd, env, new_session, group)
    self.pid = pid
    self._child_created = True  # type: ignore[attr-defined]
    self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _become(
    words: list[str], standard: tuple[int, int, int], preexec_fn: Any, keep: Iterable[int] | None, cwd: Any,  # noqa: ANN401
    env: Mapping[str, str] | None, new_session: bool, group: int,
) -> None:  # fmt: skip
    status = 125
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if cwd is not None:
            os.chdir(cwd)
        for number, end in enumerate(standard):
            if end != -1:
                os.dup2(end, number)
        if new_session:
            os.setsid()
        if group >= 0:
            os.setpgid(0, group)
        if preexec_fn is not None:
            preexec_fn()
        if keep is not None:
            _close_all_but({0, 1, 2, *keep})
            for number in keep:
                os.set_inheritable(number, True)
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        # It asks the kernel for the environment that it was executed with.
        entries = [name + b"=" + value for name, value in os.environb.items()]
        proc: Any = sys.modules["forklore.linux.proc"]
        of_task = proc.environment
        proc.environment = lambda tid=None: entries if tid is None else of_task(tid)
        sys.argv = ["forklore", *words[3:]]
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
        # By its path: the loader that pytest has for rewriting assertions gives no code.
        runpy.run_path(str(Path(sys.modules["forklore"].__path__[0], "__main__.py")), run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
        status = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # broken or closed: this must not go on as pytest
                stream.flush()
        os._exit(status)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                continue  # the one that the listing itself had
