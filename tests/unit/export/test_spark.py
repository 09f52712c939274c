"""Spark reads what `forklore export` wrote: the same rows, partitions as columns."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forklore.cli.main import main
from forklore.model.build import built
from forklore.sources.files import open_any

TRACES = Path(__file__).parents[3] / "traces"
FILES = sorted(TRACES.glob("*.forklore.jsonl"))


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    sql: Any = pytest.importorskip("pyspark.sql", reason="pyspark is not installed (pip install pyspark)")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (pip install 'forklore[query]')")
    if shutil.which("java") is None:
        pytest.skip("no java, which Spark runs on")
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    settings = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1"}
    builder = sql.SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.mark.filterwarnings("default")  # of Spark's own code
def test_spark_finds_the_rows(spark: Any, tmp_path: Path) -> None:
    assert main(["export", "--to", str(tmp_path), *map(str, FILES)]) == 0
    for name in ("run", "task", "creation"):
        spark.read.parquet(str(tmp_path / name)).createOrReplaceTempView(name)
    traces = [built(open_any(path)) for path in FILES]
    ((runs, tasks),) = spark.sql("SELECT count(*), sum(tasks) FROM run").collect()
    assert (runs, tasks) == (len(FILES), sum(len(trace.tasks) for trace in traces))
    ((joined,),) = spark.sql("SELECT count(*) FROM creation JOIN task USING (run, task)").collect()
    assert joined == sum(task.creation is not None for trace in traces for task in trace.tasks.values())
    hosts = {row[0] for row in spark.sql("SELECT DISTINCT host FROM task").collect()}
    assert hosts == {trace.header.host for trace in traces}
