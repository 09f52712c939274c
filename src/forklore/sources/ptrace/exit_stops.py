"""Which tasks stop once more at their end (PTRACE_O_TRACEEXIT), when their memory and their zombies are still there.

All do where the options ask for it. Else those do of which something is to be seen then, and only they: it is a stop
more, and what a task makes has its options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forklore.abi.ptrace import Option
from forklore.sources.ptrace.tracee import Tracee

if TYPE_CHECKING:
    from forklore.sources.ptrace.kernel import Kernel


class ExitStops:
    """Asks the kernel for them, and to leave them out again."""

    def __init__(self, kernel: Kernel, options: int) -> None:
        """``options``: PTRACE_O_* that every tracee has."""
        self._kernel = kernel
        self.options = options

    @property
    def everywhere(self) -> bool:
        """Whether every tracee has one."""
        return bool(self.options & Option.TRACEEXIT)

    def add(self, task: Tracee) -> None:
        """``task``, which is held, stops at its end. ProcessLookupError if it was killed."""
        if not (task.tells_end or self.everywhere):
            self._kernel.set_options(task.tid, self.options | Option.TRACEEXIT)
            task.tells_end = True

    def drop(self, task: Tracee, *, told_child: bool = True) -> None:
        """``task``, which is held, does not, unless its title is to be read then. ProcessLookupError as above.

        ``told_child``: False where it is held at the event of a child that is not in the table yet.
        """
        if task.tells_end and not task.title_at_end:
            self._kernel.set_options(task.tid, self.options)
            task.tells_end, task.child_tells_end = False, not told_child
