"""Tables of very many tasks, made of one trace: what a task takes in Parquet, and what SQL on all of it takes.

fleet TRACE DIR RUNS: the trace as so many runs of so many hosts; prints sizes and times as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
from hashlib import sha256
from pathlib import Path
from time import process_time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from forklore.export.tables import parquet
from forklore.export.tables.records import TABLES
from forklore.export.tables.rows import Rows
from forklore.model.build import built
from forklore.sources.files import open_any

_LEFT_OUT = ("finding",)
"""Tables that take longer to find out than to write."""


def main(trace_file: str, folder: Path, runs: int) -> None:
    gc.disable()  # as export does
    begun = process_time()
    trace = built(open_any(trace_file), sharing=True)
    read = process_time() - begun
    begun = process_time()
    rows = Rows(trace)
    tables = {
        name: pa.Table.from_batches(parquet.batches(name, rows.of[name]()), parquet.schema(name))
        for name in TABLES
        if name not in _LEFT_OUT
    }
    made = process_time() - begun
    begun = process_time()
    for number in range(runs):
        run = sha256(f"{number}".encode()).hexdigest()[:32]
        for name, table in tables.items():
            where = folder / name / f"date=2026-11-{1 + number % 28:02}" / f"host=build{number % 1000}"
            where.mkdir(parents=True, exist_ok=True)
            column = pa.array([run] * len(table), pa.string())
            named = table.set_column(0, table.schema.field(0), column)
            pq.write_table(named, where / f"{run}.parquet", compression="zstd", row_group_size=20_000)
    written = process_time() - begun
    size = {name: sum(each.stat().st_size for each in (folder / name).rglob("*.parquet")) for name in tables}
    tasks = len(trace.tasks) * runs
    connection = duckdb.connect()
    asked = {}
    for what, sql in {
        "count": "SELECT count(*) FROM task",
        "by program": "SELECT name, count(*), sum(lifetime) FROM task GROUP BY name ORDER BY 3 DESC LIMIT 10",
        "join": "SELECT library, count(*), avg(lifetime) FROM creation JOIN task USING (run, task) GROUP BY library",
    }.items():
        for name in ("task", "creation"):
            glob = f"{folder}/{name}/*/*/*.parquet"
            connection.execute(
                f"CREATE OR REPLACE VIEW {name} AS FROM read_parquet('{glob}', hive_partitioning = true)"
            )
        begun = process_time()
        connection.execute(sql).fetchall()
        asked[what] = round(process_time() - begun, 2)
    json.dump(
        {
            "tasks": tasks,
            "read_s": round(read, 2),
            "rows_s": round(made, 2),
            "written_s": round(written, 2),
            "tasks_a_second": round(len(trace.tasks) / (read + made + written / runs)),
            "bytes": sum(size.values()),
            "bytes_a_task": round(sum(size.values()) / tasks, 1),
            "bytes_by_table": {name: round(each / tasks, 1) for name, each in size.items()},
            "sql_cpu_s": asked,
        },
        sys.stdout,
        indent=1,
    )


main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
