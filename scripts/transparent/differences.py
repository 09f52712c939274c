"""Which of two sets of runs showed what the other did not. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from transparent.observed import Run, Seen, views

NOTHING: tuple[str, ...] = ()


class Difference(msgspec.Struct, frozen=True):
    """A thing that bare runs agree on and a traced run showed otherwise."""

    name: str
    """What: ``stdout``, ``status``, ``seen PROGRAM FIELD``, ``waits PROGRAM`` ..."""
    view: str
    """How exactly the bare runs agree."""
    gone: tuple[str, ...]
    """Lines of the bare runs that the traced run lacks."""
    new: tuple[str, ...]
    """Lines of the traced run that no bare run has."""
    times: int
    """In how many traced runs it was not as in the bare ones."""


class Comparison(msgspec.Struct, frozen=True):
    """All that came of comparing: what differs, and what could not be compared, because bare runs differ too."""

    differences: tuple[Difference, ...]
    unsteady: tuple[str, ...]


def compare(bare: Sequence[Run], traced: Sequence[Run]) -> Comparison:
    """Each thing at the most exact view on which all bare runs agree with each other."""
    names = sorted({name for run in (*bare, *traced) for name in run.shown})
    differences: list[Difference] = []
    unsteady: list[str] = []
    for name in names:
        found = _compare_one(name, _of(name, bare), _of(name, traced))
        if isinstance(found, Difference):
            differences.append(found)
        elif found is None:
            unsteady.append(name)
    return Comparison(tuple(differences), tuple(unsteady))


def _of(name: str, runs: Sequence[Run]) -> list[Seen | None]:
    shown = [run.shown.get(name) for run in runs]
    # A program that is killed before it has started says nothing of itself: whether it came so far is another matter.
    return [seen for seen in shown if seen is not None] if name.startswith("seen ") else shown


def _compare_one(name: str, bare: Sequence[Seen | None], traced: Sequence[Seen | None]) -> Difference | bool | None:
    # A difference; True for the same; None where the bare runs agree in no view.
    if not bare or not traced:
        return True
    form = next(seen.form for seen in (*bare, *traced) if seen is not None)
    empty = Seen(form, "")
    ladders = [views(seen or empty) for seen in bare]
    for level, (view, first) in enumerate(ladders[0]):
        if any(ladder[level][1] != first for ladder in ladders):
            continue
        others = [lines for seen in traced if (lines := views(seen or empty)[level][1]) != first]
        if not others:
            return True
        gone, new = _apart(first, others[0])
        return Difference(name, view, gone, new, len(others))
    return None


def _apart(bare: tuple[str, ...], traced: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    gone = tuple(line for line in bare if line not in set(traced))
    new = tuple(line for line in traced if line not in set(bare))
    if gone or new:
        return gone, new
    return ("the same lines, in this order or number: " + " | ".join(bare)[:500],), (" | ".join(traced)[:500],)
