"""What reading ELF files costs, by forklore.elf and by pyelftools: the same questions, each reader in a process.

    scripts/bench/elf                          the C library's debug file, this Python's library, a program of 300 MB
    scripts/bench/elf --rounds 3 FILE...       these ELF files, with debug information in them

The questions: ``symbols``, which function covers an address; ``frames``, where the caller's frame is by the rule there,
as register and offset (a separate debug file has no rules); ``rows``, which file and line an address is of by the line
program alone; ``lines``, that with the function and those inlined there; ``variables``, which global variable is at an
address and how large it is. The addresses are drawn once for both; answers are compared. Time is the processor's, so
that what else runs has little part in it. Exit status: 0 done.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from bench.measure import HERE, environment
from forklore.abi.arch import Arch

if TYPE_CHECKING:
    from elftools.dwarf.aranges import ARanges
    from elftools.dwarf.callframe import FDE
    from elftools.dwarf.compileunit import CompileUnit
    from elftools.dwarf.die import DIE
    from elftools.dwarf.dwarfinfo import DWARFInfo
    from elftools.dwarf.lineprogram import LineProgram
    from elftools.dwarf.ranges import RangeLists, RangeListsPair
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Symbol

    from forklore.elf.dwarf.line_program import LineTable
    from forklore.elf.image.image import ElfImage

_LOOKUPS: Final = 100
_PATIENCE: Final = 600.0
"""Seconds that forklore's reader may take here, so that no budget cuts an answer short."""
_GIB: Final = 4
_SECONDS: Final = 120
"""What one reader may take."""
_MEMORY: Final = b"MemoryError"
_COPIES: Final = 900
_UNIT: Final = HERE / "large_unit.cc"
_READERS: Final = ("forklore", "pyelftools")
_QUESTIONS: Final = ("symbols", "frames", "rows", "lines", "variables")

_OP_ADDR: Final = 3

Answer = list[Any]


class Reader(Protocol):
    """Both readers answer in plain lists, so that they can be compared."""

    def symbols(self, address: int) -> Answer:
        """The beginning and size of the function; of several names for it any is right."""

    def frames(self, address: int) -> Answer:
        """Register and offset of the canonical frame address; empty for an expression."""

    def rows(self, address: int) -> Answer:
        """File and line."""

    def lines(self, address: int) -> Answer:
        """Function, file and line, the innermost inlined function first."""

    def variables(self, address: int) -> Answer:
        """Name, address and size of the variables there."""


class Forklore:
    """forklore.elf."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened: Any = None
        self._tables: dict[int, LineTable] = {}

    def symbols(self, address: int) -> Answer:
        """As a frame is named."""
        from forklore.elf.image.symbols import Symbols

        self._opened = self._opened or Symbols(self._image())
        found = self._opened.at(address)
        return [] if found is None else [found.address, found.size]

    def frames(self, address: int) -> Answer:
        """As a stack is walked."""
        if self._opened is None:
            from forklore.elf.cfi.frame_table import FrameTable

            image = self._image()
            header, frames = image.segment_eh_frame_hdr(), image.section(".eh_frame")
            self._opened = FrameTable(
                image.data, bits=image.bits, arch=image.arch or Arch.X86_64, debug_frame=None,
                eh_frame_hdr=None if header is None else (header.offset, header.address, header.size),
                eh_frame=None if frames is None else (frames.offset, frames.address, frames.size),
            )  # fmt: skip
        rule = self._opened.rule_at(address)
        return [] if rule is None or rule.cfa_register < 0 else [rule.cfa_register, rule.cfa_offset]

    def _image(self) -> ElfImage:
        from forklore.elf.image.image import ElfImage

        image = ElfImage.open(self._path)
        assert isinstance(image, ElfImage), image.why
        return image

    def rows(self, address: int) -> Answer:
        """The line table of the unit."""
        from forklore.elf.dwarf.line_program import LineTable
        from forklore.elf.dwarf.numbers import At

        if self._opened is None:
            from forklore.elf.dwarf.code import CodeIndex
            from forklore.elf.dwarf.file import Budget
            from forklore.elf.dwarf.units import Units

            self._opened = CodeIndex(Units(self._path, Budget(_PATIENCE)))
        unit = self._opened.unit(address)
        if unit is None:
            return []
        if unit.offset not in self._tables:
            place = unit.number(unit.top, At.stmt_list) or 0
            directory = unit.top.attributes[At.comp_dir]
            self._tables[unit.offset] = LineTable(unit, place, unit.raw_string(directory.form, directory.value))
        return list(self._tables[unit.offset].at(address) or ())

    def lines(self, address: int) -> Answer:
        """As the card shows a frame."""
        from forklore.elf.dwarf.source import DwarfSource

        self._opened = self._opened or DwarfSource(self._path, budget=_PATIENCE)
        return [[where.function, where.file, where.line] for where in self._opened.at(address)]

    def variables(self, address: int) -> Answer:
        """As the bytes that a vfork child wrote are named."""
        from forklore.elf.dwarf.variables import Variables

        self._opened = self._opened or Variables(self._path, budget=_PATIENCE)
        return [[found.name, found.address, found.size] for found in self._opened.globals_at(address, 1)]


class Pyelftools:
    """pyelftools, used as well as it allows: units by .debug_aranges, types and functions skipped by DW_AT_sibling."""

    def __init__(self, path: str) -> None:
        from elftools.elf.elffile import ELFFile

        self._elf = ELFFile(Path(path).open("rb"))  # noqa: SIM115 - read from until the process ends
        self._functions_at: list[tuple[int, int]] = []
        self._rules: list[FDE] = []
        self._rows: dict[int, tuple[LineProgram, list[tuple[int, int, int, int]]]] = {}
        self._functions: dict[int, list[tuple[int, int, DIE]]] = {}
        self._globals: list[tuple[int, DIE]] | None = None

    @cached_property
    def _dwarf(self) -> DWARFInfo:
        return self._elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)

    @cached_property
    def _aranges(self) -> ARanges | None:
        return self._dwarf.get_aranges()

    @cached_property
    def _lists(self) -> RangeLists | RangeListsPair | None:
        return self._dwarf.range_lists()

    def symbols(self, address: int) -> Answer:
        """All functions, sorted once."""
        if not self._functions_at:
            self._functions_at = sorted(
                (symbol["st_value"], symbol["st_size"]) for symbol in _symbols(self._elf, "STT_FUNC")
            )
        start, size = self._functions_at[bisect_right(self._functions_at, (address, 1 << 64)) - 1]
        return [start, size] if start <= address < start + size else []

    def frames(self, address: int) -> Answer:
        """All entries of .eh_frame, sorted once; the table of the one that covers the address."""
        from elftools.dwarf.callframe import FDE

        if not self._rules:
            entries = [entry for entry in self._dwarf.EH_CFI_entries() if isinstance(entry, FDE)]
            self._rules = sorted(entries, key=lambda entry: entry["initial_location"])
        found = self._rules[bisect_right(self._rules, address, key=lambda entry: entry["initial_location"]) - 1]
        if not found["initial_location"] <= address < found["initial_location"] + found["address_range"]:
            return []
        rows = [row for row in found.get_decoded().table if row["pc"] <= address]
        rule = rows[-1]["cfa"]
        return [] if rule.expr is not None else [rule.reg, rule.offset]

    def rows(self, address: int) -> Answer:
        """The line program of the unit."""
        unit = self._unit(address)
        return [] if unit is None else list(self._row(unit, address) or ())

    def lines(self, address: int) -> Answer:
        """The line program of the unit, its functions, and what is inlined in the one that covers the address."""
        unit = self._unit(address)
        if unit is None:
            return []
        program, _ = self._table(unit)
        row = self._row(unit, address)
        file, line = row or (None, None)
        function = next((die for low, high, die in self._in(unit) if low <= address < high), None)
        if function is None:
            return [] if row is None else [[None, file, line]]
        answer = []
        for die in reversed(list(self._inlined(function, address))):
            answer.append([self._name(die), file, line])
            call_file, call_line = die.attributes.get("DW_AT_call_file"), die.attributes.get("DW_AT_call_line")
            file = None if call_file is None else self._file(unit, program, call_file.value)
            line = None if call_line is None else call_line.value
        return [*answer, [self._name(function), file, line]]

    def variables(self, address: int) -> Answer:
        """All variables with a fixed place, then the one there."""
        if self._globals is None:
            self._globals = sorted(self._all_globals(), key=lambda found: found[0])
        answer = []
        for start, die in self._globals:
            if start <= address < start + 4096:
                size = self._size(die)
                if address < start + size:
                    answer.append([self._name(die, linkage=False), start, size])
        return answer

    def _unit(self, address: int) -> CompileUnit | None:
        offset = None if self._aranges is None else self._aranges.cu_offset_at_addr(address)
        return None if offset is None else self._dwarf.get_CU_at(offset)

    def _row(self, unit: CompileUnit, address: int) -> tuple[str | None, int] | None:
        program, rows = self._table(unit)
        found = [(number, line) for start, end, number, line in rows if start <= address < end]
        return (self._file(unit, program, found[-1][0]), found[-1][1]) if found else None

    def _table(self, unit: CompileUnit) -> tuple[LineProgram, list[tuple[int, int, int, int]]]:
        if unit.cu_offset not in self._rows:
            program = self._dwarf.line_program_for_CU(unit)
            assert program is not None, f"the unit at {unit.cu_offset:#x} has no line program"
            rows: list[tuple[int, int, int, int]] = []
            before = None
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                if before is not None:
                    rows.append((before.address, state.address, before.file, before.line))
                before = None if state.end_sequence else state
            self._rows[unit.cu_offset] = (program, rows)
        return self._rows[unit.cu_offset]

    def _file(self, unit: CompileUnit, program: LineProgram, number: int) -> str | None:
        header = program.header
        index = number - (0 if header.version >= 5 else 1)
        if not 0 <= index < len(header.file_entry):
            return None
        entry = header.file_entry[index]
        directory = entry.dir_index - (0 if header.version >= 5 else 1)
        parts = [unit.get_top_DIE().attributes["DW_AT_comp_dir"].value]
        if 0 <= directory < len(header.include_directory):
            parts.append(header.include_directory[directory])
        parts.append(entry.name)
        whole = b""
        for part in parts:
            whole = part if part.startswith(b"/") or not whole else whole + b"/" + part
        return whole.decode()

    def _in(self, unit: CompileUnit) -> list[tuple[int, int, DIE]]:
        if unit.cu_offset not in self._functions:
            self._functions[unit.cu_offset] = [
                (low, high, die) for die in self._below(unit.get_top_DIE()) for low, high in self._ranges(die)
            ]
        return self._functions[unit.cu_offset]

    def _below(self, top: DIE) -> Iterator[DIE]:
        for die in top.iter_children():
            if die.tag == "DW_TAG_subprogram":
                yield die
            elif die.tag == "DW_TAG_namespace":
                yield from self._below(die)

    def _inlined(self, function: DIE, address: int) -> Iterator[DIE]:
        for die in function.iter_children():
            if die.tag not in ("DW_TAG_inlined_subroutine", "DW_TAG_lexical_block"):
                continue
            if any(low <= address < high for low, high in self._ranges(die)):
                if die.tag == "DW_TAG_inlined_subroutine":
                    yield die
                yield from self._inlined(die, address)

    def _ranges(self, die: DIE) -> list[tuple[int, int]]:
        low, high, listed = (die.attributes.get(f"DW_AT_{name}") for name in ("low_pc", "high_pc", "ranges"))
        unit = die.cu
        from elftools.dwarf.ranges import BaseAddressEntry
        from elftools.dwarf.typeunit import TypeUnit

        if listed is not None and self._lists is not None and not isinstance(unit, TypeUnit):
            top = unit.get_top_DIE().attributes
            base = top["DW_AT_low_pc"].value if "DW_AT_low_pc" in top else 0
            found = []
            for entry in self._lists.get_range_list_at_offset(listed.value, unit):
                if isinstance(entry, BaseAddressEntry):
                    base = entry.base_address
                else:
                    over = 0 if entry.is_absolute else base
                    found.append((over + entry.begin_offset, over + entry.end_offset))
            return found
        if low is None or high is None:
            return []
        return [(low.value, high.value if high.form == "DW_FORM_addr" else low.value + high.value)]

    def _name(self, die: DIE, *, linkage: bool = True) -> str | None:
        chain = [die]
        while len(chain) < 16:
            link = _link(chain[-1], "abstract_origin", "specification")
            if link is None:
                break
            chain.append(chain[-1].get_DIE_from_attribute(link))
        for name in ("DW_AT_linkage_name", "DW_AT_name") if linkage else ("DW_AT_name",):
            for each in chain:
                if name in each.attributes and isinstance(each.attributes[name].value, bytes):
                    return str(each.attributes[name].value.decode())
        return None

    def _all_globals(self) -> Iterator[tuple[int, DIE]]:
        for unit in self._dwarf.iter_CUs():
            yield from self._globals_below(unit.get_top_DIE())

    def _globals_below(self, parent: DIE) -> Iterator[tuple[int, DIE]]:
        types = {"DW_TAG_structure_type", "DW_TAG_class_type", "DW_TAG_union_type", "DW_TAG_enumeration_type",
                 "DW_TAG_array_type", "DW_TAG_subroutine_type"}  # fmt: skip
        for die in parent.iter_children():
            if die.tag == "DW_TAG_variable":
                place = die.attributes.get("DW_AT_location")
                words = place.value if place is not None and isinstance(place.value, list) else []
                address = int.from_bytes(bytes(words[1:]), "little") if len(words) == 9 and words[0] == _OP_ADDR else 0
                if address:
                    yield address, die
            if die.has_children and die.tag not in types:
                yield from self._globals_below(die)

    def _size(self, die: DIE) -> int:
        for _ in range(16):
            if "DW_AT_byte_size" in die.attributes:
                return int(die.attributes["DW_AT_byte_size"].value)
            if die.tag == "DW_TAG_pointer_type":
                return 8
            link = _link(die, "type", "specification", "abstract_origin")
            if link is None:
                return 0
            if die.tag == "DW_TAG_array_type":
                count = 1
                for child in die.iter_children():
                    upper = child.attributes.get("DW_AT_upper_bound")
                    count *= upper.value + 1 if upper is not None and isinstance(upper.value, int) else 0
                return count * self._size(die.get_DIE_from_attribute("DW_AT_type"))
            die = die.get_DIE_from_attribute(link)
        return 0


def _link(die: DIE, *names: str) -> str | None:
    # What dwz moved to a file that is not read leads nowhere.
    found = next((f"DW_AT_{name}" for name in names if f"DW_AT_{name}" in die.attributes), None)
    return None if found is None or die.attributes[found].form.startswith("DW_FORM_GNU") else found


def drawn(path: str, question: str) -> list[int]:
    """Addresses to ask about, the same ones each time."""
    from elftools.elf.elffile import ELFFile

    chance = random.Random(1)
    with Path(path).open("rb") as file:
        elf = ELFFile(file)
        if question in ("rows", "lines"):
            dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
            aranges = dwarf.get_aranges() if dwarf.has_debug_info else None
            places = [] if aranges is None else [(e.begin_addr, e.length) for e in aranges.entries if e.begin_addr]
        elif question == "variables" and not elf.has_dwarf_info():
            places = []
        else:
            kind = "STT_OBJECT" if question == "variables" else "STT_FUNC"
            places = [(symbol["st_value"], symbol["st_size"]) for symbol in _symbols(elf, kind)]
            frames = elf.get_section_by_name(".eh_frame")
            if question == "frames" and (frames is None or frames["sh_type"] == "SHT_NOBITS"):
                places = []
        taken = chance.choices(places, [size for _, size in places], k=_LOOKUPS + 1) if places else []
        return [start + (0 if question == "variables" else chance.randrange(size)) for start, size in taken]


def _symbols(elf: ELFFile, kind: str) -> Iterator[Symbol]:
    from elftools.elf.sections import SymbolTableSection

    for name in (".symtab", ".dynsym"):
        table = elf.get_section_by_name(name)
        if isinstance(table, SymbolTableSection):
            for symbol in table.iter_symbols():
                if symbol["st_info"]["type"] == kind and symbol["st_size"] and symbol["st_shndx"] != "SHN_UNDEF":
                    yield symbol
            return


def ask(reader: str, question: str, path: str, addresses: Sequence[int]) -> dict[str, Any]:
    """Answer all, in this process. Milliseconds for the first and for each that follows, KiB of memory that it took."""
    before = _peak()
    began = time.process_time()
    reads: Reader = Forklore(path) if reader == "forklore" else Pyelftools(path)
    answer: Callable[[int], Answer] = getattr(reads, question)
    answers = [answer(addresses[0])]
    first = time.process_time()
    answers += [answer(address) for address in addresses[1:]]
    end = time.process_time()
    return {"first": 1000 * (first - began), "next": 1000 * (end - first) / max(1, len(addresses) - 1),
            "all": 1000 * (end - began), "kib": _peak() - before, "answers": answers}  # fmt: skip


def _peak() -> int:
    # Of this image alone: ru_maxrss has that of the process that started it in it, too.
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def measured(path: str, question: str, rounds: int) -> list[str]:
    """Rows of the table for one file and question."""
    addresses = drawn(path, question)
    if not addresses:
        return []
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(addresses, file)
        file.flush()
        found: dict[str, list[dict[str, Any]]] = {reader: [] for reader in _READERS}
        for _ in range(rounds):
            for reader in _READERS:
                command = [sys.executable, str(HERE / "elf"), "--one", reader, question, path, file.name]
                done = subprocess.run(command, capture_output=True, check=False, env=environment(), preexec_fn=_limited)
                if not done.returncode:
                    found[reader].append(json.loads(done.stdout))
                elif _MEMORY not in done.stderr and done.returncode != -signal.SIGXCPU:
                    sys.exit(done.stderr.decode(errors="backslashreplace"))
    name = f"| {_name(path)} | {Path(path).stat().st_size / 1e6:.0f} | {question}"
    answers = [runs[0]["answers"] for runs in found.values() if runs]
    same = f"{sum(a == b for a, b in zip(answers[0], answers[-1], strict=True))} of {len(addresses)}"
    return [_row(f"{name} | {reader}", runs, same if len(answers) > 1 else "") for reader, runs in found.items()]


def _name(path: str) -> str:
    name = Path(path).name
    return "a debug file" if name.endswith(".debug") else name


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_GIB << 30, _GIB << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))


def _row(name: str, runs: list[dict[str, Any]], same: str) -> str:
    if not runs:
        return f"{name} | gave up: more than {_GIB} GiB or {_SECONDS} s | | | | |"
    first, following, whole, kib = (
        statistics.median(run[key] for run in runs) for key in ("first", "next", "all", "kib")
    )
    return f"{name} | {first:.0f} | {following:.2f} | {whole:.0f} | {kib / 1024:.0f} | {same} |"


def large(scratch: Path) -> Path:
    """A C++ program of 300 MB: one unit over and over, each copy with a function of another name."""
    unit, program = scratch / "unit.o", scratch / "large"
    subprocess.run(["g++", "-g", "-O1", "-c", "-o", unit, _UNIT], check=True)
    copies = [scratch / f"unit{number}.o" for number in range(_COPIES)]
    for number, copy in enumerate(copies):
        subprocess.run(["objcopy", f"--redefine-sym=_Z10unit_entryi=unit_entry_{number}", unit, copy], check=True)
    (scratch / "main.cc").write_text("int main() { return 0; }\n")
    subprocess.run(["g++", "-g", "-o", program, scratch / "main.cc", *copies], check=True)
    for copy in copies:
        copy.unlink()
    return program


def usual() -> list[str]:
    """The C library, its debug file (libc6-dbg) and this Python's library, as far as they are there."""
    from forklore.elf.image.image import ElfImage

    found = []
    libraries = Path(str(sysconfig.get_config_var("LIBDIR")), str(sysconfig.get_config_var("INSTSONAME")))
    for path in (Path("/lib/x86_64-linux-gnu/libc.so.6"), libraries):
        image = ElfImage.open(path) if path.is_file() else None
        if not isinstance(image, ElfImage):
            continue
        identity = str(image.build_id)
        debug = Path("/usr/lib/debug/.build-id", identity[:2], f"{identity[2:]}.debug")
        found += [str(path), str(debug)] if debug.is_file() else [str(path)]
    return found


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/elf", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="ELF files with debug information")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (default: %(default)s)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        reader, question, path, addresses = arguments.files
        json.dump(ask(reader, question, path, json.loads(Path(addresses).read_text())), sys.stdout)
        return 0
    print("| file | MB | question | reader | first, ms | each next, ms | 101, ms | memory, MiB | same answers |")
    print("|---|---:|---|---|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory(prefix="forklore-elf-") as name:
        files = arguments.files or [*usual(), str(large(Path(name)))]
        for path in files:
            for question in _QUESTIONS:
                for row in measured(path, question, arguments.rounds):
                    print(row, flush=True)
    return 0
