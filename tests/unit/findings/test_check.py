"""Judging a trace: what is ignored, what is folded, what is not judged, and from when on it fails."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest
from happenings import MS, Story
from judged import checked, ids

from forklore.events import records as ev
from forklore.findings.check import Ignored, IgnoreError, check
from forklore.findings.finding import SEVERITIES
from forklore.findings.settings import Settings, SettingsError, settings, severity
from forklore.findings.table import RULES
from forklore.model.build import built
from forklore.sources.files import open_any

ROOT = Path(__file__).parents[3]
TRACES = sorted(path for path in (ROOT / "traces").iterdir() if path.is_file() and path.name != "README.md")


def crashed(count: int = 1, program: str = "parser") -> Story:
    story = Story()
    root = story.begin(100, comm="sh")
    for each in range(count):
        child = story.clone(root, 101 + each)
        story.exec(child, f"/bin/{program}")
        story.killed(child, 11)
    story.exit(root)
    return story


def test_what_is_ignored() -> None:
    assert ids(crashed()) == {"crash"}
    for entry in ("crash", "crash:parser", "crash:pars*"):
        found = checked(crashed(3), entry)
        assert (found.findings, found.silenced) == ([], 3)
    for entry in ("killed", "crash:other", "crash:a.c:7"):
        assert checked(crashed(), entry).silenced == 0
    with pytest.raises(IgnoreError, match="there is no rule 'crush'; forklore check --rules lists them"):
        Ignored.read("crush:x")


def test_what_is_alike_is_folded() -> None:
    (crash,) = checked(crashed(5)).findings
    assert (crash.count, crash.first.tasks) == (5, (2,))


def test_from_when_on_it_fails() -> None:
    found = checked(crashed())
    assert found.worst() == "error"
    assert [found.fails(limit) for limit in SEVERITIES] == [True, True, True]
    assert not found.fails(None)
    story = Story()
    story.exit(story.begin(100))
    assert checked(story).worst() is None
    assert not checked(story).fails("note")
    note = Story()
    root = note.begin(100)
    child = note.clone(root, 101)
    note.tell(ev.Signal(t=note.t, task=child, signal=15, code=0, sender=100))
    note.killed(child, 15)
    assert [checked(note).fails(limit) for limit in SEVERITIES] == [False, False, True]


def test_the_worst_comes_first_and_then_what_happened_first() -> None:
    story = Story()
    root = story.begin(100)
    for tid, number in ((101, 15), (102, 11), (103, 6)):
        child = story.clone(root, tid)
        story.tell(ev.Signal(t=story.t, task=child, signal=number, code=0, sender=4711 if number == 15 else None))
        story.killed(child, number)
        story._t += MS
    told = [(each.severity, each.first.tasks[0]) for each in checked(story).findings]
    assert told == [("error", 3), ("error", 4), ("warning", 2)]


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name)
def test_every_rule_judges_a_trace_or_says_why_not(path: Path) -> None:
    trace = built(open_any(path))
    found = check(trace)
    not_judged = {rule.id: why for rule, why in found.not_judged}
    assert all(not_judged.values())
    assert {each.first.rule for each in found.findings}.isdisjoint(not_judged)
    assert len(not_judged) < len(RULES)
    if trace.header.source.tool == "forklore":
        assert set(not_judged) <= {
            "vfork-child-writes", "vfork-child-exits", "vfork-child-returns", "task-limit-near",
        }  # fmt: skip


def test_clean_traces_have_no_finding() -> None:
    for name in ("make.forklore.jsonl", "pipeline.forklore.jsonl", "make.strace.txt", "make.ltrace.txt.gz"):
        assert check(built(open_any(ROOT / "traces" / name))).findings == [], name
    readme = ROOT / "docs/pictures/make.jsonl.gz"
    assert gzip.decompress(readme.read_bytes())
    assert check(built(open_any(readme))).findings == []


def test_settings() -> None:
    found = settings({"ignore": ["crash:a.c:*", "killed"], "fail-on": "error"})
    assert found == Settings((Ignored("crash", "a.c:*"), Ignored("killed")), "error", said=True)
    assert settings({"fail-on": "never"}) == Settings(fail_on=None, said=True)
    assert settings({}) == Settings()
    wrong: list[tuple[Any, str]] = [
        ([], "no table"),
        ({"ignored": []}, "no setting 'ignored'; there are ignore and fail-on"),
        ({"ignore": "crash"}, "a list of strings"),
        ({"ignore": [3]}, "a list of strings"),
        ({"fail-on": "bad"}, "one of error, warning, note, never"),
    ]
    for table, words in wrong:
        with pytest.raises(SettingsError, match=words):
            settings(table)
    with pytest.raises(IgnoreError, match="no rule 'nothing'"):
        settings({"ignore": ["nothing"]})
    assert severity("note") == "note"


def test_findings_are_plain_data() -> None:
    (crash,) = checked(crashed()).findings
    assert msgspec.json.decode(msgspec.json.encode(crash))["first"]["rule"] == "crash"
