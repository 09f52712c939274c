"""Two traces compared by what they hold: who makes, executes and is refused what, what is shared, and how it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, Literal, TypeVar

from msgspec import Struct

from forklore.model.census import GOOD, UNKNOWN, Act, Census, Ending, Execution, Maker, Manner, Refusal
from forklore.model.holds import RESOURCES

Share = Literal["all", "some", "none"]
"""With how many of the tasks that it makes a maker shares something."""
How = Literal["asked", "observed"]


class Made(Struct, frozen=True):
    """A maker that makes tasks otherwise, or another number of them."""

    maker: Maker
    manners: tuple[tuple[Manner, int, int], ...]
    """Those whose number changed, with that before and now."""


class Shared(Struct, frozen=True):
    """A maker that shares something with more or fewer of its tasks than before."""

    maker: Maker
    resource: str
    how: tuple[How, ...]
    before: Share
    now: Share


class Counted(Struct, frozen=True):
    """Something that happens more or less often, or never before or never now."""

    what: Refusal | Execution | Act
    before: int
    now: int


class EndsOtherwise(Struct, frozen=True):
    """A program whose processes end otherwise."""

    program: bytes
    endings: tuple[tuple[Ending, int, int], ...]
    """Those whose number changed, with that before and now."""


Change = Made | Shared | Counted | EndsOtherwise


class TraceComparison(Struct, frozen=True):
    """What changed from ``old`` to ``new``, and how much did not."""

    old: Census
    new: Census
    changes: tuple[Change, ...]
    same_makers: int
    """Makers that make as many tasks as before, in the same manner."""
    same_executions: int
    """Programs that are executed as often as before, by the same programs."""
    not_compared: tuple[str, ...]


T = TypeVar("T")
C = TypeVar("C", Refusal, Execution, Act)

_SITES: Final = "which function made what, and by which library call"
_OBSERVED: Final = "what was observed to be shared"


def compare(old: Census, new: Census) -> TraceComparison:
    """What only one of the two can tell is left out, and named in ``not_compared``."""
    missing = []
    if not (old.sites and new.sites):
        if old.sites or new.sites:
            missing.append(_SITES)
        old, new = old.without_sites(), new.without_sites()
    if old.observed != new.observed:
        missing.append(_OBSERVED)
    makers = list(dict.fromkeys([*old.made, *new.made]))
    made = [change for maker in makers if (change := _made(old, new, maker)) is not None]
    shared = [change for maker in makers for change in _shared(old, new, maker)]
    executions = dict.fromkeys([*old.executed, *new.executed])
    refused, acts = _counted(old.refused, new.refused), _counted(old.acts, new.acts)
    executed = sorted(_counted(old.executed, new.executed), key=lambda change: change.what.errno is not None)
    ends = (_ended(old, new, program) for program in dict.fromkeys([*old.ends, *new.ends]))
    ended = [change for change in ends if change is not None]
    return TraceComparison(
        old=old, new=new, changes=(*made, *shared, *refused, *executed, *acts, *ended),
        same_makers=len(makers) - len(made),
        same_executions=sum(old.executed[one] == new.executed[one] for one in executions if one.errno is None),
        not_compared=tuple(missing),
    )  # fmt: skip


def _made(old: Census, new: Census, maker: Maker) -> Made | None:
    before, now = old.made.get(maker, Counter()), new.made.get(maker, Counter())
    manners = _differing(before, now)
    return Made(maker, manners) if manners else None


def _differing(before: Counter[T], now: Counter[T]) -> tuple[tuple[T, int, int], ...]:
    return tuple((key, before[key], now[key]) for key in dict.fromkeys([*before, *now]) if before[key] != now[key])


def _counted(before: Counter[C], now: Counter[C]) -> Iterator[Counted]:
    for what, was, is_ in _differing(before, now):
        yield Counted(what, was, is_)


def _shared(old: Census, new: Census, maker: Maker) -> Iterator[Shared]:
    before, now = old.sharing.get(maker), new.sharing.get(maker)
    if before is None or now is None:
        return
    for resource in RESOURCES:
        was, is_ = before.get(resource), now.get(resource)
        if was is None or is_ is None:
            continue
        found: dict[tuple[Share, Share], list[How]] = {}
        kinds: tuple[tuple[How, set[bool], set[bool]], ...] = (
            ("asked", was.asked, is_.asked), ("observed", was.observed, is_.observed),
        )  # fmt: skip
        for how, first, second in kinds:
            if first and second and first != second:
                found.setdefault((_share(first), _share(second)), []).append(how)
        for (first_share, second_share), hows in found.items():
            yield Shared(maker, resource, tuple(hows), first_share, second_share)


def _share(answers: set[bool]) -> Share:
    return "some" if len(answers) > 1 else "all" if True in answers else "none"


def _ended(old: Census, new: Census, program: bytes) -> EndsOtherwise | None:
    before, now = old.ends.get(program, Counter()), new.ends.get(program, Counter())
    gone, come = before - now, now - before
    _guess(gone, come)
    _guess(come, gone)
    if not any(ending not in (GOOD, UNKNOWN) for ending in (*gone, *come)):
        return None  # that it ran more or less often is told by who executed it
    endings = (ending for ending in dict.fromkeys([*gone, *come]) if ending != UNKNOWN)
    return EndsOtherwise(program, tuple((ending, before[ending], now[ending]) for ending in endings))


def _guess(unknown: Counter[Ending], known: Counter[Ending]) -> None:
    # An end that one trace does not tell may have been any of those that only the other one tells.
    for ending in (GOOD, *list(known)):
        taken = min(unknown[UNKNOWN], known[ending]) if ending != UNKNOWN else 0
        known[ending] -= taken
        unknown[UNKNOWN] -= taken
    for counter in (unknown, known):
        for ending in [ending for ending, number in counter.items() if number <= 0]:
            del counter[ending]
