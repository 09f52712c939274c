"""Where the symbols and debug information of a stripped file are kept, as gdb looks for them.

By build-id below the debug directories, then by ``.gnu_debuglink`` beside the file (gdb manual, "Separate Debug
Files"). Nothing is asked of the network.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from forklore.abi.units import Unavailable
from forklore.elf.image.image import ElfImage

_DIRECTORIES: Final = ("/usr/lib/debug",)
_CHUNK = 1 << 20
_WORTH_IT: Final = (".symtab", ".debug_info", ".debug_line")


def find_debug_file(image: ElfImage, path: str, root: str = "/",
                    directories: Sequence[str] = _DIRECTORIES) -> ElfImage | Unavailable | None:
    """The separate debug file of ``image``, which was opened from ``path`` as named below ``root``.

    ``root`` is where the traced program's files are seen, such as ``/proc/PID/root``. A file found by name is taken
    only with the same build-id or, where one of the two has none, with the CRC of the link. None: there is no such
    file. Unavailable: there are files of that name, and why none of them is the one.
    """
    refused: Unavailable | None = None
    for candidate in _by_build_id(image.build_id, root, directories):
        found = _accepted(candidate, image, path=_below(root, path), crc=None)
        if isinstance(found, ElfImage):
            return found
        refused = refused or found
    link = image.debug_link()
    if link is not None and "/" not in link[0]:
        for candidate in _by_link(link[0], path, root, directories):
            found = _accepted(candidate, image, path=_below(root, path), crc=link[1])
            if isinstance(found, ElfImage):
                return found
            refused = refused or found
    return refused


def _below(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _by_build_id(build_id: str | None, root: str, directories: Sequence[str]) -> Iterator[str]:
    if build_id is not None and len(build_id) > 2:
        for directory in directories:
            yield os.path.join(_below(root, directory), ".build-id", build_id[:2], f"{build_id[2:]}.debug")


def _by_link(name: str, path: str, root: str, directories: Sequence[str]) -> Iterator[str]:
    directory = os.path.dirname(path)
    yield os.path.join(_below(root, directory), name)
    yield os.path.join(_below(root, directory), ".debug", name)
    for debug in directories:
        yield os.path.join(_below(root, debug), directory.lstrip("/"), name)


def _missing(found: Unavailable) -> bool:
    return found.errno in (2, 20)  # ENOENT, ENOTDIR


def _accepted(candidate: str, image: ElfImage, path: str, crc: int | None) -> ElfImage | Unavailable | None:
    found = ElfImage.open(candidate)
    if isinstance(found, Unavailable):
        return None if _missing(found) else Unavailable(found.errno, f"{candidate}: {found.why}")
    why = _objection(found, candidate, image, path, crc)
    if why is None:
        return found
    found.close()
    return Unavailable(0, f"{candidate} {why}") if why else None


def _objection(found: ElfImage, candidate: str, image: ElfImage, path: str, crc: int | None) -> str | None:
    """Why a file is not the debug file of ``image``; empty for the program itself under its own link."""
    if _same_file(candidate, path):
        return ""
    if found.build_id is not None and image.build_id is not None:
        if found.build_id != image.build_id:
            return f"has build-id {found.build_id}, the program has {image.build_id}"
    elif crc is None:
        return "has no build-id"
    elif _crc(found) != crc:
        return f"has another CRC-32 than the link names ({crc:#010x})"
    if not any(section.size for name in _WORTH_IT if (section := found.section(name)) is not None):
        return "has neither symbols nor debug information"
    return None


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _crc(image: ElfImage) -> int:
    crc = 0
    for offset in range(0, image.size, _CHUNK):
        if not image.whole:
            return -1
        crc = zlib.crc32(image.data[offset:offset + _CHUNK], crc)
    return crc
