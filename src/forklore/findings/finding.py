"""What a rule finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from forklore.abi.units import Nanoseconds, TaskId

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""The worst first. ``error``: something went wrong. ``warning``: it will, or has cost. ``note``: worth knowing."""


class Where(Struct, frozen=True):
    """A place in a program. Its names are the traced program's own: escape them before they go to a terminal."""

    file: str | None = None
    """The source file as its debug information or interpreter names it; None without either."""
    line: int | None = None
    function: str | None = None

    @property
    def site(self) -> str:
        """``pool.c:88``, else the function."""
        if self.file is None:
            return self.function or ""
        name = self.file.rstrip("/").rpartition("/")[2]
        return name if self.line is None else f"{name}:{self.line}"


class Finding(Struct, frozen=True):
    """One thing that is wrong, once; :class:`Folded` has those that are the same."""

    rule: str
    severity: Severity
    text: str
    """A sentence with the facts, escaped for a terminal."""
    tasks: tuple[TaskId, ...]
    """The task that it is about, then others that the sentence names."""
    t: Nanoseconds | None
    """When; None where the trace has no times."""
    where: Where | None = None
    """The code that did it; None where that is not known."""
    program: str = ""
    """The program that it is about, by its base name."""
    sure: bool = True
    """False: likely, and the sentence says on what it rests."""
    advice: str = ""
    """What to do here; empty where the rule's own advice is all."""
    same: object = None
    """Findings of one rule and site that differ in this are not folded."""

    @property
    def site(self) -> str:
        """Where it is to be silenced: the source line, else the function, else the program."""
        return (self.where.site if self.where is not None else "") or self.program


class Folded(Struct, frozen=True):
    """Findings of one rule at one site: the first, and those that say the same."""

    first: Finding
    others: Sequence[Finding] = ()

    @property
    def count(self) -> int:
        """How often it was found."""
        return 1 + len(self.others)

    @property
    def severity(self) -> Severity:
        """The worst of them."""
        return min((self.first.severity, *(each.severity for each in self.others)), key=SEVERITIES.index)
