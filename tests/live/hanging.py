"""Programs of tests/programs/hangs, each held in its hang while a test looks at it.

A program says on its stdout which tasks are about to block and in which call; whoever runs it waits until /proc shows
each of them asleep there. Everything that it leaves behind is killed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from programs import CompileError, Missing, _compiler, build_directory

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.features.why.conclude import Conclusion, conclude
from forklore.features.why.graph import Graph
from forklore.features.why.observe.observe import observe
from forklore.features.why.observe.open_files import open_files
from forklore.features.why.sentences import headline
from forklore.linux import proc, tasks
from forklore.linux.waits.look import RawCall, look

SOURCES: Final = Path(__file__).resolve().parent.parent / "programs" / "hangs"
_COMPILERS: Final = {
    ".c": ("gcc", "gcc libc6-dev", ("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread")),
    ".cc": ("g++", "g++", ("-std=c++17", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread")),
    ".rs": ("rustc", "rustc", ("-g", "-O")),
}
_PATIENCE: Final = 60.0
_PAUSE_MS: Final = 5
_STATES: Final = {"stopped": "T", "traced": "t", "ended": "Z"}
_PASSING: Final = frozenset({"flock", "fcntl"})
"""Calls that stand uninterruptibly on their way to their wait, while /proc/locks is read (fs/locks.c: file_rwsem)."""
_SAME: Final = {
    "semop": {"semop", "semtimedop", "ipc"},
    "semtimedop": {"semtimedop", "ipc"},
    "msgsnd": {"msgsnd", "ipc"},
    "futex": {"futex"},
    "openat": {"openat", "open"},
    "pselect6": {"pselect6", "select"},
}


def made(source: str | Path, *, musl: bool = False, m32: bool = False, time64: bool = False) -> Path:
    """The executable of a program of tests/programs/hangs, or of another path. Raises Missing where there is no
    compiler for it."""
    path = SOURCES / source
    if path.suffix == ".py":
        return path
    if path.suffix == ".go":
        return _compiled(("go", "build"), path, "golang-go")
    driver, package, flags = _COMPILERS[path.suffix]
    if m32:
        _compiler("glibc", static=False, m32=True)  # Missing where there is none for it
        flags = (*flags, "-m32", *(("-D_TIME_BITS=64", "-D_FILE_OFFSET_BITS=64") if time64 else ()))
    if musl:
        driver, package, flags = "musl-gcc", "musl-tools", (*flags, "-static")
    return _compiled((driver, *flags), path, package)


def _compiled(command: tuple[str, ...], source: Path, package: str) -> Path:
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed: apt-get install {package}")
    parts = [*command, source.read_text(), *(header.read_text() for header in sorted(SOURCES.glob("*.h")))]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    target = build_directory() / f"hangs-{source.stem}-{key}" / source.stem
    if target.exists():
        return target
    target.parent.mkdir(mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        place = Path(scratch) / source.stem
        words = [*command, "-o", str(place), str(source)]
        if source.suffix == ".c" and "musl" not in command[0]:
            words += ["-lutil", "-lrt"]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GOCACHE": f"{scratch}/cache", "GO111MODULE": "off"},
        )
        if done.returncode != 0:
            raise CompileError(f"{' '.join(words)}:\n{done.stderr}")
        place.replace(target)
    return target


@functools.cache
def uncounted() -> str | None:
    """Why the kernel does not tell how many have a file open; None: it does."""
    found = open_files(())
    return found.why if isinstance(found, Unavailable) else None


def scenarios(program: Path) -> list[str]:
    """What a program can do: it says so where it is given nothing."""
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()


class Hanging:
    """A program in its hang."""

    def __init__(self, asked: int = 0) -> None:
        self.pid = 0
        """Of the program that was started."""
        self.asked = asked
        """The process that the question is about."""
        self.said: list[list[str]] = []
        self._process: subprocess.Popen[bytes] | None = None

    def let_go(self) -> int:
        """Close its standard input; its exit status."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(_PATIENCE)

    def words(self, first: str) -> list[list[str]]:
        """What follows a word in the lines that begin with it."""
        return [line[1:] for line in self.said if line[0] == first]


@contextmanager
def hanging(command: Sequence[str | os.PathLike[str]], *, stdin: int = subprocess.DEVNULL) -> Iterator[Hanging]:
    """Run a program until all that it says blocks does."""
    process = subprocess.Popen(
        [os.fspath(word) for word in command],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    found = Hanging()
    found.pid, found._process = process.pid, process
    try:
        _listen(process, found)
        _settle(process, found)
        yield found
    finally:
        _kill(process, found)


def answered(found: Hanging, root: str, certainty: str) -> tuple[Graph, Conclusion]:
    """The answer about a program that does not say itself that it blocks: asked for until it is what is wanted,
    or the patience is over.
    """
    end = time.monotonic() + _PATIENCE
    nothing = select.poll()
    while True:
        graph = observe([found.asked])
        told = conclude(graph)
        if told and told[0].chain.root == root and (told[0].chain.certainty == certainty or time.monotonic() > end):
            return graph, told[0]
        assert time.monotonic() < end, [(headline(graph, each.chain), each.chain) for each in told]
        nothing.poll(_PAUSE_MS)


def _listen(process: subprocess.Popen[bytes], found: Hanging) -> None:
    assert process.stdout is not None
    end = time.monotonic() + _PATIENCE
    os.set_blocking(process.stdout.fileno(), False)
    text = b""
    while not any(line[:1] == [b"ask"] for line in map(bytes.split, text.split(b"\n")[:-1])):
        left = end - time.monotonic()
        assert left > 0, f"it has said nothing for {_PATIENCE} s: {text!r}"
        if not select.select([process.stdout], [], [], left)[0]:
            continue
        got = os.read(process.stdout.fileno(), 65536)
        if not got:
            _skip_without(text)
        assert got, f"it ended: {process.wait()}, {text!r}"
        text += got
    _take(found, text)
    found.asked = int(found.words("ask")[0][0])


def _skip_without(text: bytes) -> None:
    for line in map(bytes.split, text.splitlines()):
        if line[:1] == [b"lacks"]:
            why = os.strerror(int(line[2]))
            pytest.skip(f"{line[1].decode()} fails here ({why}): others have used it up, or this kernel refuses it")


def _take(found: Hanging, text: bytes) -> None:
    found.said += [line.decode().split() for line in text.splitlines() if line.strip()]


def _settle(process: subprocess.Popen[bytes], found: Hanging) -> None:
    """Wait until each task that was named is in its call: there is nothing to be told of it but by looking."""
    end = time.monotonic() + _PATIENCE
    nothing = select.poll()
    assert process.stdout is not None
    while True:
        with suppress(BlockingIOError):  # what else has been said: not all is said before "ask"
            _take(found, os.read(process.stdout.fileno(), 65536))
        left = [words for words in found.words("wait") if not _is_in(int(words[0]), words[1])]
        zombies = [words for words in found.words("zombies") if not _has_zombie(int(words[0]))]
        if not left and not zombies and len(found.words("wait")) >= int(found.words("ask")[0][1]):
            return
        assert time.monotonic() < end, f"not in their calls after {_PATIENCE} s: {left} {zombies}"
        nothing.poll(_PAUSE_MS)


def _is_in(tid: int, name: str) -> bool:
    found = look(Tid(tid))
    if isinstance(found, Unavailable):
        return False
    if name in _STATES:
        return found.state == _STATES[name]
    machine = proc.machine()
    if found.state == "D" and name in _PASSING:
        return False
    if found.state not in "SDTt" or not isinstance(found.call, RawCall) or machine is None:
        return False
    arch = Arch.I386 if found.call.narrow else machine
    said = (syscalls.name(arch, found.call.number) or "").removesuffix("_time64")
    return said in _SAME.get(name, {name})


def _has_zombie(pid: int) -> bool:
    found = [look(Tid(int(child))) for child, parent in tasks.parents() if parent == pid]
    return any(getattr(each, "state", "") == "Z" for each in found)


def _kill(process: subprocess.Popen[bytes], found: Hanging) -> None:
    assert process.stdout is not None
    with suppress(BlockingIOError):  # what it has left behind may have been said since
        _take(found, os.read(process.stdout.fileno(), 65536))
    family = tasks.descendants(Pid(process.pid))
    for pid in [*map(int, family), *(int(words[0]) for words in found.words("kill"))]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    if process.stdin is not None:
        process.stdin.close()
    for words in found.words("file"):
        with suppress(FileNotFoundError):
            os.unlink(words[0])
    for words in found.words("folder"):
        shutil.rmtree(words[0], ignore_errors=True)
    for words in found.words("semaphores"):
        subprocess.run(["ipcrm", "-s", words[0]], check=False)
    for words in found.words("queue"):
        subprocess.run(["ipcrm", "-q", words[0]], check=False)
