"""Runs forklore as its command line does, and writes which files it opened while somebody was held for another.

``files_while_held_run.py LOG ARGUMENTS...``: a line for each file of a program that was opened, and one for each look
into debug information: ``held`` or ``free``, a blank, the file's name or ``lines``.
"""

from __future__ import annotations

import sys
from typing import Any

from forklore.abi.units import Tid, Unavailable
from forklore.cli.main import main
from forklore.elf.dwarf.source import DwarfSource
from forklore.linux.files import strangers_file
from forklore.linux.files.strangers_file import StrangersFile
from forklore.sources.ptrace.creations import Creations

LOG = open(sys.argv[1], "w", buffering=1)  # noqa: SIM115 - as long as the process lives
ALL: list[Creations] = []
made, taken, looked = Creations.__init__, strangers_file._take, DwarfSource.at


def make(self: Creations, **given: Any) -> None:
    made(self, **given)
    ALL.append(self)


def told(what: str) -> None:
    LOG.write(f"{'held' if any(each.in_flight for each in ALL) else 'free'} {what}\n")


def take(descriptor: int, tid: Tid | None, path: str = "") -> StrangersFile | Unavailable:
    told(path)
    return taken(descriptor, tid, path)


def at(self: DwarfSource, address: int) -> Any:
    told("lines")
    return looked(self, address)


Creations.__init__ = make  # type: ignore[method-assign]
strangers_file._take = take
DwarfSource.at = at  # type: ignore[method-assign]
sys.exit(main(sys.argv[2:]))
