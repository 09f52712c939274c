"""Who made what in a trace, each kind of creation worked out once (:mod:`forklore.model.attribution`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forklore.events import records as ev
from forklore.model.tasks import Failure, Task

if TYPE_CHECKING:
    from forklore.model.attribution import Attribution


class Attributions:
    """The answers for one trace, or for the part of it that has been read."""

    def __init__(self) -> None:
        self._found: dict[object, Attribution] = {}

    def of(self, made: Task | Failure) -> Attribution | None:
        """Who made it; None where its call was not seen."""
        if made.creation is None:
            return None
        key = form_of(made)
        found = None if key is None else self._found.get(key)
        if found is None:
            from forklore.model.attribution import attribute  # a trace without creations does not pay for it

            found = attribute(made.creation, made.stack, made.script, runs_of(made), _library(made))
            if key is not None:
                self._found[key] = found
        return found


def runs_of(made: Task | Failure) -> ev.Runs | None:
    """What it was given to run, as far as that is known."""
    return made.runs if isinstance(made, Task) else None


def _library(made: Task | Failure) -> str | None:
    record = made.record if isinstance(made, Task) else made
    return None if record is None else record.library


def form_of(made: Task | Failure) -> object:
    """All that tells who made it, as a key. None: the words of the call itself do, which differ from task to task."""
    if made.stack is None:
        return None
    if isinstance(made, Task):
        called: object = made.form
    else:
        called = made.creation.call, made.creation.flags.raw
    if called is None:
        return None
    runs = runs_of(made)
    script = None if made.script is None else made.script.script
    ran = None if runs is None else (runs.how, runs.fn, runs.fn_place, runs.routine, runs.routine_place, runs.script)
    return (made.stack.number, script, called, ran)
