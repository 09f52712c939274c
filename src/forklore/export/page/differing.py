"""What differs between two traces, as a page of both shows it: sentences with the tasks that they are about, and what
differs of two tasks that are one another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from msgspec import Struct

from forklore.abi.text import printable
from forklore.abi.units import TaskId
from forklore.findings.check import Checked
from forklore.model.census import Census, Maker, Manner
from forklore.model.compare import Change, Counted, EndsOtherwise, Made, Shared, TraceComparison
from forklore.model.differences import (
    FEWEST,
    LEAST,
    ArgumentsChanged,
    Differences,
    EnvironmentChanged,
    TimeChanged,
    replaced,
)
from forklore.model.environment import changed, variables
from forklore.model.matched import Words, arguments, lasting, matched, program_of
from forklore.model.tasks import Image, Task, Trace
from forklore.model.timing import own_cpu
from forklore.report import run_changes, trace_changes
from forklore.report.run_changes import FindingsChanged
from forklore.report.words import words
from forklore.report.words.deaths import death_words

_VARIABLES = 20
"""Of one task, so many that changed are told."""

Told = tuple[str, str]
"""What it is about, in a word, and a sentence."""


class Side(Struct, frozen=True, dict=True):
    """One of the two traces, with what was counted and found in it."""

    name: str
    trace: Trace
    census: Census
    """As it was compared: without what only one of the two traces tells."""
    checked: Checked

    @cached_property
    def manners(self) -> dict[TaskId, tuple[Maker, Manner]]:
        """How each task was made."""
        return {
            task: key
            for key, tasks in self.census.whose.items()
            if isinstance(key, tuple) and isinstance(key[0], Maker) and isinstance(key[1], Manner)
            for task in tasks
        }

    @cached_property
    def ran(self) -> dict[bytes, list[TaskId]]:
        """Who executed a program of that name, those first that lived longest."""
        found: dict[bytes, list[Task]] = {}
        for task in self.trace.tasks.values():
            for program in {program_of(image) for image in task.images}:
                if program is not None:
                    found.setdefault(program, []).append(task)
        return {
            name: [task.id for task in sorted(tasks, key=lambda task: -(task.lifetime or 0))]
            for name, tasks in found.items()
        }

    @cached_property
    def commands(self) -> dict[tuple[bytes, Words], list[TaskId]]:
        """Who executed it with these arguments."""
        found: dict[tuple[bytes, Words], list[TaskId]] = {}
        for task in self.trace.tasks.values():
            for image in task.images:
                program, given = program_of(image), arguments(image)
                if program is not None and given is not None:
                    found.setdefault((program, given), []).append(task.id)
        return found

    @cached_property
    def rules(self) -> dict[TaskId, Counter[str]]:
        """What was found of each task."""
        found: dict[TaskId, Counter[str]] = {}
        for each in self.checked.findings:
            for finding in (each.first, *each.others):
                for task in dict.fromkeys(finding.tasks):
                    found.setdefault(task, Counter())[finding.rule] += 1
        return found

    @cached_property
    def own(self) -> dict[TaskId, int]:
        """CPU time in µs of each process alone."""
        return own_cpu(self.trace)


class Sentence(Struct, frozen=True):
    """One difference, and the tasks of each side that it is about."""

    about: str
    text: str
    old: list[TaskId]
    new: list[TaskId]


class Differing:
    """Two traces that were compared."""

    def __init__(
        self, old: Side, new: Side, comparison: TraceComparison, found: Differences, findings: Sequence[FindingsChanged]
    ) -> None:
        self.sides = old, new
        self.match = matched(old.trace, new.trace)
        """Which task of the new trace is which of the old."""
        self._comparison, self._found, self._findings = comparison, found, findings
        left_out = [rule.id for side in self.sides for rule, _ in (*side.checked.not_judged, *side.checked.in_part)]
        self._left_out = frozenset(left_out)

    @property
    def totals(self) -> str:
        """How many of what there were, and are."""
        return trace_changes.totals(self._comparison.old, self._comparison.new)

    def remarks(self) -> Iterator[str]:
        """What is to be known of the comparison itself."""
        yield from run_changes.remarks(self._found)
        yield from trace_changes.remarks(self._comparison)

    def sentences(self) -> Iterator[Sentence]:
        """All that `forklore diff` tells, in its words and its order."""
        for said in trace_changes.said(self._comparison.changes):
            old, new = (_once(task for change in said.changes for task in _made(side, change)) for side in self.sides)
            yield Sentence(said.about, said.text, old, new)
        for each in run_changes.said(self._found, self._findings):
            old, new = (
                _once(task for change in each.changes for task in self._about(side, change, which))
                for which, side in enumerate(self.sides)
            )
            yield Sentence(each.about, each.text, old, new)

    def _about(
        self, side: Side, change: ArgumentsChanged | EnvironmentChanged | TimeChanged | FindingsChanged, which: int
    ) -> Iterator[TaskId]:
        tasks = side.trace.tasks
        match change:
            case ArgumentsChanged():
                for line in dict.fromkeys(change.lines):
                    yield from side.commands.get((change.program, line[which]), ())
            case EnvironmentChanged():
                value = (change.variable.before, change.variable.now)[which]
                for task in side.ran.get(change.program, ()):
                    if any(_has(image, change.program, change.variable.name, value) for image in tasks[task].images):
                        yield task
            case TimeChanged():
                yield from [task.id for task in side.trace.roots] if change.program is None else (
                    side.ran.get(change.program, ())
                )
            case FindingsChanged():
                for each in side.checked.findings:
                    for finding in (each.first, *each.others):
                        if (finding.rule, finding.site) == (change.found.rule, change.found.site):
                            yield from finding.tasks[:1]

    def pairs(self) -> Iterator[tuple[TaskId, TaskId, list[Told]]]:
        """Of each two tasks that are one another's, what differs."""
        first, second = self.sides
        for old, new in self.match.items():
            yield old, new, list(self._pair(first.trace.tasks[old], second.trace.tasks[new]))

    def _pair(self, old: Task, new: Task) -> Iterator[Told]:
        first, second = self.sides
        if old.images or new.images:
            yield from _programs(old, new)
        was, is_ = first.manners.get(old.id), second.manners.get(new.id)
        if was is not None and is_ is not None and was[1] != is_[1]:
            manners = (trace_changes.manner_words(manner) for _, manner in (was, is_))
            yield "made", "made by {}, now by {}".format(*manners)
        if old.death is not None and new.death is not None and _end(old) != _end(new):
            yield "ended", f"{death_words(old.death, old.tgid)} before, {death_words(new.death, new.tgid)} now"
        yield from _refusals(old, new)
        if (time := _times(old.lifetime, new.lifetime)) is not None:
            yield "time", time
        cpu = (side.own.get(task.id) for side, task in ((first, old), (second, new)))
        if (time := _times(*(None if us is None else us * 1000 for us in cpu))) is not None:
            yield "cpu", time
        before, now = (side.rules.get(task.id, Counter()) for side, task in ((first, old), (second, new)))
        for rule in sorted((before.keys() | now.keys()) - self._left_out):
            if (before[rule] > 0) != (now[rule] > 0):
                yield "finding", f"{'now' if now[rule] else 'no longer'} found: {rule}"


def _once(tasks: Iterable[TaskId]) -> list[TaskId]:
    return list(dict.fromkeys(tasks))


def _made(side: Side, change: Change) -> Iterator[TaskId]:
    whose = side.census.whose
    match change:
        case Made():
            for manner, _, _ in change.manners:
                yield from whose.get((change.maker, manner), ())
        case Shared():
            for manner in side.census.made.get(change.maker, ()):
                yield from whose.get((change.maker, manner), ())
        case Counted(what=what):
            yield from whose.get(what, ())
        case EndsOtherwise():
            for ending, _, _ in change.endings:
                yield from whose.get((change.program, ending), ())


def _has(image: Image, program: bytes, name: bytes, value: bytes | None) -> bool:
    if image.envp is None or program_of(image) != program:
        return False
    own = variables(image.envp).get(name)
    return (None if own is None else lasting(own)) == value


def _programs(old: Task, new: Task) -> Iterator[Told]:
    programs = [[program_of(image) or b"?" for image in task.images] for task in (old, new)]
    if programs[0] != programs[1]:
        ran = [" → ".join(map(words.base_name, names)) or "no program" for names in programs]
        yield "executed", f"ran {ran[0]}, now {ran[1]}"
        return
    for before, now in zip(old.images, new.images, strict=True):
        given = arguments(before), arguments(now)
        if given[0] is not None and given[1] is not None and given[0] != given[1]:
            for was, is_ in replaced(given[0], given[1]):
                yield "arguments", f"{words.base_name(program_of(now) or b'?')}: {run_changes.words_changed(was, is_)}"
        if before.envp is not None and now.envp is not None and before.envp != now.envp:
            sides = ({n: lasting(v) for n, v in variables(e).items()} for e in (before.envp, now.envp))
            found = changed(*sides)
            for variable in found[:_VARIABLES]:
                yield "environment", run_changes.variable_words(variable)
            if len(found) > _VARIABLES:
                yield "environment", f"{len(found) - _VARIABLES:,} variables more"


def _end(task: Task) -> object:
    return None if task.death is None else (task.death.code, task.death.signal)


def _refusals(old: Task, new: Task) -> Iterator[Told]:
    before, now = (
        Counter(f"{failure.creation.text(abbreviate=True)} with {words.error(failure.errno)}" for failure in each)
        for each in (old.failures, new.failures)
    )
    for call in sorted(before.keys() | now.keys()):
        if before[call] != now[call]:
            often = (trace_changes.often(side[call]) for side in (before, now))
            yield "refused", "refused {}: {} before, {} now".format(printable(call), *often)


def _times(before: int | None, now: int | None) -> str | None:
    # By as much as the whole has to differ, too.
    if before is None or now is None or abs(now - before) < FEWEST or max(now, before) < LEAST * min(now, before):
        return None
    times = f" ({now / before:.2f} times)" if before else ""
    return f"{words.span(before)}, now {words.span(now)}{times}"


