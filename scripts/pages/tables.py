"""docs/tables.md: the tables of a trace, column by column."""

from __future__ import annotations

from typing import Final

from struct_docs import about, members

from forklore.export.tables.columns import ColumnType, columns
from forklore.export.tables.records import TABLES

_TYPES: Final[dict[ColumnType, str]] = {
    "string": "string",
    "integer": "int64",
    "boolean": "boolean",
    "strings": "list of string",
    "instant": "timestamp, µs, UTC",
}
_HEAD: Final = """\
# Tables

Generated from the records in the code by `scripts/generate-pages`; do not edit.

A trace as flat tables. [`forklore export`](export.md) writes them as Parquet, where each has two columns more, by
which its files lie in directories: `date`, the day in UTC on which the trace began, and `host`. `show --format csv`
writes the table [task](#task). Times are nanoseconds since the trace began. `run` and `task` together name a task
among all hosts and boots. Text that is no UTF-8 has its bytes as `\\xNN`. Columns are only added, at the end, so that
files of several versions are read together.
"""


def page() -> str:
    """The whole text."""
    parts = [_HEAD]
    for name, table in TABLES.items():
        rows = [
            f"| `{column.name}` | {_TYPES[column.type]}{' or null' if column.nullable else ''} | {member.doc} |"
            for column, member in zip(columns(table), members(table), strict=True)
        ]
        parts.append(f"## {name}\n\n{about(table)}\n\n| column | type | |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)
