"""What children are given to run, read at the stop of their creation; the programs print the addresses themselves."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from held import Held, in_child
from programs import build_directory, musl_version
from tracing import Line, Program, said

from forklore.abi.units import Address, Tid, Unavailable
from forklore.elf.image.image import ElfImage
from forklore.elf.image.thread_descriptors import PthreadLayout, layout_from_image
from forklore.events import records as ev
from forklore.linux import memory, proc
from forklore.linux.tracing import ptrace
from forklore.linux.tracing.wait import Kind, WaitStatus
from forklore.sources.ptrace.entry import EntryReader
from forklore.sources.ptrace.kernel import LINUX
from forklore.sources.stacks.routines import Routines

_MACHINE = proc.machine()
_C_LIBRARIES = ("libc.so", "libc-2", "libpthread")

BUILDS: dict[str, dict[str, Any]] = {
    "glibc": {}, "static": {"static": True}, "i386": {"m32": True}, "i386-static": {"m32": True, "static": True},
    "musl": {"libc": "musl"},
}  # fmt: skip
"""How the programs are built. musl's are static, too."""


def _published(tid: Tid) -> PthreadLayout | Unavailable:
    """By the files that a task has mapped: the C library's, else the program's own."""
    lines = Path(f"/proc/{tid}/maps").read_text().splitlines()
    mapped = [fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6 and fields[5].startswith("/")]
    libraries = [path for path in mapped if os.path.basename(path).startswith(_C_LIBRARIES)]
    for path in dict.fromkeys([*libraries, os.readlink(f"/proc/{tid}/exe")]):
        image = ElfImage.open(path)
        assert isinstance(image, ElfImage)
        found = layout_from_image(image)
        if isinstance(found, PthreadLayout):
            return found
    return Unavailable(0, "nobody publishes it")


class _Watch(Held):
    def __init__(self, libc: str) -> None:
        super().__init__()
        assert _MACHINE is not None
        self._routines = Routines(_MACHINE)
        self._reader = EntryReader(LINUX, _MACHINE, argv=False, follow_untraced=False)
        self._libc = libc
        self._layouts: dict[str, PthreadLayout | Unavailable] = {}
        self.runs: dict[int, ev.Runs | None] = {}
        self.reads: dict[int, int] = {}

    def _stop(self, tid: Tid, status: WaitStatus) -> None:
        # A Go program ends while its other threads are in their calls: exit_group(2) kills them between the report of a
        # stop and what is asked about it. Their ends come as statuses.
        with suppress(ProcessLookupError):
            super()._stop(tid, status)

    def created(self, creator: Tid, child: Tid, how: Kind) -> None:
        entry = self._reader.from_registers(creator, 0)
        assert entry is not None
        count = 0

        def read(address: int, size: int) -> bytes | None:
            nonlocal count
            count += 1
            got = memory.read(creator, Address(address), size)
            return None if isinstance(got, Unavailable) else got

        def layout() -> PthreadLayout | Unavailable:
            key = os.readlink(f"/proc/{creator}/exe")
            if key not in self._layouts:
                self._layouts[key] = _published(creator)
            return self._layouts[key]

        self.runs[child] = self._routines.of(entry, ptrace.registers(creator), layout, read, self._libc)
        self.reads[child] = count


def _watched(path: Path, libc: str) -> tuple[_Watch, list[Line]]:
    watch = _Watch(libc)
    assert watch.run(path) == 0
    return watch, said(watch.out.decode())


def _of(lines: list[Line], word: str) -> list[Line]:
    found = [line for line in lines if line.word == word]
    assert found
    return found


@pytest.mark.parametrize("libc", ["known", "not known"])
@pytest.mark.parametrize("how", BUILDS)
def test_a_threads_routine_and_argument_are_what_the_program_gave(program: Program, how: str, libc: str) -> None:
    path = program("runs_threads", **BUILDS[how])
    musl = how == "musl"

    def check() -> None:
        watch, lines = _watched(path, "" if libc == "not known" else "musl" if musl else "glibc")
        told = _of(lines, "runs")
        assert len(told) == len(watch.runs) == 7
        for line in told:
            runs = watch.runs[line.number("tid")]
            assert runs is not None
            expected = ("musl" if musl else "nptl", line.number("routine"), line.number("argument"), None)
            assert (runs.how, runs.routine, runs.routine_arg, runs.unknown) == expected, line
            assert runs.fn not in (None, runs.routine), "the library's own function, which calls the routine"

    in_child(check)


@pytest.mark.parametrize("how", BUILDS)
def test_what_clone_was_given_and_what_returns_from_its_call(program: Program, how: str) -> None:
    path = program("runs_clone", **BUILDS[how])
    if how == "musl" and musl_version() >= (1, 2, 5):
        pytest.skip("musl's clone() has its children begin with a function of its own (src/linux/clone.c: clone_start)")

    def check() -> None:
        watch, lines = _watched(path, "")
        for line in _of(lines, "runs"):
            runs = watch.runs[line.number("tid")]
            assert runs == ev.Runs(how="clone", fn=line.number("function"), arg=line.number("argument")), line
        for line in _of(lines, "hand"):
            runs = watch.runs[line.number("tid")]
            assert runs is not None
            assert (runs.how, runs.fn, runs.routine) == ("raw", None, None), line
            assert runs.unknown is not None
            assert "not made by a clone()" in runs.unknown.why
        for line in _of(lines, "returns"):
            assert watch.runs[line.number("tid")] is None, line

    in_child(check)


@pytest.mark.parametrize("how", ["glibc", "static", "i386"])
def test_a_helper_threads_routine_is_in_the_library(program: Program, how: str) -> None:
    path = program("runs_helpers", **BUILDS[how])

    def check() -> None:
        watch, lines = _watched(path, "glibc")
        (library,) = _of(lines, "library")
        bounds = range(library.number("address"), library.number("address") + library.number("size"))
        assert len(watch.runs) >= 2
        for runs in watch.runs.values():
            assert runs is not None
            assert runs.how == "nptl"
            assert runs.routine in bounds
            assert runs.routine != runs.fn

    in_child(check)


def test_a_thread_costs_one_read(program: Program) -> None:
    path = program("runs_threads")

    def check() -> None:
        watch, lines = _watched(path, "glibc")
        for line in _of(lines, "runs"):
            assert watch.reads[line.number("tid")] == 1

    in_child(check)


def test_posix_spawns_child_runs_a_function_of_the_library(program: Program) -> None:
    path = program("posix_spawn_one")

    def check() -> None:
        watch, _ = _watched(path, "glibc")
        assert watch.runs
        for runs in watch.runs.values():
            assert runs is not None
            assert (runs.how, runs.unknown, runs.routine) == ("clone", None, None)
            assert runs.fn is not None

    in_child(check)


_GO = """package main

func main() {
	done := make(chan int)
	for i := 0; i < 4; i++ {
		go func() { done <- 1 }()
		<-done
	}
	println("ok")
}
"""


def test_gos_threads_begin_in_mstart() -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/lib/go-1.19/bin")
    if go is None:
        pytest.skip("go is not installed: apt-get install golang-1.19-go")
    folder = build_directory() / "runs_go"
    folder.mkdir(exist_ok=True)
    (folder / "main.go").write_text(_GO)
    environment = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0", "GOCACHE": str(folder / "cache")}
    subprocess.run([go, "build", "-o", "runs_go", "main.go"], cwd=folder, env=environment, check=True)
    table = subprocess.run([go, "tool", "nm", folder / "runs_go"], check=True, capture_output=True, text=True).stdout
    names = {words[2]: int(words[0], 16) for line in table.splitlines() if len(words := line.split()) == 3}
    routines = {names[name] for name in ("runtime.mstart", "runtime.mstart.abi0") if name in names}

    def check() -> None:
        watch, _ = _watched(folder / "runs_go", "")
        assert watch.runs
        for runs in watch.runs.values():
            assert runs is not None
            assert (runs.how, runs.unknown) == ("go", None)
            assert runs.fn in routines
            assert runs.arg, "the m"

    in_child(check)
