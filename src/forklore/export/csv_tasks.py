"""The tasks of a trace as comma-separated values (RFC 4180): the table ``task`` of docs/tables.md."""

from __future__ import annotations

import csv
from typing import IO, Final

from forklore.abi.text import printable
from forklore.export.table import ExportOptions
from forklore.export.tables.records import TaskRow
from forklore.export.tables.rows import Row, Rows
from forklore.model.tasks import Trace

_FORMULA: Final = ("=", "+", "-", "@")


def write(trace: Trace, out: IO[str], _options: ExportOptions) -> None:
    """Write a line of names and a line a task."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(TaskRow.__struct_fields__)
    writer.writerows(map(_cells, Rows(trace).of["task"]()))


def _cells(row: Row) -> list[object]:
    return [_text(cell) if isinstance(cell, str) else cell for cell in row]


def _text(cell: str) -> str:
    # A program calls itself what it likes, and spreadsheets take what begins so for a formula (OWASP: CSV Injection).
    shown = printable(cell)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
