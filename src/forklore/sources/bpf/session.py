"""One run without stops: the program is started when the programs in the kernel wait for it, and their records read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from forklore.linux.bpf.loader import LoadError
from forklore.linux.tracing import spawn
from forklore.sources.bpf import following
from forklore.sources.bpf.blind import blind
from forklore.sources.bpf.follower import Follower
from forklore.sources.bpf.kernel import Events, Failures
from forklore.sources.header import TraceRefusedError, header, machine
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
        failures: Failures = Failures.AUTO,
        relay_signals: bool = False,
        kept: Collection[str] | None = None,
    ) -> None:
        """Find the program and load the programs that follow it. As for :class:`forklore.sources.ptrace.session`.

        ``buffer``: bytes of the ring between the kernel and us; ``failures``: whether refused calls are seen;
        ``kept``: which capabilities are not given up once the program is followed (None: all).
        Raises NotFoundError, NotExecutableError, TraceRefusedError, and ValueError for options that need held tasks.
        """
        following.refuse(options)
        self._machine = machine()
        super().__init__(command, options, environment, relay_signals=relay_signals, kept=kept)
        try:
            self._loaded = following.loaded(self._machine, options, buffer=buffer, failures=failures)
        except LoadError as problem:
            raise TraceRefusedError(f"{problem}; --engine ptrace needs none of this") from problem
        recorded = command if options.argv else command[:1]
        told = following.told(options, self._loaded, buffer)
        self.header = header(self._machine, self._start, told, blind(options, self._loaded), recorded)

    @property
    def _events(self) -> Events:
        return self._loaded

    def _following(self, emit: Emit, launched: spawn.Launched) -> Follower:
        follower = following.follower(self._machine, self.options, self._start, emit, self._loaded, root=launched.pid)
        self._loaded.mark([launched.pid])
        return follower
