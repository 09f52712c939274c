"""What every engine that starts a program has in common: its environment, and why it could not be executed."""

from __future__ import annotations

import os
from errno import ENOENT

from forklore.abi.units import Unavailable
from forklore.elf.image.interpreter import interpreter
from forklore.linux import proc
from forklore.linux.tracing.spawn import NotExecutableError


def own_environment() -> list[bytes]:
    """The environment that this process was executed with, entry by entry."""
    own = proc.environment()
    return [b"=".join(item) for item in os.environb.items()] if isinstance(own, Unavailable) else own


def not_executed(path: bytes, errno: int) -> NotExecutableError:
    """The error of an execve that failed for a file that was found."""
    name = os.fsdecode(path)
    needed = interpreter(name) if errno == ENOENT else None
    if isinstance(needed, bytes):
        return NotExecutableError(f"cannot run {name}: its interpreter {os.fsdecode(needed)} does not exist")
    return NotExecutableError(f"cannot run {name}: {os.strerror(errno)}")
