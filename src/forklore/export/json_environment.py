"""The environments of a trace as one JSON object, documented in docs/environment.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Final

import msgspec
from msgspec import Struct

from forklore.events import records as ev
from forklore.export.json_tree.parts import TaskNumber, Time, UnavailableObject, named, told
from forklore.export.json_tree.tree import FormatObject
from forklore.export.table import ExportOptions
from forklore.model.environment import Changed, ExecEnvironment, environments
from forklore.model.tasks import Trace

FORMAT: Final = FormatObject("forklore-environment", (1, 0))


class EnvironmentsObject(Struct, frozen=True):
    """The environment of each program."""

    format: FormatObject
    """What it is."""
    execs: Sequence[ExecEnvironmentObject]
    """Every exec whose environment was recorded."""


class ExecEnvironmentObject(Struct, frozen=True):
    """What is other than in the program before: that which ran in the task, or made it."""

    task: TaskNumber
    """Who executed."""
    t: Time
    """When."""
    path: ev.Text | UnavailableObject
    """What."""
    entries: int
    """How many variables there are."""
    known_before: bool
    """False: nothing is known of an environment before, and ``changed`` is empty."""
    changed: list[VariableObject]
    """By name."""

    @classmethod
    def of(cls, each: ExecEnvironment) -> ExecEnvironmentObject:
        """One exec."""
        changed = [VariableObject.of(variable) for variable in each.changed]
        known = each.before is not None
        return cls(each.task.id, each.image.t, told(each.image.path), each.entries, known, changed)


class VariableObject(Struct, frozen=True):
    """A variable that changed."""

    name: ev.Text
    """Its name."""
    before: ev.Text | None
    """Its value before; null: there was none."""
    now: ev.Text | None
    """Its value; null: there is none any more."""

    @classmethod
    def of(cls, each: Changed) -> VariableObject:
        """One of an exec's."""
        return cls(ev.text(each.name), named(each.before), named(each.now))


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the object."""
    data = EnvironmentsObject(FORMAT, list(map(ExecEnvironmentObject.of, environments(trace))))
    out.write(msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n")
