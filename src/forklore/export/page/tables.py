"""The tables of a page: what ran, and where tasks are made."""

from __future__ import annotations

from msgspec import Struct

from forklore.export.page.overview import Columns
from forklore.model.tasks import Trace
from forklore.model.timing import programs
from forklore.report.sites import sites
from forklore.report.times import name_of
from forklore.report.tree.edges import Edges

_MICRO = 1000
_SITES = 2000
_PROGRAMS = 2000


class Table(Struct):
    """As front-end/src/data.ts has it."""

    title: str
    note: str
    heads: list[tuple[str, str]]
    rows: list[list[str | int | None]]
    tasks: list[int]


def tables(trace: Trace, edges: Edges, columns: Columns) -> list[Table]:
    """By program, and by site."""
    return [_programs(trace, columns), _sites(trace, edges, columns)]


def _programs(trace: Trace, columns: Columns) -> Table:
    heads = [
        ("program", "text"), ("runs", "number"), ("Σ time", "span"), ("Σ CPU", "span"), ("longest", "span"),
        ("memory", "size"),
    ]  # fmt: skip
    note = (
        "Each run from its exec or fork to its next exec or its end. CPU: of the processes that ended in it, without"
        " their children. Memory: of the largest, with them. A row leads to the longest."
    )
    table = Table("By program", note, heads, [], [])
    for each in programs(trace)[:_PROGRAMS]:
        longest = each.longest
        table.rows.append([
            name_of(each.name), each.count, each.wall // _MICRO if columns.clock.timed else None, each.cpu,
            None if longest is None else (longest.until - longest.since) // _MICRO, each.peak,
        ])  # fmt: skip
        table.tasks.append(-1 if longest is None else columns.places[longest.task])
    return table


def _sites(trace: Trace, edges: Edges, columns: Columns) -> Table:
    heads = [
        ("made by", "text"), ("tasks", "number"), ("kind", "text"), ("refused", "number"), ("held its creator", "span"),
        ("longest", "span"),
    ]  # fmt: skip
    note = (
        "What one library call of one caller made. Held: for how long a vfork kept the creator. A row leads to the"
        " first."
    )
    table = Table("By site", note, heads, [], [])
    for site in sites(trace, edges)[:_SITES]:
        held, longest = (None if span is None else span // _MICRO for span in (site.held, site.longest))
        table.rows.append([site.text, len(site.tasks), site.kind, len(site.refused) or None, held, longest])
        first = site.tasks[0].id if site.tasks else site.refused[0].task
        table.tasks.append(columns.places[first])
    return table
