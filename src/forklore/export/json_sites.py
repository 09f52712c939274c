"""The sites of a trace as one JSON object, documented in docs/stacks.md."""

from __future__ import annotations

from typing import IO, Any, Final

import msgspec

from forklore.export.json_code import attribution_data
from forklore.export.table import Options
from forklore.model.tasks import Trace
from forklore.report.sites import Site, sites
from forklore.report.tree.edges import Edges

SITES_FORMAT: Final = {"name": "forklore-sites", "version": [1, 1]}


def write(trace: Trace, out: IO[bytes], _options: Options) -> None:
    """Write the object."""
    edges = Edges(trace)
    data = {"format": SITES_FORMAT, "sites": [_data(site, edges) for site in sites(trace)]}
    out.write(msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n")


def _data(site: Site, edges: Edges) -> dict[str, Any]:
    first = site.tasks[0] if site.tasks else site.refused[0]
    creation = first.creation
    assert creation is not None
    return {
        "site": site.text,
        "runs": site.edge.runs if site.edge is not None and site.edge.runs else None,
        "call": creation.call,
        "attribution": attribution_data(edges.attribution(first)),
        "count": site.count,
        "processes": sum(task.kind == "process" for task in site.tasks),
        "threads": sum(task.kind == "thread" for task in site.tasks),
        "refused": len(site.refused),
        "held": site.held,
        "longest": site.longest,
        "through": [{"function": who, "count": number} for who, number in site.through(edges)],
        "tasks": [task.id for task in site.tasks],
    }
