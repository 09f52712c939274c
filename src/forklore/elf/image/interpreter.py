"""What an executable needs to be run: an ELF file's dynamic linker, a script's interpreter."""

from __future__ import annotations

import os
from contextlib import closing

from forklore.abi.units import Unavailable
from forklore.linux.files.strangers_file import open_file

_SHEBANG_LIMIT = 256
"""BINPRM_BUF_SIZE of include/uapi/linux/binfmts.h."""


def interpreter(path: str | os.PathLike[str]) -> bytes | Unavailable | None:
    """The path of the program that the kernel starts for ``path``: PT_INTERP, or the first word after ``#!``.

    None for a file that needs none (static, or neither ELF nor script).
    """
    file = open_file(path)
    if isinstance(file, Unavailable):
        return file
    try:
        start = file.read(0, _SHEBANG_LIMIT)
    except OSError as problem:
        return Unavailable(problem.errno or 0, problem.strerror or "could not be read")
    finally:
        file.close()
    if start.startswith(b"#!"):
        words = start[2:].partition(b"\n")[0].split()
        return words[0] if words else None
    return _dynamic_linker(path) if start.startswith(b"\x7fELF") else None


def _dynamic_linker(path: str | os.PathLike[str]) -> bytes | Unavailable | None:
    from forklore.elf.image.image import ElfImage  # only a program that cannot be executed is asked

    image = ElfImage.open(path)
    if isinstance(image, Unavailable):
        return image
    with closing(image):
        return image.interpreter
