"""The programs that run in the kernel: their C source, and the objects that scripts/generate-bpf makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forklore.abi.arch import Arch
from forklore.linux.bpf.object import BpfObject, read_object

FOLDER: Final = Path(__file__).parent


def programs(arch: Arch) -> BpfObject:
    """Those of the engine on a machine."""
    return _object(f"forklore-{arch}")


def open_files() -> BpfObject:
    """That which tells who has files open. It reads no registers, so it is one for every machine."""
    return _object("open_files")


def _object(name: str) -> BpfObject:
    return read_object((FOLDER / f"{name}.bpf.o").read_bytes())
