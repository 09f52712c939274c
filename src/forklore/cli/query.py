"""``forklore query``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from forklore.cli.main import USAGE_ERROR, complain
from forklore.version import extra

HELP = """\
Ask traces in SQL, by DuckDB: directories that `forklore export` wrote, or trace
files. The tables are those of docs/tables.md: run, task, creation, sharing, exec,
exit, failure, wait, finding. Needs duckdb: pip install '.[query]' where
forklore's source is.
"""
EPILOG = """\
examples:
  forklore query traces --ask slowest
  forklore query t.jsonl 'SELECT kind, count(*) FROM task GROUP BY kind'
  forklore query traces 'SELECT date, host, sum(processes) FROM run GROUP BY ALL'
  forklore query traces --ask failures --format csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore query``."""
    from forklore.features.query.asks import ASKS

    parser.add_argument("words", metavar="DIR|FILE|SQL", nargs="+", help="what to ask, then the SQL")
    parser.add_argument(
        "--ask",
        choices=ASKS,
        help="a ready question: " + "; ".join(f"{name}: {ask.about}" for name, ask in ASKS.items()),
    )
    parser.add_argument("--format", choices=("text", "csv", "json"), default="text", help="json: an object a line")


def run(arguments: argparse.Namespace) -> int:
    """Ask; 1 if a trace cannot be read, 2 if the SQL is wrong."""
    from forklore.features.query.asks import ASKS

    *places, last = arguments.words
    if arguments.ask is not None:
        places, sql = [*places, last], ASKS[arguments.ask].sql
    else:
        sql = last
    if not places:
        complain("query: needs a directory or trace, and SQL or --ask: forklore query DIR 'SELECT …'")
        return USAGE_ERROR
    try:
        import duckdb  # noqa: F401 - asked for before anything is read
        import pyarrow  # noqa: F401
    except ImportError as problem:
        complain(f"query: {problem.name} is not installed; {extra('query')} brings it")
        return USAGE_ERROR
    from forklore.events.lines import TraceError
    from forklore.features.query.query import QueryError, asked
    from forklore.features.query.text import WRITERS

    try:
        with asked(list(map(Path, places)), sql, complain) as answer:
            WRITERS[arguments.format](answer, sys.stdout)
    except QueryError as problem:
        complain(f"query: {problem}")
        return USAGE_ERROR
    except TraceError as problem:
        complain(str(problem))
        return 1
    except OSError as problem:
        complain(f"{problem.filename or 'a trace'}: {problem.strerror}")
        return 1
    return 0
