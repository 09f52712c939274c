"""A trace into the tables of a directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from forklore.export.tables import parquet
from forklore.export.tables.records import TABLES
from forklore.model.build import built
from forklore.model.without_gc import uncollected
from forklore.sources.files import open_any


def add(file: Path, folder: Path, warn: Callable[[str], None], tables: Sequence[str] = tuple(TABLES)) -> str:
    """Add a trace to the tables of a directory; the run's id. Raises OSError and TraceError."""
    with uncollected():
        trace = built(open_any(file), sharing="sharing" in tables)
        for warning in trace.warnings:
            warn(warning)
        return parquet.write(trace, folder, tables)
