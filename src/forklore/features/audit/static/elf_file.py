"""What an ELF file says of itself, of any machine: read with pyelftools, and broken files refused with a reason.

pyelftools follows every count and offset that a file has. A small file can describe the same bytes again and again, so
the counts are looked at before it does: see :func:`_measure`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.features.audit.errors import AuditError

if TYPE_CHECKING:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

_MACHINES: Final = {
    ("EM_X86_64", 64): Arch.X86_64,
    ("EM_X86_64", 32): Arch.X32,
    ("EM_386", 32): Arch.I386,
    ("EM_AARCH64", 64): Arch.AARCH64,
    ("EM_RISCV", 64): Arch.RISCV64,
}
_PIE: Final = 0x08000000  # DF_1_PIE of DT_FLAGS_1
_SEGMENTS: Final = 512
_SECTIONS: Final = 1 << 14
_TAGS: Final = 4096
_NOTES: Final = 1000
_NOTE_BYTES: Final = 1 << 20
_NAME_BYTES: Final = 1 << 25
_PT_DYNAMIC: Final = 2


class BrokenElfError(AuditError):
    """Not an ELF file, or one whose headers contradict themselves; the text says what."""


class Identity(Struct, frozen=True, kw_only=True):
    """A file's head. ``arch`` None: a machine that forklore does not decode, named by ``machine``."""

    arch: Arch | None
    machine: str
    build_id: str | None
    interpreter: str | None
    dynamic: bool
    executable: bool
    """Made to be executed: ET_EXEC, or a position-independent executable."""


class Names:
    """Counts the names that are read of one file: many of them may be one and the same long one."""

    def __init__(self) -> None:
        self._left = _NAME_BYTES

    def take(self, name: str) -> str:
        """``name`` itself. BrokenElfError where there were too many."""
        self._left -= len(name) + 1
        if self._left < 0:
            raise BrokenElfError(f"its names are longer than {_NAME_BYTES} bytes together, which no table of names is")
        return name


@contextmanager
def opened(path: Path) -> Iterator[ELFFile]:
    """The file through pyelftools; whatever it trips over becomes BrokenElfError. OSError as open() has it."""
    with path.open("rb") as file, examined(file, str(path)) as elf:
        yield elf


@contextmanager
def examined(file: IO[bytes], path: str) -> Iterator[ELFFile]:
    """The same for an open file that is called ``path``."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError

    try:
        yield _head(file, path)
    except BrokenElfError as problem:
        if str(problem).startswith(path):
            raise
        raise BrokenElfError(f"{path} is a broken ELF file: {problem}") from problem
    except OSError as problem:
        if problem.errno is not None and problem.filename is not None:
            raise
        raise BrokenElfError(f"{path} is a broken ELF file: {problem}") from problem
    except (ELFError, ConstructError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
            OverflowError, MemoryError, RecursionError, struct.error) as problem:  # fmt: skip
        # pyelftools lets a header that points nowhere surface as any of these.
        what = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise BrokenElfError(f"{path} is a broken ELF file: {what}") from problem


def _head(file: IO[bytes], path: str) -> ELFFile:
    from elftools.elf.elffile import ELFFile

    if file.read(4) != b"\x7fELF":
        raise BrokenElfError(f"{path} is not an ELF file")
    file.seek(0)
    elf = ELFFile(file)
    _measure(elf)
    return elf


def _measure(elf: ELFFile) -> None:
    """BrokenElfError for headers that would keep pyelftools busy for longer than the file is worth."""
    header, wide = elf.header, elf.elfclass == 64
    segments, sections = elf.num_segments(), elf.num_sections()
    for what, count, most, size, right in (
        ("segments", segments, _SEGMENTS, header["e_phentsize"], 56 if wide else 32),
        ("sections", sections, _SECTIONS, header["e_shentsize"], 64 if wide else 40),
    ):
        if count > most:
            raise BrokenElfError(f"it has {count} {what}, more than the {most} of a program or library")
        if count and size != right:
            raise BrokenElfError(f"the headers of its {what} have {size} bytes instead of {right}")
    elf.stream.seek(header["e_phoff"])
    table = elf.stream.read(segments * (56 if wide else 32))
    layout = struct.Struct(("<" if elf.little_endian else ">") + ("I52x" if wide else "I28x"))
    dynamic = sum(kind == _PT_DYNAMIC for (kind,) in layout.iter_unpack(table))
    if dynamic > 1:
        raise BrokenElfError(f"it has {dynamic} dynamic segments instead of one")
    names = Names()
    for section in elf.iter_sections():
        names.take(section.name)


def arch_of_file(elf: ELFFile) -> Arch | None:
    """The system-call ABI of its code, or None."""
    if not elf.little_endian:
        return None
    return _MACHINES.get((str(elf.header["e_machine"]), elf.elfclass))


def identify(path: Path) -> Identity:
    """Read a file's head. BrokenElfError, OSError."""
    with path.open("rb") as file:
        return identify_open(file, str(path))


def identify_open(file: IO[bytes], path: str) -> Identity:
    """The same for an open file that is called ``path``. BrokenElfError."""
    with examined(file, path) as elf:
        entries = [(str(tag.entry.d_tag), int(tag.entry.d_val)) for tag in tags(elf)]
        flags = next((value for tag, value in entries if tag == "DT_FLAGS_1"), 0)
        return Identity(
            arch=arch_of_file(elf),
            machine=f"{elf.header['e_machine']} ({elf.elfclass}-bit)",
            build_id=build_id(elf),
            interpreter=interpreter(elf),
            dynamic=bool(entries),
            executable=elf.header["e_type"] == "ET_EXEC" or bool(flags & _PIE),
        )


def tags(elf: ELFFile) -> Iterator[Any]:
    """The entries of its dynamic segment."""
    names = Names()
    for segment in dynamic_segments(elf):
        for count, tag in enumerate(segment.iter_tags()):
            if count > _TAGS:
                raise BrokenElfError("its dynamic section does not end")
            if tag.entry.d_tag in ("DT_NEEDED", "DT_SONAME", "DT_RPATH", "DT_RUNPATH"):
                names.take(str(getattr(tag, tag.entry.d_tag[3:].lower())))
            yield tag


def dynamic_segments(elf: ELFFile) -> Iterator[DynamicSegment]:
    """PT_DYNAMIC, of which there should be one at most."""
    from elftools.elf.dynamic import DynamicSegment

    for segment in elf.iter_segments("PT_DYNAMIC"):
        if isinstance(segment, DynamicSegment) and segment.header.p_filesz:
            yield segment


def interpreter(elf: ELFFile) -> str | None:
    """PT_INTERP."""
    for segment in elf.iter_segments("PT_INTERP"):
        if segment.header.p_filesz > 4096:
            raise BrokenElfError(f"its interpreter's name is {segment.header.p_filesz} bytes long")
        raw: bytes = segment.data()
        return raw.split(b"\0")[0].decode("utf-8", "backslashreplace")
    return None


def notes(elf: ELFFile) -> Iterator[Any]:
    """Every note of its segments; of a core file, which is no program, none."""
    from elftools.elf.segments import NoteSegment

    if elf.header["e_type"] == "ET_CORE":
        return
    found = [segment for segment in elf.iter_segments("PT_NOTE") if isinstance(segment, NoteSegment)]
    size = sum(int(segment.header.p_filesz) for segment in found)
    if size > _NOTE_BYTES:
        raise BrokenElfError(f"notes of {size} bytes")
    count = 0
    for segment in found:
        count += _count_notes(elf, int(segment.header.p_offset), int(segment.header.p_filesz))
        if count > _NOTES:
            raise BrokenElfError(f"more than {_NOTES} notes")
        yield from segment.iter_notes()


def _count_notes(elf: ELFFile, offset: int, size: int) -> int:
    # pyelftools reads what a note says it has, wherever its segment ends.
    elf.stream.seek(offset)
    raw = elf.stream.read(size)
    layout = struct.Struct("<II" if elf.little_endian else ">II")
    at = count = 0
    while at + 12 < len(raw):
        name, description = layout.unpack_from(raw, at)
        at += 12 + (name + 3 & ~3)
        if at + description > len(raw):
            raise BrokenElfError("a note is larger than its segment")
        at += description + 3 & ~3
        count += 1
    return count


def build_id(elf: ELFFile) -> str | None:
    """NT_GNU_BUILD_ID, in hexadecimal."""
    for note in notes(elf):
        if note["n_type"] == "NT_GNU_BUILD_ID" and note["n_name"] == "GNU":
            return str(note["n_desc"])
    return None
