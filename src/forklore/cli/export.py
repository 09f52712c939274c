"""``forklore export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from forklore.cli.main import USAGE_ERROR, complain, say
from forklore.version import extra

HELP = """\
Add traces to a directory of Parquet files: the tables of docs/tables.md, by date
and host. Several writers may add at once; a trace that is exported again takes its
own place. Needs pyarrow: pip install '.[query]' where forklore's source is.
"""
EPILOG = """\
examples:
  forklore export --to /var/forklore *.jsonl
  forklore export --to traces --tables run,task,creation t.jsonl
  forklore query traces --ask slowest
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore export``."""
    parser.add_argument(
        "file", metavar="FILE", nargs="+", type=Path, help="traces or logs, as `forklore show` takes them"
    )
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="the directory, which is made if need be")
    parser.add_argument("--tables", metavar="NAME,…", help="only these (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Export; 1 if one of the files could not be read or written."""
    try:
        import pyarrow  # noqa: F401 - asked for before anything is read
    except ImportError:
        complain(f"export: pyarrow is not installed; {extra('query')} brings it")
        return USAGE_ERROR
    from forklore.events.lines import TraceError
    from forklore.export.tables.records import TABLES
    from forklore.features.query.exporting import add

    tables = tuple(TABLES) if arguments.tables is None else tuple(arguments.tables.split(","))
    if unknown := [name for name in tables if name not in TABLES]:
        complain(f"export: no table {unknown[0]!r}; there are {', '.join(TABLES)}")
        return USAGE_ERROR
    failed = 0
    for file in arguments.file:
        try:
            name = add(file, arguments.to, complain, tables)
        except TraceError as problem:
            complain(str(problem))
            failed += 1
        except OSError as problem:
            complain(f"{problem.filename or file}: {problem.strerror}")
            failed += 1
        else:
            say(f"{file}: run {name}")
    return 1 if failed else 0
