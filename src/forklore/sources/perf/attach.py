"""Following what runs already by the kernel's own records: processes that are named, and what they make."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.linux import proc
from forklore.linux.tasks import thread_ids
from forklore.sources.attaching import BEFORE, UnheldAttachment
from forklore.sources.header import header, machine
from forklore.sources.perf.blind import blind, refusal
from forklore.sources.perf.follower import Follower
from forklore.sources.perf.kernel import Events
from forklore.sources.perf.session import recorded
from forklore.sources.ptrace.options import DEFAULTS, Options
from forklore.sources.unheld import BUFFER

if TYPE_CHECKING:
    from forklore.sources.source import Emit


class Attachment(UnheldAttachment[Follower]):
    """Running processes about to be followed, a :class:`forklore.sources.source.Source`."""

    def __init__(
        self, pids: Sequence[Pid], options: Options = DEFAULTS, *, tree: bool = False, seconds: float | None = None,
        buffer: int = BUFFER, kept: Collection[str] | None = None,
    ) -> None:  # fmt: skip
        """``pids`` with what they make from now on, with ``tree`` their descendants too. ``seconds``: leave then.
        ``buffer``, ``kept``: as for a run.

        Raises TraceRefusedError, ValueError for options that need more than records.
        """
        if (why := refusal(options)) is not None:
            raise ValueError(why)
        self._machine = arch = machine()
        self.options = options
        super().__init__(pids, tree=tree, seconds=seconds, kept=kept)
        self._read = Events(buffer, self.elapsed)
        told = {**options.record(), **recorded(self._read), "attach": " ".join(map(str, self._pids))}
        self.header = header(arch, self._start, told, [BEFORE, *blind(options, self._read.records)])

    @property
    def _events(self) -> Events:
        return self._read

    def _following(self, emit: Emit) -> Follower:
        records = self._read.records
        follower = Follower(
            self.options, self._machine, self._start, emit, strangers=records.whole_machine, paths=records.paths_told,
            parent_of=proc.parent_of,
        )  # fmt: skip
        for pid in self._pids:
            # Its events first, then who is there: who comes in between is in both, and known by then.
            tids = thread_ids(pid)
            if not isinstance(tids, Unavailable):
                self._read.follow(follower, tids)
            found = thread_ids(pid)
            if isinstance(found, Unavailable):
                self._refused.append(found)
                continue
            comm = proc.comm(Tid(pid))
            follower.begin(pid, found, self.elapsed(), None if isinstance(comm, Unavailable) else comm)
        return follower
