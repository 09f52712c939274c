"""``forklore``, and a count of what its loop met: ``watched_run.py FILE run …`` writes the counts to FILE as JSON.

Which of a child's first stop and its creator's event comes first, and whether a call was restarted, leaves no trace in
the log, because it must not matter. A test that wants to know that it met both asks the engine itself.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from forklore.abi.units import Tid
from forklore.cli.main import main
from forklore.linux.tracing.wait import WaitStatus
from forklore.sources.ptrace.calls import Calls
from forklore.sources.ptrace.creations import CreationInFlight
from forklore.sources.ptrace.engine import Engine
from forklore.sources.ptrace.tracee import EnteredCall, Tracee

COUNTS: Counter[str] = Counter()


class Watched(Engine):
    """Counts, and does as the engine does."""

    def _first_status(self, tid: Tid, status: WaitStatus, t: int) -> Tracee | None:
        COUNTS["child first" if tid not in self._creations.awaited else "creator first"] += 1
        return super()._first_status(tid, status, t)

    def _begin(self, child: Tracee, early: WaitStatus, t: int) -> None:
        COUNTS["creator first"] -= 1  # it was there before, and is handed to _first_status once more from here
        super()._begin(child, early, t)

    def _adopt(self, tid: Tid, made: CreationInFlight | None) -> None:
        COUNTS["adopted"] += 1
        super()._adopt(tid, made)


class WatchedCalls(Calls):
    """The same of the ends of calls."""

    def _returned(self, task: Tracee, entry: EnteredCall, result: int, t: int) -> None:
        COUNTS["restarted"] += result == ERESTARTNOINTR
        super()._returned(task, entry, result, t)


ERESTARTNOINTR = -513


if __name__ == "__main__":
    import forklore.sources.ptrace.engine
    import forklore.sources.ptrace.session

    forklore.sources.ptrace.engine.Calls = WatchedCalls  # type: ignore[attr-defined]
    forklore.sources.ptrace.session.Engine = Watched  # type: ignore[attr-defined]
    code = main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps(COUNTS))
    sys.exit(code)
