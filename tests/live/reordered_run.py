"""``forklore``, whose loop meets three statuses in an order that takes luck otherwise: ``reordered_run.py run …``.

The first stop of a child, then the root's end, then the event that tells of the child. All of them are there, or come.
"""

from __future__ import annotations

import sys

from forklore.abi.units import Tid, Unavailable
from forklore.cli.main import main
from forklore.linux import proc
from forklore.linux.tracing.wait import Kind, WaitStatus
from forklore.sources.ptrace.engine import Engine


class Reordered(Engine):
    """Keeps what is first of the three until it has them all."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self._held_back: dict[str, tuple[Tid, int]] = {}

    def _wait(self) -> tuple[Tid, int]:
        while True:
            tid, word = super()._wait()
            role = self._role(tid, WaitStatus.decode(word))
            if role is None:
                return tid, word
            self._held_back[role] = tid, word
            if len(self._held_back) == 3:
                self._before.extend(self._held_back[name] for name in ("end", "event"))
                return self._held_back["stop"]

    def _role(self, tid: Tid, status: WaitStatus) -> str | None:
        if len(self._held_back) == 3:
            return None
        if self.root is not None and tid == self.root.tid:
            return "end" if status.ended else None
        if status.kind is Kind.CLONE:
            return "event"
        return "stop" if status.kind is Kind.TRAP and tid not in self._family.live and is_thread(tid) else None


def is_thread(tid: Tid) -> bool:
    """Whether it is not the first of its process."""
    found = proc.status(tid)
    return not isinstance(found, Unavailable) and proc.number(found, b"Tgid") != tid


if __name__ == "__main__":
    import forklore.sources.ptrace.session

    forklore.sources.ptrace.session.Engine = Reordered  # type: ignore[attr-defined]
    sys.exit(main(sys.argv[1:]))
