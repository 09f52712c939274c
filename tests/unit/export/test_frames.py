"""A trace as tables and as a graph: the same tasks and numbers in each, whatever names they have."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from happenings import MS, Story, stories
from hypothesis import HealthCheck, given, settings
from page_reader import check_page

import forklore
from forklore.api import Trace
from forklore.cli.main import main as command
from forklore.events import records as ev
from forklore.export.frames import COLUMNS, LibraryMissingError, columns, to_arrow, to_networkx, to_pandas, to_polars
from forklore.export.page.notebook import notebook_html
from forklore.export.page.page import pieces

ROOT = Path(__file__).parents[3]
MAKE = ROOT / "docs/pictures/make.jsonl.gz"
WAYS = {"pandas": to_pandas, "polars": to_polars, "pyarrow": to_arrow, "networkx": to_networkx}
TYPES = {"number": "integer", "text": "text", "truth": "boolean", "span": "duration"}


def build() -> Trace:
    return forklore.load(MAKE)


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_rows_are_the_columns(library: str) -> None:
    trace = build()
    table: Any = WAYS[library](trace)
    found = table.to_dict(as_series=False) if library == "polars" else table.to_pydict()
    wanted = columns(trace)
    assert list(found) == [column.name for column in COLUMNS]
    for column in COLUMNS:
        if column.type != "span":
            assert found[column.name] == wanted[column.name]
    lifetime = found["lifetime"][0]  # Python's own durations have no nanoseconds, those of pandas do
    assert lifetime - timedelta(microseconds=778_639) < timedelta(microseconds=1)


def test_a_frame_of_pandas() -> None:
    frame = build().to_pandas()
    assert list(frame.columns) == [column.name for column in COLUMNS][1:]
    assert len(frame) == 128
    compilers = frame[frame["name"] == "cc1"]
    assert len(compilers) == 31
    assert compilers["cpu"].sum().value == 350_309_000
    assert frame["on_path"].sum().value == frame["lifetime"].max().value
    assert frame["creator"].isna().sum() == 1
    assert frame.loc[3, "library"] == "posix_spawn"


def test_a_graph() -> None:
    import networkx

    graph = build().to_networkx()
    assert (len(graph), graph.number_of_edges()) == (128, 127)
    assert networkx.is_arborescence(networkx.DiGraph(graph))
    assert graph.edges[3, 4, "creator"]["call"] == "vfork"
    assert graph.nodes[1]["name"] == "make"


def test_a_graph_has_who_waited_and_who_inherited() -> None:
    story = Story()
    root = story.begin(100)
    middle = story.clone(root, 101)
    sibling = story.clone(middle, 102, 0x8000)  # CLONE_PARENT
    orphan = story.clone(middle, 103)
    story.exit(middle)
    story.tell(ev.Reparent(t=story.t, task=orphan, parent_tid=100, parent=root))
    story.exit(root)
    graph = to_networkx(story.end().trace())
    assert set(graph.edges(keys=True)) == {
        (root, middle, "creator"), (middle, sibling, "creator"), (root, sibling, "parent"), (middle, orphan, "creator"),
        (root, orphan, "reaper"),
    }  # fmt: skip


@given(stories(12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace(story: Story) -> None:
    trace = story.trace()
    assert len(to_arrow(trace)) == len(to_polars(trace)) == len(to_pandas(trace)) == len(to_networkx(trace))


def test_numbers_that_no_column_has_room_for() -> None:
    story = Story()
    story.tell(ev.Exit(t=story.t, task=story.begin(100), status=0, cpu=1 << 62, peak=1 << 62))
    trace = story.end().trace()
    assert to_arrow(trace).column("cpu").to_pylist() == [None]
    assert to_arrow(trace).column("peak").to_pylist() == [1 << 62]


@pytest.mark.parametrize("library", WAYS)
def test_without_the_library(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(LibraryMissingError, match=f"{library} is not installed: pip install {library}"):
        WAYS[library](Story().end().trace())


def test_none_of_them_is_loaded_with_forklore() -> None:
    code = f"import sys, forklore; print(sorted(set({list(WAYS)}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_page_has_every_column() -> None:
    page = (ROOT / "docs/python-api.md").read_text()
    told = re.findall(r"^\| `(\w+)` \| (integer|text|boolean|duration) \| (.*) \|$", page, re.MULTILINE)
    assert told == [(column.name, TYPES[column.type], column.about) for column in COLUMNS]


# Notebooks

def test_in_a_notebook_it_is_a_line_and_the_page() -> None:
    text = build()._repr_html_()
    assert text.startswith("<div><b><code>make -s -j2</code></b><br>ended exit 0 · took 779 ms · ")
    assert text.count("<iframe") == text.count("</iframe>") == 1
    assert 'sandbox="allow-scripts"' in text
    assert "<script" not in text  # but inside the frame's attribute, escaped


def test_a_page_that_is_too_large_for_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forklore.export.page.notebook._LARGE", 1000)
    text = build()._repr_html_()
    assert "<iframe" not in text
    assert "trace.to_html()" in text


def test_names_in_the_line_are_text() -> None:
    story = Story(command=["<script>alert(1)</script>"], host="<b>")
    story.exit(story.begin(100))
    assert "<script" not in notebook_html(story.end().trace())
    assert "<b>," not in notebook_html(story.trace())


def test_the_page_of_a_trace_that_was_read_without_its_sharing() -> None:
    story = Story()
    root = story.begin(100)
    story.thread(root, 101)
    story._t += 5 * MS
    story.exit(root)
    page = check_page("".join(pieces(story.end().trace())))
    assert page.blocks["overview"]["shared"] is False
    assert page.blocks["sharing"]["resources"] == []
    assert "CLONE_THREAD" in dict(dict(page.blocks["cards-0"][1])["How it was made"])


def test_to_html_is_what_show_writes(tmp_path: Path) -> None:
    assert command(["show", "--format", "html", "-o", str(tmp_path / "page"), str(MAKE)]) == 0
    assert (tmp_path / "page").read_text() == forklore.load(MAKE, sharing=True).to_html()
