"""The Python interface: the same things as the command, as values.

>>> import forklore
>>> trace = forklore.trace(["sh", "-c", "ls | sort"])           # doctest: +SKIP
>>> [(task.kind, task.tid, task.name) for task in trace.tasks.values()]   # doctest: +SKIP
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from forklore.features.explain.answers import explain
from forklore.model.build import built
from forklore.model.tasks import Trace
from forklore.sources.files import open_any

__all__ = ["TraceFailedError", "explain", "load", "trace"]

_OWN_FAILURES = (125, 126, 127)


class TraceFailedError(Exception):
    """The program could not be traced, or not be executed. ``status`` is what the command would have ended with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def load(path: str | os.PathLike[str], *, sharing: bool = False) -> Trace:
    """The trace in a file: forklore's own, or a log of ``strace -f``, ``ltrace -f`` or QEMU_STRACE, told by content.

    ``sharing``: with who shared what over time, which takes several times as long. What is wrong with a file that can
    still be read is in ``warnings``. Raises OSError, and
    :class:`forklore.events.lines.TraceError` naming file, line and what was expected.
    """
    return built(open_any(path), sharing=sharing)


def trace(
    argv: Sequence[str | os.PathLike[str]],
    *,
    follow: str = "all",
    max_depth: int | None = None,
    follow_untraced: bool = True,
    wait: str = "tree",
    leave: str = "kill",
    stops: str | None = None,
    stack_depth: int = 32,
    cow: bool = False,
    vfork_writes: bool = False,
    output: str | os.PathLike[str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Trace:
    """Run a program to its end under the tracer, with this process's stdin, stdout and stderr, and give its trace.

    The options are those of ``forklore run``. ``output`` keeps the trace file. How the program ended is in the root
    task's ``death``. The tracer is a process of its own: ptrace belongs to a thread, and waiting for every child
    would take this program's own children from it.

    Raises :class:`TraceFailedError` where the program cannot be executed or traced; the text says why.
    """
    if not argv:
        raise ValueError("argv is empty: it needs at least the program to run")
    words = [os.fspath(word) for word in argv]
    options = [f"--follow={follow}", f"--wait={wait}", f"--leave={leave}"]
    options += [f"--max-depth={max_depth}"] if max_depth is not None else []
    options += [] if follow_untraced else ["--no-follow-untraced"]
    options += [f"--stops={stops}"] if stops is not None else []
    options += [f"--stack-depth={stack_depth}"] if stack_depth else ["--no-stack"]
    options += ["--cow"] if cow else []
    options += ["--vfork-writes"] if vfork_writes else []
    with tempfile.TemporaryDirectory(prefix="forklore-") as folder:
        complaints = Path(folder, "complaints")
        target = Path(folder, "trace.jsonl") if output is None else Path(output).absolute()
        if env is not None:
            entries = Path(folder, "environment")
            entries.write_bytes(b"\0".join(os.fsencode(f"{name}={value}") for name, value in env.items()))
            options.append(f"--environment={entries}")
        command = [sys.executable, "-m", "forklore", "run", "-q", f"--complaints={complaints}", "-o", str(target)]
        done = subprocess.run([*command, *options, "--", *words], check=False, cwd=cwd)
        said = complaints.read_text() if complaints.exists() else ""
        if said and done.returncode in _OWN_FAILURES:
            raise TraceFailedError(said.strip(), done.returncode)
        return load(target)
