"""One run by the kernel's own records of tasks: no stops, no BPF, and for one's own programs no privilege."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from forklore.abi.units import Tid
from forklore.linux import proc
from forklore.linux.tracing import spawn
from forklore.sources.header import header, machine
from forklore.sources.perf.blind import blind, refusal
from forklore.sources.perf.follower import Follower
from forklore.sources.perf.kernel import Events
from forklore.sources.ptrace.options import DEFAULTS, Options
from forklore.sources.unheld import BUFFER, UnheldSession

if TYPE_CHECKING:
    from forklore.sources.source import Emit


class Session(UnheldSession[Follower]):
    """A program about to be followed, a :class:`forklore.sources.source.Source`."""

    def __init__(
        self,
        command: Sequence[str],
        options: Options = DEFAULTS,
        environment: Sequence[bytes] | None = None,
        *,
        buffer: int = BUFFER,
        relay_signals: bool = False,
        kept: Collection[str] | None = None,
    ) -> None:
        """Find the program and find out what may be read. ``buffer``: bytes of the rings between the kernel and us;
        ``kept``: which capabilities are not given up once the program is followed (None: all).

        Raises NotFoundError, NotExecutableError, TraceRefusedError, and ValueError for options that need more.
        """
        if (why := refusal(options)) is not None:
            raise ValueError(why)
        self._machine = machine()
        super().__init__(command, options, environment, relay_signals=relay_signals, kept=kept)
        self._read = Events(buffer, self.elapsed)
        records = self._read.records
        told = {**options.record(), **recorded(self._read)}
        named = command if options.argv else command[:1]
        self.header = header(self._machine, self._start, told, blind(options, records), named)
        self._status: int | None = None

    @property
    def _events(self) -> Events:
        return self._read

    def _following(self, emit: Emit, launched: spawn.Launched) -> Follower:
        records = self._read.records
        follower = Follower(
            self.options, self._machine, self._start, emit, root=launched.pid, strangers=records.whole_machine,
            paths=records.paths_told, status=lambda: self._waited(launched), parent_of=proc.parent_of,
            command=(self._path, [os.fsencode(word) for word in self.command]),
        )  # fmt: skip
        follower.begin(launched.pid, [Tid(launched.pid)], self.elapsed())
        self._read.follow(follower, [Tid(launched.pid)])
        return follower

    def _over(self, follower: Follower) -> None:
        follower.root_is_over(self.elapsed())

    def _waited(self, launched: spawn.Launched) -> int:
        if self._status is None:
            self._status = launched.wait()
        return self._status


def recorded(events: Events) -> dict[str, str | int | bool | None]:
    """What the header says of how the trace was made."""
    records = events.records
    return {
        "stops": None,
        "stack_depth": 0,
        "engine": "perf",
        "buffer": records.size,
        "perf": "machine" if records.whole_machine else "inherited",
        "tracepoints": records.flags_told,
    }
