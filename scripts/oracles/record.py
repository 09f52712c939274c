"""Run a program under forklore or strace, with the kernel's tracepoints beside it where they are wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import tracefs
from .errors import OracleError
from .kernel import KernelTask, program_in
from .tree import Tree, load

SOURCE: Final = Path(__file__).resolve().parents[2] / "src"


@dataclass(slots=True)
class Run:
    """One traced run: the tree that the tracer's record gives, and what the kernel saw meanwhile."""

    tree: Tree
    kernel: list[KernelTask] | None


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and where. ``prepare`` makes a fresh directory for each run, as a second run may find the
    first one's traces (``make`` would do nothing)."""

    argv: Sequence[str]
    prepare: Callable[[], Path | None] = lambda: None


class Tracers:
    """Runs programs under the two tracers and keeps what they write in ``scratch``."""

    def __init__(self, scratch: Path, forklore: Sequence[str] | None = None, engine: str = "ptrace") -> None:
        self._scratch = scratch
        self._engine = engine
        self._forklore = list(forklore) if forklore else [sys.executable, "-m", "forklore"]
        path = os.environ.get("PYTHONPATH")
        self._environment = {
            **os.environ,
            "PYTHONPATH": f"{SOURCE}{os.pathsep}{path}" if path else str(SOURCE),
        }

    def forklore(self, program: Program, kernel: bool) -> Run:
        """Run under ``forklore run`` and read the trace with ``forklore show``."""
        trace = self._scratch / "forklore.jsonl"
        tracer = [*self._forklore, "run", "--engine", self._engine, "-o", str(trace), "--"]
        return self._run(tracer, program, trace, kernel)

    def strace(self, program: Program, kernel: bool) -> Run:
        """Run under ``strace -f`` and read its log with ``forklore show``."""
        log = self._scratch / "strace.log"
        return self._run(["strace", "-f", "-ttt", "-o", str(log)], program, log, kernel)

    def _run(self, tracer: Sequence[str], program: Program, record: Path, kernel: bool) -> Run:
        record.unlink(missing_ok=True)
        directory = program.prepare()
        with ExitStack() as stack:
            messages = stack.enter_context((self._scratch / "stderr").open("w+b"))
            recorder = stack.enter_context(tracefs.recorder()) if kernel else None
            if recorder:
                recorder.start()
            process = subprocess.Popen(
                [*tracer, *program.argv], cwd=directory, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=messages,
            )  # fmt: skip
            try:
                status = process.wait()
            except BaseException:
                # Ctrl-C has reached the tracer too; the instance must outlive nobody who is recorded in it.
                process.terminate()
                process.wait()
                raise
            seen = recorder.stop() if recorder else None
            messages.seek(0)
            said = messages.read().decode(errors="replace")
        if not record.exists() or record.stat().st_size == 0:
            raise OracleError(f"`{' '.join(tracer)} …` ended with status {status} and wrote nothing:\n{said[-2000:]}")
        tree = self._show(record)
        return Run(tree, program_in(seen, process.pid, tree.root.tid) if seen is not None else None)

    def _show(self, record: Path) -> Tree:
        done = subprocess.run(
            [*self._forklore, "show", "--format", "json", str(record)],
            env=self._environment, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise OracleError(
                f"`forklore show {record}` ended with status {done.returncode}:\n"
                f"{done.stderr.decode(errors='replace')[-2000:]}"
            )
        document: Any = json.loads(done.stdout)
        return load(document)
