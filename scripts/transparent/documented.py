"""The differences that ``docs/transparency.md`` lists, read from its table: what is written there is the list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from transparent.differences import Difference

_COLUMNS: Final = ("difference", "where", "what", "alone", "traced")
_CELL: Final = re.compile(r"(?<!\\)\|")


class Rule(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    where: frozenset[str]
    """Words that must all hold of a run (``seccomp``, ``syscalls``, ``events``, ``root``, ``user``); none: always."""
    what: str
    """A glob over the names of things; ``WORKLOADS: THINGS``, two of them, where it holds of some workloads only."""
    alone: re.Pattern[str]
    """What a whole line of a bare run looks like."""
    traced: re.Pattern[str]
    """What a whole line of a traced run looks like instead."""


class BadTableError(ValueError):
    """The page has no such table, or a row of it cannot be read; the text names the row."""


def rules(page: str) -> tuple[Rule, ...]:
    """The rows of the table in a page of Markdown. Cells that mean something to us are in backticks."""
    found: list[Rule] = []
    inside = False
    for line in page.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]]
        if not inside:
            inside = tuple(cell.lower() for cell in cells) == _COLUMNS
        elif not cells:
            break
        elif not set(cells[0]) <= set("-: "):
            found.append(_rule(line, cells))
    if not found:
        raise BadTableError(f"no table with the columns {', '.join(_COLUMNS)} and a row: nothing is documented")
    return tuple(found)


def _rule(line: str, cells: Sequence[str]) -> Rule:
    try:
        name, where, what, alone, traced = cells
        return Rule(
            name, frozenset(where.split()) - {"any"}, what.strip("`"), re.compile(alone.strip("`")),
            re.compile(traced.strip("`")),
        )  # fmt: skip
    except (ValueError, re.error) as wrong:
        raise BadTableError(f"cannot read this row, whose five cells have to be two words, a glob and two regular "
                            f"expressions ({wrong}): {line}") from wrong  # fmt: skip


def explained(
    difference: Difference, listed: Iterable[Rule], holds: frozenset[str], workload: str = ""
) -> tuple[str, ...]:
    """The names of the rules that together say every line of a difference; empty if a line is said by none."""
    able = [rule for rule in listed if rule.where <= holds and _speaks_of(rule, difference.name, workload)]
    used: dict[str, None] = {}
    for lines, pattern in ((difference.gone, "alone"), (difference.new, "traced")):
        for line in lines:
            rule = next((rule for rule in able if getattr(rule, pattern).fullmatch(_plain(line))), None)
            if rule is None:
                return ()
            used[rule.name] = None
    return tuple(used)


def _speaks_of(rule: Rule, name: str, workload: str) -> bool:
    workloads, _, things = rule.what.rpartition(": ")
    return fnmatchcase(name, things) and (not workloads or fnmatchcase(workload, workloads))


def _plain(line: str) -> str:
    return re.sub(r"  \(\d+ times\)$", "", line)
