"""`forklore why` of hangs as C++, Rust, Go and Python programs have them, and of locks of musl."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from hanging import answered, hanging, made, scenarios
from programs import Missing
from test_why_hangs import CERTAIN, LIKELY, OPEN, Row, check

from forklore.features.why.sentences import headline

CPP: Final[dict[str, Row]] = {
    "abba": ("cycle", CERTAIN, "accounts (threads.cc:", ("journal (threads.cc:",)),
    "join_under_lock": ("cycle", CERTAIN, "nested (threads.cc:", ("a recursive mutex", "the end of its thread")),
    "broken_promise": ("nobody", CERTAIN, "a std::future of C++ to become ready", ("in broken_promise",)),
    "shared_then_exclusive": ("nobody", CERTAIN, "table (threads.cc:", ("held for reading",)),
    "no_notify": ("nobody", CERTAIN, "a condition variable", ("no other task shares its memory",)),
}
RUST: Final[dict[str, Row]] = {
    "abba": ("cycle", CERTAIN, "a std::sync::Mutex of Rust", ()),
    "relock": ("nobody", CERTAIN, "a std::sync::Mutex of Rust", ()),
    "channel": ("nobody", CERTAIN, "another thread to unpark it", ()),
    "condvar": ("nobody", CERTAIN, "a std::sync::Condvar of Rust", ()),
    "upgrade": ("nobody", CERTAIN, "a std::sync::RwLock of Rust", ()),
    "output_kept": ("held", OPEN, "sleep (started", ("still holds its write end (fd 1)",)),
}
GO: Final[dict[str, Row]] = {
    "channel": ("word", OPEN, "Go's scheduler", ()),
    "mutex": ("word", OPEN, "Go's scheduler", ()),
    "output_kept": ("held", OPEN, "sleep (started", ("still holds its write end (fd 1)",)),
}
PYTHON: Final[dict[str, Row]] = {
    "relock": ("nobody", CERTAIN, "a lock of CPython (in relock, scripts.py:", ("SIGINT, which it catches",)),
    "queue_get": ("nobody", CERTAIN, "a lock of CPython (in ", ("queue.py:", "queue_get, scripts.py:")),
    "abba": ("cycle", CERTAIN, "a lock of CPython (in abba, scripts.py:", ()),
    "fork_lock": ("copied_lock", CERTAIN, "a lock of CPython (in fork_lock, scripts.py:", ("was forked",)),
    "communicate": ("held", OPEN, "sleep (started", ("still holds its write end (fd 1)",)),
    "wait_full_pipe": ("cycle", LIKELY, "which is full", ("its child", "SIGINT")),
    "join_before_get": ("cycle", LIKELY, "which is full", ("a lock of CPython", "its child")),
    "pool_waits_for_itself": ("cycle", CERTAIN, "a lock of CPython (in ", ("Future.result",)),
}
MUSL: Final[dict[str, Row]] = {
    "relock": ("nobody", CERTAIN, "musl's normal mutex does not say who has it", ("first (locks.c:",)),
    "abba": ("cycle", CERTAIN, "second (locks.c:", ()),
    "abba_recursive": ("cycle", CERTAIN, "a recursive mutex", ("has locked",)),
    "abba_errorcheck": ("cycle", CERTAIN, "an errorcheck mutex", ("has locked",)),
    "abba_robust": ("cycle", CERTAIN, "a robust mutex", ("has locked",)),
    "rwlock_writer": ("cycle", CERTAIN, "table (locks.c:", ("a read-write lock",)),
    "join_ring": ("cycle", CERTAIN, "the end of its thread", ()),
    "semaphore": ("nobody", CERTAIN, "items (locks.c:", ()),
}


@functools.cache
def pythons() -> list[str]:
    """This Python, and newer ones that are installed, by the version that each says it has."""
    found = {sys.version_info[:2]: sys.executable}
    names = [f"python3.{minor}" for minor in range(sys.version_info.minor + 1, 16)]
    roots = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob("3.*/bin/python"))
    for place in [*filter(None, map(shutil.which, names)), *map(str, roots)]:
        told = subprocess.run(
            [place, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if told.returncode == 0:
            major, minor = map(int, told.stdout.split())
            if (major, minor) > sys.version_info[:2]:
                found.setdefault((major, minor), place)
    return list(found.values())


I386: Final[dict[str, Row]] = {
    "relock": ("self", CERTAIN, "which it has locked itself", ("first (locks.c:",)),
    "abba": ("cycle", CERTAIN, "second (locks.c:", ("has locked",)),
    "abba_recursive": ("cycle", CERTAIN, "a recursive mutex", ("has locked",)),
    "abba_robust": ("cycle", CERTAIN, "a robust mutex", ("has locked",)),
    "inherit_join": ("cycle", CERTAIN, "a mutex with priority inheritance", ()),
    "rwlock_writer": ("cycle", CERTAIN, "table (locks.c:", ("a read-write lock", "has locked")),
    "join_ring": ("cycle", CERTAIN, "the end of its thread", ()),
    "semaphore": ("nobody", CERTAIN, "items (locks.c:", ()),
}


def answer_is(command: list[str], row: Row) -> None:
    root, certainty, phrase, more = row
    with hanging(command) as found:
        graph, answer = answered(found, root, certainty)
    said = headline(graph, answer.chain)
    for part in (phrase, *more):
        assert part in said, said
    check(answer.chain.certainty, certainty, answer.chain.why, said)


def program(source: str, **how: bool) -> str:
    try:
        return str(made(source, **how))
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", CPP)
def test_cpp(name: str) -> None:
    answer_is([program("threads.cc"), name], CPP[name])


@pytest.mark.parametrize("name", RUST)
def test_rust(name: str) -> None:
    answer_is([program("threads.rs"), name], RUST[name])


@pytest.mark.parametrize("name", GO)
def test_go(name: str) -> None:
    answer_is([program("threads.go"), name], GO[name])


@pytest.mark.parametrize("name", MUSL)
def test_musl(name: str) -> None:
    answer_is([program("locks.c", musl=True), name], MUSL[name])


@pytest.mark.parametrize("name", I386)
def test_32_bit(name: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("i386 programs run on x86_64 alone")
    answer_is([program("locks.c", m32=True), name], I386[name])


@pytest.mark.parametrize("name", PYTHON)
def test_this_python(name: str) -> None:
    answer_is([sys.executable, program("scripts.py"), name], PYTHON[name])


@pytest.mark.parametrize("name", PYTHON)
def test_newer_pythons(name: str) -> None:
    newer = pythons()[1:]
    if not newer:
        pytest.skip("no CPython is installed that is newer than the one that runs the tests")
    for python in newer:
        answer_is([python, program("scripts.py"), name], PYTHON[name])


@pytest.mark.parametrize(
    "rows", [(("threads.cc"), CPP), (("threads.rs"), RUST), (("threads.go"), GO)], ids=["c++", "rust", "go"]
)
def test_every_scenario_has_its_answer(rows: tuple[str, dict[str, Row]]) -> None:
    source, known = rows
    assert scenarios(Path(program(source))) == list(known)
