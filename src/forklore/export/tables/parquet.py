"""The tables as Parquet files in a directory, to which several writers add at once (docs/tables.md).

A file is written under a name that begins with a point, which readers pass over, and renamed when it is whole. Its name
is that of the run, so the same trace exported again takes its own place. The table ``run`` comes last: a run that is in
it is there with all of its rows. Needs pyarrow, which the extra ``query`` brings.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from forklore.export.tables.columns import ColumnType, columns
from forklore.export.tables.records import TABLES
from forklore.export.tables.rows import Row, Rows
from forklore.model.tasks import Trace

_ROWS: Final = 20_000
"""So many are held at once."""
_TYPES: Final[dict[ColumnType, Any]] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "strings": pa.list_(pa.string()),
    "instant": pa.timestamp("us", tz="UTC"),
}
UNKNOWN: Final = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and DuckDB read as null."""
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def write(trace: Trace, folder: Path, tables: Collection[str] = TABLES) -> str:
    """Add a trace, which was read with who shared what, to the tables of a directory; the run's id. Raises OSError."""
    rows = Rows(trace)
    where = partition(trace)
    for name in sorted(tables, key=lambda name: name == "run"):
        _write(name, rows.of[name](), folder / name / where, rows.run)
    return rows.run


def partition(trace: Trace) -> Path:
    """``date=2026-11-29/host=build7``: the day in UTC on which the trace began, and where."""
    wall = trace.header.clock.wall
    date = UNKNOWN
    with suppress(OverflowError, ValueError, OSError):
        date = UNKNOWN if wall is None else datetime.fromtimestamp(wall / 1e9, UTC).date().isoformat()
    host = trace.header.host
    return Path(f"date={date}", f"host={quote(host, safe='')[:200] if host else UNKNOWN}")


def schema(name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    """The Arrow schema of a table."""
    return pa.schema(
        [pa.field(each.name, _TYPES[each.type], nullable=each.nullable) for each in columns(TABLES[name])]
    )  # fmt: skip


def batches(name: str, rows: Iterator[Row]) -> Iterator[Any]:
    """Rows as Arrow record batches."""
    form = schema(name)
    while piece := list(islice(rows, _ROWS)):
        arrays = [_array(values, kind) for values, kind in zip(zip(*piece, strict=True), form.types, strict=True)]
        yield pa.record_batch(arrays, schema=form)


def _array(values: Sequence[Any], kind: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    try:
        return pa.array(values, kind)
    except OverflowError:
        # Only a file that somebody made has such numbers.
        return pa.array([value if value is None or _LEAST <= value <= _MOST else None for value in values], kind)


def _write(name: str, rows: Iterator[Row], folder: Path, run: str) -> None:
    found = batches(name, rows)
    first = next(found, None)
    target = folder / f"{run}.parquet"
    if first is None:
        target.unlink(missing_ok=True)  # of an earlier version, which may have had some
        return
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{run}.{secrets.token_hex(8)}.tmp"
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file, pq.ParquetWriter(file, schema(name), compression="zstd") as writer:
            writer.write_batch(first)
            for batch in found:
                writer.write_batch(batch)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
