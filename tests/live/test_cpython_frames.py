"""The Python frames behind a creation, read from held interpreters, against what these say of themselves.

Interpreters are those of this machine: the one that runs the tests, python3.N on PATH, pyenv's, and those named in
FORKLORE_TEST_PYTHONS (commands, a line each).
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from held import Held
from tracing import Trace_

from forklore.abi.units import Tid, Unavailable
from forklore.elf.cpython.frames import Interpreter, PyStack
from forklore.events import records as ev
from forklore.linux.tracing import ptrace
from forklore.linux.tracing.wait import Kind
from forklore.report.tree.edges import Edges, own_name

PROGRAM = Path(__file__).resolve().parent.parent / "programs" / "python_frames.py"
THREADS = PROGRAM.parent / "callers" / "threads.py"
GENERATOR = Path(__file__).resolve().parents[2] / "scripts" / "generate-cpython-layouts"
MINORS = range(8, 16)


def _interpreters() -> list[str]:
    paths = [sys.executable, "/usr/bin/python3", *(shutil.which(f"python3.{minor}") or "" for minor in MINORS)]
    paths += map(os.fspath, sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3")))
    by_file = {os.path.realpath(path): path for path in paths if path and _is_known(os.path.realpath(path))}
    return [*map(shlex.quote, by_file.values()), *os.environ.get("FORKLORE_TEST_PYTHONS", "").splitlines()]


def _is_known(path: str) -> bool:
    """An ELF file, not pyenv's script of the same name, of a version that is read."""
    minor = re.search(r"python3\.(\d+)$", path)
    if minor is None or int(minor[1]) not in MINORS:
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


@functools.cache
def _symbols(path: str) -> dict[bytes, int]:
    with open(path, "rb") as file:
        elf = ELFFile(file)
        base = min(segment["p_vaddr"] for segment in elf.iter_segments("PT_LOAD"))
        section = elf.get_section_by_name(".dynsym")
        if not isinstance(section, SymbolTableSection):
            return {}
        values = ((symbol.name.encode(), symbol["st_value"]) for symbol in section.iter_symbols())
        return {name: value - base for name, value in values if value}


def interpreter_of(tid: Tid, hint: str | None = None) -> Interpreter | Unavailable:
    """The interpreter in a held program, its symbols those of the dynamic symbol tables."""
    modules: dict[str, int] = {}
    for line in Path(f"/proc/{tid}/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5].startswith("/") and "python" in words[5]:
            modules.setdefault(words[5], int(words[0].partition("-")[0], 16))

    def symbol(name: bytes) -> int | None:
        for path, base in modules.items():
            if ".so" in os.path.basename(path) and "libpython" not in path:
                continue
            offset = _symbols(path).get(name)
            if offset is not None:
                return base + offset
        return None

    return Interpreter.find(symbol, reader(tid), hint)


def reader(tid: Tid) -> Callable[[int, int], bytes | None]:
    """By /proc/PID/mem: process_vm_readv(2) has the kernel copy the pages that parent and child share."""
    descriptor = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def read(address: int, size: int) -> bytes | None:
        try:
            raw = os.pread(descriptor, size, address)
        except OSError:
            return None
        return raw if len(raw) == size else None

    weakref.finalize(read, os.close, descriptor)
    return read


def _tgid(tid: Tid) -> int:
    status = Path(f"/proc/{tid}/status").read_text()
    return int(status.partition("\nTgid:")[2].partition("\n")[0])


class Stacks(Held):
    """Reads the Python stack of each creator."""

    def __init__(self, pointer: bool = True) -> None:
        super().__init__()
        self.stacks: list[PyStack] = []
        self.languages: set[str] = set()
        self._pointer = pointer
        self._found: dict[int, Interpreter] = {}

    def executed(self, tid: Tid) -> None:
        self._found.pop(tid, None)

    def created(self, creator: Tid, child: Tid, how: Kind) -> None:
        held = ptrace.registers(creator)
        pointer = held["fs_base"] if self._pointer and "fs_base" in held.layout.offsets else None
        tgid = _tgid(creator)
        interpreter = self._found.get(tgid)
        if interpreter is None:
            found = interpreter_of(creator)
            if isinstance(found, Unavailable):
                return
            interpreter = self._found[tgid] = found
        stack = interpreter.frames(creator, pointer)
        self.languages.add(interpreter.language)
        self.stacks.append(stack)


def plain(stack: PyStack) -> list[list[object]]:
    """As the program tells it."""
    return [[frame.function.decode(), frame.file.decode("latin-1"), frame.line] for frame in stack.frames]


@functools.cache
def told(python: str) -> list[list[list[object]]]:
    done = subprocess.run([*shlex.split(python), PROGRAM, "tell"], capture_output=True, check=True)
    lines = done.stdout.splitlines()
    assert lines.pop() == b"ok"
    return [json.loads(line) for line in lines]


@pytest.fixture(params=_interpreters())
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_creation_has_the_frames_that_python_itself_tells(python: str) -> None:
    run = Stacks()
    assert run.run(*shlex.split(python), PROGRAM) == 0
    assert run.out == b"ok\n"
    assert [plain(stack) for stack in run.stacks] == told(python)
    assert {stack.end for stack in run.stacks} == {"outermost"}
    # What points to a thread's descriptor is among the registers that ptrace tells on x86_64 alone.
    found = "pthread" if os.uname().machine == "x86_64" else "native id"
    assert {stack.found for stack in run.stacks} == {found}


def test_threads_have_the_names_and_targets_that_python_gives_them(python: str, traced: Trace_) -> None:
    run = traced(*shlex.split(python), THREADS)
    assert run.status == 0, run.err
    told = [json.loads(line) for line in run.out.splitlines()]
    found = []
    for task in run.created():
        assert task.runs is not None
        assert task.runs.name is not None
        name, script = ev.raw_bytes(task.runs.name).decode(), task.runs.script
        found.append([name, None if script is None else [ev.raw_bytes(script.file).decode(), script.line]])
    assert found[:-1] == told
    assert found[-1][0] == "pool_0"
    assert own_name(run.created()[1]) == "crew of its own"
    edge = Edges(run.trace).of(run.created()[0])
    assert edge is not None
    assert edge.text().startswith("threading.Thread.start(work) ← threads.py:")


def test_a_subinterpreter_has_its_own_frames(python: str) -> None:
    run = Stacks()
    assert run.run(*shlex.split(python), PROGRAM, "inside") == 0
    assert run.out == b"ok\n"
    assert [[frame.function for frame in stack.frames] for stack in run.stacks] == [
        [b"inner", b"<module>"],
        [b"inside", b"<module>"],
    ]


def test_without_a_thread_pointer_only_what_is_sure_is_said_as_sure(python: str) -> None:
    run = Stacks(pointer=False)
    assert run.run(*shlex.split(python), PROGRAM) == 0
    (language,) = run.languages
    native = int(language.strip("t").partition(".")[2]) >= 11
    right = [plain(stack) == expected for stack, expected in zip(run.stacks, told(python), strict=True)]
    found = [stack.found for stack in run.stacks]
    if native:
        assert found == ["native id"] * len(found)
        assert all(right)
    else:  # os.system() lets go of the lock
        assert set(found) == {"lock", None}
        assert [stack.end for stack in run.stacks if stack.found is None] == ["no thread has the interpreter's lock"]
        assert right == [how == "lock" for how in found]


def test_the_tables_are_those_of_the_headers_of_this_interpreter() -> None:
    include = Path(sysconfig.get_path("include"))
    if not (include / "internal").is_dir() or shutil.which("cc") is None:
        pytest.skip(f"no {include}/internal, or no C compiler")
    command = [sys.executable, os.fspath(GENERATOR), "--check", f"{include},{include.parent}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "current")


class BesidePySpy(Stacks):
    """Has py-spy read one of the creators too."""

    AT = 2
    theirs: list[list[object]] | str = "it was not asked"

    def created(self, creator: Tid, child: Tid, how: Kind) -> None:
        super().created(creator, child, how)
        if len(self.stacks) == self.AT:
            command = ["py-spy", "dump", "--nonblocking", "--json", "--pid", str(creator)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                self.theirs = done.stderr.partition("\n")[0]
                return
            (thread,) = json.loads(done.stdout)
            self.theirs = [[frame["name"], frame["filename"], frame["line"]] for frame in thread["frames"]]


def test_py_spy_sees_the_same_frames(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shutil.which("py-spy") is None:
        pytest.skip("py-spy is not installed")
    run = BesidePySpy()
    assert run.run(*shlex.split(python), PROGRAM) == 0
    if isinstance(run.theirs, str):
        pytest.skip(f"py-spy cannot read {python}: {run.theirs}")
    assert plain(run.stacks[run.AT - 1]) == run.theirs
