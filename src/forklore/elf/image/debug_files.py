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
from forklore.linux.files.strangers_file import Folder
from forklore.linux.ours import leaving

_DIRECTORIES: Final = ("/usr/lib/debug",)
_SUMMED: Final = 256 << 20
"""Bytes of the largest file whose CRC is computed."""
_WORTH_IT: Final = (".symtab", ".debug_info", ".debug_line")


def find_debug_file(image: ElfImage, path: str, root: Folder,
                    directories: Sequence[str] = _DIRECTORIES) -> ElfImage | Unavailable | None:
    """The separate debug file of ``image``, which was opened from ``path`` as named below ``root``.

    A file found by name is taken only with the same build-id or, where one of the two has none, with the CRC of the
    link. None: there is no such file. Unavailable: there are files of that name, and why none of them is the one.
    """
    refused: Unavailable | None = None
    for candidate, crc in _candidates(image, path, directories):
        found = _accepted(root, candidate, image, path, crc)
        if isinstance(found, ElfImage):
            return found
        refused = refused or found
    return refused


def _candidates(image: ElfImage, path: str, directories: Sequence[str]) -> Iterator[tuple[str, int | None]]:
    """Names, and the CRC that such a file must have where no build-id tells."""
    build_id, link, place = image.build_id, image.debug_link(), os.path.dirname(path)
    if build_id is not None and len(build_id) > 2:
        for directory in directories:
            yield os.path.join(directory, ".build-id", build_id[:2], f"{build_id[2:]}.debug"), None
    if link is not None and "/" not in link[0]:
        name, crc = link
        yield os.path.join(place, name), crc
        yield os.path.join(place, ".debug", name), crc
        for directory in directories:
            yield os.path.join(directory, place.lstrip("/"), name), crc


def _missing(found: Unavailable) -> bool:
    return found.errno in (2, 20)  # ENOENT, ENOTDIR


def _accepted(root: Folder, candidate: str, image: ElfImage, path: str, crc: int | None
              ) -> ElfImage | Unavailable | None:
    file = root.open(os.fsencode(candidate))
    if isinstance(file, Unavailable):
        return None if _missing(file) else Unavailable(file.errno, f"{candidate}: {file.why}")
    if file.identity == _identity(root, path):
        file.close()
        return None
    found = ElfImage.open(file)
    if isinstance(found, Unavailable):
        return Unavailable(found.errno, f"{candidate}: {found.why}")
    why = _objection(found, image, crc)
    if why is None:
        return found
    found.close()
    return Unavailable(0, f"{candidate} {why}")


def _identity(root: Folder, path: str) -> object:
    file = root.open(os.fsencode(path))
    if isinstance(file, Unavailable):
        return None
    file.close()
    return file.identity


def _objection(found: ElfImage, image: ElfImage, crc: int | None) -> str | None:
    """Why a file is not the debug file of ``image``."""
    if found.build_id is not None and image.build_id is not None:
        if found.build_id != image.build_id:
            return f"has build-id {found.build_id}, the program has {image.build_id}"
    elif crc is None:
        return "has no build-id"
    elif found.size > _SUMMED:
        return (
            f"is not checked, and not used: it has {found.size >> 20} MiB, and the CRC-32 that the link names is"
            f" computed of at most {_SUMMED >> 20} MiB"
        )
    elif _crc(found) != crc:
        return f"has another CRC-32 than the link names ({crc:#010x})"
    if not any(section.size for name in _WORTH_IT if (section := found.section(name)) is not None):
        return "has neither symbols nor debug information"
    return None


def _crc(image: ElfImage) -> int:
    crc = size = 0
    try:
        for piece in image.pieces():
            crc = zlib.crc32(piece, crc)
            size += len(piece)
            if leaving.overdue():
                break
    except OSError:
        return -1
    return crc if size == image.size else -1
