"""``forklore watch --top``: a screen that is renewed each second while a machine is watched."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from forklore.abi.text import printable
from forklore.abi.units import TaskId
from forklore.cli.main import complain
from forklore.events import records as ev

if TYPE_CHECKING:
    from rich.console import RenderableType

    from forklore.sources.source import Source

_EVERY: Final = 1_000_000_000
_LINES: Final = 15


class Counts:
    """What happened since the last screen, and who there is."""

    def __init__(self) -> None:
        self.names: dict[TaskId, str] = {}
        self.made: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.executed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.lost = 0

    def event(self, event: ev.Event) -> None:
        """The next event."""
        match event:
            case ev.Begin():
                self.names[TaskId(event.task)] = _name(event.comm)
            case ev.Create():
                name = self.names.get(TaskId(event.task), "?")
                self.names[TaskId(event.child)] = name
                self.made[name] += 1
            case ev.Exec():
                self.names[TaskId(event.task)] = _name(event.comm)
                self.executed[_name(event.comm)] += 1
            case ev.Name():
                self.names[TaskId(event.task)] = _name(event.comm)
            case ev.Fail() | ev.ExecFail():
                self.failed[self.names.get(TaskId(event.task), "?")] += 1
            case ev.Exit() | ev.Gone():
                self.ended[self.names.pop(TaskId(event.task), "?")] += 1
            case ev.Note():
                self.lost += "records of the kernel" in event.what
            case _:
                return

    def next(self) -> None:
        """The next second begins."""
        for counts in (self.made, self.ended, self.executed, self.failed):
            counts.clear()


def _name(comm: ev.Text | None) -> str:
    return "?" if comm is None else printable(ev.raw_bytes(comm))


def screen(counts: Counts, t: int) -> RenderableType:
    """The counts of a second that ends ``t`` ns after the start."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    alive = Counter(counts.names.values())
    lost = f", {counts.lost} gaps: a larger --buffer holds more" if counts.lost else ""
    head = Text(
        f"{t // _EVERY} s: {len(counts.names):,} tasks alive; in the last second {counts.made.total():,} made,"
        f" {counts.executed.total():,} executed, {counts.ended.total():,} ended, {counts.failed.total():,} refused"
        f"{lost}"
    )
    table = Table("program", box=None, pad_edge=False)
    for title in ("makes/s", "execs/s", "ends/s", "refused/s", "alive"):
        table.add_column(title, justify="right")
    busy = counts.made + counts.executed + counts.ended + counts.failed
    for name, _ in busy.most_common(_LINES):
        columns = (counts.made, counts.executed, counts.ended, counts.failed, alive)
        table.add_row(Text(name), *(f"{each[name]:,}" if each[name] else "" for each in columns))
    return Group(head, table)


def top(source: Source, arguments: argparse.Namespace) -> None:
    """Watch a source and show what happens; record it where that is asked for. Raises as the source does."""
    from rich.console import Console
    from rich.live import Live

    from forklore.sources.recording import Recording

    counts, due = Counts(), _EVERY
    recording = Recording(source.header, arguments.output, rotation=arguments.rotate, most=arguments.max_events)
    with Live(screen(counts, 0), console=Console(file=sys.stderr), auto_refresh=False, transient=True) as live:

        def idle(t: int) -> float:
            nonlocal due
            if t >= due:
                due = t + _EVERY
                live.update(screen(counts, t), refresh=True)
                counts.next()
            return max((due - t) / _EVERY, 0.001)

        recording.record(source, counts.event, idle)
    for text in (*source.warnings, *recording.complaints()):
        complain(text)
