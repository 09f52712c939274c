"""Static libraries, sound and broken ones, read without the linker."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.features.audit.observe.target import NoTargetError, StaticProgramError, from_file
from forklore.features.audit.static import archive
from forklore.features.audit.static.archive import BrokenArchiveError
from forklore.features.audit.static.elf_file import BrokenElfError

MUSL = ("__init_libc", "__block_app_sigs", "fork")
BANNER = b"\0GNU C Library (Some GLIBC 2.36-9) stable release version 2.36.\n\0"


def elf(kind: int = 1, machine: int = 62) -> bytes:
    """An ELF file of 64 bits with no sections; ``kind`` 1: an object, 2: a program without an interpreter."""
    ident = b"\x7fELF\2\1\1" + bytes(9)
    numbers = ((kind, 2), (machine, 2), (1, 4), (0, 8), (0, 8), (0, 8), (0, 4), (64, 2), (56, 2), (0, 2), (64, 2),
               (0, 2), (0, 2))  # fmt: skip
    return ident + b"".join(value.to_bytes(size, "little") for value, size in numbers)


def member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
    return header.encode() + data + b"\n" * (len(data) % 2)


def index(*names: str, width: int = 4) -> bytes:
    numbers = [len(names), *[0] * len(names)]
    data = b"".join(number.to_bytes(width, "big") for number in numbers) + b"".join(f"{n}\0".encode() for n in names)
    return member("/" if width == 4 else "/SYM64/", data)


def library(*parts: bytes) -> bytes:
    return archive.MAGIC + b"".join(parts)


@pytest.mark.parametrize("width", [4, 8])
def test_an_archive_says_what_it_defines(width: int) -> None:
    raw = library(index("fork", "vfork", width=width), member("//", b"long names"), member("fork.o/", elf()))
    found = archive.read(raw, "libc.a")
    assert found.symbols == {"fork", "vfork"}
    assert (found.first.arch, found.musl) == ("x86_64", None)


@pytest.mark.parametrize(
    ("raw", "name", "package"),
    [
        (library(index("fork"), member("version.o/", elf() + BANNER)), "glibc 2.36 x86_64 static", "Some GLIBC 2.36-9"),
        (library(index(*MUSL), member("version.lo/", elf() + b"1.2.3\0")), "musl 1.2.3 x86_64 static", None),
        (library(index(*MUSL), member("version.lo/", elf(machine=183) + b"1.2.3-git-4-gabcd\0")),
         "musl 1.2.3-git-4-gabcd aarch64 static", None),
        (library(index(*MUSL), member("fork.lo/", elf() + b"127.0.0.1\0")), "musl unknown x86_64 static", None),
    ],
)  # fmt: skip
def test_an_archive_names_its_library(tmp_path: Path, raw: bytes, name: str, package: str | None) -> None:
    path = tmp_path / "libc.a"
    path.write_bytes(raw)
    target = from_file(path)
    assert (target.name, target.package, target.linker, target.build_id) == (name, package, None, None)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (archive.THIN + index(*MUSL), "thin archive"),
        (library(), "no index of symbols"),
        (library(member("fork.o/", elf())), "no index of symbols"),
        (library(index(*MUSL)), "holds no object file"),
        (library(index(*MUSL), member("fork.o/", elf()))[:-20], "cut short"),
        (library(b"x" * 60), "broken ar archive at byte 8"),
        (library(member("/", b"\xff\xff\xff\xff")), "an index of 4294967295 symbols in 4 bytes"),
        (library(index("fork"), member("fork.o/", elf())), "no C library known here"),
        (library(index(*MUSL), member("fork.o/", elf(machine=2))), "EM_SPARC"),
        (elf(kind=2), "is a static program"),
    ],
)
def test_what_cannot_be_audited_is_refused_with_a_reason(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "libc.a"
    path.write_bytes(raw)
    with pytest.raises(NoTargetError, match=says):
        from_file(path)


def test_a_static_program_is_told_from_a_file_that_is_no_library(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(elf(kind=2))
    with pytest.raises(StaticProgramError, match="--static") as caught:
        from_file(path)
    assert caught.value.path == path
    path.write_bytes(library(index(*MUSL), member("readme", b"text")))
    with pytest.raises(BrokenElfError, match=r"program\(readme\) is not an ELF file"):
        from_file(path)


SOUND = library(index(*MUSL), member("version.lo/", elf() + b"1.2.3\0"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SOUND) - 1), st.binary(max_size=12))
def test_a_damaged_archive_is_read_or_refused(at: int, damage: bytes) -> None:
    raw = SOUND[:at] + damage + SOUND[at + len(damage) :]
    try:
        found = archive.read(raw, "libc.a")
    except (BrokenArchiveError, BrokenElfError):
        return
    assert len(found.symbols) <= len(raw)
