"""The sites of a trace as one JSON object, documented in docs/stacks.md."""

from __future__ import annotations

from typing import IO, Final

import msgspec
from msgspec import Struct

from forklore.export.json_tree.code import AttributionObject
from forklore.export.json_tree.parts import Span, TaskNumber
from forklore.export.json_tree.tree import FormatObject
from forklore.export.table import ExportOptions
from forklore.model.tasks import Trace
from forklore.report.sites import Site, sites
from forklore.report.tree.edges import Edges

FORMAT: Final = FormatObject("forklore-sites", (1, 1))


class SitesObject(Struct, frozen=True):
    """Where the tasks of a trace are made."""

    format: FormatObject
    """What it is."""
    sites: list[SiteObject]
    """Those that were used most often first."""


class SiteObject(Struct, frozen=True):
    """A site: what one library call of one caller made."""

    site: str
    """The text of the table."""
    runs: str | None
    """What the threads were given to run."""
    call: str
    """The system call of the first: ``fork``, ``vfork``, ``clone``, ``clone3``."""
    attribution: AttributionObject | None
    """Of the first."""
    count: int
    """Creations, refused ones included."""
    processes: int
    """How many of them made a process."""
    threads: int
    """How many made a thread."""
    refused: int
    """How many were refused."""
    held: Span | None
    """For how long creators were held, together; null where none was, or it is not known."""
    longest: Span | None
    """The longest of these times."""
    through: list[ThroughObject]
    """Who called the caller, where several functions did; else empty."""
    tasks: list[TaskNumber]
    """What was made."""

    @classmethod
    def of(cls, site: Site, edges: Edges) -> SiteObject:
        """A site of a trace with these edges."""
        first = site.tasks[0] if site.tasks else site.refused[0]
        found, creation = edges.attribution(first), first.creation
        assert creation is not None
        return cls(
            site=site.text,
            runs=site.edge.runs if site.edge is not None and site.edge.runs else None,
            call=creation.call,
            attribution=None if found is None else AttributionObject.of(found),
            count=site.count,
            processes=sum(task.kind == "process" for task in site.tasks),
            threads=sum(task.kind == "thread" for task in site.tasks),
            refused=len(site.refused),
            held=site.held,
            longest=site.longest,
            through=[ThroughObject(who, number) for who, number in site.through(edges)],
            tasks=[task.id for task in site.tasks],
        )


class ThroughObject(Struct, frozen=True):
    """Who called the caller of a site."""

    function: str
    """The function."""
    count: int
    """How often."""


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the object."""
    edges = Edges(trace)
    data = SitesObject(FORMAT, [SiteObject.of(site, edges) for site in sites(trace, edges)])
    out.write(msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n")
