"""Who makes a child: what reads call stacks, loaded while the program starts."""

from __future__ import annotations

import _thread
import os
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

from forklore.abi.arch import Arch
from forklore.abi.units import Tid
from forklore.events import records as ev
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace.deferred import Work
from forklore.sources.ptrace.observer import Observer
from forklore.sources.ptrace.options import Options
from forklore.sources.ptrace.tracee import EnteredCall, Glance, Noted, Tracee

if TYPE_CHECKING:
    from forklore.linux.pages.vfork_memory import MemoryChange
    from forklore.sources.stacks.call_stacks import StackReader
    from forklore.sources.stacks.code import CodeSpace
    from forklore.sources.stacks.variables import Frames, Near, VariableNames


_LATER: Final = (
    "sources.stacks.call_stacks", "elf.image.debug_files", "elf.image.symbols", "elf.image.thread_descriptors",
    "elf.dwarf.file", "elf.cpython.frames", "elf.cpython.attributes", "linux.files.mapped_memory",
)  # fmt: skip
"""What is loaded when the first stack is read, of a program in C and of one in Python."""


def _load() -> None:
    for module in _LATER:
        with suppress(ImportError):  # whoever needs it says so
            import_module(f"forklore.{module}")


class Callers(Observer):
    """Looks behind each creation call."""

    def __init__(self, machine: Arch, options: Options, out: Outbox) -> None:
        self._machine = machine
        self._options = options
        self._out = out
        self._made: StackReader | None = None
        self._variables: VariableNames | None = None

    def starting(self) -> None:
        """Where no processor is free, load what the first stack takes: later somebody would be held long for it."""
        if os.getloadavg()[0] > (os.cpu_count() or 1):
            _load()

    def started(self) -> None:
        """Load it while the program starts, where that was not done: one that makes nothing does not wait for it."""
        with suppress(RuntimeError):  # no room for a thread: it is loaded when it is needed
            _thread.start_new_thread(_load, ())

    def _stacks(self) -> StackReader:
        if self._made is None:
            from forklore.sources.stacks.call_stacks import StackReader

            self._made = StackReader(self._machine, self._options, self._out)
        return self._made

    def glance(self, tid: Tid) -> Glance:
        """The registers and the stack of a task that is held in its call."""
        return self._stacks().glance(tid)

    def creating(self, task: Tracee, entry: EnteredCall, t: int) -> Work | None:
        """Note in ``entry`` who makes the call."""
        return self._stacks().enter(task, entry, t)

    def falling(self, task: Tracee, t: int) -> None:
        """Note in ``task`` where it was when it got the signal that ends it."""
        task.fell = self.where(task, t)

    def where(self, task: Tracee, t: int) -> Noted:
        """The stack of a task that is held."""
        return self._stacks().where(task, t)

    def names(
        self, tid: Tid, space: CodeSpace, frames: Frames, changes: Sequence[MemoryChange], now: Near
    ) -> list[list[ev.Variable]]:
        """The variables that were changed."""
        if self._variables is None:
            from forklore.sources.stacks.variables import VariableNames

            self._variables = VariableNames(self._stacks().code)
        return self._variables.of(tid, space, frames, changes, now)

    def finish(self, t: int) -> None:
        """Write the source lines."""
        if self._made is not None:
            try:
                self._out.empty()
                self._made.write_lines(t)
            except MemoryError:
                return  # the lines that were found are written, and how the program ended is still to be told
