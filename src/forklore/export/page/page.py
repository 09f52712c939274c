"""The file itself: one page that needs nothing else, and that a browser lets do nothing else."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from itertools import islice
from typing import IO, Any, Final

import msgspec

from forklore.export.page.blocks import block
from forklore.export.page.cards import Cards
from forklore.export.page.findings import by_task, findings
from forklore.export.page.overview import Columns, facts, path_of, title
from forklore.export.page.shared import sharing
from forklore.export.page.strings import Strings
from forklore.export.page.tables import Table, tables
from forklore.export.page.words import Words
from forklore.export.table import ExportOptions
from forklore.findings.check import Checked, check
from forklore.model.tasks import Trace
from forklore.model.without_gc import uncollected
from forklore.report.tree.edges import Edges
from forklore.version import VERSION

_PLACE: Final = re.compile(r"@([A-Z]+)@")
"""Where page.html has something put in: all at once, for a command line can have such a word in it."""
CARDS: Final = 256
"""Tasks whose cards are in one block: as many as are unpacked when one of them is looked at."""
_POLICY: Final = (
    "default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No other script, no eval, no style, image, frame, form or connection; and no text becomes markup."""


def write(trace: Trace, out: IO[bytes], _options: ExportOptions) -> None:
    """Write the page; who shared what is on it where the trace was read with that."""
    with uncollected():
        for piece in pieces(trace):
            out.write(piece.encode())


def pieces(trace: Trace, checked: Checked | None = None) -> Iterator[str]:
    """The page in pieces; ``checked``: what is wrong with the trace, None: by all rules."""
    ran = title(trace)
    yield from assembled("page", ran, _blocks(trace, ran, check(trace) if checked is None else checked))


def assembled(name: str, ran: str, blocks: Iterable[str], **more: str) -> Iterator[str]:
    """The file of that name of this folder with its script and style, a title, and the data of ``blocks``.

    ``more``: markup for other places of it, by their names.
    """
    head, _, foot = part(f"{name}.html").partition("@BLOCKS@")
    script, style = part(f"_generated_{name}.js"), part(f"_generated_{name}.css")
    texts = {
        "POLICY": _POLICY.format(script=_hash(script), style=_hash(style)),
        "GENERATOR": f"forklore {VERSION}",
        "TITLE": escape(ran),
        "MADE": f"Made by forklore {VERSION}; no network, no other file.",
        "STYLE": style,
        "SCRIPT": script,
        **more,
    }
    yield _PLACE.sub(lambda place: texts[place[1]], head)
    yield from blocks
    yield _PLACE.sub(lambda place: texts[place[1]], foot)


def _blocks(trace: Trace, ran: str, checked: Checked) -> Iterator[str]:
    edges = Edges(trace)
    columns = Columns(trace, edges, Strings())
    yield from trace_blocks(trace, edges, columns, ran, checked, shown=tables(trace, edges, columns))
    yield block("sharing", msgspec.json.encode(sharing(trace, columns)))


def trace_blocks(
    trace: Trace, edges: Edges, columns: Columns, ran: str, checked: Checked, *, shown: Sequence[Table] = (),
    side: str = "",
) -> Iterator[str]:
    """What a page has of a trace, but for who shared what; ``side``: before the names, where there are two."""
    overview: dict[str, Any] = {
        "title": ran,
        "facts": list(facts(trace)),
        "timed": columns.clock.timed,
        "start": columns.clock.start,
        "end": columns.clock.end,
        "tasks": columns.tasks,
        "marks": columns.marks,
        "path": path_of(trace, columns),
        "tables": shown,
        "findings": findings(checked, columns.places),
        "unknown": [*((blind.what, blind.why) for blind in trace.header.blind), *trace.notes],
        "warnings": trace.warnings,
        "cards": CARDS,
        "shared": trace.sharing is not None,
        "strings": columns.strings.all(),
    }
    yield block(f"{side}overview", msgspec.json.encode(overview))
    yield block(f"{side}words", msgspec.json.encode(Words(trace, edges).object()))
    cards = Cards(trace, edges, by_task(checked))
    tasks = iter(trace.tasks.values())
    number = 0
    while some := list(islice(tasks, CARDS)):
        yield block(f"{side}cards-{number}", msgspec.json.encode([cards.card(task) for task in some]))
        number += 1


@cache
def part(name: str) -> str:
    """A file of this folder."""
    return files("forklore.export.page").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
