"""An ELF file of any machine: its head as the tracer reads it too, and the rest through pyelftools.

pyelftools knows what notes and versions mean, on machines of either byte order, and follows every count and offset
that a file has. A small file can describe the same bytes again and again, so the counts are looked at before it does
(:func:`_measure`), and a broken file is refused with a reason.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.text import as_text
from forklore.elf.image.image import ElfImage
from forklore.features.audit.errors import AuditError

if TYPE_CHECKING:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

_SEGMENTS: Final = 512
_SECTIONS: Final = 1 << 14
_TAGS: Final = 4096
_NOTES: Final = 1000
_NOTE_BYTES: Final = 1 << 20
_NAME_BYTES: Final = 1 << 25
_PT_DYNAMIC: Final = 2


class BrokenElfError(AuditError):
    """Not an ELF file, or one whose headers contradict themselves; the text says what."""


class FileHead(Struct, frozen=True, kw_only=True):
    """A file's head. ``arch`` None: a machine that forklore does not decode, named by ``machine``."""

    arch: Arch | None
    machine: str
    build_id: str | None
    interpreter: str | None
    dynamic: bool
    executable: bool
    """Made to be executed: ET_EXEC, or a position-independent executable."""


def headed(source: Path | bytes, name: str | None = None) -> ElfImage:
    """A file, or what is in memory and called ``name``, as far as its headers go. The caller closes it.

    BrokenElfError; OSError as open() has it.
    """
    name = str(source) if name is None else name
    if isinstance(source, bytes):
        image = ElfImage.of_bytes(source, big_endian=True)
    else:
        image = ElfImage.open(source, big_endian=True)
    if isinstance(image, ElfImage):
        return image
    if image.errno:
        raise OSError(image.errno, image.why, name)
    raise BrokenElfError(f"{name} is {image.why if 'broken' in image.why else 'not an ELF file'}")


def machine_name(number: int) -> str:
    """``EM_X86_64``; the number of a machine without a name."""
    from elftools.elf.enums import ENUM_E_MACHINE

    return {value: name for name, value in ENUM_E_MACHINE.items()}.get(number, str(number))


def identify(source: Path | bytes, name: str | None = None) -> FileHead:
    """What a file's head says, or that of what is in memory and called ``name``. BrokenElfError, OSError."""
    with closing(headed(source, name)) as image:
        return FileHead(
            arch=image.arch,
            machine=f"{machine_name(image.machine)} ({image.bits}-bit)",
            build_id=image.build_id,
            interpreter=interpreter(image),
            dynamic=bool(image.dynamic),
            executable=image.program,
        )


def interpreter(image: ElfImage) -> str | None:
    """The path of its dynamic linker."""
    raw = image.interpreter
    return None if raw is None else as_text(raw)


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
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError

    with path.open("rb") as file:
        try:
            yield _head(file, path)
        except BrokenElfError as problem:
            if str(problem).startswith(str(path)):
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


def _head(file: IO[bytes], path: Path) -> ELFFile:
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
