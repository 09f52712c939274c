"""Runs forklore as its command line does, and writes which files it opened while somebody was held for another.

``files_while_held_run.py LOG ARGUMENTS...``: a line for each file that was looked up below a root directory, and one
for each look into debug information: ``held`` or ``free``, a blank, the file's name or ``lines``.
"""

from __future__ import annotations

import sys
from typing import Any

from forklore.abi.units import Unavailable
from forklore.cli.main import main
from forklore.elf.dwarf.source import DwarfSource
from forklore.linux.files.strangers_file import Folder, StrangersFile
from forklore.sources.ptrace.creations import Creations

LOG = open(sys.argv[1], "w", buffering=1)  # noqa: SIM115 - as long as the process lives
ALL: list[Creations] = []
made, opened, looked = Creations.__init__, Folder.open, DwarfSource.at


def make(self: Creations, **given: Any) -> None:
    made(self, **given)
    ALL.append(self)


def told(what: str) -> None:
    LOG.write(f"{'held' if any(each.in_flight for each in ALL) else 'free'} {what}\n")


def open_(self: Folder, path: bytes) -> StrangersFile | Unavailable:
    told(path.decode())
    return opened(self, path)


def at(self: DwarfSource, address: int) -> Any:
    told("lines")
    return looked(self, address)


Creations.__init__ = make  # type: ignore[method-assign]
Folder.open = open_  # type: ignore[method-assign]
DwarfSource.at = at  # type: ignore[method-assign]
sys.exit(main(sys.argv[2:]))
