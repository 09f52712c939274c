"""What code a thread sleeps in and what its memory is called: functions by a walk from /proc/TID/syscall, variables by
symbols and debug information. Nothing is stopped: of the registers only pc and stack pointer are known.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi.arch import X86, Arch
from forklore.abi.text import as_text
from forklore.abi.units import Pid, Tid
from forklore.decode.demangle import demangle
from forklore.elf.cfi import unwind
from forklore.elf.dwarf.registers import NUMBERS
from forklore.elf.image.thread_descriptors import PthreadLayout
from forklore.linux import mappings
from forklore.linux.mappings import Mapping, MappingKind, Mappings
from forklore.linux.waits.look import Look, RawCall
from forklore.sources.outbox import Outbox
from forklore.sources.stacks.code import CodeRegion, CodeSpace, Loaded, TracedCode

if TYPE_CHECKING:
    from forklore.elf.dwarf.source import DwarfSource
    from forklore.elf.dwarf.variables import Variables

_DEPTH: Final = 24
_MOST_DWARF: Final = 2 << 20
"""Bytes of debug information that are read for the name of a variable; beyond, its symbol does."""
_BUDGET: Final = 2.0
"""Seconds of debug information, a file."""
Read = Callable[[int, int], bytes | None]


class Frame(Struct, frozen=True):
    """A frame of a stack: its function and, where known, its line."""

    function: str
    file: bytes
    line: str = ""


class Stack(Struct, frozen=True):
    """The functions that a thread is in, innermost first."""

    frames: tuple[Frame, ...]
    end: str

    def functions(self) -> list[str]:
        """Their names alone; empty for one that has none."""
        return [frame.function for frame in self.frames]


class Code:
    """The code and variables of the programs that are looked at."""

    def __init__(self, machine: Arch) -> None:
        self._machine = machine
        self._code = TracedCode(Outbox(lambda _event: None), machine)
        self._spaces: dict[Pid, CodeSpace] = {}
        self._maps: dict[Pid, Mappings | None] = {}
        self._tid_offsets: dict[Pid, int | None] = {}
        self._variables: dict[int, Variables | None] = {}
        self._sources: dict[int, DwarfSource | None] = {}

    def _space(self, pid: Pid, tid: Tid) -> CodeSpace:
        space = self._spaces.get(pid)
        if space is None:
            space = self._spaces[pid] = CodeSpace()
            self._code.survey(space, tid)
        return space

    def maps(self, pid: Pid, tid: Tid) -> Mappings | None:
        """All mappings of a process; None where they may not be read."""
        if pid not in self._maps:
            found = mappings.mappings(tid)
            self._maps[pid] = found if isinstance(found, Mappings) else None
        return self._maps[pid]

    def asleep(self, look: Look, call: RawCall, read: Read) -> Stack:
        """The call stack of a thread that sleeps, as far as program counter and stack pointer lead."""
        arch = Arch.I386 if call.narrow and self._machine in X86 else self._machine
        numbers = NUMBERS[arch]
        return self.stack(look, arch, {numbers.pc: call.pc, numbers.sp: call.sp}, read)

    def stack(self, look: Look, arch: Arch, registers: dict[int, int], read: Read) -> Stack:
        """The call stack of a thread by its registers, by their DWARF numbers."""
        space = self._space(look.pid, look.tid)

        def lookup(address: int) -> unwind.CodeMapping | None:
            region = space.find(address)
            if region is None:
                return None
            if region.code is None:
                self._code.loaded(region, look.tid)
            return region.code

        found = unwind.walk(arch, registers, lookup, read, _DEPTH)
        return Stack(
            tuple(self._frame(space, look.tid, pc, called=found.called(index))
                  for index, (pc, _how, _cfa) in enumerate(found.frames)),
            found.end,
        )  # fmt: skip

    def _frame(self, space: CodeSpace, tid: Tid, pc: int, *, called: bool) -> Frame:
        address = pc - called
        function = self._code.function(space, tid, address)
        if function is None:
            return Frame("", b"")
        name = "" if function.symbol is None else demangle(as_text(function.symbol))
        return Frame(name, function.path, self._line(space, tid, address))

    def _line(self, space: CodeSpace, tid: Tid, address: int) -> str:
        region = space.find(address)
        if region is None:
            return ""
        loaded = self._code.loaded(region, tid)
        if id(loaded) not in self._sources:
            from forklore.elf.dwarf.source import DwarfSource

            image = loaded.described
            self._sources[id(loaded)] = None if image is None else DwarfSource(image, budget=_BUDGET)
        source = self._sources[id(loaded)]
        places = () if source is None else source.at(address - region.bias)
        if not places or places[0].file is None:
            return ""
        return f"{os.path.basename(places[0].file)}:{places[0].line}"

    def libc(self, pid: Pid, tid: Tid) -> str:
        """``musl`` where that is the C library, as far as file names tell; else empty."""
        for region in self._space(pid, tid).regions:
            if b"/ld-musl-" in region.entry.path or b"/libc.musl-" in region.entry.path:
                return "musl"
        return ""

    def tid_offset(self, pid: Pid, tid: Tid) -> int | None:
        """Where glibc's struct pthread has the thread's tid; None where its C library does not say."""
        if pid not in self._tid_offsets:
            self._tid_offsets[pid] = self._find_tid_offset(self._space(pid, tid), tid)
        return self._tid_offsets[pid]

    def _find_tid_offset(self, space: CodeSpace, tid: Tid) -> int | None:
        from forklore.elf.image.thread_descriptors import layout_from_image

        for region in space.regions:
            if region.entry.kind is MappingKind.FILE:
                loaded = self._code.loaded(region, tid)
                found = None if loaded.image is None else layout_from_image(loaded.image, loaded.symbols)
                if isinstance(found, PthreadLayout):
                    return found.tid
        return None

    def symbol(self, pid: Pid, tid: Tid, name: bytes, wanted: Callable[[Mapping], bool]) -> int | None:
        """The run-time address of a symbol in a file that a process has mapped."""
        return self._code.symbol(self._space(pid, tid), tid, name, wanted)

    def uses(self, pid: Pid, tid: Tid, name: bytes) -> bool:
        """Whether a program, or a library of its own, has a symbol of that name."""
        return (
            self._code.symbol(self._space(pid, tid), tid, name, lambda entry: entry.kind is MappingKind.FILE)
            is not None
        )

    def variable(self, pid: Pid, tid: Tid, address: int) -> str | None:
        """The name of the variable at an address, ``log_lock (log.c:12)``; None where it is none that has one.

        By debug information, else by symbols; of a variable in a program without either, its file and offset.
        """
        region = self._file_of(pid, tid, address)
        if region is None:
            return None
        loaded = self._code.loaded(region, tid)
        inside = address - region.bias
        image = loaded.image
        if image is None or not any(load.address <= inside < load.address + load.memory_size for load in image.loads):
            return None
        return self._described(loaded, inside) or _symbol(loaded, inside) or f"{_base(loaded.path)}+{inside:#x}"

    def _file_of(self, pid: Pid, tid: Tid, address: int) -> CodeRegion | None:
        # A variable lies behind the code of its file: the nearest region below whose file reaches that far.
        space = self._space(pid, tid)
        for region in space.regions:
            loaded = self._code.loaded(region, tid) if region.entry.kind is MappingKind.FILE else None
            if loaded is None or loaded.image is None:
                continue
            inside = address - region.bias
            if any(load.address <= inside < load.address + load.memory_size for load in loaded.image.loads):
                return region
        return None

    def _described(self, loaded: Loaded, inside: int) -> str | None:
        if id(loaded) not in self._variables:
            from forklore.elf.dwarf.variables import Variables

            image = loaded.described
            section = None if image is None else image.section(".debug_info")
            # To find a variable is to read all of it.
            small = section is not None and section.memory_size <= _MOST_DWARF
            self._variables[id(loaded)] = Variables(image, budget=_BUDGET) if image is not None and small else None
        variables = self._variables[id(loaded)]
        if variables is None:
            return None
        from forklore.elf.dwarf.variables import name_range

        found = variables.globals_at(inside, 1)
        if not found:
            return None
        declared = variables.declared(found[0])
        # The lock itself, and not the field of it that is waited for.
        path = _outer(name_range(found, inside, 1)[0].path) if name_range(found, inside, 1) else found[0].name
        return f"{path} ({declared})" if declared else path


def _outer(path: str) -> str:
    # Names that begin with an underscore belong to the implementation: table._M_impl._M_rwlock is table.
    cut = path.find("._")
    return path if cut < 0 else path[:cut]


def _base(path: bytes) -> str:
    return os.path.basename(as_text(path))


def _symbol(loaded: Loaded, inside: int) -> str | None:
    symbols = loaded.symbols
    found = None if symbols is None else symbols.object_at(inside)
    if found is None:
        return None
    offset = inside - found.address
    name = demangle(as_text(found.name))
    return f"{name}+{offset:#x} ({_base(loaded.path)})" if offset else f"{name} ({_base(loaded.path)})"
