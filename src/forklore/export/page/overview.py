"""What a page shows at once: the summary, and of each task what its row and box need, in columns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct, field

from forklore.abi.signals import signal_name
from forklore.abi.text import printable
from forklore.abi.units import Nanoseconds
from forklore.events.records import raw_bytes
from forklore.export.page.clock import Clock
from forklore.export.page.strings import Strings
from forklore.model.critical_path import critical_path, savings
from forklore.model.tasks import FailedExec, Task, Trace
from forklore.model.timing import cpu_of, most_at_once
from forklore.model.waits import Untimed
from forklore.report.styled_lines import plain
from forklore.report.times import NOT_TRACED, after_text, saving_text
from forklore.report.tree import label
from forklore.report.tree.commands import asked_text
from forklore.report.tree.edges import Edges
from forklore.report.tree.fold import TreeRow
from forklore.report.words import words
from forklore.report.words.deaths import death_words, gone_words

_KINDS: Final = {"process": 0, "thread": 1, "task": 2}
STATUS, SIGNAL, REFUSED = 1, 2, 4
"""What went wrong with a task, as bits."""
MARK_REFUSED, MARK_SIGNAL, MARK_STATUS, MARK_STOP = range(4)
_LABEL: Final = 400
"""Characters of a command line in the tree; a card has all of it."""
_SAVINGS: Final = 8
_MICRO: Final = 1000


class Tasks(Struct):
    """Columns, one entry a task, as front-end/src/data.ts has them."""

    id: list[int] = field(default_factory=list)
    tid: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    creator: list[int] = field(default_factory=list)
    leader: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    name: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    images: list[list[int]] = field(default_factory=list)


class Path(Struct):
    """The critical path."""

    unknown: str | None = None
    steps: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    savings: list[tuple[str, int, int, int]] = field(default_factory=list)


Mark = tuple[int, int, int, int]


class Columns:
    """Makes the columns of a trace; ``places`` has each task's place in them, ``strings`` their texts."""

    def __init__(self, trace: Trace, edges: Edges, strings: Strings) -> None:
        self._trace = trace
        self._edges = edges
        self.strings = strings
        self.clock = Clock(trace)
        self.places = {number: place for place, number in enumerate(trace.tasks)}
        self.tasks = Tasks()
        self.marks: list[Mark] = []
        for place, task in enumerate(trace.tasks.values()):
            self._add(place, task)

    def _add(self, place: int, task: Task) -> None:
        tasks, strings, clock = self.tasks, self.strings, self.clock
        tasks.id.append(task.id)
        tasks.tid.append(task.tid)
        tasks.kind.append(_KINDS[task.kind])
        above = task.creator if task.creator is not None else task.found_under
        tasks.creator.append(-1 if above is None else self.places[above])
        tasks.leader.append(-1 if task.leader is None else self.places[task.leader])
        start, end = clock.life(task)
        tasks.start.append(start)
        tasks.end.append(end)
        tasks.open.append(int(task.ended is None))
        tasks.name.append(strings.place(words.task_name(task)))
        tasks.label.append(strings.place(self._label(task)))
        tasks.ended.append(strings.place(_ended(task)))
        tasks.released.append(clock.at(task.vfork_released, -1))
        images: list[int] = []
        for image in task.images:
            file = image.file
            images += (min(max(clock.at(image.t, start), start), end), strings.place(words.base_name(file or b"?")))
        tasks.images.append(images)
        tasks.bad.append(self._marks(place, task, start, end))

    def _label(self, task: Task) -> str:
        edge = self._edges.of(task)
        row = TreeRow([task], each=1, edges=() if edge is None else (edge,))
        text = plain(label.task_head(row, _LABEL, runs=True))
        # The number and the kind have columns of their own.
        kind = "" if task.kind == "process" else f"{task.kind} "
        return text.removeprefix(kind).removeprefix(words.tid(task.tid)).strip() or words.task_name(task)

    def _marks(self, place: int, task: Task, start: int, end: int) -> int:
        bad = 0
        clock = self.clock

        def mark(t: Nanoseconds | None, otherwise: int, sign: int, text: str) -> None:
            self.marks.append((place, min(max(clock.at(t, otherwise), start), end), sign, self.strings.place(text)))

        for failure in task.failures:
            bad |= REFUSED
            mark(failure.t, start, MARK_REFUSED, f"{failure.creation.text()} = {words.error(failure.errno)}")
        for failed in task.failed_execs:
            if not _found_later(failed, task):
                bad |= REFUSED
            text = f"execve {words.path(failed.paths[-1])} = {words.error(failed.errnos[-1])}"
            mark(failed.t, start, MARK_REFUSED, text)
        for call in task.calls:
            if call.result is not None and call.result < 0:
                bad |= REFUSED
                mark(call.t, start, MARK_REFUSED, f"{call.call.text()} = {words.error(-call.result)}")
        for stop in task.stops:
            mark(stop.t, start, MARK_STOP, f"stopped by {signal_name(stop.signal)}")
        death = task.death
        if death is not None and death.signal is not None:
            bad |= SIGNAL
            mark(task.ended, end, MARK_SIGNAL, death_words(death, task.tgid))
        elif death is not None and death.code:
            bad |= STATUS
            mark(task.ended, end, MARK_STATUS, f"exit {death.code}")
        return bad


def _found_later(failed: FailedExec, task: Task) -> bool:
    """A search through PATH that found it in the end."""
    return any(failed.t is None or image.t is None or image.t >= failed.t for image in task.images)


def _ended(task: Task) -> str:
    if task.death is None:
        return gone_words(task.gone)
    return "" if task.death.code == 0 else death_words(task.death, task.tgid)


def path_of(trace: Trace, columns: Columns) -> Path:
    """The critical path, or why it is not known."""
    found = critical_path(trace)
    if isinstance(found, Untimed):
        return Path(unknown=found.why)
    path = Path()
    after: dict[str, int] = {}
    for index, step in enumerate(found.steps):
        text = after_text(trace, found, index)
        since, until = columns.clock.at(step.since, 0), columns.clock.at(step.until, 0)
        place = after.setdefault(text, len(after))
        path.steps.append((columns.places[step.task], since, until, place, int(step.sure)))
    path.after = list(after)
    head = f"{words.span(found.length)} in {words.count(len(found.steps), 'step')}, up to the end of"
    path.notes.append(f"{head} {words.tid(trace.tasks[found.end].tid)} {words.task_name(trace.tasks[found.end])}.")
    if not found.sure:
        path.notes.append(NOT_TRACED)
    if found.outlived:
        path.notes.append(f"{words.count(found.outlived, 'task')} ended later, and are on no path to its end.")
    for saving in savings(trace, found, _SAVINGS):
        task = -1 if saving.task is None else columns.places[saving.task]
        what = printable(saving_text(trace, saving))
        path.savings.append((what, saving.on_path // _MICRO, saving.saved // _MICRO, task))
    return path


def title(trace: Trace) -> str:
    """What ran, as a command line."""
    if trace.header.command:
        return asked_text(tuple(map(raw_bytes, trace.header.command)), _LABEL)
    root = next(iter(trace.roots), None)
    return "a trace" if root is None else words.task_name(root) or f"task {words.tid(root.tid)}"


def facts(trace: Trace) -> Iterator[tuple[str, str]]:
    """The summary: a term and what is to say of it."""
    tasks = trace.tasks.values()
    roots = trace.roots
    wall = None
    if len(roots) == 1:
        last = roots[0]
        while last.heir is not None:
            last = trace.tasks[last.heir]
        yield "ended", gone_words(last.gone) if last.death is None else death_words(last.death, last.tgid)
        wall = roots[0].age(last.ended)
    elif roots:
        yield "began with", words.count(len(roots), "task")
    if wall is not None:
        yield "took", words.span(wall)
    if (cpu := cpu_of(tasks)) is not None:
        average = f", {cpu * _MICRO / wall:.1f} processors on average" if wall else ""
        yield "CPU", f"{words.span(cpu * _MICRO)}{average}"
    if (peak := max((task.peak for task in tasks if task.peak is not None), default=None)) is not None:
        yield "memory", f"{words.size(peak * 1024)} at most"
    yield "made", _counted(trace)
    if (most := most_at_once(tasks)) is not None:
        yield "at once", f"{words.count(most, 'process', 'processes')} at most"
    if trace.failures:
        yield "refused", words.count(len(trace.failures), "creation")
    if held := sum(task.tracer_held for task in tasks):
        yield "held by forklore", words.span(held)
    header = trace.header
    where = [printable(header.host or ""), printable(f"Linux {header.kernel}" if header.kernel else "")]
    if header.clock.wall is not None:
        where.append(_date(header.clock.wall))
    if any(where):
        yield "seen", ", ".join(filter(None, where))


def _counted(trace: Trace) -> str:
    kinds = [task.kind for task in trace.tasks.values()]
    parts = [words.count(kinds.count("process"), "process", "processes")]
    if threads := kinds.count("thread"):
        parts.append(words.count(threads, "thread"))
    if unknown := kinds.count("task"):
        parts.append(f"{words.count(unknown, 'task')} of unknown kind")
    return ", ".join(parts)


def _date(ns: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return ""

