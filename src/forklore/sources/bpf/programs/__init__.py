"""The programs that run in the kernel: their C source, and the objects that scripts/generate-bpf makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from forklore.abi.arch import Arch
from forklore.linux.bpf.object import BpfObject, read_object

FOLDER: Final = Path(__file__).parent


def programs(arch: Arch) -> BpfObject:
    """Those of a machine."""
    return read_object((FOLDER / f"forklore-{arch}.bpf.o").read_bytes())
