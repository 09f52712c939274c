"""What an ELF file says of itself, of any machine: read with pyelftools, and broken files refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from msgspec import Struct

from forklore.abi.arch import Arch

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


class BrokenElfError(Exception):
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
    except BrokenElfError:
        raise
    except OSError as problem:
        if problem.errno is not None and problem.filename is not None:
            raise
        raise BrokenElfError(f"{path} is a broken ELF file: {problem}") from problem
    except (ELFError, ConstructError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
            OverflowError, MemoryError, RecursionError) as problem:  # fmt: skip
        # pyelftools lets a header that points nowhere surface as any of these.
        what = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise BrokenElfError(f"{path} is a broken ELF file: {what}") from problem


def _head(file: IO[bytes], path: str) -> ELFFile:
    from elftools.elf.elffile import ELFFile

    if file.read(4) != b"\x7fELF":
        raise BrokenElfError(f"{path} is not an ELF file")
    file.seek(0)
    return ELFFile(file)


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
    for segment in dynamic_segments(elf):
        for count, tag in enumerate(segment.iter_tags()):
            if count > 4096:
                raise BrokenElfError("its dynamic section does not end")
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
    """Every note of its segments, at most a thousand."""
    from elftools.elf.segments import NoteSegment

    for segment in elf.iter_segments("PT_NOTE"):
        if not isinstance(segment, NoteSegment):
            continue
        if segment.header.p_filesz > 1 << 20:
            raise BrokenElfError(f"a note segment of {segment.header.p_filesz} bytes")
        for count, note in enumerate(segment.iter_notes()):
            if count > 1000:
                return
            yield note


def build_id(elf: ELFFile) -> str | None:
    """NT_GNU_BUILD_ID, in hexadecimal."""
    for note in notes(elf):
        if note["n_type"] == "NT_GNU_BUILD_ID":
            return str(note["n_desc"])
    return None
