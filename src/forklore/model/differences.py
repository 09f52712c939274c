"""What people change between two runs, beside who makes what: arguments, environments, time.

A side of a comparison can have several runs. What differs among the runs of one side is none between the sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from statistics import median
from typing import Final, Literal

from msgspec import Struct, field

from forklore.model.environment import Changed, Variables, variables
from forklore.model.matched import Words, alike, arguments, lasting, program_of
from forklore.model.tasks import Trace
from forklore.model.timing import cpu_of, programs

LEAST: Final = 1.1
"""A time that changed is longer or shorter by this at least, …"""
FEWEST: Final = 20_000_000
"""… and by so many ns."""


class RunFacts(Struct):
    """What is compared of one run."""

    commands: dict[bytes, Counter[Words]] = field(default_factory=dict)
    """Arguments by program, how often each."""
    environments: dict[bytes, dict[bytes, set[bytes | None]]] | None = None
    """Values by program and variable; None: not recorded."""
    wall: dict[bytes, int] = field(default_factory=dict)
    """In ns by program, all its runs together."""
    cpu: dict[bytes, int] = field(default_factory=dict)
    """In ns by program; none of those for which it is not known."""
    whole_wall: int | None = None
    whole_cpu: int | None = None


class ArgumentsChanged(Struct, frozen=True):
    """Arguments in whose stead others stand."""

    program: bytes
    before: Words
    now: Words
    lines: tuple[tuple[Words, Words], ...]
    """The arguments of each command line that changed so, before and now."""

    @property
    def count(self) -> int:
        """Of how many command lines."""
        return len(self.lines)


class EnvironmentChanged(Struct, frozen=True):
    """A variable of a program."""

    program: bytes
    variable: Changed


class TimeChanged(Struct, frozen=True):
    """A time over the runs of both sides, in ns, each side from the shortest on."""

    program: bytes | None
    """None: of the whole trace."""
    what: Literal["wall", "cpu"]
    before: tuple[int, ...]
    now: tuple[int, ...]

    @property
    def sure(self) -> bool:
        """The two sides have at least two runs each, and no run of one is within the other's."""
        if min(len(self.before), len(self.now)) < 2:
            return False
        return self.before[-1] < self.now[0] or self.now[-1] < self.before[0]


class Differences(Struct, frozen=True):
    """All of these."""

    arguments: tuple[ArgumentsChanged, ...] = ()
    environments: tuple[EnvironmentChanged, ...] = ()
    times: tuple[TimeChanged, ...] = ()
    runs: tuple[int, int] = (1, 1)
    """Of each side."""
    not_compared: tuple[str, ...] = ()


def facts(trace: Trace) -> RunFacts:
    """What is compared of a trace."""
    found = RunFacts(whole_wall=trace.ended)
    if (cpu := cpu_of(trace.tasks.values())) is not None:
        found.whole_cpu = cpu * 1000
    for task in trace.tasks.values():
        for image in task.images:
            program = program_of(image)
            if program is None:
                continue
            if (words := arguments(image)) is not None:
                found.commands.setdefault(program, Counter())[words] += 1
            if image.envp is not None:
                found.environments = {} if found.environments is None else found.environments
                _take(found.environments.setdefault(program, {}), variables(image.envp))
    for each in programs(trace):
        if each.name is not None:
            found.wall[each.name] = each.wall
            if each.cpu is not None:
                found.cpu[each.name] = each.cpu * 1000
    return found


def _take(known: dict[bytes, set[bytes | None]], now: Variables) -> None:
    for name in known.keys() - now.keys():
        known[name].add(None)
    for name, value in now.items():
        known.setdefault(name, set()).add(value)


def differences(old: Sequence[RunFacts], new: Sequence[RunFacts]) -> Differences:
    """What differs between the runs of two sides, of which each has at least one."""
    missing = []
    environments: tuple[EnvironmentChanged, ...] = ()
    if all(each.environments is not None for each in (*old, *new)):
        environments = tuple(_environments(old, new))
    elif any(each.environments is not None for each in (*old, *new)):
        missing.append("environments (--env)")
    return Differences(
        tuple(_arguments(old, new)), environments, tuple(_times(old, new)), (len(old), len(new)), tuple(missing)
    )  # fmt: skip


Replaced = tuple[bytes, Words, Words]


def _arguments(old: Sequence[RunFacts], new: Sequence[RunFacts]) -> Iterable[ArgumentsChanged]:
    found = _replaced(old[0], new[0])
    usual: set[Replaced] = set()
    for side in (old, new):
        for other in side[1:]:
            usual |= _replaced(side[0], other).keys() | _replaced(other, side[0]).keys()
    for (program, before, now), lines in found.items():
        if (program, before, now) not in usual:
            yield ArgumentsChanged(program, before, now, tuple(lines))


def _replaced(old: RunFacts, new: RunFacts) -> dict[Replaced, list[tuple[Words, Words]]]:
    found: dict[Replaced, list[tuple[Words, Words]]] = {}
    for program, commands in old.commands.items():
        left = list((commands - new.commands.get(program, Counter())).elements())
        come = list((new.commands.get(program, Counter()) - commands).elements())
        for i, j in alike(left, come):
            for before, now in replaced(left[i], come[j]):
                found.setdefault((program, before, now), []).append((left[i], come[j]))
    return found


def replaced(before: Words, now: Words) -> Iterator[tuple[Words, Words]]:
    """The words of a command line in whose stead others stand."""
    for tag, i, j, k, m in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        if tag != "equal":
            yield before[i:j], now[k:m]


def _environments(old: Sequence[RunFacts], new: Sequence[RunFacts]) -> Iterable[EnvironmentChanged]:
    for program in old[0].environments or {}:
        before, now = _values(old, program), _values(new, program)
        if before is None or now is None:
            continue
        for name in sorted(before.keys() | now.keys()):
            was, is_ = before.get(name, {None}), now.get(name, {None})
            # One that has several values in a side tells the runs apart, not the sides.
            if len(was) == len(is_) == 1 and was != is_:
                yield EnvironmentChanged(program, Changed(name, next(iter(was)), next(iter(is_))))


def _values(side: Sequence[RunFacts], program: bytes) -> dict[bytes, set[bytes | None]] | None:
    found: dict[bytes, set[bytes | None]] = {}
    for index, run in enumerate(side):
        known = (run.environments or {}).get(program)
        if known is None:
            return None
        for name in found.keys() - known.keys():
            found[name].add(None)
        for name, values in known.items():
            found.setdefault(name, {None} if index else set()).update(values)
    return {name: {lasting(v) if v else v for v in values} for name, values in found.items()}


def _times(old: Sequence[RunFacts], new: Sequence[RunFacts]) -> Iterable[TimeChanged]:
    def told(
        program: bytes | None, what: Literal["wall", "cpu"], of: Callable[[RunFacts], int | None]
    ) -> TimeChanged | None:
        sides = [[t for run in side if (t := of(run)) is not None] for side in (old, new)]
        if not all(sides) or len(sides[0]) < len(old) or len(sides[1]) < len(new):
            return None
        before, now = median(sides[0]), median(sides[1])
        if abs(now - before) < FEWEST or max(now, before) < LEAST * min(now, before):
            return None
        found = TimeChanged(program, what, tuple(sorted(sides[0])), tuple(sorted(sides[1])))
        return found if found.sure or min(len(old), len(new)) < 2 else None

    names = sorted(old[0].wall.keys() & new[0].wall.keys(), key=lambda name: -new[0].wall[name])
    found = [told(None, "wall", lambda run: run.whole_wall), told(None, "cpu", lambda run: run.whole_cpu)]
    for name in names:
        found.append(told(name, "wall", lambda run, name=name: run.wall.get(name)))  # type: ignore[misc]
        found.append(told(name, "cpu", lambda run, name=name: run.cpu.get(name)))  # type: ignore[misc]
    return [each for each in found if each is not None]
