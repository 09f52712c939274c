"""Programs that people run, beside strace: as many tasks, of the same kinds, with the same images and ends.

Two runs are two runs: what a runtime does by its own clock (idle workers, garbage collection) may differ between them,
so the programs here are such that two runs of strace agree.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tracing import Trace_, bare
from tree_shape import outline, shape

import forklore
from forklore.model.tasks import Trace

ByStrace = Callable[..., Trace]


def need(command: str, package: str) -> str:
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed: apt-get install {package}")
    return path


@pytest.fixture
def by_strace(tmp_path: Path) -> ByStrace:
    """The same command under ``strace -f``, its log read by forklore."""
    need("strace", "strace")

    def run(*command: str | Path, **how: Any) -> Trace:
        log = tmp_path / "strace.log"
        done = bare("strace", "-f", "-o", log, "--", *command, **how)
        assert done.status == 0, done.err
        return forklore.load(log)

    return run


def kinds(trace: Trace) -> Counter[str]:
    return Counter(task.kind for task in trace.tasks.values())


PYTHON = {
    "subprocess": "import subprocess; [subprocess.run(['true'], check=True) for _ in range(7)]",
    "subprocess-without-vfork": (
        "import subprocess; subprocess._USE_VFORK = False; subprocess._USE_POSIX_SPAWN = False\n"
        "[subprocess.run(['true'], check=True) for _ in range(7)]"
    ),
    "os.system": "import os; [os.system('exit 0') for _ in range(5)]",
    "threading": (
        "import threading; threads = [threading.Thread(target=int) for _ in range(13)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]"
    ),
    "fork-in-thread": (
        "import os, threading\ndef one():\n    pid = os.fork()\n    pid or os._exit(3)\n    os.waitpid(pid, 0)\n"
        "threads = [threading.Thread(target=one) for _ in range(5)]\n[(t.start(), t.join()) for t in threads]"
    ),
}
SHELL = {
    "pipeline": "ls / | sort | cat | wc -l",
    "substitution": "x=$(echo $(true; echo a)); (exit 3); echo $x$?",
    "background": "true & false & wait; exit 0",
    "loop": "for i in 1 2 3 4 5 6 7; do /bin/true; (exit $i); done; exit 0",
    "killed": "sh -c 'kill -9 $$'; exit 0",
    "exec": "exec sh -c 'exec true'",
}


@pytest.mark.parametrize("script", SHELL)
def test_shells(script: str, traced: Trace_, by_strace: ByStrace) -> None:
    run = traced("sh", "-c", SHELL[script])
    assert run.status == 0
    assert shape(run.trace, about=outline) == shape(by_strace("sh", "-c", SHELL[script]), about=outline)


@pytest.mark.parametrize("script", PYTHON)
def test_python(script: str, traced: Trace_, by_strace: ByStrace) -> None:
    command = (sys.executable, "-ISc", PYTHON[script])
    run = traced(*command)
    assert (run.status, run.err) == (0, "")
    assert shape(run.trace, about=outline) == shape(by_strace(*command), about=outline)


MULTIPROCESSING = """
import multiprocessing, sys
def square(n):
    return n * n
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    workers = [context.Process(target=square, args=(n,)) for n in range(3)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    print([worker.exitcode for worker in workers])
"""


@pytest.mark.parametrize(
    ("method", "processes"), [("fork", 1 + 3), ("spawn", 1 + 1 + 3), ("forkserver", 1 + 1 + 1 + 3)]
)
def test_multiprocessing(method: str, processes: int, tmp_path: Path, traced: Trace_, by_strace: ByStrace) -> None:
    # spawn adds a resource tracker, forkserver that and the server, which makes the workers in its own name.
    script = tmp_path / "squares.py"
    script.write_text(MULTIPROCESSING)
    command = (sys.executable, "-S", script, method)
    run = traced(*command)
    assert run.out == "[0, 0, 0]\n"
    assert kinds(run.trace) == {"process": processes}
    assert shape(run.trace, about=outline) == shape(by_strace(*command), about=outline)
    assert all(task.death is not None and task.death.code == 0 for task in run.trace.tasks.values())


MAKEFILE = """
OBJECTS := $(foreach n,1 2 3 4 5 6 7,part$(n).o)
whole: $(OBJECTS)
\tcat $(OBJECTS) | sort > $@
%.o:
\t@echo $@ > $@; (true); /bin/true
"""


def test_make(tmp_path: Path, traced: Trace_, by_strace: ByStrace) -> None:
    make = need("make", "make")
    trees = []
    for number, trace_it in enumerate((lambda *c, **how: traced(*c, **how).trace, by_strace)):
        folder = tmp_path / f"project-{number}"
        folder.mkdir()
        (folder / "Makefile").write_text(MAKEFILE)
        trees.append(trace_it(make, "-s", "-j2", cwd=folder))
        assert (folder / "whole").read_text().count("\n") == 7
    assert shape(trees[0], about=outline) == shape(trees[1], about=outline)
    assert len(trees[0].tasks) > 7 * 3


def test_compiling(tmp_path: Path, traced: Trace_, by_strace: ByStrace) -> None:
    gcc = need("gcc", "gcc libc6-dev")
    source = tmp_path / "a.c"
    source.write_text("int main(void) { return 0; }\n")
    command = (gcc, "-o", tmp_path / "a.out", source)
    run = traced(*command)
    assert shape(run.trace, about=outline) == shape(by_strace(*command), about=outline)
    programs = {task.name for task in run.trace.tasks.values()}
    assert {b"cc1", b"as", b"collect2"} <= programs


def test_git(tmp_path: Path, traced: Trace_, by_strace: ByStrace) -> None:
    git = need("git", "git")
    for number in range(2):
        bare(git, "init", "-q", tmp_path / f"clone-{number}")
    bare(git, "init", "-q", "--bare", tmp_path / "origin")
    trees = []
    for number, trace_it in enumerate((lambda *c, **how: traced(*c, **how).trace, by_strace)):
        trees.append(trace_it(git, "ls-remote", tmp_path / "origin", cwd=tmp_path / f"clone-{number}"))
    assert shape(trees[0], about=outline) == shape(trees[1], about=outline)
    assert len(trees[0].tasks) > 1


def test_perl(traced: Trace_, by_strace: ByStrace) -> None:
    perl = need("perl", "perl")
    script = "for (1..5) { my $p = fork; exit 2 unless $p; waitpid $p, 0; } my $x = `echo hi`; system 'true;'; exit 0"
    run = traced(perl, "-e", script)
    assert shape(run.trace, about=outline) == shape(by_strace(perl, "-e", script), about=outline)
    assert kinds(run.trace) == {"process": 1 + 5 + 2}


def test_node(traced: Trace_, by_strace: ByStrace) -> None:
    node = need("node", "nodejs")
    script = "require('child_process').spawnSync('true'); require('fs').readFile('/etc/passwd', () => {})"
    run = traced(node, "-e", script)
    assert run.status == 0
    assert kinds(run.trace) == kinds(by_strace(node, "-e", script))
    assert [task.name for task in run.trace.tasks.values() if task.kind == "process"] == [b"node", b"true"]


def test_java(traced: Trace_) -> None:
    # A JVM starts threads by its own clock, so two runs differ: here only that all of them are seen to the end.
    java = need("java", "default-jre-headless")
    run = traced(java, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-version")
    assert run.status == 0
    assert kinds(run.trace)["process"] == 1
    assert kinds(run.trace)["thread"] > 5


def test_a_static_busybox(traced: Trace_, by_strace: ByStrace) -> None:
    busybox = need("busybox", "busybox")
    command = (busybox, "sh", "-c", "ls / | sort | wc -l; (exit 3); true")
    assert shape(traced(*command).trace, about=outline) == shape(by_strace(*command), about=outline)
