"""Rows are what their records say, whatever the trace; Parquet files hold them, and DuckDB finds them again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from happenings import Story, stories
from hypothesis import HealthCheck, given, settings

from forklore.cli.main import main
from forklore.export.tables.columns import columns
from forklore.export.tables.records import TABLES
from forklore.export.tables.rows import Rows, run_id
from forklore.model.build import built
from forklore.sources.files import open_any

ROOT = Path(__file__).parents[3]
FILES = sorted(path for path in (ROOT / "traces").iterdir() if path.is_file() and path.name != "README.md")
BUILD = ROOT / "traces/make.forklore.jsonl"
NO_DUCKDB = "duckdb or pyarrow is not installed (pip install 'forklore[query]')"


def checked(rows: Rows) -> Counter[str]:
    """How many rows each table has, each of them what its record says."""
    found: Counter[str] = Counter()
    for name, table in TABLES.items():
        for row in rows.of[name]():
            assert len(row) == len(columns(table))
            msgspec.convert(row, table, strict=True)
            found[name] += 1
    return found


@given(stories(20))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rows_of_any_trace(story: Story) -> None:
    trace = story.trace(sharing=True)
    found = checked(Rows(trace))
    assert (found["run"], found["task"]) == (1, len(trace.tasks))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_counts_are_those_of_the_trace(path: Path) -> None:
    trace = built(open_any(path), sharing=True)
    found = checked(Rows(trace))
    tasks = trace.tasks.values()
    assert found["task"] == len(trace.tasks)
    assert found["creation"] == sum(task.creation is not None for task in tasks)
    assert found["exec"] == sum(len(task.images) for task in tasks)
    assert found["exit"] == sum(task.death is not None for task in tasks)
    refused = len(trace.failures) + sum(len(task.failed_execs) for task in tasks)
    refused += sum(call.result is not None and call.result < 0 for task in tasks for call in task.calls)
    assert found["failure"] == refused


def test_a_plain_fork_shares_nothing_unusual_and_a_thread_does() -> None:
    story = Story()
    root = story.begin(100)
    story.clone(root, 101, kcmp=(1, 1, 1, 1, 3, 3))
    story.thread(root, 102)
    rows = list(Rows(story.trace(sharing=True)).of["sharing"]())
    assert rows == []  # of the thread nothing was seen: what was only asked for is in its flags
    story.clone(root, 103, 0x100, kcmp=(0, 1, 1, 1, 3, 3))
    (row,) = Rows(story.trace(sharing=True)).of["sharing"]()
    assert row[1:6] == (4, 1, "mm", True, True)


def test_a_run_has_one_id_and_two_runs_two() -> None:
    first, again = (built(open_any(BUILD)) for _ in range(2))
    assert run_id(first) == run_id(again)
    ids = {run_id(built(open_any(path))) for path in FILES}
    assert len(ids) == len(FILES)


def export(folder: Path, *files: Path) -> int:
    return main(["export", "--to", str(folder), *map(str, files)])


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["query", *words, "--format", "json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("duckdb", reason=NO_DUCKDB)
    pytest.importorskip("pyarrow", reason=NO_DUCKDB)
    return tmp_path / "traces"


def test_duckdb_finds_every_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(folder, *FILES) == 0
    wanted: Counter[str] = Counter()
    for path in FILES:
        wanted += checked(Rows(built(open_any(path), sharing=True)))
    capsys.readouterr()
    for name in TABLES:
        assert ask(capsys, str(folder), f"SELECT count(*) AS n FROM {name}") == [{"n": wanted[name]}]
    (joined,) = ask(capsys, str(folder), "SELECT count(*) AS n FROM creation JOIN task USING (run, task)")
    assert joined["n"] == wanted["creation"]


def test_the_same_of_a_trace_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = ask(capsys, str(BUILD), "SELECT t.*, date, host FROM task t ORDER BY task")
    trace = built(open_any(BUILD))
    assert [row["tid"] for row in pages] == [task.tid for task in trace.tasks.values()]
    assert pages[0]["host"] == trace.header.host
    assert not folder.exists()


def test_exported_again_it_takes_its_own_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(folder, BUILD, BUILD) == export(folder, BUILD) == 0
    capsys.readouterr()
    assert ask(capsys, str(folder), "SELECT count(*) AS n FROM run") == [{"n": 1}]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.rglob("*.parquet"))


def test_several_writers_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from forklore.features.query.exporting import add

    said: list[str] = []
    writers = [
        threading.Thread(target=lambda files: [add(file, folder, said.append) for file in files], args=(files,))
        for files in (FILES, FILES[::-1], FILES[3:] + FILES[:3])
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert ask(capsys, str(folder), "SELECT count(*) AS n, count(DISTINCT run) AS runs FROM run") == [
        {"n": len(FILES), "runs": len(FILES)}
    ]
    assert [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".parquet"] == []


def test_processes_of_two_hosts_write_at_once(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [path for path in FILES if path.name.endswith(".forklore.jsonl")]
    files: dict[str, list[Path]] = {"alpha": [], "beta/2": []}
    for host, told in files.items():
        for path in ours:
            head, _, rest = path.read_bytes().partition(b"\n")
            told.append(tmp_path / f"{host[0]}-{path.name}")
            told[-1].write_bytes(json.dumps({**json.loads(head), "host": host}).encode() + b"\n" + rest)
    # Each waits for a line, so that all of them begin at once. Of each host two write the same, in another order.
    script = 'read go; exec "$@"'
    words = [sys.executable, "-m", "forklore", "export", "--to", str(folder)]
    writers = [
        subprocess.Popen(
            ["sh", "-c", script, "sh", *words, *map(str, told[::step])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for told in files.values()
        for step in (1, -1)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        said = writer.communicate()[0]
        assert writer.returncode == 0, said
    counted = ask(capsys, str(folder), "SELECT host, count(*) AS n, count(DISTINCT run) AS runs FROM run GROUP BY 1")
    expected = [{"host": host, "n": len(ours), "runs": len(ours)} for host in files]
    assert sorted(counted, key=lambda row: str(row["host"])) == expected
    # Every run has all of its tasks, once.
    query = "SELECT run, count(*) AS n, count(DISTINCT task) AS tasks FROM task GROUP BY run ORDER BY n"
    tasks = sorted(len(built(open_any(path)).tasks) for path in ours for _ in files)
    assert [(row["n"], row["tasks"]) for row in ask(capsys, str(folder), query)] == [(n, n) for n in tasks]
    assert [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".parquet"] == []


@pytest.mark.parametrize("name", ["slowest", "spawns-per-second", "failures", "leaks"])
def test_ready_questions_have_answers(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(folder, *FILES) == 0
    capsys.readouterr()
    for form in ("text", "csv"):
        assert main(["query", str(folder), "--ask", name, "--format", form]) == 0
        shown = capsys.readouterr().out
        # No recorded trace leaks.
        assert (len(shown.splitlines()) > (2 if form == "text" else 1)) == (name != "leaks")


def test_what_is_wrong_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", str(BUILD), "SELEC"]) == 2
    assert "syntax error" in capsys.readouterr().err
    assert main(["query", "SELECT 1"]) == 2
    assert export(folder, ROOT / "no-such-file") == 1
    assert main(["export", "--to", str(folder), "--tables", "tusk", str(BUILD)]) == 2
    assert "no table 'tusk'; there are run, task" in capsys.readouterr().err


@given(stories(15))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_parquet_of_any_trace(tmp_path_factory: pytest.TempPathFactory, story: Story) -> None:
    pytest.importorskip("pyarrow", reason=NO_DUCKDB)
    import pyarrow.parquet as pq

    from forklore.export.tables import parquet

    trace = story.trace(sharing=True)
    target = tmp_path_factory.mktemp("tables")
    run = parquet.write(trace, target)
    (file,) = (target / "task").rglob("*.parquet")
    assert file.name == f"{run}.parquet"
    table = pq.ParquetFile(file).read()
    assert table.column("task").to_pylist() == list(trace.tasks)


def test_a_hostile_host_stays_in_its_directory(folder: Path) -> None:
    from forklore.export.tables import parquet

    story = Story(host="../../x=y/\x00")
    story.begin(100)
    parquet.write(story.trace(sharing=True), folder)
    (file,) = (folder / "run").rglob("*.parquet")
    assert file.parent.name == "host=..%2F..%2Fx%3Dy%2F%00"
