"""Every view of show, at any width, in any encoding, with any names: what it writes fits, and commands no terminal."""

from __future__ import annotations

import io
from typing import get_args

import pytest
from coded import coded
from happenings import Story, stories
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from forklore.events import records as ev
from forklore.export import log, text
from forklore.export.table import EXPORTERS, ExportOptions, View
from forklore.report.styled_lines import width_of

NAMES = st.text(max_size=60) | st.text("漢字🦊é…→ \x1b\n", max_size=60) | st.text("/ab ", max_size=150)
VIEWS = get_args(View)


@st.composite
def named(draw: st.DrawFn) -> Story:
    """A program and its children, with names of all lengths and scripts."""

    def texts(count: int) -> list[ev.Text]:
        return [ev.text(draw(NAMES).encode()) for _ in range(count)]

    story = Story(command=texts(2))
    tasks = [story.begin(100, comm=texts(1)[0], how="root")]
    for tid in range(101, 101 + draw(st.integers(1, 6))):
        made = draw(coded(story)) if draw(st.booleans()) else {}
        tasks.append(child := story.clone(draw(st.sampled_from(tasks)), tid, **made))
        if draw(st.booleans()):
            story.exec(child, texts(1)[0], argv=texts(draw(st.integers(0, 4))), exe=None, comm=None)
        if draw(st.booleans()):
            story.tell(ev.Name(t=story.t, task=child, comm=texts(1)[0], how="prctl"))
        if draw(st.booleans()):
            held = [ev.Held(fd=3, kind="pipe", target=texts(1)[0], flags=1, inode=1, cloexec=False)]
            story.tell(ev.Descriptors(t=story.t, task=child, table=held, creator=tasks[0], creators_pipes=held))
        story.exec_fail(child, texts(1)[0], 2)
    return story.end()


def written(story: Story, options: ExportOptions, encoding: str) -> str:
    """What the command writes, in a file that cannot take anything else."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")
    text.write(story.trace(sharing=True), out, options)
    return read_back(out)


def read_back(out: io.TextIOWrapper) -> str:
    out.flush()
    raw = out.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(out.encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("view", VIEWS)
@given(st.data(), st.integers(40, 200), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_line_is_too_wide(view: View, encoding: str, data: st.DataObject, columns: int, verbose: bool) -> None:
    story = data.draw(named() | stories())
    trace = story.trace()
    assume(trace.tasks)
    number = data.draw(st.sampled_from(sorted(trace.tasks)))
    options = ExportOptions(
        view=view, task=f"#{number}", columns=columns, verbose=verbose, stacks=data.draw(st.booleans())
    )
    lines = written(story, options, encoding).split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert line.isprintable(), line
        assert width_of(line) <= columns, line


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@given(named() | stories(), st.none() | st.integers(40, 200))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_log_has_a_line_for_each_event(encoding: str, story: Story, columns: int | None) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")
    shown = log.Log(story.header, out, color=False, endless=False, columns=columns)
    for event in story.events:
        shown.event(event)
    lines = read_back(out).split("\n")
    assert lines.pop() == ""
    assert len(lines) <= len(story.events)
    assert all(line.isprintable() for line in lines)
    assert columns is None or all(width_of(line) <= columns for line in lines)


def test_every_format_for_people_is_tried_here() -> None:
    for_programs = {"dot", "mermaid", "gantt", "csv"}
    assert {name for name, each in EXPORTERS.items() if each.text} - for_programs == {"tree", "log"}
