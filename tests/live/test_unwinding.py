"""Call stacks of real tasks, held at their creations: against the chain of calls in the source, and against gdb.

The functions of ``stack_shapes`` that must be in each stack are known, so these tests need no debugger where gdb gives
up (clone3, clone). Symbols of the program come from an unstripped twin; nothing of the unwinder needs them.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
from bisect import bisect_right
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final

import pytest
from elftools.elf.elffile import ELFFile
from held import Held
from programs import FLAGS, SOURCES, Missing, build

from forklore.abi.arch import Arch
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Address, Tid, Unavailable
from forklore.elf.cfi.frame_table import FrameTable
from forklore.elf.cfi.unwind import CodeMapping, Walk, walk
from forklore.elf.dwarf.registers import dwarf_block
from forklore.linux import memory
from forklore.linux.tracing import ptrace
from forklore.linux.tracing.wait import Kind

CHAIN: Final = ("inner", "middle", "middle", "middle", "outer", "main")
LEAF: Final = {
    "fork": "by_fork", "vfork": "by_vfork", "clone": "by_clone", "syscall": "by_syscall", "spawn": "by_spawn",
    "system": "by_system", "popen": "by_popen", "pthread": "by_pthread",
}  # fmt: skip
DEPTH: Final = 64


def sections(file: ELFFile) -> dict[str, Any]:
    """What FrameTable wants to know of a file, found by its section headers."""

    def place(name: str) -> tuple[int, int, int] | None:
        section = file.get_section_by_name(name)
        return None if section is None else (section["sh_offset"], section["sh_addr"], section["sh_size"])

    return {
        "bits": file.elfclass,
        "eh_frame_hdr": place(".eh_frame_hdr"),
        "eh_frame": place(".eh_frame"),
        "debug_frame": place(".debug_frame"),
    }


class File:
    """A file with code: its frame table, and where its segments lie."""

    def __init__(self, content: Any, arch: Arch) -> None:
        elf = ELFFile(content)
        content.seek(0)
        data = content.getvalue() if hasattr(content, "getvalue") else mmap(content.fileno(), 0, access=ACCESS_READ)
        self.table = FrameTable(data, arch=arch, **sections(elf))
        self.loads = [
            (segment["p_offset"], segment["p_filesz"], segment["p_vaddr"])
            for segment in elf.iter_segments("PT_LOAD")
        ]

    def address(self, offset: int) -> int | None:
        return next(
            (address + offset - start for start, size, address in self.loads if start - 4096 < offset < start + size),
            None,
        )


@functools.cache
def opened(path: str, arch: Arch) -> File:
    with open(path, "rb") as content:
        return File(content, arch)


class Space:
    """The code of a held task's address space, as the unwinder asks for it."""

    def __init__(self, tid: Tid, arch: Arch) -> None:
        self.tid = tid
        self.arch = arch
        self.mappings: list[tuple[int, int, CodeMapping, str]] = []
        for line in Path(f"/proc/{tid}/maps").read_text().splitlines():
            span, access, offset, _device, _inode, *rest = line.split(maxsplit=5)
            low, high = (int(word, 16) for word in span.split("-"))
            name = rest[0] if rest else ""
            if "x" not in access:
                continue
            code = CodeMapping(None, 0, fixed=False)
            if name == "[vdso]":
                raw = b"".join(self.read(address, 4096) or b"" for address in range(low, high, 4096))
                code = CodeMapping(File(io.BytesIO(raw), arch).table, low)
            elif name.startswith("/"):
                file = opened(name, arch)
                start = file.address(int(offset, 16))
                assert start is not None, line
                code = CodeMapping(file.table, low - start)
            self.mappings.append((low, high, code, name))
        self.mappings.sort(key=lambda mapping: mapping[0])
        self.starts = [low for low, *_ in self.mappings]

    def at(self, address: int) -> tuple[CodeMapping, str] | None:
        index = bisect_right(self.starts, address) - 1
        if index < 0 or address >= self.mappings[index][1]:
            return None
        return self.mappings[index][2:]

    def lookup(self, address: int) -> CodeMapping | None:
        found = self.at(address)
        return None if found is None else found[0]

    def read(self, address: int, size: int) -> bytes | None:
        got = memory.read(self.tid, Address(address), size)
        return None if isinstance(got, Unavailable) else got

    def walk(self, depth: int = DEPTH, **changed: int) -> Walk:
        registers = ptrace.registers(self.tid)
        assert registers.layout is LAYOUTS[self.arch]
        numbered = dwarf_block(self.arch, registers.raw)
        if "sp" in changed:
            numbered[7] = changed["sp"]
        return walk(self.arch, numbered, self.lookup, self.read, depth)


class Symbols:
    """Names of the functions of an unstripped program."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as content:
            table: Any = ELFFile(content).get_section_by_name(".symtab")
            self.functions: list[tuple[int, int, str]] = sorted(
                (symbol["st_value"], symbol["st_size"], symbol.name)
                for symbol in table.iter_symbols()
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]
            )
        self.starts = [start for start, *_ in self.functions]

    def name(self, address: int) -> str:
        index = bisect_right(self.starts, address) - 1
        if index < 0 or address >= sum(self.functions[index][:2]):
            return "?"
        return self.functions[index][2].partition(".")[0]


class Stack:
    """A walk with the names of the program's functions in it."""

    def __init__(self, space: Space, found: Walk, symbols: Symbols, program: Path) -> None:
        self.walk = found
        self.names: list[str] = []
        self.hows = [how for _, how, _ in found.frames]
        for index, (pc, how, _) in enumerate(found.frames):
            placed = space.at(pc)
            assert placed is not None, hex(pc)
            code, name = placed
            exact = index == 0 or how == "signal"
            self.names.append(symbols.name(pc - code.bias - (not exact)) if name == str(program) else name)

    @property
    def ours(self) -> list[str]:
        """The program's own functions up to main, without the C library's of a static program."""
        wanted = {*LEAF.values(), *CHAIN, "by_handler", "handle", "by_code"}
        return [name for name in self.names if name in wanted]

    def __repr__(self) -> str:
        rows = zip(self.walk.frames, self.names, strict=True)
        return "\n".join(f"{pc:#x} {how} {cfa:#x} {name}" for (pc, how, cfa), name in rows) + f"\n{self.walk.end}"


class Creations(Held):
    """Calls ``look`` with the address spaces of creator and child while both are held."""

    def __init__(self, arch: Arch, look: Callable[[Space, Space], None]) -> None:
        super().__init__()
        self._arch = arch
        self._look = look

    def created(self, creator: Tid, child: Tid, how: Kind) -> None:
        self._look(Space(creator, self._arch), Space(child, self._arch))


class Program:
    """A build of ``stack_shapes``."""

    def __init__(self, path: Path, twin: Path, arch: Arch) -> None:
        self.path = path
        self.symbols = Symbols(twin)
        self.arch = arch

    def run(self, word: str, look: Callable[[Space, Space], None], *, randomised: bool = True) -> None:
        held = Creations(self.arch, look)
        command = () if randomised else (_tool("setarch", "util-linux"), "-R")
        assert held.run(*command, self.path, word) == 0, held.out

    def stacks(self, word: str, *, randomised: bool = True) -> list[Stack]:
        """The creator's stack at each creation of a run."""
        found: list[Stack] = []
        self.run(
            word,
            lambda creator, _: found.append(Stack(creator, creator.walk(), self.symbols, self.path)),
            randomised=randomised,
        )
        return found


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


Build = Callable[..., Program]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``made("-O3 -no-pie", libc="musl", stripped=True)``: that build of ``stack_shapes``."""
    directory = tmp_path_factory.mktemp("stacks")

    @functools.cache
    def compiled(flags: str, libc: str = "glibc", stripped: bool = False) -> Program:
        try:
            build("stack_shapes", libc="musl" if libc == "musl" else "glibc", m32="-m32" in flags)
        except Missing as missing:
            pytest.skip(str(missing))
        driver = "musl-gcc" if libc == "musl" else "gcc"
        target = directory / f"stack_shapes{libc}{flags.replace(' ', '')}"
        command = [driver, *FLAGS, *flags.split(), "-o", str(target), str(SOURCES / "stack_shapes.c")]
        subprocess.run(command, check=True, capture_output=True)
        twin = target
        if stripped:
            target = directory / (target.name + "-stripped")
            subprocess.run([_tool("strip", "binutils"), "-o", target, twin], check=True)
        return Program(target, twin, Arch.I386 if "-m32" in flags else Arch.X86_64)

    return compiled


pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs are compiled for x86_64 and i386")

BUILDS: Final = (
    ("-O0", "glibc", False),
    ("-O3 -fomit-frame-pointer", "glibc", True),
    ("-O1 -g -fno-omit-frame-pointer -no-pie", "glibc", False),
    ("-O2 -static", "glibc", True),
    ("-Os -static-pie", "glibc", False),
    ("-O2 -m32", "glibc", False),
    ("-O0 -m32 -static -no-pie", "glibc", True),
    ("-O2 -static", "musl", True),
    ("-O0", "musl", False),
)


@pytest.mark.parametrize(("flags", "libc", "stripped"), BUILDS)
def test_a_stack_has_each_function_of_the_chain(made: Build, flags: str, libc: str, stripped: bool) -> None:
    program = made(flags, libc, stripped)
    for word, leaf in LEAF.items():
        stack = program.stacks(word)[0]
        assert stack.ours == [leaf, *CHAIN], stack
        assert "pointer" not in stack.hows, stack
        if libc == "glibc":
            assert stack.walk.end == "outermost", stack
        else:  # musl has no rules to say that _start has no caller
            assert stack.walk.end.startswith("no call-frame rule"), stack


@pytest.mark.parametrize("word", ["handler", "altstack"])
@pytest.mark.parametrize(
    ("flags", "libc"), [("-O2 -g", "glibc"), ("-O2 -m32", "glibc"), ("-O2 -static", "glibc"), ("-O2 -static", "musl")]
)
def test_a_stack_goes_through_a_signal_handler(made: Build, flags: str, libc: str, word: str) -> None:
    (stack,) = made(flags, libc).stacks(word)
    assert stack.ours == ["by_fork", "handle", "by_handler", *CHAIN], stack
    assert stack.hows.count("signal") == 1
    assert "pointer" not in stack.hows
    where = stack.hows.index("signal")
    frames = [cfa for _, _, cfa in stack.walk.frames if cfa]
    below, above = frames[: where - 1], frames[where:]
    assert below == sorted(below)
    assert above == sorted(above)


@pytest.mark.parametrize(("flags", "libc"), [("-O2", "glibc"), ("-O2 -m32", "glibc"), ("-O2 -static", "musl")])
def test_a_thread_s_stack_ends_where_the_thread_began(made: Build, flags: str, libc: str) -> None:
    first, second = made(flags, libc).stacks("thread")
    assert first.ours == [*CHAIN], first
    named = [name for name in second.names if name in ("by_fork", "in_thread", "main")]
    assert named == ["by_fork", "in_thread"], second
    assert second.walk.end == "outermost", second
    assert "pointer" not in second.hows, second


@pytest.mark.parametrize(("flags", "libc"), [("-O2", "glibc"), ("-O2 -m32", "glibc"), ("-O2 -static", "musl")])
@pytest.mark.parametrize("word", ["clone", "pthread"])
def test_a_new_task_on_a_stack_of_its_own_has_no_callers(made: Build, flags: str, libc: str, word: str) -> None:
    found: list[Walk] = []
    made(flags, libc).run(word, lambda _, child: found.append(child.walk()))
    assert [len(stack.frames) for stack in found] == [1]
    assert found[0].end.startswith("a new task")


def test_a_forked_child_has_its_creator_s_stack(made: Build) -> None:
    found: list[tuple[Walk, Walk]] = []
    made("-O2 -static", "musl").run("fork", lambda creator, child: found.append((creator.walk(), child.walk())))
    ((before, after),) = found
    assert before == after


@pytest.mark.parametrize("word", ["jit", "jitframe"])
def test_code_made_at_run_time_is_passed_as_a_guess(made: Build, word: str) -> None:
    (stack,) = made("-O2").stacks(word)
    assert stack.ours == ["by_fork", "by_code", *CHAIN], stack
    guess = stack.hows.index("pointer")
    assert stack.names[guess] == "by_code"
    assert set(stack.hows[guess:]) == {"pointer"}
    assert set(stack.hows[1:guess]) == {"rule"}


def test_a_frame_pointer_that_points_to_itself_ends_the_stack(made: Build) -> None:
    (stack,) = made("-O2").stacks("looped")
    assert stack.ours == ["by_fork"], stack
    assert "leads nowhere" in stack.walk.end


def test_an_unmapped_stack_pointer_leaves_the_innermost_frame(made: Build) -> None:
    found: list[Walk] = []
    made("-O2").run("fork", lambda creator, _: found.append(creator.walk(sp=0x1000)))
    ((frame,), end) = (found[0].frames, found[0].end)
    assert frame[1:] == ("register", 0)
    assert end == "the stack cannot be read at 0x1000"


def test_no_more_frames_than_asked_for(made: Build) -> None:
    found: list[Walk] = []
    made("-O2").run("fork", lambda creator, _: found.extend(creator.walk(depth) for depth in (0, 1, 3)))
    assert [(len(stack.frames), stack.end) for stack in found] == [(0, "depth"), (1, "depth"), (3, "depth")]


GDB: Final = """
import gdb
frame = gdb.newest_frame()
while frame is not None:
    if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
        print("FRAME", hex(frame.pc()))
    frame = frame.older()
"""


def _in_gdb(program: Program, word: str, script: Path) -> list[int]:
    """gdb's stack at the first creation, without address space randomisation.

    It leaves out what gdb adds from debug information and no stack holds: inlined functions and tail calls.
    """
    script.write_text(GDB)
    lines = (
        "set debuginfod enabled off", "set backtrace past-main on", "handle SIGUSR1 nostop noprint pass",
        # clone3 by its number, which every arch has in common and older versions know no name of.
        *(f"catch syscall {call}" for call in ("clone", "435", "fork", "vfork")), f"run {word}", f"source {script}",
    )  # fmt: skip
    commands = [word for line in lines for word in ("-ex", line)]
    done = subprocess.run(
        [_tool("gdb", "gdb"), "-batch", "-nx", *commands, program.path],
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found = [int(line.split()[1], 16) for line in done.stdout.splitlines() if line.startswith("FRAME")]
    assert found, done.stdout + done.stderr
    return found


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ("-O2 -g", "fork"), ("-O2 -g", "vfork"), ("-O2 -g", "handler"), ("-O2 -g", "pthread"), ("-O2 -g", "popen"),
        ("-O0 -no-pie", "spawn"), ("-O2 -static", "pthread"), ("-O2 -m32", "fork"), ("-O2 -m32", "handler"),
    ],
)  # fmt: skip
def test_a_stack_is_gdb_s(made: Build, flags: str, word: str, tmp_path: Path) -> None:
    program = made(flags)
    ours = [pc for pc, *_ in program.stacks(word, randomised=False)[0].walk.frames]
    assert ours == _in_gdb(program, word, tmp_path / "stack.py")


def test_rules_are_pyelftools_rules(made: Build) -> None:
    from elftools.dwarf.callframe import FDE

    path = made("-O2 -static").path  # no search table: it has .eh_frame alone
    libc = _loaded_libc()
    compared = 0
    for name in (os.fspath(path), libc):
        table = opened(name, Arch.X86_64).table
        with open(name, "rb") as content:
            entries = [entry for entry in ELFFile(content).get_dwarf_info().EH_CFI_entries() if isinstance(entry, FDE)]
            for entry in entries[::97]:
                compared += _compare(table, entry)
    assert compared > 200


def _compare(table: FrameTable, entry: Any) -> int:
    try:
        rows = entry.get_decoded().table
    except ValueError:  # pyelftools lacks a name for some instruction
        return 0
    start, end = entry["initial_location"], entry["initial_location"] + entry["address_range"]
    for row, after in zip(rows, [*(row["pc"] for row in rows[1:]), end], strict=True):
        if row["pc"] == after:
            continue
        for address in (row["pc"], after - 1):
            rule = table.rule_at(address)
            assert rule is not None
            assert table.function_start(address) == start
            cfa = row["cfa"]
            if cfa.expr is None:
                assert (rule.cfa_register, rule.cfa_offset) == (cfa.reg, cfa.offset)
            else:
                assert rule.cfa_expression == bytes(cfa.expr)
            theirs = {number: (saved.type, saved.arg) for number, saved in row.items() if isinstance(number, int)}
            ours = {number: (at.name, offset or block) for number, (at, offset, block) in rule.saved.items()}
            for number, (how, argument) in theirs.items():
                if how in ("OFFSET", "UNDEFINED", "EXPRESSION"):
                    wanted = bytes(argument) if how == "EXPRESSION" else argument or b""
                    assert ours[number] == (how, wanted), hex(address)
    assert table.rule_at(end) is None or table.function_start(end) != start
    return len(rows)


def _loaded_libc() -> str:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(name for line in lines if "libc.so.6" in (name := line.split()[-1]))


def test_instructions_are_objdump_s(made: Build) -> None:
    from forklore.elf.cfi import x86_code

    for flags, long_mode in (("-O2 -static", True), ("-O2 -m32", False)):
        path = made(flags).path
        listing = subprocess.run(
            [_tool("objdump", "binutils"), "-d", "-w", "-j", ".text", path], capture_output=True, text=True, check=True
        ).stdout
        known = total = 0
        for line in listing.splitlines():
            _, _, rest = line.partition(":\t")
            text, _, name = rest.partition("\t")
            if not name or "(bad)" in name or name.startswith(("{", ".byte")):
                continue
            code = bytes.fromhex(text)
            total += 1
            found = x86_code.decode(code + bytes(15), 0, long_mode=long_mode)
            if found is not None:
                known += 1
                assert found.length == len(code), line
        assert known > 0.98 * total > 300
