"""What an ELF file of any machine can call, told without running it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from forklore.abi.syscalls import CREATIONS
from forklore.abi.text import as_text, printable
from forklore.abi.units import Unavailable
from forklore.elf.image.image import ElfImage
from forklore.elf.image.symtab import STT_FUNC, section_table
from forklore.features.audit.static import instructions
from forklore.features.audit.static.elf_file import (
    BrokenElfError,
    Names,
    dynamic_segments,
    headed,
    interpreter,
    machine_name,
    notes,
    opened,
    tags,
)
from forklore.features.audit.static.instructions import CallInstruction

if TYPE_CHECKING:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

CREATORS: Final = frozenset({
    "fork", "_Fork", "vfork", "__fork", "__vfork", "clone", "__clone", "posix_spawn", "posix_spawnp", "pidfd_spawn",
    "pidfd_spawnp", "system", "popen", "_IO_popen", "_IO_proc_open", "wordexp", "forkpty", "daemon", "rexec", "rcmd",
    "pthread_create", "thrd_create", "timer_create", "mq_notify", "getaddrinfo_a", "aio_read", "aio_write", "aio_fsync",
    "lio_listio", "aio_read64", "aio_write64", "lio_listio64", "grantpt",
})  # fmt: skip
"""Functions of C libraries that make, or may make, a process or thread."""
REACHING: Final = frozenset({
    "syscall", "dlopen", "dlsym", "dlvsym", "dlmopen", "execve", "execv", "execvp", "execvpe", "execl", "execle",
    "execlp", "fexecve", "execveat", "unshare", "setns",
})  # fmt: skip
"""Functions by which a file comes to more than its imports say, or becomes another program."""
FILE_LIMIT: Final = 1 << 30
"""Bytes of a file that is looked into."""
SYMBOL_LIMIT: Final = 1_000_000
VERSION_LIMIT: Final = 5_000
_DT_RELA: Final = 7
SHOWN: Final = 500
"""Characters of a name that are shown."""


class ElfNote(msgspec.Struct, frozen=True):
    """A note by its owner and type, with what it says as far as that is short."""

    owner: str
    type: str
    says: str


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds. ``calls`` are its system-call instructions, or why they were not looked for."""

    path: str
    machine: str
    arch: str | None
    interpreter: str | None
    needed: list[str]
    creators: list[str]
    reaching: list[str]
    versions: dict[str, list[str]]
    """By library, the symbol versions that it wants of it."""
    notes: list[ElfNote]
    calls: list[CallInstruction] | Unavailable


def look(path: Path) -> Findings:
    """Everything about a file. BrokenElfError; OSError as open() has it."""
    size = path.stat().st_size
    if not path.is_file():
        raise BrokenElfError(f"{path} is not a regular file")
    if size > FILE_LIMIT:
        raise BrokenElfError(f"{path} has {size} bytes, more than the {FILE_LIMIT} that are looked into")
    with opened(path) as elf, closing(headed(path)) as image:
        imported = set(_imports(elf))
        order = "little" if elf.little_endian else "big"
        return Findings(
            path=str(path),
            machine=f"{machine_name(image.machine)}, {image.bits}-bit, {order}-endian",
            arch=None if image.arch is None else str(image.arch),
            interpreter=interpreter(image),
            needed=_needed(elf),
            creators=sorted(imported & CREATORS),
            reaching=sorted(imported & REACHING),
            versions=_versions(elf),
            notes=_notes(elf),
            calls=_calls(image),
        )


def _imports(elf: ELFFile) -> Iterator[str]:
    from elftools.common.utils import parse_cstring_from_stream, struct_parse

    names = Names()
    for segment in dynamic_segments(elf):
        # Not by iter_symbols(), which goes through all tags again for each symbol.
        symbols, strings = (segment.get_table_offset(tag)[1] for tag in ("DT_SYMTAB", "DT_STRTAB"))
        if symbols is None or strings is None:
            continue
        count, size = _symbol_count(elf, segment, symbols), elf.structs.Elf_Sym.sizeof()
        if count > SYMBOL_LIMIT:
            raise BrokenElfError(f"it has {count} dynamic symbols, more than {SYMBOL_LIMIT}")
        for at in range(symbols, symbols + count * size, size):
            entry = struct_parse(elf.structs.Elf_Sym, elf.stream, stream_pos=at)
            if entry.st_shndx == "SHN_UNDEF" and entry.st_name:
                raw = parse_cstring_from_stream(elf.stream, strings + entry.st_name)
                yield names.take(as_text(raw or b""))


def _symbol_count(elf: ELFFile, segment: DynamicSegment, symbols: int) -> int:
    # Nothing says how many there are. A DT_GNU_HASH table tells of those that others may look up: where a program
    # exports nothing, of none (bfd/elflink.c: an empty one begins at symbol 1). The section has all of them, and where
    # there are no sections, each import has a relocation.
    counts = [int(segment.num_symbols())]
    counts += [
        int(section["sh_size"]) // elf.structs.Elf_Sym.sizeof()
        for section in elf.iter_sections("SHT_DYNSYM")
        if section["sh_offset"] == symbols
    ]
    if len(counts) == 1 and segment.get_table_offset("DT_GNU_HASH")[1] is not None:
        counts += [highest + 1 for highest in _relocated(elf, segment)]
    return max(counts)


def _relocated(elf: ELFFile, segment: DynamicSegment) -> Iterator[int]:
    # The highest symbol of each relocation table.
    values = {tag.entry.d_tag: int(tag.entry.d_val) for tag in segment.iter_tags()}
    word, shift = ("Q", 32) if elf.elfclass == 64 else ("I", 8)
    order = "<" if elf.little_endian else ">"
    for table, size, addends in (
        ("DT_RELA", "DT_RELASZ", True), ("DT_REL", "DT_RELSZ", False),
        ("DT_JMPREL", "DT_PLTRELSZ", values.get("DT_PLTREL") == _DT_RELA),
    ):  # fmt: skip
        offset = segment.get_table_offset(table)[1]
        if offset is None or offset >= elf.stream_len:
            continue
        elf.stream.seek(offset)
        raw = elf.stream.read(min(values.get(size, 0), elf.stream_len - offset))
        entry = struct.Struct(order + word * (3 if addends else 2))
        whole = memoryview(raw)[: len(raw) // entry.size * entry.size]
        yield max((fields[1] >> shift for fields in entry.iter_unpack(whole)), default=0)


def _needed(elf: ELFFile) -> list[str]:
    return [str(tag.needed) for tag in tags(elf) if tag.entry.d_tag == "DT_NEEDED"]


def _versions(elf: ELFFile) -> dict[str, list[str]]:
    from elftools.elf.gnuversions import GNUVerNeedSection

    found: dict[str, list[str]] = {}
    entries, names = 0, Names()
    for section in elf.iter_sections():
        if not isinstance(section, GNUVerNeedSection):
            continue
        for library, wanted in section.iter_versions():
            entries += 1 + int(library["vn_cnt"])
            if entries > VERSION_LIMIT:
                raise BrokenElfError(f"it wants more than {VERSION_LIMIT} versions of symbols")
            versions = {names.take(str(version.name)) for version in wanted}
            found[names.take(str(library.name))] = sorted(versions)
    return found


def _notes(elf: ELFFile) -> list[ElfNote]:
    return [
        ElfNote(str(note["n_name"]), str(note["n_type"]), _says(note["n_desc"]))
        for note in notes(elf)
    ]  # fmt: skip


def _says(described: object) -> str:
    if isinstance(described, str):
        return described[:200]
    if isinstance(described, bytes):
        return described[:64].hex()
    if isinstance(described, list):
        return "; ".join(f"{p.get('pr_type')} {p.get('pr_data')}"[:80] for p in described[:16] if hasattr(p, "get"))
    values = getattr(described, "items", None)
    return ", ".join(f"{name} {value}" for name, value in values())[:200] if callable(values) else str(described)[:200]


def _calls(image: ElfImage) -> list[CallInstruction] | Unavailable:
    if image.arch is None:
        return Unavailable(0, "the system calls of this machine are not known here")
    loads = [load for load in image.loads if load.executable]
    total = sum(load.file_size for load in loads)
    if total > 2 * image.size:
        raise BrokenElfError(f"its headers tell of {total} bytes of code, and it has {image.size} bytes")
    code = [(int(load.address), image.read(load.offset, load.file_size)) for load in loads]
    return instructions.sites(image.arch, code, _functions(image))


def _functions(image: ElfImage) -> list[tuple[int, int, str]]:
    tables = [table for name in (".symtab", ".dynsym") if (table := section_table(image, name)) is not None]
    count, names = sum(table.count for table in tables), Names()
    if count > SYMBOL_LIMIT:
        raise BrokenElfError(f"it has {count} symbols, more than {SYMBOL_LIMIT}")
    found: dict[tuple[int, int], str] = {}
    for table in tables:
        for entry in map(table.entry, range(table.count)):
            if entry.type == STT_FUNC and entry.size and entry.section:
                name = names.take(as_text(table.name(entry)))
                key = (entry.value, entry.size)
                found[key] = min(found.get(key, name), name, key=lambda name: (len(name), name))
    return sorted((start, size, name) for (start, size), name in found.items())


def text(found: Findings) -> str:
    """For people; what a file names is escaped."""
    lines = [f"{_safe(found.path)}: {found.machine}"]
    linker = _safe(found.interpreter) if found.interpreter else "none"
    lines.append(f"  interpreter: {linker}; needs: {', '.join(map(_safe, found.needed)) or 'no library'}")
    lines.append(f"  creates by library: {', '.join(found.creators) or 'imports no function that does'}")
    if found.reaching:
        lines.append(f"  and can reach more by: {', '.join(found.reaching)}")
    lines += list(_call_lines(found.calls))
    for library, versions in found.versions.items():
        lines.append(f"  wants of {_safe(library)}: {', '.join(map(_safe, versions))}")
    lines += [f"  note {_safe(note.owner)} {_safe(note.type)}: {_safe(note.says)}" for note in found.notes]
    return "\n".join(lines) + "\n"


def _call_lines(calls: list[CallInstruction] | Unavailable) -> Iterator[str]:
    if isinstance(calls, Unavailable):
        yield f"  system-call instructions: not looked for: {calls.why}"
        return
    named = Counter(site.name or "a number that cannot be told" for site in calls)
    yield f"  system-call instructions: {len(calls)}"
    for site in calls:
        if site.name in CREATIONS:
            yield f"    {site.name} at {site.address:#x}" + (f" in {_safe(site.function)}" if site.function else "")
    others = [(name, count) for name, count in sorted(named.items()) if name not in CREATIONS]
    if others:
        yield "    " + ", ".join(f"{name}{f' ({count})' if count > 1 else ''}" for name, count in others)


def _safe(value: str) -> str:
    return printable(value if len(value) <= SHOWN else f"{value[:SHOWN]}…")


def document(found: Findings) -> bytes:
    """JSON for programs."""
    data = msgspec.structs.asdict(found)
    if isinstance(found.calls, Unavailable):
        data["calls"] = {"errno": found.calls.errno, "why": found.calls.why}
    return msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n"
