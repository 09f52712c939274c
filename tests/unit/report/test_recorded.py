"""The recorded traces: each is whole and names nobody's machine, and all tools' of a program tell of the same tree."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from golden import PROGRAMS, ROOT, TRACES
from tree_shape import shape

import forklore
from forklore.model.tasks import Task

FILES = sorted(path for path in TRACES.iterdir() if path.is_file() and path.name != "README.md")
LIMIT = 150_000


def named(program: str, tool: str) -> Path:
    (path,) = [path for path in FILES if path.name.startswith(f"{program}.{tool}.")]
    return path


def content(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()


def test_three_of_each_program() -> None:
    assert {path.name.split(".")[1] for path in FILES} == {"forklore", "strace", "ltrace"}
    assert len(FILES) == 3 * len(PROGRAMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_whole_small_and_of_no_ones_machine(path: Path) -> None:
    assert path.stat().st_size <= LIMIT
    text = content(path)
    assert not re.search(rf"(?<![\w./-]){re.escape(str(ROOT))}/", text)
    assert not re.search(r"/(home|root)/|/venv", text)
    trace = forklore.load(path)
    assert trace.warnings == []
    assert trace.header.source.tool == path.name.split(".")[1]
    (root,) = trace.roots
    assert root.death is not None or root.heir is not None
    for task in trace.tasks.values():
        assert task.death is not None or task.gone == "superseded"


def by_strace_too(task: Task) -> Any:
    """What a log of strace has as well."""
    made, death = task.creation, task.death
    return (
        task.kind,
        None if made is None else (made.call, made.flags.raw, made.exit_signal, made.stack is not None),
        [image.path for image in task.images],
        [(failed.paths, failed.errnos) for failed in task.failed_execs],
        [(failure.creation.call, failure.errno) for failure in task.failures],
        None if death is None else (death.code, death.signal),
        task.gone,
        task.heir is not None,
    )


def by_ltrace_too(task: Task) -> Any:
    """What a log of ltrace has as well: no flags of clone3, and only the beginning of a path."""
    made, death = task.creation, task.death
    known = made is not None and made.call != "clone3"
    return (
        (task.kind, made.flags.raw) if made is not None and known else None,
        [image.path[:32] for image in task.images if isinstance(image.path, bytes)] if made is not None else None,
        [(failure.creation.call, failure.errno) for failure in task.failures],
        None if death is None else (death.code, death.signal),
        task.heir is not None,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_strace_saw_the_same(program: str) -> None:
    ours, theirs = (forklore.load(named(program, tool)) for tool in ("forklore", "strace"))
    assert shape(ours, by_strace_too) == shape(theirs, by_strace_too)


@pytest.mark.parametrize("program", PROGRAMS)
def test_ltrace_saw_the_same(program: str) -> None:
    ours, theirs = (forklore.load(named(program, tool)) for tool in ("forklore", "ltrace"))
    assert shape(ours, by_ltrace_too) == shape(theirs, by_ltrace_too)


@pytest.mark.parametrize(
    ("program", "processes", "threads", "failures", "heirs"),
    [("pipeline", 4, 0, 0, 0), ("python", 6, 2, 0, 0), ("make", 10, 0, 0, 0), ("takeover", 2, 2, 4, 1)],
)
def test_what_each_program_does(program: str, processes: int, threads: int, failures: int, heirs: int) -> None:
    trace = forklore.load(named(program, "forklore"))
    tasks = trace.tasks.values()
    assert [sum(task.kind == kind for task in tasks) for kind in ("process", "thread")] == [processes, threads]
    assert len(trace.failures) == failures
    assert sum(task.heir is not None for task in tasks) == heirs
    assert all(failure.reasons[0].certain for failure in trace.failures)
