"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from forklore.events.records import Header
from forklore.findings.finding import Finding, Severity
from forklore.findings.subject import Subject
from forklore.findings.told import Fact


class Rule(Struct, frozen=True):
    """One kind of thing that can be wrong."""

    id: str
    """Short words with hyphens; stays the same for ever."""
    severity: Severity
    """The worst that it finds."""
    title: str
    """What is wrong, in a few words."""
    about: str
    """When it is found, and why it is wrong: for the page about it."""
    right: str
    """What looks like it and is right, which it does not find."""
    advice: str
    """What to do."""
    find: Callable[[Subject], Iterator[Finding]]
    needs: tuple[Fact, ...] = ()
    """Without any of these it cannot be judged."""
    helps: tuple[Fact, ...] = ()
    """Without any of these it is judged in part: some of what it is about is not found."""

    def not_judged(self, header: Header) -> str:
        """Why a trace with that header cannot be judged; empty where it can."""
        return next((why for fact in self.needs if (why := fact.missing(header))), "")

    def judged_in_part(self, header: Header) -> str:
        """Why not all of it is found there; empty where it is."""
        return next((why for fact in self.helps if (why := fact.missing(header))), "")
