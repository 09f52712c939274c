"""What one workload is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Workload(msgspec.Struct, frozen=True):
    """A command, in its surroundings."""

    name: str
    command: tuple[str, ...]
    witness: bool = True
    """Whether the preloaded witness watches: not where it would cost more than what it watches."""
    user: bool = False
    """As an ordinary user, if root runs this."""
    uid: int | None = None
    """As this user, if root runs this."""
    terminal: bool = False
    limit: float = 120.0
    environment: Mapping[str, str] = MappingProxyType({})
    needs: str = ""
    """What is missing on this machine, and how to get it; empty if nothing is."""


def lacks(tool: str, package: str) -> str:
    """Empty if there is such a tool, or how Debian's users get it."""
    return "" if shutil.which(tool) else f"no {tool} on this machine (Debian: apt install {package})"
