"""Two traces on one page: their timelines in step, the tasks that are one another's, and what differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import msgspec

from forklore.export.page.blocks import block
from forklore.export.page.differing import Differing
from forklore.export.page.overview import Columns, facts, title
from forklore.export.page.page import assembled, part, trace_blocks
from forklore.export.page.strings import Strings
from forklore.model.without_gc import uncollected
from forklore.report.tree.edges import Edges
from forklore.report.words import words

SIDES = ("old-", "new-")


def write(differing: Differing, out: IO[str]) -> None:
    """Write the page."""
    with uncollected():
        for piece in pieces(differing):
            out.write(piece)


def pieces(differing: Differing) -> Iterator[str]:
    """The page in pieces."""
    old, new = (words.path(side.name.encode(errors="surrogateescape")) for side in differing.sides)
    ran = f"{old} → {new}"
    side = part("comparison_side.html")
    sides = "".join(side.format(side=each, when=when) for each, when in zip(SIDES, ("before", "now"), strict=True))
    yield from assembled("comparison", ran, _blocks(differing, (old, new), ran), SIDES=sides)


def _blocks(differing: Differing, names: tuple[str, str], ran: str) -> Iterator[str]:
    places = []
    for side, of in zip(SIDES, differing.sides, strict=True):
        edges = Edges(of.trace)
        columns = Columns(of.trace, edges, Strings())
        places.append(columns.places)
        yield from trace_blocks(of.trace, edges, columns, title(of.trace), of.checked, side=side)
    match = [-1] * len(places[0])
    pairs = []
    strings = Strings()
    for old, new, told in differing.pairs():
        place = match[places[0][old]] = places[1][new]
        if told:
            pairs.append((places[0][old], place, [(about, strings.place(text)) for about, text in told]))
    found: dict[str, Any] = {
        "title": ran,
        "names": names,
        "totals": differing.totals,
        "facts": _facts(differing),
        "remarks": list(differing.remarks()),
        "match": match,
        "pairs": pairs,
        "changes": [
            (each.about, each.text, [places[0][task] for task in each.old], [places[1][task] for task in each.new])
            for each in differing.sentences()
        ],
        "strings": strings.all(),
    }
    yield block("comparison", msgspec.json.encode(found))


def _facts(differing: Differing) -> list[tuple[str, str, str]]:
    """Each fact of the two summaries, side by side."""
    old, new = (dict(facts(side.trace)) for side in differing.sides)
    first, second = (title(side.trace) for side in differing.sides)
    terms = dict.fromkeys([*old, *new])
    return [("ran", first, second), *((term, old.get(term, ""), new.get(term, "")) for term in terms)]
