"""The page in a real browser: what is seen, by mouse and by keyboard, whatever names traced programs have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Open, chromium, open_page
from happenings import MS, Story

from forklore.abi.flags import CLONE
from forklore.abi.units import TaskId
from forklore.events import records as ev
from forklore.export.page.notebook import notebook_html
from forklore.export.page.page import pieces
from forklore.findings.check import Checked
from forklore.findings.finding import Finding, Folded, Where
from forklore.model.build import built
from forklore.model.tasks import Trace
from forklore.sources.files import open_any

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["chromium", "open_page"]
ROOT = Path(__file__).parents[2]
VFORK = next(flag.meaning for flag in CLONE.flags if flag.name == "CLONE_VFORK")


def make() -> Trace:
    return built(open_any(str(ROOT / "docs/pictures/make.jsonl.gz")), sharing=True)


def python() -> Trace:
    return built(open_any(str(ROOT / "traces/python.forklore.jsonl")), sharing=True)


def varied() -> Trace:
    """A program with threads, a vfork child, one that is killed, one that fails, and a refused call."""
    story = Story(command=["server", "--port", "80"])
    root = story.begin(100, comm="server")
    story.exec(root, "/usr/sbin/server", argv=["server", "--port", "80"])
    worker, other = story.thread(root, 101), story.thread(root, 102)
    helper = story.clone(worker, 103)
    story.exec(helper, "/bin/helper", argv=["helper", "--quick"])
    spawned = story.vfork(root, 104)
    story._t += 30 * MS
    story.exec(spawned, "/bin/logger", argv=["logger", "-t", "café"])
    story.tell(ev.VforkDone(t=story.t, task=root, child=spawned, tid=104))
    story.fail(root, 11)
    story.killed(helper, 11)
    story._t += 50 * MS
    story.exit(spawned, 3)
    for number in (worker, other, root):
        story.exit(number)
    return story.end().trace(sharing=True)


# What is there

def test_it_opens_with_all_of_it(open_page: Open) -> None:
    opened = open_page(make())
    assert opened.page.title() == "make -s -j2 – forklore"
    top = opened.page.locator("header").inner_text()
    for text in ("exit 0", "779 ms", "556 ms, 0.7 processors on average", "128 processes", "7 processes at most"):
        assert text in top
    compile_ = "cc -O2 -c -o f1.o f1.c"
    assert opened.labels()[:3] == ["make -s -j2", f"sh -c 'echo CC f1.c; {compile_}'", compile_]
    assert "128 tasks" in opened.page.locator("#counted").inner_text()


def test_it_is_drawn(open_page: Open) -> None:
    opened = open_page(varied())
    colours = opened.page.evaluate(
        """() => { const canvas = document.getElementById('timeline');
          const data = canvas.getContext('2d').getImageData(0, 20, canvas.width, 200).data;
          const found = new Set(); for (let at = 0; at < data.length; at += 4) found.add(data.slice(at, at + 4).join());
          return found.size; }"""
    )
    assert colours > 20


def test_findings_stand_above(open_page: Open) -> None:
    opened = open_page(varied())
    opened.page.locator("#findings summary").click()
    text = opened.page.locator("#findings").inner_text()
    assert re.search(r"error: .*SIGSEGV", text)
    opened.page.locator("#findings").get_by_role("button", name="#4 helper").first.click()
    opened.page.wait_for_selector("#card h2")
    assert "What is wrong" in opened.card()


# Cards

def test_a_card_by_mouse_on_the_tree(open_page: Open) -> None:
    opened = open_page(make())
    opened.page.locator("#tree .label", has_text="cc -O2 -c -o f1.o f1.c").nth(1).click()
    card = opened.card()
    for text in ("Made by 27602 sh.", "CLONE_VFORK", VFORK, "exit 0"):
        assert text in card


def test_a_card_by_mouse_on_a_box(open_page: Open) -> None:
    opened = open_page(make())
    box = opened.page.locator("#timeline").bounding_box()
    assert box is not None
    opened.page.mouse.click(box["x"] + 80, box["y"] + 20 + 22 + 8)
    opened.page.wait_for_selector("#card h2")
    assert "echo CC f1.c" in opened.page.locator("#card h2").inner_text()


def test_a_card_by_keyboard_alone(open_page: Open) -> None:
    opened = open_page(make())
    page = opened.page
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.id") == "tree":
            break
    opened.press("ArrowDown", "ArrowDown", "ArrowDown")
    page.wait_for_selector("#card h2")
    assert page.get_attribute("#tree", "aria-activedescendant") == "row-4"
    assert page.locator("#row-4").get_attribute("aria-level") == "3"
    opened.press("ArrowLeft")
    assert page.locator("#row-4").get_attribute("aria-expanded") == "false"
    opened.press("ArrowRight", "ArrowRight")
    assert page.get_attribute("#tree", "aria-activedescendant") == "row-6"
    page.wait_for_function("() => document.querySelector('#card h2')?.textContent.startsWith('cc1')")
    opened.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "card-title"
    opened.press("Escape")
    assert page.evaluate("() => document.activeElement.id") == "tree"
    assert opened.card() == ""


def test_tabs_by_keyboard(open_page: Open) -> None:
    opened = open_page(make())
    opened.page.locator("#tab-view-timeline").focus()
    opened.press("ArrowRight")
    assert opened.page.locator("#view-table-0").is_visible()
    opened.press("ArrowLeft", "ArrowLeft")
    assert opened.page.locator("#view-sharing").is_visible()


def test_a_link_leads_to_a_task(open_page: Open) -> None:
    opened = open_page(make(), "#task=12")
    opened.page.wait_for_selector("#card h2")
    assert "Task #12," in opened.card()
    opened.page.evaluate("() => { location.hash = '#task=6'; }")
    opened.page.wait_for_function("() => document.querySelector('#card')?.innerText.includes('Task #6,')")
    opened.press("Escape")
    opened.page.locator("#card .close").click() if opened.card() else None
    assert opened.page.evaluate("() => location.hash") == ""


def test_an_argument_of_two_megabytes_is_shown_when_asked_for(open_page: Open) -> None:
    story = Story()
    story.exec(story.begin(100), "/bin/echo", argv=["echo", "x" * (2 << 20) + "END"])
    opened = open_page(story.end().trace(sharing=True), "#task=1")
    opened.page.wait_for_selector("#card h2")
    assert len(opened.card()) < 10_000
    opened.page.get_by_role("button", name=re.compile("Show all 2,097,")).click()
    assert opened.card().count("END") == 1


# Search and filters

@pytest.mark.parametrize(("query", "found"), [
    ("logger", 1), ("104", 1), ("--quick", 1), ("CLONE_THREAD", 2), ("eagain", 1), ("café", 1), ("#5", 1),
    ("SIGSEGV", 1), ("none such", 0),
])  # fmt: skip
def test_a_search(query: str, found: int, open_page: Open) -> None:
    opened = open_page(varied())
    opened.page.fill("#search", query)
    assert opened.page.locator("#found").inner_text() == f"{found} task{'' if found == 1 else 's'}"


def test_a_search_for_a_source_line_goes_from_one_to_the_next(open_page: Open) -> None:
    opened = open_page(python())
    opened.page.fill("#search", "work.py:17")
    assert opened.page.locator("#found").inner_text() == "2 tasks"
    opened.press("Enter")
    assert opened.page.locator("#found").inner_text() == "1 of 2 tasks"
    assert opened.page.get_attribute("#tree", "aria-activedescendant") == "row-3"  # a thread, which was folded
    opened.press("Enter")
    assert opened.page.get_attribute("#tree", "aria-activedescendant") == "row-5"


def test_only_what_was_found(open_page: Open) -> None:
    opened = open_page(make())
    opened.page.fill("#search", "f30.c")
    opened.page.check("#only-found")
    opened.still()
    labels = opened.labels()
    assert len(labels) < 6
    assert labels[0] == "make -s -j2"


def test_filters(open_page: Open) -> None:
    opened = open_page(varied())
    page = opened.page
    assert opened.labels() == ["server --port 80", "helper --quick", "logger -t 'café'"]
    assert "+2 threads" in opened.rows()[0]
    page.check("#threads")
    opened.still()
    assert len(opened.labels()) == 5
    page.uncheck("#threads")
    page.fill("#slower", "60")
    opened.still()
    assert opened.labels() == ["server --port 80", "logger -t 'café'"]
    page.fill("#slower", "")
    page.select_option("#program", label="helper (1)")
    opened.still()
    assert opened.labels() == ["server --port 80", "helper --quick"]
    page.select_option("#program", label="all")
    page.check("#failures")
    opened.still()
    assert opened.labels() == ["server --port 80", "helper --quick", "logger -t 'café'"]
    assert "1 of" not in page.locator("#counted").inner_text()


def test_who_shares_memory_with_it(open_page: Open) -> None:
    opened = open_page(varied(), "#task=1")
    opened.page.check("#shares")
    opened.page.wait_for_function("() => document.querySelectorAll('#tree [role=treeitem]:not([hidden])').length === 4")
    # Its threads, and the child of vfork until its exec; not the copy that fork made.
    assert {label.split()[0] for label in opened.labels()} == {"server", "logger"}


def test_only_what_lived_in_the_time_in_view(open_page: Open) -> None:
    opened = open_page(make())
    opened.page.check("#during")
    opened.page.locator("#tree").focus()
    opened.press("End", "z")
    assert 1 < len(opened.labels()) < 8
    assert opened.labels()[-1].startswith("ld ")
    opened.press("0")
    assert "128 tasks" in opened.page.locator("#counted").inner_text()


def test_threads_of_one_process(open_page: Open) -> None:
    opened = open_page(varied())
    opened.page.locator(".threads").click()
    opened.still()
    assert len(opened.labels()) == 5


def test_collapse_and_expand(open_page: Open) -> None:
    opened = open_page(make())
    opened.page.click("#collapse")
    opened.still()
    assert {label[:2] for label in opened.labels()} == {"ma", "sh"}
    opened.page.click("#expand")
    opened.still()
    assert opened.labels()[2].startswith("cc -O2")
    opened.page.locator("#row-0 .toggle").click()
    opened.still()
    assert opened.labels() == ["make -s -j2"]


# Zoom and pan

def test_zoom_by_wheel_keys_and_buttons(open_page: Open) -> None:
    opened = open_page(make())
    page = opened.page
    since, until = opened.shown()
    box = page.locator("#timeline").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + 100)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    opened.still()
    closer = opened.shown()
    assert closer[1] - closer[0] < (until - since) / 2
    assert sum(closer) / 2 == pytest.approx((since + until) / 2, rel=0.05)
    page.locator("#tree").focus()
    opened.press("0")
    assert opened.shown() == (since, until)
    opened.press("+", "+")
    assert opened.shown()[1] - opened.shown()[0] == pytest.approx((until - since) * 0.36, rel=0.01)
    before = opened.shown()
    opened.press(".")
    assert opened.shown()[0] > before[0]
    page.click("#zoom-out")
    page.click("#zoom-all")
    assert opened.shown() == (since, until)


def test_pan_by_drag_and_by_shift_and_wheel(open_page: Open) -> None:
    opened = open_page(make())
    page = opened.page
    page.click("#zoom-in")
    page.click("#zoom-in")
    before = opened.shown()
    box = page.locator("#timeline").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 200, steps=4)
    page.mouse.up()
    moved = opened.shown()
    assert moved[0] - before[0] == pytest.approx((before[1] - before[0]) * 100 / box["width"], rel=0.02)
    assert opened.card() == ""  # a drag is no click
    page.keyboard.down("Shift")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Shift")
    opened.still()
    assert opened.shown()[0] < moved[0]


def test_two_fingers(open_page: Open) -> None:
    opened = open_page(make(), has_touch=True)
    box = opened.page.locator("#timeline").bounding_box()
    assert box is not None
    before = opened.shown()
    protocol = opened.page.context.new_cdp_session(opened.page)
    x, y = box["x"] + box["width"] / 2, box["y"] + 150

    def touch(kind: str, apart: float) -> None:
        points = [] if kind == "touchEnd" else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        protocol.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 40)
    for apart in range(50, 170, 10):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    opened.still()
    after = opened.shown()
    assert after[1] - after[0] == pytest.approx((before[1] - before[0]) / 4, rel=0.2)


def test_the_view_above_chooses_the_time(open_page: Open) -> None:
    opened = open_page(make())
    box = opened.page.locator("#atonce").bounding_box()
    assert box is not None
    whole = opened.shown()
    opened.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 20, steps=5)
    opened.page.mouse.up()
    since, until = opened.shown()
    assert (until - since) / (whole[1] - whole[0]) == pytest.approx(0.25, abs=0.02)


# Tables

def test_tables_are_sorted_and_lead_to_tasks(open_page: Open) -> None:
    opened = open_page(make())
    opened.page.get_by_role("tab", name="By program").click()
    opened.page.wait_for_selector("#view-table-0 tbody tr")
    first = opened.page.locator("#view-table-0 tbody tr").first
    assert first.inner_text().split("\t")[:2] == ["sh", "31"]
    opened.page.get_by_role("button", name="memory").click()
    opened.page.get_by_role("button", name="memory").click()
    assert opened.page.locator("#view-table-0 th").nth(5).get_attribute("aria-sort") == "ascending"
    assert first.inner_text().startswith("as\t")
    first.get_by_role("button").click()
    assert opened.page.locator("#view-timeline").is_visible()
    opened.page.wait_for_selector("#card h2")
    assert opened.page.locator("#card h2").inner_text().startswith("as --64")


def test_who_shared_what_at_a_moment(open_page: Open) -> None:
    opened = open_page(varied())
    opened.page.get_by_role("tab", name="Sharing").click()
    opened.page.wait_for_selector(".matrix tbody tr")
    opened.page.locator("#moment").fill("300")  # the child of vfork has not executed yet

    def memory() -> dict[str, str]:
        rows = [row.split("\t") for row in opened.page.locator(".matrix tbody").inner_text().split("\n")]
        return {row[0]: row[1].rstrip("?") for row in rows}

    before = memory()
    assert before["104 logger"] == before["100 server"] == before["101 server"]
    assert before["103 helper"] not in (before["100 server"], "?")
    opened.page.locator("#moment").fill("700")
    assert memory()["104 logger"] != memory()["100 server"]


def test_the_critical_path(open_page: Open) -> None:
    opened = open_page(make())
    assert "on the critical path" in opened.page.locator("#row-0").inner_text()
    opened.page.get_by_role("tab", name="Critical path").click()
    opened.page.wait_for_selector("#view-path tbody tr")
    text = opened.page.locator("#view-path").inner_text()
    assert "779 ms in 163 steps" in text
    assert re.search(r"all of cc1\s+353 ms\s+313 ms", text)


# For everybody

@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(scheme: str, open_page: Open) -> None:
    opened = open_page(varied(), "#task=4", color_scheme=scheme)
    opened.page.locator("#findings summary").click()
    opened.page.wait_for_selector("#card h2")
    opened.page.locator("footer summary").click()
    assert opened.problems() == []
    for tab in ("By program", "By site", "Critical path", "Sharing"):
        opened.page.get_by_role("tab", name=tab).click()
        opened.page.wait_for_selector("[role=tabpanel]:not([hidden]) table")
        assert opened.problems() == []


def test_on_paper_all_tables_are_there(open_page: Open) -> None:
    opened = open_page(make(), color_scheme="dark")
    opened.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    opened.page.emulate_media(media="print", color_scheme="dark")
    opened.page.wait_for_selector("#view-path table")
    assert opened.page.locator("#view-table-0").is_visible()
    assert not opened.page.locator("#tools").is_visible()
    assert opened.page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened.page.evaluate("() => dispatchEvent(new Event('afterprint'))")


def test_no_name_is_anything_but_text(open_page: Open) -> None:
    evil = (
        "</script><script>document.title='taken'</script>", "<img src=x onerror=document.title='taken'>",
        "<!--<script>", "\u202ereversed", "\x1b[31mred", "a\nb", "]]>", "@SCRIPT@", "javascript:alert(1)", "%s{{7*7}}",
        "שלום",
    )  # fmt: skip
    story = Story(command=list(evil), host=evil[0], blind=[ev.Blind(evil[1], evil[0])])
    root = story.begin(100, comm=evil[1])
    for number, name in enumerate(evil):
        child = story.clone(root, 101 + number)
        story.exec(child, f"/bin/{name}", argv=[name, *evil], comm=name[:15], envp=[f"A={name}"])
        story.exec_fail(child, name)
    trace = story.end().trace(sharing=True)
    where = Where(evil[1], 1, evil[0])
    finding = Finding("killed", "error", evil[0], (TaskId(2),), None, where, evil[1], advice=evil[0])
    opened = open_page(trace, "#task=2", checked=Checked([Folded(finding)], 0, [], []))
    opened.page.wait_for_selector("#card h2")
    for tab in ("By program", "By site", "Critical path", "Sharing", "Not known", "Timeline"):
        opened.page.get_by_role("tab", name=tab).click()
        opened.still()
    assert opened.page.title() != "taken"
    assert opened.page.locator("img").count() == 0
    assert opened.page.locator("script").count() == opened.page.evaluate("() => document.scripts.length")
    assert evil[0] in opened.card()
    assert "\u202e" not in opened.page.locator("body").inner_text()
    opened.page.fill("#search", "<img")
    assert opened.page.locator("#found").inner_text() == "12 tasks"


def test_a_page_that_was_cut_says_so(open_page: Open, tmp_path: Path, chromium: Browser) -> None:
    text = "".join(pieces(varied()))
    file = tmp_path / "cut.html"
    file.write_text(re.sub(r'<script type="[^"]*" id="overview">.*?</script>', "", text, flags=re.DOTALL))
    page = chromium.new_page()
    page.goto(f"file://{file}")
    page.wait_for_selector("#warnings p")
    assert "This page cannot be shown" in page.locator("#warnings").inner_text()
    page.close()


# In another page

def test_in_a_notebook_it_is_a_frame(open_page: Open, tmp_path: Path, chromium: Browser) -> None:
    file = tmp_path / "notebook.html"
    file.write_text(f"<!DOCTYPE html><meta charset=utf-8><title>notebook</title>{notebook_html(make())}")
    page = chromium.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"file://{file}")
    frame = page.frame_locator("iframe")
    frame.locator("#row-2 .label").click()
    frame.locator("#card h2").wait_for()
    assert "exit 0" in frame.locator("#card").inner_text()
    frame.locator(".kin a").first.click()
    frame.locator("#card h2", has_text="make -s -j2").wait_for()
    assert said == []
    page.close()


# Large traces

def many(number: int) -> Trace:
    story = Story()
    root = story.begin(100, comm="make")
    for tid in range(1000, 1000 + number - 1):
        child = story.clone(root, tid)
        story.exec(child, f"/bin/p{tid % 40}", argv=["p", str(tid)])
        story.exit(child, int(tid % 50 == 0))
    story.exit(root)
    return story.end().trace(sharing=True)


def test_only_what_is_visible_is_there(open_page: Open) -> None:
    opened = open_page(many(5000))
    assert opened.page.locator("#tree [role=treeitem]").count() < 60
    opened.page.locator("#tree").focus()
    opened.press("End")
    assert opened.labels()[-1] == "p38 5998"
    assert opened.page.locator("#tree [role=treeitem]").count() < 60
    drawn = opened.page.evaluate(
        """() => { const scroller = document.getElementById('scroller'); const counts = []; let count = 0;
          for (const name of ['strokeRect', 'fillText', 'stroke']) {
            const was = CanvasRenderingContext2D.prototype[name];
            CanvasRenderingContext2D.prototype[name] = function (...of) { count++; return was.apply(this, of); }; }
          for (let at = 0; at < 30; at++) { scroller.scrollTop = at * 3000; count = 0; forklore.draw();
            counts.push(count); }
          return [Math.min(...counts), Math.max(...counts)]; }"""
    )
    assert 0 < drawn[0] <= drawn[1] < 2000
