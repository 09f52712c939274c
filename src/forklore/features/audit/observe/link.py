"""The probe linked with a static library: one program that holds every function of the library that the probe calls.

The references are weak, which by themselves fetch no member of an archive: the linker is told (``-u``) to fetch those
that the archive's index has, and the others stay 0.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from forklore.abi.arch import Arch
from forklore.elf.image.symtab import STB_WEAK, section_table
from forklore.features.audit.observe.build import (
    ARCH_FLAGS,
    NO_COMPILER,
    NoProbeError,
    compile_probe,
    compiler,
    probe,
    source,
)
from forklore.features.audit.observe.package import cache
from forklore.features.audit.observe.target import NoTargetError, from_file
from forklore.features.audit.static import archive
from forklore.features.audit.static.archive import BrokenArchiveError
from forklore.features.audit.static.elf_file import BrokenElfError, headed
from forklore.linux.proc import machine

PARTS: Final = ("libpthread.a", "librt.a", "libutil.a", "libanl.a")
"""Where the parts of glibc lay before they were joined (2.34); empty since."""
_STARTS: Final = ("crt1.o", "crti.o", "crtn.o")
_COMPILE: Final = ("-DSTATIC", "-O1", "-std=gnu11", "-ffreestanding", "-fno-pie", "-fno-stack-protector", "-fno-lto")
_LINK: Final = ("-static", "-no-pie", "-nostdlib", "-fno-lto", "-Wl,--build-id=sha1")


def program(library: Path, arch: Arch) -> Path:
    """The probe with the libc.a ``library`` in it, from the cache or linked by the compiler. NoProbeError."""
    found = compiler()
    if found is None:
        raise NoProbeError(
            f"{NO_COMPILER} to link with {library}: link elsewhere with `forklore audit --build-probe FILE LIBC.a` and"
            " give the result with --probe FILE"
        )
    missing = [name for name in _STARTS if not (library.parent / name).is_file()]
    if missing:
        raise NoProbeError(
            f"{library}: {', '.join(missing)} is not beside it, with which its programs start: give the archive where"
            " it is installed or unpacked whole (Debian: libc6-dev, musl-dev)"
        )
    parts = [library, *(part for name in PARTS if (part := library.parent / name).is_file())]
    key = hashlib.sha256("\0".join([found, str(library), *ARCH_FLAGS.get(arch, []), *_COMPILE, *_LINK]).encode())
    for piece in (source(), *(path.read_bytes() for path in (*parts, *(library.parent / name for name in _STARTS)))):
        key.update(hashlib.sha256(piece).digest())
    target = cache() / "probes" / f"static-{arch}-{key.hexdigest()[:24]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _link(found, arch, parts, Path(folder)).rename(target)
    return target


def built_for(library: Path | None) -> tuple[Path, str]:
    """A probe for a library, or for this machine's shared ones, and the name of what it is for. AuditError."""
    if library is not None:
        target = from_file(library)
        return program(target.path, target.arch) if target.static else probe(target.arch), target.name
    arch = machine()
    if arch is None:
        raise NoTargetError("this machine is none that the probe knows: x86_64, aarch64 or riscv64")
    return probe(arch), str(arch)


def _link(found: str, arch: Arch, parts: list[Path], folder: Path) -> Path:
    code, made, linked = folder / "probe.c", folder / "probe.o", folder / "probe"
    code.write_bytes(source())
    machine = ARCH_FLAGS.get(arch, [])
    compile_probe([found, *machine, *_COMPILE, "-c", str(code), "-o", str(made)], arch)
    symbols = frozenset[str]().union(*map(_symbols, parts))
    fetched = [f"-Wl,-u,{name}" for name in _wanted(made) if name in symbols]
    first, second, last = (str(parts[0].parent / name) for name in _STARTS)
    group = ["-Wl,--start-group", *map(str, parts), "-lgcc", "-lgcc_eh", "-Wl,--end-group"]
    compile_probe([found, *machine, *_LINK, *fetched, "-o", str(linked), first, second, str(made), *group, last], arch)
    return linked


def _symbols(part: Path) -> frozenset[str]:
    try:
        return archive.read(part.read_bytes(), str(part)).symbols
    except (BrokenArchiveError, BrokenElfError):
        return frozenset()  # an empty archive has no index, and what is no archive the linker refuses


def _wanted(made: Path) -> Iterator[str]:
    with closing(headed(made)) as image:
        table = section_table(image, ".symtab")
        entries = [] if table is None else [table.entry(number) for number in range(table.count)]
        for entry in entries:
            if table is not None and entry.binding == STB_WEAK and not entry.section:
                yield os.fsdecode(table.name(entry))
