"""Runs forklore as its command line does, and writes which files it opened or read while somebody was held.

``files_while_held_run.py LOG ARGUMENTS...``: a line for each file of a program that was opened, each time that one was
read, and each look into debug information: ``held`` or ``free``, a blank, the file's name, ``read`` or ``lines``. With
``FILES_WHILE_HELD_MOST`` no more events than that wait to be looked into.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from forklore.abi.units import Tid, Unavailable
from forklore.cli.main import main
from forklore.elf.dwarf.source import DwarfSource
from forklore.linux.files import strangers_file
from forklore.linux.files.strangers_file import StrangersFile
from forklore.sources import outbox
from forklore.sources.ptrace.callers import Callers
from forklore.sources.ptrace.creations import Creations

LOG = open(sys.argv[1], "w", buffering=1)  # noqa: SIM115 - as long as the process lives
ALL: list[Creations] = []
STOPPED: list[str] = []
made, taken, read, looked = Creations.__init__, strangers_file._take, strangers_file._Opened.read, DwarfSource.at


def make(self: Creations, **given: Any) -> None:
    made(self, **given)
    ALL.append(self)


def told(what: str) -> None:
    LOG.write(f"{'held' if STOPPED or any(each.in_flight for each in ALL) else 'free'} {what}\n")


def take(descriptor: int, tid: Tid | None, path: str = "") -> StrangersFile | Unavailable:
    told(path)
    return taken(descriptor, tid, path)


def read_some(self: strangers_file._Opened, offset: int, size: int) -> bytes:
    told("read")
    return read(self, offset, size)


def in_a_stop(method: Callable[..., Any]) -> Callable[..., Any]:
    """Somebody is held as long as this runs."""

    def wrapped(*given: Any) -> Any:
        STOPPED.append(method.__name__)
        try:
            return method(*given)
        finally:
            STOPPED.pop()

    return wrapped


def at(self: DwarfSource, address: int) -> Any:
    told("lines")
    return looked(self, address)


if "FILES_WHILE_HELD_MOST" in os.environ:
    outbox.MOST = int(os.environ["FILES_WHILE_HELD_MOST"])  # type: ignore[misc]
Creations.__init__ = make  # type: ignore[method-assign]
strangers_file._take = take
strangers_file._Opened.read = read_some  # type: ignore[method-assign]
Callers.creating, Callers.where = in_a_stop(Callers.creating), in_a_stop(Callers.where)  # type: ignore[method-assign]
DwarfSource.at = at  # type: ignore[method-assign]
sys.exit(main(sys.argv[2:]))
