"""The page of two traces: what is in the file. What it does in a browser is in tests/browser."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from happenings import MS, Story, stories
from hypothesis import HealthCheck, given, settings
from page_reader import check_comparison
from two_traces import set_against

from forklore.cli.main import main as command
from forklore.events import records as ev
from forklore.export.page.comparison import pieces
from forklore.sources.files import open_any

ROOT = Path(__file__).parents[3]
TRACE, OTHER = ROOT / "traces/make.forklore.jsonl", ROOT / "docs/pictures/make.jsonl.gz"


HOSTILE = ("</script>", "<!--", "<img src=x onerror=alert(1)>", "\u2028", "\u202eabc", "\x1b[31m", "&lt;b&gt;", "a\nb")


def blocks(old: Story, new: Story) -> dict[str, Any]:
    return check_comparison("".join(pieces(set_against(old, new)))).blocks


def build(level: str, code: int = 0, *, pause: int = 0, more: bool = False, fail: bool = False, **how: Any) -> Story:
    story = Story(command=["make"])
    root = story.begin(100)
    story.exec(root, "/usr/bin/make", argv=["make"], **how)
    for number, name in enumerate(("a.c", "b.c", "c.c")[: 3 if more else 2]):
        child = story.clone(root, 101 + number)
        story.exec(child, "/usr/bin/cc", argv=["cc", level, name], **how)
        story._t += pause
        if fail:
            story.fail(child, 11)
        story.exit(child, code if name == "b.c" else 0)
    story.exit(root)
    return story.end()


def pairs(found: dict[str, Any]) -> dict[tuple[int, int], list[tuple[str, str]]]:
    """What differs of which two, by their places."""
    strings = found["comparison"]["strings"]
    return {
        (old, new): [(about, strings[text]) for about, text in told] for old, new, told in found["comparison"]["pairs"]
    }


def test_the_sentences_are_those_of_the_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert command(["diff", str(TRACE), str(OTHER), "--format", "html", "-o", str(page)]) == 1
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert capsys.readouterr().out == ""
    found = check_comparison(page.read_text()).blocks["comparison"]
    assert command(["diff", str(TRACE), str(OTHER)]) == 1
    _, totals, *lines = capsys.readouterr().out.splitlines()
    assert totals.strip() == found["totals"]
    told = [text for _, text, _, _ in found["changes"]]
    assert [line.strip() for line in lines if line.strip() in told] == told
    assert sorted(found["remarks"]) == sorted(line.strip() for line in lines if line.strip() not in told)


def test_each_difference_stands_with_its_tasks() -> None:
    old = build("-O2", envp=["A=1", "B=1"])
    new = build("-O0", 3, pause=100 * MS, more=True, fail=True, envp=["A=2", "B=1"])
    found = blocks(old, new)
    assert found["comparison"]["match"] == [0, 1, 2]
    told = pairs(found)
    assert told[1, 1][:2] == [("arguments", "cc: -O2 became -O0"), ("environment", "A=1 → 2")]
    assert ("ended", "exit 0 before, exit 3 now") in told[2, 2]
    assert ("ended", "exit 0 before, exit 3 now") not in told[1, 1]
    assert any(about == "time" and text.endswith("times)") for about, text in told[1, 1])
    refused = "refused clone(SIGHAND|SIGCHLD) with EAGAIN: never before, once now"
    assert ("refused", refused) in told[1, 1]
    abouts = {about: (was, now) for about, _, was, now in found["comparison"]["changes"]}
    assert abouts["arguments"] == ([1, 2], [1, 2])
    assert abouts["environment"] == ([0, 1, 2], [0, 1, 2, 3])
    assert abouts["ended"] == ([], [2])  # exit 3; who ended with 0 is told by who executed them
    assert abouts["executed"] == ([1, 2], [1, 2, 3])
    assert abouts["refused"] == ([], [1, 2, 3])
    assert set(abouts["time"][1]) <= {0, 1, 2, 3}


def test_a_finding_leads_to_its_task() -> None:
    old, new = build("-O2"), Story(command=["make"])
    root = new.begin(100)
    new.exec(root, "/usr/bin/make", argv=["make"])
    for number, name in enumerate(("a.c", "b.c")):
        child = new.clone(root, 101 + number)
        new.exec(child, "/usr/bin/cc", argv=["cc", "-O2", name])
        if name == "b.c":
            new.killed(child, 11)
        else:
            new.exit(child)
    new.exit(root)
    found = blocks(old, new.end())
    (finding,) = [change for change in found["comparison"]["changes"] if change[0] == "finding"]
    assert finding[1].startswith("now found at ")
    assert finding[2:] == [[], [2]]
    assert [about for about, _ in pairs(found)[2, 2]] == ["ended", "finding"]


def test_two_of_the_same_have_no_difference() -> None:
    found = blocks(build("-O2"), build("-O2"))["comparison"]
    assert found["changes"] == found["pairs"] == []
    assert found["match"] == [0, 1, 2]


def test_a_log_without_times_and_a_trace() -> None:
    differing = set_against(open_any(ROOT / "traces/make.strace.txt"), open_any(TRACE))
    found = check_comparison("".join(pieces(differing))).blocks
    match = found["comparison"]["match"]
    assert match.count(-1) == 0
    assert len(match) == len(found["new-overview"]["tasks"]["id"])
    assert any("not compared" in remark for remark in found["comparison"]["remarks"])


def test_a_page_is_of_traces(capsys: pytest.CaptureFixture[str]) -> None:
    audit = str(ROOT / "tests/golden/audit-glibc-2.31-x86_64.json")
    assert command(["diff", audit, audit, "--format", "html"]) == 2
    assert "a page is of two traces" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_any_form_goes_to_a_file(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(["diff", str(TRACE), str(OTHER), "--format", form])
    shown = capsys.readouterr().out
    assert command(["diff", str(TRACE), str(OTHER), "--format", form, "-o", str(tmp_path / "out")]) == 1
    assert (tmp_path / "out").read_text() == shown
    assert command(["diff", str(TRACE), str(OTHER), "-o", str(tmp_path / "none/out")]) == 2
    assert "No such file" in capsys.readouterr().err


@given(stories(), stories())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
def test_any_two_traces_make_a_page(old: Story, new: Story) -> None:
    blocks(old, new)


def test_names_of_files_and_programs_are_text() -> None:
    stories_ = []
    for word in ("</script><script>x", "\u202e<!--"):
        story = Story(command=[word], host=word)
        root = story.begin(100, comm=word)
        for number, name in enumerate(HOSTILE):
            child = story.clone(root, 101 + number)
            story.exec(child, f"/bin/{name}", argv=[name, word], envp=[f"{word}={name}"])
        story.tell(ev.Note(t=story.t, what=word, why=word))
        stories_.append(story.end())
    differing = set_against(stories_[0], stories_[1], ("</title><script>", "\x1b[31m.jsonl"))
    page = check_comparison("".join(pieces(differing)))
    assert page.title == "</title><script> → \\x1b[31m.jsonl"
