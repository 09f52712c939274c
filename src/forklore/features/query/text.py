"""An answer as columns for people, as CSV, and as JSON lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any, Final

import msgspec

from forklore.abi.text import printable
from forklore.features.query.query import Answer
from forklore.report.styled_lines import cut_text, width_of

_LOOKED_AT: Final = 200
"""So many rows decide how wide columns are."""
_WIDEST: Final = 60


def write_text(answer: Answer, out: IO[str]) -> None:
    """Aligned columns; numbers to the right."""
    rows = ([_shown(value) for value in row] for row in answer.rows)
    head = list(islice(rows, _LOOKED_AT))
    names = [printable(name) for name in answer.names]
    widths = [
        min(max(map(width_of, column)), _WIDEST)
        for column in zip(names, *([c[0] for c in row] for row in head), strict=True)
    ]
    right = [bool(head) and all(row[index][1] for row in head) for index in range(len(names))]
    out.write(_line([(name, False) for name in names], widths, right))
    out.write("  ".join("-" * width for width in widths) + "\n")
    out.writelines(_line(row, widths, right) for row in _both(head, rows))


def _both(head: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    yield from head
    yield from rest


def _shown(value: object) -> tuple[str, bool]:
    if value is None:
        return "", True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return printable(f"{value:,}" if isinstance(value, int) and number else str(value)), number


def _line(row: Sequence[tuple[str, bool]], widths: list[int], right: list[bool]) -> str:
    cells = []
    for (text, _), width, to_right in zip(row, widths, right, strict=True):
        cut = cut_text(text, width)
        gap = " " * (width - width_of(cut))
        cells.append(gap + cut if to_right else cut + gap)
    return "  ".join(cells).rstrip() + "\n"


def write_csv(answer: Answer, out: IO[str]) -> None:
    """RFC 4180, with names."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(answer.names)
    writer.writerows(answer.rows)


def write_json(answer: Answer, out: IO[str]) -> None:
    """An object a line."""
    encoder = msgspec.json.Encoder(enc_hook=str)
    for row in answer.rows:
        out.write(encoder.encode(dict(zip(answer.names, row, strict=True))).decode() + "\n")


WRITERS: Final = {"text": write_text, "csv": write_csv, "json": write_json}
"""By name of the format."""
