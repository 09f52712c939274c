"""Calls about other tasks are made in forklore/linux and nowhere else.

What that means: ptrace, process_vm_readv, kcmp, pidfds, seccomp and all else that ctypes reaches; fork, wait, kill and
limits of another process; /proc of any task. Not meant are calls about this process and about files that have a name:
the trace that is written, a terminal's size, an ELF file on disk.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import forklore

ROOT: Final = Path(forklore.__file__).parent
MODULES: Final = frozenset({"ctypes", "multiprocessing", "psutil", "ptrace", "pty", "subprocess"})
"""What is asked through these is asked of the kernel, mostly of another task."""
CALLS: Final = frozenset({
    *(f"os.{name}" for name in (
        "fork", "forkpty", "getpgid", "getpriority", "getsid", "kill", "killpg", "pidfd_open", "popen", "posix_spawn",
        "posix_spawnp", "sched_getaffinity", "sched_setaffinity", "setns", "setpgid", "setpriority", "system",
        "unshare", "wait", "wait3", "wait4", "waitid", "waitpid",
    )),
    "resource.prlimit", "signal.pidfd_send_signal", "signal.pthread_kill", "signal.sigtimedwait", "signal.sigwait",
    "signal.sigwaitinfo",
})  # fmt: skip
FILES: Final = frozenset({
    "exists", "glob", "lexists", "listdir", "lstat", "open", "read", "readlink", "scandir", "stat",
})  # fmt: skip
"""Last names of calls that take a path, besides Path itself."""

ALLOWED: Final = {
    ("api.py", "subprocess"): "trace() runs the command as a process of its own, as its docstring says",
    ("cli/demo.py", "subprocess"): "each command of the demo is a process of its own, as for who types it",
    ("features/audit/observe/build.py", "subprocess"): "the C compiler",
    ("features/doctor/observe.py", "psutil"): "the mounts of this machine and the user of this process",
    ("testing/client.py", "subprocess"): "the tracer of a pytest is a process of its own",
    ("testing/tracer.py", "subprocess"): "forklore why, and commands of tests, which are not in their pytest trace",
    ("sources/ptrace/attach.py", "/proc"): "whether our own tracing thread is gone",
}
"""Who may, by file and call, and why."""


def made_in(tree: ast.AST) -> Iterator[str]:
    """The modules that code takes in, and its calls, that belong to ``linux``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ({alias.name.partition(".")[0] for alias in node.names} & MODULES)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module is not None:
            base = node.module.partition(".")[0]
            yield from {base} & MODULES
            yield from {f"{node.module}.{alias.name}" for alias in node.names} & CALLS
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in CALLS or name.startswith(("os.exec", "os.spawn")):
                yield name
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if (name == "Path" or name.rpartition(".")[2] in FILES) and any(map(_in_proc, node.args)):
                yield "/proc"


def _in_proc(argument: ast.expr) -> bool:
    first = argument.values[0] if isinstance(argument, ast.JoinedStr) and argument.values else argument
    return isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value.startswith("/proc")


def found() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("linux/"):
            yield from ((name, what) for what in made_in(ast.parse(path.read_text())))


def test_calls_about_other_tasks_are_made_in_linux() -> None:
    assert set(found()) == set(ALLOWED), "move the call to forklore/linux, or say in ALLOWED why it stays"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import ctypes", "ctypes"),
        ("import os, psutil", "psutil"),
        ("from ptrace.binding import ptrace_getregs", "ptrace"),
        ("from os import kill", "os.kill"),
        ("def f():\n    os.waitpid(1, 0)", "os.waitpid"),
        ("os.execve(a, b, c)", "os.execve"),
        ("class A:\n    kill = staticmethod(os.kill)", "os.kill"),
        ("signal.pidfd_send_signal(fd, 9)", "signal.pidfd_send_signal"),
        ("open('/proc/self/maps')", "/proc"),
        ("with open(f'/proc/{tid}/mem', 'rb') as file: pass", "/proc"),
        ("os.path.lexists(f'/proc/{tid}')", "/proc"),
        ("Path('/proc/1/status').read_text()", "/proc"),
    ],
)
def test_what_it_would_find(code: str, what: str) -> None:
    assert what in set(made_in(ast.parse(code)))


@pytest.mark.parametrize("code", ["os.getpid()", "open(path)", "proc.root(tid)", "rule('/proc/sys', x)", "import os"])
def test_what_it_leaves_alone(code: str) -> None:
    assert set(made_in(ast.parse(code))) == set()
