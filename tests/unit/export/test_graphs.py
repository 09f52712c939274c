"""DOT is what dot reads, Mermaid what Mermaid reads, and both find in it what the trace has."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from happenings import Story, stories
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forklore.events import records as ev
from forklore.export.graph import dot, mermaid
from forklore.export.graph.graph import Arrow, Node, graph
from forklore.export.table import CannotExportError, ExportOptions, View
from forklore.model.build import built
from forklore.model.tasks import Trace
from forklore.sources.files import open_any

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "traces/make.forklore.jsonl"
MODULES = ROOT / ".venv/mermaid/node_modules"
NODE = shutil.which("node")
DOT = shutil.which("dot")
GRAPHS: tuple[View, ...] = ("tree", "sharing", "descriptors")
needs_dot = pytest.mark.skipif(DOT is None, reason="dot is not installed (Debian: apt install graphviz)")
needs_mermaid = pytest.mark.skipif(
    NODE is None or not MODULES.exists(),
    reason="no node, or no Mermaid in .venv/mermaid (npm install --prefix .venv/mermaid mermaid jsdom)",
)


def in_dot(trace: Trace, view: View = "tree") -> str:
    out = io.StringIO()
    dot.write(trace, out, ExportOptions(view=view))
    return out.getvalue()


def in_mermaid(trace: Trace, view: View = "tree") -> str:
    out = io.StringIO()
    mermaid.write(trace, out, ExportOptions(view=view))
    return out.getvalue()


def gantt(trace: Trace) -> str:
    out = io.StringIO()
    mermaid.write_gantt(trace, out, ExportOptions())
    return out.getvalue()


def laid_out(text: str) -> Counter[str]:
    """How many nodes and edges dot finds."""
    done = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return Counter(line.split(" ", 1)[0] for line in done.stdout.splitlines())


def parsed(folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    """What Mermaid finds in each."""
    files = []
    for index, text in enumerate(texts):
        files.append(str(folder / f"{index}.mmd"))
        Path(files[-1]).write_text(text)
    command = ["node", str(Path(__file__).with_name("mermaid_parse.mjs")), str(MODULES), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def build() -> Trace:
    return built(open_any(BUILD), sharing=True)


def expected(trace: Trace, view: View) -> tuple[int, int]:
    found = list(graph(trace, ExportOptions(view=view)))
    return sum(isinstance(each, Node) for each in found), sum(isinstance(each, Arrow) for each in found)


def hostile() -> Story:
    story = Story(command=['a"b', "title x\ny: z;"])
    root = story.begin(100, comm='"];end;%%{init}%%')
    for index, name in enumerate(
        ('x"] --> y', "#quot;\\", "&lt;<b>\n</b>", "a:b, c; d#e", "click t1 call()", "\u202e\x00\xff")
    ):
        story.exec(story.clone(root, 101 + index), f"/bin/{name}", argv=[name, "```", "%% c", "end", "\\"])
    return story.end()


def test_the_tree_has_every_task_and_edge() -> None:
    trace = build()
    nodes, arrows = expected(trace, "tree")
    assert nodes == len(trace.tasks)
    assert arrows == len(trace.tasks) - len(trace.roots)


def test_depth_cuts_the_tree() -> None:
    trace = build()
    found = list(graph(trace, ExportOptions(depth=1)))
    (root,) = trace.roots
    assert sum(isinstance(each, Node) for each in found) == 1 + len(root.children)


def test_who_shares_what() -> None:
    story = Story()
    root = story.begin(100)
    thread = story.thread(root, 101)
    child = story.vfork(root, 102)
    story.exec(child, "/bin/x")
    text = in_dot(story.trace(sharing=True), "sharing")
    assert f"t{root} -> mm" in text
    assert f"t{thread} -> files" in text
    assert 'label="until exec"' in text
    assert "net" not in text


def test_pipes_lead_from_writers_to_readers() -> None:
    story = Story()
    root = story.begin(100)
    for tid, flags in ((101, 1), (102, 0)):
        child = story.clone(root, tid)
        story.exec(child, "/bin/x")
        held = ev.Held(fd=flags, kind="pipe", target="pipe:[7]", flags=flags, inode=7)
        story.tell(ev.Descriptors(t=story.t, task=child, table=[held]))
    text = in_dot(story.trace(), "descriptors")
    assert "t2 -> p0" in text
    assert "p0 -> t3" in text


@needs_dot
@pytest.mark.parametrize("view", GRAPHS)
def test_dot_reads_a_build(view: View) -> None:
    trace = build()
    found = laid_out(in_dot(trace, view))
    assert (found["node"], found["edge"]) == expected(trace, view)


@needs_dot
@given(stories(12), st.sampled_from(GRAPHS))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_dot_reads_any_trace(story: Story, view: View) -> None:
    trace = story.trace(sharing=True)
    found = laid_out(in_dot(trace, view))
    assert (found["node"], found["edge"]) == expected(trace, view)


@needs_dot
def test_dot_reads_hostile_names() -> None:
    trace = hostile().trace()
    found = laid_out(in_dot(trace))
    assert (found["node"], found["edge"]) == (7, 6)


@needs_mermaid
def test_mermaid_reads_a_build_and_hostile_names(tmp_path: Path) -> None:
    texts, wanted = [], []
    for trace in (build(), hostile().trace(sharing=True)):
        for view in GRAPHS:
            texts.append(in_mermaid(trace, view))
            nodes, arrows = expected(trace, view)
            wanted.append({"type": "flowchart-v2", "nodes": nodes, "edges": arrows})
        texts.append(gantt(trace))
        wanted.append({"type": "gantt", "bars": len(trace.tasks)})
    assert parsed(tmp_path, texts) == wanted


@needs_mermaid
@given(st.lists(stories(8), min_size=10, max_size=10))
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
def test_mermaid_reads_any_trace(tmp_path_factory: pytest.TempPathFactory, told: list[Story]) -> None:
    traces = [story.trace() for story in told]
    found = parsed(tmp_path_factory.mktemp("mermaid"), [in_mermaid(trace) for trace in traces])
    assert [(each.get("error"), each.get("nodes")) for each in found] == [(None, len(t.tasks)) for t in traces]


def test_a_gantt_chart_needs_times() -> None:
    story = Story(times=False)
    story.begin(100)
    with pytest.raises(CannotExportError, match="no times"):
        gantt(story.trace())
