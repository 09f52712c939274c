"""Which C library to audit: where its file and its dynamic linker are, and what the file says of itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.units import Tid, Unavailable
from forklore.features.audit.errors import AuditError
from forklore.features.audit.static import archive
from forklore.features.audit.static.archive import BrokenArchiveError
from forklore.features.audit.static.elf_file import BrokenElfError, FileHead, identify
from forklore.linux.mappings import mappings

SIZE_LIMIT: Final = 1 << 28
"""Bytes of a file that is taken for a C library."""

_GLIBC: Final = re.compile(rb"GNU C Library \([^)\n]{0,200}\)[ \w]{0,30} release version (\d+\.\d+[\w.]{0,20}?)[.,]")
_PACKAGE: Final = re.compile(rb"GNU C Library \(([ -(*-~]{1,200})\)")
_MUSL_BANNER: Final = b"musl libc ("
_MUSL: Final = re.compile(rb"\0(\d{1,3}\.\d{1,3}\.\d{1,3}(?:-git-\d{1,6}-g[0-9a-f]{4,40})?)\0")
_LINKERS: Final = ("ld-linux*.so*", "ld-[0-9]*.so", "ld.so", "ld64.so*")
_FOLDERS: Final = ("lib", "lib64", "lib32", "libx32", "usr/lib", "usr/lib64", "usr/lib32", "usr/libx32")


class NoTargetError(AuditError):
    """What was named holds no C library that can be audited; the text says why and what to do."""


class StaticProgramError(NoTargetError):
    """What was named is a program that was linked statically: ``path`` can only be looked into."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is a static program: it holds only the functions that it calls, and cannot be asked to call one;"
            " what it can do `forklore audit --static` reads from its code"
        )
        self.path = path


class Target(Struct, frozen=True, kw_only=True):
    """A C library on disk. ``linker`` is its own dynamic linker, for musl the same file; None: an archive, libc.a."""

    family: str
    """``glibc`` or ``musl``."""
    version: str
    package: str | None
    """What the builder wrote into glibc's banner, such as ``Debian GLIBC 2.36-9``."""
    arch: Arch
    build_id: str | None
    path: Path
    linker: Path | None

    @property
    def name(self) -> str:
        """Such as ``glibc 2.36 x86_64``."""
        return f"{self.family} {self.version} {self.arch}" + (" static" if self.static else "")

    @property
    def static(self) -> bool:
        """Whether programs are linked with it, and take it with them."""
        return self.linker is None

    @property
    def folder(self) -> Path:
        """Where its parts are."""
        return self.path.parent

    @property
    def number(self) -> tuple[int, ...]:
        """Its version, to be compared."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:3])


def running() -> Target:
    """The C library that this process runs on."""
    maps = mappings(Tid(os.getpid()))
    for mapping in () if isinstance(maps, Unavailable) else maps:
        path = Path(os.fsdecode(mapping.path))
        if re.fullmatch(r"libc\.so\.6|libc-2\.\d+\.so|ld-musl-\w+\.so\.1|libc\.so", path.name):
            return from_file(path)
    raise NoTargetError("no C library is mapped in this process: name one, such as /lib/x86_64-linux-gnu/libc.so.6")


def targets(named: Path, linker: Path | None = None) -> list[Target]:
    """What a name on the command line means: a library's file, a package file, or an unpacked root directory.

    NoTargetError (StaticProgramError for a program that is linked statically), BrokenElfError.
    """
    if named.is_dir():
        found = list(under(named))
        if not found:
            raise NoTargetError(
                f"{named}: no C library below it; looked for libc.so.6, musl's libc.so and libc.a in"
                f" {', '.join(_FOLDERS[:4])} and so on, and their folders"
            )
        return found
    if named.suffix == ".deb":
        from forklore.features.audit.observe.package import unpack

        return targets(unpack(named))
    return [from_file(named, linker)]


def under(root: Path) -> Iterator[Target]:
    """Every C library of a root directory, each file once, shared ones first."""
    seen: set[tuple[int, int]] = set()
    for path in sorted(_candidates(root), key=lambda path: (path.suffix == ".a", path)):
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen or not path.is_file():
                continue
            seen.add((status.st_dev, status.st_ino))
            yield from_file(path)
        except (NoTargetError, BrokenElfError, OSError):
            continue  # something else of that name, such as the linker script of libc6-dev


def _candidates(root: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        for pattern in ("libc.so.6", "*/libc.so.6", "ld-musl-*.so.1", "*/libc.so", "libc.a", "*/libc.a"):
            try:
                yield from (root / folder).glob(pattern)
            except OSError:
                continue


def from_file(path: Path, linker: Path | None = None) -> Target:
    """The library in a file.

    Raises NoTargetError for a file that is no C library or has no dynamic linker beside it, StaticProgramError, and
    BrokenElfError.
    """
    try:
        with path.open("rb") as file:
            archived = file.read(len(archive.MAGIC)) in (archive.MAGIC, archive.THIN)
        identity = None if archived else identify(path)
        if path.stat().st_size > SIZE_LIMIT:
            raise NoTargetError(f"{path} is too large for a C library ({path.stat().st_size} bytes)")
        raw = path.read_bytes()
    except OSError as problem:
        raise NoTargetError(f"{path}: {problem.strerror or problem}") from problem
    return _static(path, raw) if identity is None else _shared(path, raw, identity, linker)


def _static(path: Path, raw: bytes) -> Target:
    if raw.startswith(archive.THIN):
        raise NoTargetError(f"{path} is a thin archive: the object files are elsewhere; give the library as installed")
    try:
        found = archive.read(raw, str(path))
    except BrokenArchiveError as problem:
        raise NoTargetError(f"{path} {problem}") from problem
    if found.first.arch is None:
        raise NoTargetError(f"{path} is for {found.first.machine}, which forklore does not trace")
    banner, package = _GLIBC.search(raw), _PACKAGE.search(raw)
    if banner is None and found.musl is None:
        raise NoTargetError(f"{path} is an archive without glibc's banner or musl's symbols: no C library known here")
    return Target(
        family="glibc" if banner else "musl",
        version=banner[1].decode() if banner else found.musl or "unknown",
        package=package[1].decode(errors="replace") if banner and package else None,
        arch=found.first.arch, build_id=None, path=path.resolve(), linker=None,
    )  # fmt: skip


def _shared(path: Path, raw: bytes, identity: FileHead, linker: Path | None) -> Target:
    if identity.executable and identity.interpreter is None:
        raise StaticProgramError(path)
    if identity.arch is None:
        raise NoTargetError(f"{path} is for {identity.machine}, which forklore does not trace; audit --static reads it")
    banner = _GLIBC.search(raw)
    if banner is not None:
        family, version = "glibc", banner[1].decode()
    elif _MUSL_BANNER in raw:
        found = _MUSL.search(raw)
        family, version = "musl", found[1].decode() if found else "unknown"
    else:
        raise NoTargetError(f"{path} has neither glibc's nor musl's banner in it: not a C library that is known here")
    if not identity.dynamic or (identity.interpreter and identity.executable):
        raise NoTargetError(f"{path} is a program with {family} {version} in it: audit --static says what it can do")
    package = _PACKAGE.search(raw) if family == "glibc" else None
    return Target(
        family=family, version=version, package=package[1].decode(errors="replace") if package else None,
        arch=identity.arch, build_id=identity.build_id, path=path.resolve(),
        linker=(linker or (path if family == "musl" else _linker(path, identity))).resolve(),
    )  # fmt: skip


def _linker(path: Path, identity: FileHead) -> Path:
    # The one beside the file itself, not beside a link to it: a library and its linker are one build.
    folder = path.resolve().parent
    wanted = os.path.basename(identity.interpreter) if identity.interpreter else None
    for pattern in (wanted, *_LINKERS) if wanted else _LINKERS:
        for found in sorted(folder.glob(pattern)):
            if found.is_file():
                return found
    raise NoTargetError(f"{path}: no dynamic linker beside it ({', '.join(_LINKERS)}); name it with --linker")


def runs_here(target: Target, machine: Arch | None) -> bool:
    """Whether this machine can execute it."""
    return target.arch is machine or (machine is Arch.X86_64 and target.arch is Arch.I386)
