"""The page: what is in the file, whatever the trace has in it. What it does in a browser is in tests/browser."""

from __future__ import annotations

import gzip
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from coded import coded
from happenings import FORK, MS, NAMES, Story, stories
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_reader import Page, check_page

from forklore.abi.units import TaskId, Unavailable
from forklore.cli.main import main as command
from forklore.events import records as ev
from forklore.events.lines import TraceError
from forklore.events.trace_file import TraceFile
from forklore.export.page.page import pieces
from forklore.findings.check import Checked
from forklore.findings.finding import Finding, Folded
from forklore.model.build import built
from forklore.model.environment import environment_changes
from forklore.model.tasks import Trace
from forklore.sources.files import open_any

ROOT = Path(__file__).parents[3]
MAKE = ROOT / "docs/pictures/make.jsonl.gz"
HOSTILE = (
    "</script><script>document.title='taken'</script>", "<!--<script>", "]]>", "<img src=x onerror=alert(1)>",
    "@SCRIPT@@STYLE@@BLOCKS@",
    "\u2028\u2029", "\u202eabc", "\x1b[31m\x00", "&lt;b&gt;", '"\\u003c', "{{7*7}}", "\ud83d",
)  # fmt: skip


def raw(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def of(trace: Trace) -> Page:
    return check_page("".join(pieces(trace)))


def lines(page: Page, number: int) -> dict[str, list[tuple[str, str]]]:
    return {title: [tuple(line) for line in found] for title, found in page.blocks["cards-0"][number - 1]}


@given(stories(15))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace(story: Story) -> None:
    trace = story.trace(sharing=True)
    page = of(trace)
    assert page.blocks["overview"]["tasks"]["id"] == list(trace.tasks)


@given(st.lists(NAMES | st.sampled_from(HOSTILE).map(raw), min_size=4), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_hostile_names(names: list[bytes], data: st.DataObject) -> None:
    texts = [ev.text(name) for name in names]
    story = Story(command=texts, host="</title><script>", blind=[ev.Blind("<b>", "</script>")])
    root = story.begin(100, comm=texts[0])
    child = story.clone(root, 101, **data.draw(coded(story)))
    story.exec(child, texts[1], argv=texts, exe=texts[2], comm=texts[3], envp=texts)
    story.exec_fail(child, texts[0], argv=texts)
    story.tell(ev.Name(t=story.t, task=child, comm=texts[2], how="prctl"))
    story.tell(ev.Note(t=story.t, what="</script>", why="<!--", task=child))
    page = of(story.end().trace(sharing=True))
    assert len(page.blocks["overview"]["tasks"]["id"]) == 2


@given(st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_a_trace_that_was_cut(part: float) -> None:
    raw = gzip.decompress(MAKE.read_bytes())
    cut = raw[: int(len(raw) * part)]
    try:
        trace = built(_file(cut), sharing=True)
    except TraceError:
        return
    page = of(trace)
    assert page.blocks["overview"]["warnings"] == trace.warnings


def _file(content: bytes) -> TraceFile:
    with NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(content)
        file.flush()
        return open_any(file.name)


def test_a_real_build() -> None:
    trace = built(open_any(str(MAKE)), sharing=True)
    page = of(trace)
    overview = page.blocks["overview"]
    assert page.title == overview["title"] == "make -s -j2"
    assert ["made", "128 processes"] in overview["facts"]
    assert overview["timed"]
    programs, sites = overview["tables"]
    assert [row[:2] for row in programs["rows"]][:2] == [["sh", 31], ["cc", 32]]
    assert sum(row[1] for row in sites["rows"]) == 127
    assert sum(step[2] - step[1] for step in overview["path"]["steps"]) == pytest.approx(778_640, abs=200)
    found = lines(page, 6)
    assert ("CLONE_VFORK", found["How it was made"][-2][1]) in found["How it was made"]
    assert any(text.startswith("$ /usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet") for _, text in found["What it ran"])
    assert [line for line in found["Over time"] if line[0] == "mm"]


def test_flags_have_their_sentences() -> None:
    story = Story()
    story.thread(story.begin(100), 101)
    sentences = dict(lines(of(story.end().trace(sharing=True)), 2)["How it was made"])
    assert sentences["CLONE_VM"].startswith("The child runs in the caller's memory")
    assert sentences["CLONE_THREAD"].endswith("(since Linux 2.4.0)")


def test_what_went_wrong_has_marks() -> None:
    story = Story()
    root = story.begin(100)
    story.fail(root, 11)
    killed, bad = story.clone(root, 101), story.clone(root, 102)
    story.exec_fail(bad, "/bin/nothing", 2)
    story.killed(killed, 11)
    story.exit(bad, 3)
    story.exit(root)
    overview = of(story.end().trace(sharing=True)).blocks["overview"]
    assert overview["tasks"]["bad"] == [4, 2, 5]
    assert sorted(mark[2] for mark in overview["marks"]) == [0, 0, 1, 2]
    texts = {overview["strings"][mark[3]] for mark in overview["marks"]}
    assert {"SIGSEGV", "exit 3", "execve /bin/nothing = ENOENT"} <= texts


def test_a_search_through_path_is_no_failure() -> None:
    story = Story()
    root = story.begin(100)
    story.exec_fail(root, "/usr/local/bin/ls", 2)
    story.exec(root, "/bin/ls")
    assert of(story.end().trace(sharing=True)).blocks["overview"]["tasks"]["bad"] == [0]


def test_without_times_boxes_stand_in_order() -> None:
    story = Story(times=False)
    root = story.begin(100)
    story.clone(story.clone(root, 101), 102)
    story.clone(root, 103)
    overview = of(story.end().trace(sharing=True)).blocks["overview"]
    assert not overview["timed"]
    assert overview["tasks"]["start"] == [0, 1, 2, 3]
    assert overview["tasks"]["end"] == [4, 3, 3, 4]
    assert overview["path"]["unknown"] == "the trace has no times"


def test_what_check_found() -> None:
    story = Story()
    child = story.clone(story.begin(100), 101)
    story.killed(child, 11)
    trace = story.end().trace(sharing=True)
    page = of(trace)
    told = page.blocks["overview"]["findings"]
    (crash,) = [each for each in told["found"] if each["severity"] == "error"]
    assert "SIGSEGV" in crash["text"]
    assert crash["tasks"] == [1]
    assert any(text == crash["text"] for _, text in lines(page, 2)["What is wrong"])
    finding = Finding("killed", "warning", "<b>\x1b", (TaskId(1), TaskId(2)), None, advice="do", sure=False)
    checked = Checked([Folded(finding, [finding])], 0, [], [])
    page = check_page("".join(pieces(trace, checked)))
    assert page.blocks["overview"]["findings"] == {
        "found": [{
            "severity": "warning", "rule": "killed", "text": "<b>\\x1b", "advice": "do", "sure": False, "site": "",
            "count": 2, "tasks": [0, 0],
        }],
        "unknown": [],
    }  # fmt: skip
    assert lines(page, 2)["What is wrong"][0] == ("warning, killed", "likely: <b>\\x1b")


def test_environment_that_an_exec_changed() -> None:
    story = Story()
    root = story.begin(100)
    story.exec(root, "/bin/sh", envp=["PATH=/bin", "HOME=/root", "A=1"])
    child = story.clone(root, 101, FORK)
    story.exec(child, "/bin/ls", envp=["PATH=/usr/bin", "HOME=/root", "NEW=x", "NEW=ignored"])
    other = story.clone(root, 102, FORK)
    story.exec(other, "/bin/ls")
    trace = story.end().trace(sharing=True)
    assert environment_changes(trace, trace.tasks[TaskId(2)], 0) == [
        (b"A", b"1", None), (b"NEW", None, b"x"), (b"PATH", b"/bin", b"/usr/bin"),
    ]  # fmt: skip
    assert environment_changes(trace, trace.tasks[TaskId(3)], 0) is None
    assert environment_changes(trace, trace.tasks[TaskId(1)], 0) is None
    assert lines(of(trace), 2)["Environment that its exec changed"] == [
        ("A", "removed; it was 1"), ("NEW", "set to x"), ("PATH", "/bin → /usr/bin"),
    ]  # fmt: skip


def test_an_argument_of_two_megabytes_is_there_once() -> None:
    story = Story()
    root = story.begin(100)
    for tid in range(101, 111):
        story.exec(story.clone(root, tid), "/bin/echo", argv=["echo", "x" * (2 << 20)])
    written = "".join(pieces(story.end().trace(sharing=True)))
    check_page(written)
    assert len(written) < 1 << 20


def test_arguments_that_could_not_be_read() -> None:
    story = Story()
    story.exec(story.begin(100), Unavailable(14, "not mapped"), argv=Unavailable(14, "not mapped"))
    ran = lines(of(story.end().trace(sharing=True)), 1)["What it ran"]
    assert ("command", "arguments: not known: not mapped") in ran


def test_it_is_written_to_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert command(["show", "--format", "html", "-o", str(page), str(MAKE)]) == 0
    assert page.stat().st_mode & 0o777 == 0o600
    check_page(page.read_text())


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["show", "--format", "html", "-o", str(tmp_path / "none/page.html"), str(MAKE)]) == 1
    assert "none/page.html: No such file or directory" in capsys.readouterr().err


def test_a_trace_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_bytes(gzip.decompress(MAKE.read_bytes()))
    (tmp_path / "link").symlink_to(trace)
    before = trace.read_bytes()
    assert command(["show", "-o", str(tmp_path / "link"), str(trace)]) == 2
    assert trace.read_bytes() == before
    assert "is the trace itself" in capsys.readouterr().err


def test_any_view_can_go_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["show", "--view", "time", "-o", str(tmp_path / "view"), str(MAKE)]) == 0
    assert (tmp_path / "view").read_text().startswith("make -s -j2\n")
    assert capsys.readouterr().out == ""


def test_boxes_are_at_most_as_long_as_the_trace() -> None:
    story = Story()
    root = story.begin(100)
    story.clone(root, 101)  # whose end is not seen
    story._t += 50 * MS
    overview = of(story.end().trace(sharing=True)).blocks["overview"]
    assert overview["tasks"]["open"] == [1, 1]
    assert overview["tasks"]["end"] == [overview["end"], overview["end"]] == [52_000, 52_000]
