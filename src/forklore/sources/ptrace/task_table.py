"""The tracees among the live tasks: what they have besides, and which of them stay traced."""

from __future__ import annotations

from forklore.abi.flags import CLONE_NEWPID, CLONE_VM
from forklore.abi.units import Tid
from forklore.sources.ptrace.options import Follow, Options
from forklore.sources.ptrace.tracee import Tracee
from forklore.sources.task_table import TaskTable


class Family(TaskTable[Tracee]):
    """Every task that is traced now."""

    def __init__(self, options: Options) -> None:
        super().__init__(Tracee)
        self._options = options

    def born(self, creator: Tracee, tid: Tid, flags: int) -> Tracee:
        """The child of a creation call with ``flags``."""
        child = super().born(creator, tid, flags)
        if creator.space is not None:
            child.space = creator.space if flags & CLONE_VM else creator.space.copy()
        child.time_pending = creator.time_pending
        child.tells_end = creator.tells_end or creator.child_tells_end  # ptrace's options are inherited
        creator.child_tells_end = False
        child.nested = child.parted = creator.parted or bool(flags & CLONE_NEWPID)
        child.keep = self._follows(child, thread=child.group is creator.group)
        return child

    def _follows(self, child: Tracee, *, thread: bool) -> bool:
        options = self._options
        if options.max_depth is not None and child.depth > options.max_depth:
            return False
        return options.follow is Follow.ALL or options.follow is (Follow.THREADS if thread else Follow.PROCESSES)
