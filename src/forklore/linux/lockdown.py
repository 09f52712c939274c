"""Kernel lockdown, kernel_lockdown(7): what mode the running kernel is in."""

from __future__ import annotations

import os
import re
from typing import Final

from forklore.abi.units import Unavailable
from forklore.linux import proc
from forklore.linux.detached import mounted

_FILE: Final = "/sys/kernel/security/lockdown"


def lockdown() -> str:
    """``none``, ``integrity`` or ``confidentiality``; empty where it cannot be read."""
    modes = proc.read_file(_FILE)
    chosen = re.search(rb"\[(\w+)\]", _of_our_own() if isinstance(modes, Unavailable) else modes)
    return "" if chosen is None else chosen[1].decode()


def _of_our_own() -> bytes:
    # Where securityfs is not mounted.
    try:
        root = mounted("securityfs")
        try:
            file = os.open("lockdown", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
            try:
                return os.read(file, 64)
            finally:
                os.close(file)
        finally:
            os.close(root)
    except OSError:
        return b""
