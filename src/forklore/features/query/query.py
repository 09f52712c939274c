"""SQL on traces: the tables of docs/tables.md as views of DuckDB, over directories of Parquet files and over traces."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from forklore.export.tables.columns import ColumnType, columns
from forklore.export.tables.records import TABLES
from forklore.features.query.exporting import add

_TYPES: Final[dict[ColumnType, str]] = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "strings": "VARCHAR[]",
    "instant": "TIMESTAMPTZ",
}


class QueryError(Exception):
    """The SQL, or what it is asked of, is wrong; the text says what."""


class Answer:
    """The rows of an answer, which are fetched as they are asked for."""

    def __init__(self, names: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
        self.names = names
        self.rows = rows


@contextmanager
def asked(places: Sequence[Path], sql: str, warn: Callable[[str], None]) -> Iterator[Answer]:
    """Ask directories that ``forklore export`` wrote, and traces. Raises QueryError, OSError and TraceError."""
    with ExitStack() as stack:
        folders = [place for place in places if place.is_dir()]
        files = [place for place in places if not place.is_dir()]
        if files:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forklore-")))
            for file in files:
                add(file, scratch, warn)
            folders.append(scratch)
        connection = stack.enter_context(duckdb.connect())
        for name in TABLES:
            connection.execute(_view(name, folders))
        try:
            relation = connection.execute(sql)
            names = [column[0] for column in relation.description or ()]
            first = relation.fetchmany(_ROWS)
        except duckdb.Error as problem:
            raise QueryError(str(problem)) from None
        yield Answer(names, _rows(relation, first))


_ROWS: Final = 10_000


def _rows(relation: Any, piece: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - DuckDB's
    while piece:
        yield from piece
        piece = relation.fetchmany(_ROWS)


def _view(name: str, folders: Sequence[Path]) -> str:
    globs = [f"{folder}/{name}/*/*/*.parquet" for folder in folders if any((folder / name).glob("*/*/*.parquet"))]
    if not globs:
        empty = ", ".join(f"NULL::{_TYPES[each.type]} AS {_quoted(each.name)}" for each in columns(TABLES[name]))
        return f"CREATE VIEW {name} AS SELECT {empty}, NULL::DATE AS date, NULL::VARCHAR AS host WHERE false"
    listed = ", ".join("'" + glob.replace("'", "''") + "'" for glob in globs)
    options = "hive_partitioning = true, hive_types = {'date': DATE, 'host': VARCHAR}, union_by_name = true"
    return f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{listed}], {options})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
