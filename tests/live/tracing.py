"""Runs programs bare and under forklore, and reads what they say of themselves.

The test programs print lines of a word and ``key=value`` pairs (see ``tests/programs/README.md``): what a trace
claims is compared with that, not with forklore's own view of things.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import forklore
from forklore.decode.creation import Creation
from forklore.events import jsonl
from forklore.events import records as ev
from forklore.model.tasks import Task, Trace

SOURCE: Final = Path(__file__).resolve().parents[2] / "src"
ENVIRONMENT: Final[Mapping[str, str]] = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])),
}
FORKLORE: Final = (sys.executable, "-m", "forklore")
TIMEOUT: Final = 120
"""Seconds after which a run counts as stuck. Each takes a few at most; a busy machine makes twenty of them."""


@dataclass(frozen=True)
class Line:
    """A line that a test program said: a word, and its values by name."""

    word: str
    values: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def number(self, name: str) -> int:
        """A value that is a number, decimal or with 0x."""
        return int(self.values[name], 0)

    @property
    def errno(self) -> int:
        """The value of ``errno=``, printed by name; 0 for a call that succeeded."""
        name = self.values["errno"]
        return int(name) if name.isdecimal() else int(getattr(errno, name))


def said(text: str) -> list[Line]:
    """Output as lines of words and pairs."""
    lines = []
    for line in text.splitlines():
        word, *pairs = line.split(" ")
        lines.append(Line(word, dict(pair.split("=", 1) for pair in pairs if "=" in pair)))
    return lines


@dataclass(frozen=True)
class Done:
    """How a run went. ``status`` is negative for a signal, as :mod:`subprocess` has it."""

    status: int
    out: str
    err: str

    def lines(self, word: str) -> list[Line]:
        """What was said in lines that begin with ``word``."""
        return [line for line in said(self.out) if line.word == word]

    def line(self, word: str) -> Line:
        """The only line that begins with ``word``."""
        (line,) = self.lines(word)
        return line


@dataclass(frozen=True)
class Traced(Done):
    """A run under forklore, with its trace."""

    file: Path
    trace: Trace

    @property
    def root(self) -> Task:
        """The program's first task."""
        (root,) = (task for task in self.trace.tasks.values() if task.how == "root")
        return root

    def task(self, tid: int) -> Task:
        """The only task with that tid."""
        (task,) = (task for task in self.trace.tasks.values() if task.tid == tid)
        return task

    def creator(self, task: Task) -> Task:
        """Who made the call."""
        assert task.creator is not None
        return self.trace.tasks[task.creator]

    def parent(self, task: Task) -> Task:
        """Whose child it was at first."""
        assert task.parent is not None
        return self.trace.tasks[task.parent]

    def events(self) -> list[ev.Event]:
        """The trace's records, in the order of the file."""
        return list(jsonl.read(self.file))

    def created(self) -> list[Task]:
        """All tasks but the root."""
        return [task for task in self.trace.tasks.values() if task.how != "root"]


Program = Callable[..., Path]
"""What the ``program`` fixture is: a name and how to build it, to its executable."""

Trace_ = Callable[..., Traced]
"""What the ``traced`` fixture is: command words, ``options=`` for forklore, and what subprocess.run takes."""


SKIPPED: Final = 77
"""How a test program ends that cannot show what it is about: this kernel, machine or user forbids it."""


def bare(*command: str | os.PathLike[str], **how: Any) -> Done:
    """Run a command without forklore."""
    how = {"env": ENVIRONMENT, **how}
    done = subprocess.run(
        [os.fspath(word) for word in command], capture_output=True, text=True, timeout=TIMEOUT, check=False, **how
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run(*arguments: str | os.PathLike[str], **how: Any) -> Done:
    """``forklore run`` with these arguments."""
    return bare(*FORKLORE, "run", *arguments, **how)


def trace(
    file: Path,
    command: Sequence[str | os.PathLike[str]],
    options: Sequence[str] = (),
    *,
    whole: bool = True,
    **how: Any,
) -> Traced:
    """Run a command under forklore. ``whole``: check that nothing of the tree was lost (:func:`assert_whole`)."""
    done = run("-q", "-o", file, *options, "--", *command, **how)
    assert done.status not in (125, 126, 127) or "forklore:" not in done.err, done.err
    result = Traced(done.status, done.out, done.err, file, forklore.load(file))
    if whole:
        assert_whole(result.trace)
    return result


def assert_whole(trace: Trace) -> None:
    """The trace came to its end; every task in it has a known creator and was seen to die.

    With ``--stops events`` the child of a creator that was killed in its call is known to be adopted, and no more.

    The only tasks without a death are leaders whose tid another thread's exec took over: the kernel reports none
    (fs/exec.c: de_thread).
    """
    assert trace.warnings == []
    assert trace.end_reason == "done"
    tasks = trace.tasks.values()
    known = ("root", "adopted") if trace.header.options["stops"] == "events" else ("root",)
    assert [task for task in tasks if task.creator is None] == [task for task in tasks if task.how in known]
    assert [task for task in tasks if task.death is None and task.gone != "superseded"] == []


def creation(task: Task) -> Creation:
    """The call that made a task."""
    assert task.creation is not None
    return task.creation


def tids(tasks: Iterable[Task]) -> list[int]:
    """Their tids, in order."""
    return sorted(task.tid for task in tasks)


def until_event(file: Path, name: str, count: int = 1) -> None:
    """Wait until a trace that is being written has so many such events: they are written soon after they are seen."""
    deadline = time.monotonic() + TIMEOUT
    while (file.read_text() if file.exists() else "").count(f'"event":"{name}"') < count:
        assert time.monotonic() < deadline, f"no {name} in {file}"
        time.sleep(0.002)  # a loop without it takes the processor from whom it waits for
