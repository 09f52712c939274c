"""Each named format writes something valid, whatever trace it is given."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import graphs
import pytest
import timelines
import validity
from happenings import Story, stories
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_reader import check_page

from forklore.cli.main import parser_for
from forklore.events import records as ev
from forklore.export.table import EXPORTERS, VIEWS, CannotExportError, ExportOptions, View
from forklore.sources.files import open_any

ROOT = Path(__file__).parents[3]
FILES = sorted(path for path in (ROOT / "traces").iterdir() if path.is_file() and path.name != "README.md")
ESCAPES = re.compile(r"\x1b\[[\d;]*m")


class Told:
    """A story as a source."""

    def __init__(self, story: Story) -> None:
        self.header, self.warnings, self._events = story.header, ["wrong with it"], story.events

    def __iter__(self) -> Iterator[ev.Event]:
        return iter(self._events)

    def run(self, emit: Callable[[ev.Event], None]) -> None:
        for event in self:
            emit(event)


def exported(name: str, source: Any, options: ExportOptions, warn: Callable[[str], None]) -> bytes | None:
    """What the format writes; None where it says why it cannot."""
    exporter = EXPORTERS[name]
    out: IO[Any] = io.StringIO() if exporter.text else io.BytesIO()
    try:
        exporter.write(source, out, options, warn)
    except CannotExportError as problem:
        said, _, advice = str(problem).partition(", ")
        return None if "no times" in said and advice and not out.tell() else b"half of it"
    out.seek(0)
    written = out.read()
    return written.encode() if isinstance(written, str) else written


def check_lines(raw: bytes) -> None:
    written = raw.decode()
    assert all(ESCAPES.sub("", line).isprintable() for line in written.split("\n"))
    assert written == "" or written.endswith("\n")


def check_object(written: bytes) -> None:
    validity.check(json.loads(written))


def check_folded(written: bytes) -> None:
    check_lines(written)
    for line in written.decode().splitlines():
        assert re.fullmatch(r"[^;]+(;[^;]+)* [1-9]\d*", line)


def check_html(written: bytes) -> None:
    check_page(written.decode())


def check_object_lines(written: bytes) -> None:
    for line in written.splitlines():
        assert json.loads(line)["resourceSpans"]


def check_otlp(written: bytes) -> None:
    proto: Any = pytest.importorskip(
        "opentelemetry.proto.trace.v1.trace_pb2", reason="OpenTelemetry's packages are not installed"
    )
    proto.TracesData().ParseFromString(written)


CHECKS = {
    "tree": check_lines, "log": check_lines, "json": check_object, "html": check_html, "folded": check_folded,
    "chrome": timelines.check_chrome, "perfetto": timelines.check_perfetto,
    "dot": graphs.check_dot, "mermaid": graphs.check_mermaid, "gantt": graphs.check_gantt, "csv": graphs.check_csv,
    "otlp-json": check_object_lines, "otlp": check_otlp,
}  # fmt: skip


def test_every_format_is_checked() -> None:
    assert CHECKS.keys() == EXPORTERS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("name", EXPORTERS)
def test_recorded_traces(name: str, path: Path) -> None:
    said: list[str] = []
    for view in VIEWS:
        written = exported(name, open_any(path), ExportOptions(view=view, task="#1", color=True), said.append)
        if written is None:
            return
        CHECKS[name](written)
    assert said == []


@given(stories(10), st.sampled_from(sorted(EXPORTERS)), st.sampled_from(VIEWS), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace(story: Story, name: str, view: View, everything: bool) -> None:
    said: list[str] = []
    options = ExportOptions(view=view, task="#1", everything=everything, stacks=everything)
    written = exported(name, Told(story), options, said.append)
    if written is not None:
        CHECKS[name](written)
    assert said == ["wrong with it"]


def test_show_offers_the_formats_and_says_what_they_are() -> None:
    parser = parser_for("show")
    (action,) = [action for action in parser._actions if "--format" in action.option_strings]
    assert list(action.choices or ()) == list(EXPORTERS)
    assert action.default in EXPORTERS
    for name, exporter in EXPORTERS.items():
        assert f"{name}: {exporter.about}" in str(action.help)


def test_a_format_is_imported_when_it_is_asked_for() -> None:
    code = (
        "import sys; from forklore.cli.main import main; main(['show', '--format=folded', sys.argv[1]]);"
        "print(*sorted(name for name in sys.modules if name.startswith('forklore.export.')), file=sys.stderr)"
    )
    trace = str(ROOT / "traces/python.forklore.jsonl")
    environment = {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, trace]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr.split() == ["forklore.export.folded", "forklore.export.table"]
