"""Who called, where that is hard to tell: against what programs, a debugger and interpreters say of themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from programs import SOURCES
from tracing import Trace_, Traced

from forklore.report.tree.edges import Edges

PROGRAMS = SOURCES / "callers"


def compiled(*command: str | os.PathLike[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run(command, check=True, capture_output=True, text=True)


def callers(run: Traced) -> list[tuple[str, bool]]:
    """Of all that was made, in the order of time: the function, and whether that is sure."""
    edges = Edges(run.trace)
    found = [edges.of(task) for task in run.created()]
    return [("", False) if edge is None else (edge.function, edge.sure) for edge in found]


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    source = PROGRAMS / "plugin.c"
    compiled("gcc", "-O2", "-o", tmp_path / "plugin", source)
    for name in ("one", "two"):
        compiled("gcc", "-O2", "-fPIC", "-shared", f"-DNAME=by_{name}", "-o", tmp_path / f"{name}.so", source)
    return tmp_path / "plugin"


def test_a_library_in_the_place_of_another_is_not_taken_for_it(plugin: Path, traced: Trace_) -> None:
    libraries = [plugin.parent / "one.so", plugin.parent / "two.so"]
    run = traced(plugin, *libraries)
    assert run.status == 0, run.err
    assert len({line["at"] for line in run.lines("entered")}) == 1
    told = [one for one in callers(run) if one[0] != "astray"]
    assert told == [("by_one", True)] * 3 + [("by_two", True)] * 3
    # A stack that leads nowhere, as each of `astray` does, is no reason to cut the next one short.
    ends = Counter(task.stack.end for task in run.created() if task.stack is not None)
    assert ends["outermost"] == 6
    assert sum(ends.values()) - 6 == (2 if os.uname().machine == "x86_64" else 0)


def test_a_library_that_was_compiled_anew_is_not_taken_for_what_it_was(plugin: Path, traced: Trace_) -> None:
    # A file system may give the new file the number of the old one.
    one, two = plugin.parent / "one.so", plugin.parent / "two.so"
    work = f"{plugin} {one} && rm {one} && cp {two} {one} && {plugin} {one}"
    run = traced("sh", "-c", work)
    assert run.status == 0, run.err
    told = [one for one, sure in callers(run) if sure and one.startswith("by_")]
    assert told == ["by_one"] * 3 + ["by_two"] * 3


@pytest.mark.parametrize("name", ["callers.c", "callers.cpp", "callers.rs", "callers.py"])
def test_none_is_sure_and_wrong(name: str) -> None:
    script = SOURCES.parent.parent / "scripts" / "callers"
    command = [sys.executable, str(script), "--only", name, "--level=-O2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        pytest.skip(done.stdout)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    # With debug information nothing is left to a guess.
    first = done.stdout.splitlines()[0]
    assert " 0 guessed    0 by address    0 sure and wrong" in first
