"""All views tell of the same tasks: each of them once, with edges that agree, and equal numbers of everything."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from happenings import Story, stories
from hypothesis import HealthCheck, given, settings

from forklore.abi.units import TaskId
from forklore.events import records as ev
from forklore.export.folded import folded_lines
from forklore.export.json_sites import write as write_sites
from forklore.export.json_tree.tree import to_json
from forklore.export.table import ExportOptions
from forklore.model.build import Builder
from forklore.model.tasks import Task, Trace
from forklore.report.log import LogView
from forklore.report.sharing_table import table_lines
from forklore.report.styled_lines import Line
from forklore.report.tree.tree import Limits, tree_lines
from forklore.sources.files import open_any

TRACES = Path(__file__).parents[3] / "traces"
FILES = sorted(path for path in TRACES.iterdir() if path.is_file() and path.name != "README.md")
ALL = Limits(columns=None, depth=1 << 30, siblings=None, lines=None, fold=1 << 30)


def check(header: ev.Header, events: list[ev.Event]) -> None:
    builder = Builder(header, sharing=True)
    log = LogView(builder)
    lines = []
    for event in events:
        builder.feed(event)
        lines.append(log.line(event) or ())
    trace = builder.trace
    data = json.loads(to_json(trace))
    check_tasks(events, trace, data)
    check_edges(trace, data)
    check_code(data)
    check_sharing(data)
    check_counts(trace, data, lines)


def check_tasks(events: list[ev.Event], trace: Trace, data: dict[str, Any]) -> None:
    told = [event.child if isinstance(event, ev.Create) else event.task for event in events
            if isinstance(event, ev.Create | ev.Begin)]  # fmt: skip
    assert [task["id"] for task in data["tasks"]] == told == list(trace.tasks)
    for task, found in zip(trace.tasks.values(), data["tasks"], strict=True):
        assert found["tid"] == (task.tid or None)
        assert len(found["execs"]) == len(task.images)
        assert (found["exit"] is None) == (task.death is None)


def above(task: Task) -> TaskId | None:
    return task.creator if task.creator is not None else task.found_under


def check_edges(trace: Trace, data: dict[str, Any]) -> None:
    for task in trace.tasks.values():
        over = above(task)
        assert over is None or trace.tasks[over].children.count(task.id) == 1
        assert all(above(trace.tasks[child]) == task.id for child in task.children)
    known: set[int] = set()
    for found in data["tasks"]:
        # A creator is told before what it made.
        assert found["creator"] is None or found["creator"] in known
        assert (found["creation"] is not None) == (found["creator"] is not None)
        known.add(found["id"])
    for found in data["tasks"]:
        for name in ("parent", "leader", "heir"):
            assert found[name] is None or found[name] in known, name
        assert all(reaper["task"] is None or reaper["task"] in known for reaper in found["reaper"])
        if found["vfork"] is not None:
            assert found["vfork"]["held"] == found["creator"]
            assert known.issuperset(found["vfork"]["ran_on"] or ())
    assert all(failure["task"] in known for failure in data["failures"])


def check_code(data: dict[str, Any]) -> None:
    modules, stacks, scripts = ({each["id"] for each in data[name]} for name in ("modules", "stacks", "scripts"))
    for made in (*data["tasks"], *data["failures"]):
        assert made["stack"] is None or made["stack"] in stacks
        assert made["script"] is None or made["script"] in scripts
    for stack in data["stacks"]:
        for frame in stack["frames"]:
            assert frame["place"]["module"] is None or frame["place"]["module"] in modules


def check_sharing(data: dict[str, Any]) -> None:
    """What a child shares with its creator it holds in one group with it."""
    groups: dict[int, dict[str, list[int]]] = {}
    for found in data["tasks"]:
        held = groups[found["id"]] = {}
        for hold in found["sharing"]["holds"]:
            held.setdefault(hold["resource"], []).append(hold["group"])
        for answer in found["sharing"]["at_creation"]:
            if answer["observed"] == "shared":
                assert held[answer["resource"]][0] in groups[found["creator"]][answer["resource"]]


def check_counts(trace: Trace, data: dict[str, Any], log: list[Line]) -> None:
    out = io.BytesIO()
    write_sites(trace, out, ExportOptions(view="sites"))
    sites = json.loads(out.getvalue())["sites"]
    tasks, made, refused = data["tasks"], [], len(data["failures"])
    made = [found for found in tasks if found["creation"] is not None]
    assert sum(of_tasks(line) for line in tree_lines(trace, ALL)) == len(tasks)
    assert sum(alike(line) for line in table_lines(trace, None, None)) == len(tasks)
    # Who made a task, and then the task.
    assert sum(of_tasks(line) == 2 for line in log) == len(made)
    assert Counter(task for site in sites for task in site["tasks"]) == Counter(found["id"] for found in made)
    assert sum(site["refused"] for site in sites) == refused
    assert sum(site["count"] for site in sites) == len(made) + refused
    assert sum(int(line.rpartition(" ")[2]) for line in folded_lines(trace)) == len(made) + refused
    for kind, name in (("process", "processes"), ("thread", "threads")):
        assert sum(site[name] for site in sites) == sum(found["kind"] == kind for found in made)


def of_tasks(line: Line) -> int:
    return sum(piece.role == "tid" for piece in line)


def alike(line: Line) -> int:
    """How many tasks a row of the table stands for."""
    task = "".join(piece.text for piece in line if piece.role == "tid")
    if not task:
        return 0
    folded = re.search(r"… ([\d,]+) alike *$", task)
    return int(folded[1].replace(",", "")) if folded else 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_recorded_traces(path: Path) -> None:
    source = open_any(path)
    check(source.header, list(source))


@given(stories())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace(story: Story) -> None:
    check(story.header, story.events)
