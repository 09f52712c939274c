"""Following what runs already: processes that are named, or whoever on the machine passes a filter.

Nothing is attached to the programs themselves: they neither stop nor notice, and go on when we end, however we do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from forklore.abi.units import Pid
from forklore.linux.bpf.loader import LoadError
from forklore.sources.attaching import BEFORE, UnheldAttachment
from forklore.sources.bpf import following
from forklore.sources.bpf.blind import blind
from forklore.sources.bpf.follower import Follower
from forklore.sources.bpf.kernel import Events, Failures, Filter
from forklore.sources.header import TraceRefusedError, header, machine
from forklore.sources.ptrace.options import DEFAULTS, Options
from forklore.sources.unheld import BUFFER

if TYPE_CHECKING:
    from forklore.sources.source import Emit


class Attachment(UnheldAttachment[Follower]):
    """Running processes about to be followed, or a machine, a :class:`forklore.sources.source.Source`."""

    def __init__(
        self, pids: Sequence[Pid], options: Options = DEFAULTS, *, everything: Filter | None = None,
        tree: bool = False, seconds: float | None = None, buffer: int = BUFFER, failures: Failures = Failures.AUTO,
        kept: Collection[str] | None = None,
    ) -> None:  # fmt: skip
        """``pids`` with what they make from now on, with ``tree`` their descendants too, or with ``everything`` whoever
        passes that filter. ``seconds``: leave after that time. ``buffer``, ``failures``,
        ``kept``: as for a run.

        Raises TraceRefusedError, ValueError for options that need held tasks.
        """
        following.refuse(options)
        self._machine = arch = machine()
        self._everything = everything
        self.options = options
        super().__init__(pids, tree=tree, seconds=seconds, kept=kept, any_will_do=everything is not None)
        try:
            self._loaded = following.loaded(arch, options, buffer=buffer, failures=failures, everything=everything)
        except LoadError as problem:
            raise TraceRefusedError(str(problem)) from problem
        told = {**following.told(options, self._loaded, buffer), **_shown(self._pids, everything)}
        self.header = header(arch, self._start, told, [BEFORE, *blind(options, self._loaded)])

    @property
    def _events(self) -> Events:
        return self._loaded

    def _following(self, emit: Emit) -> Follower:
        events = self._loaded
        follower = following.follower(self._machine, self.options, self._start, emit, events)
        if self._everything is not None:
            events.look()
            return follower
        events.mark(self._pids)
        if follower.stacks is not None:
            for pid in self._pids:  # while they are there
                follower.stacks.where_code_lies.of(pid)
        return follower


def _shown(pids: Sequence[Pid], everything: Filter | None) -> dict[str, str | int | bool | None]:
    if everything is None:
        return {"attach": " ".join(map(str, pids))}
    comm = None if everything.comm is None else everything.comm.decode(errors="replace")
    return {"watch": True, "uid": everything.uid, "cgroup": everything.cgroup, "comm": comm}
