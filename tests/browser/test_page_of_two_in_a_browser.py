"""The page of two traces in a real browser: both timelines in step, and differences that lead to their tasks."""

from __future__ import annotations

from typing import Any

import pytest
from browser import Open, Opened, chromium, open_page
from happenings import MS, Story
from two_traces import set_against

from forklore.events import records as ev
from forklore.export.page.differing import Differing

__all__ = ["chromium", "open_page"]


def build(level: str, files: tuple[str, ...], *, pause: int = 0, code: int = 0, **how: Any) -> Story:
    story = Story(command=["make"])
    root = story.begin(100)
    story.exec(root, "/usr/bin/make", argv=["make"], **how)
    for number, name in enumerate(files):
        child = story.clone(root, 101 + number)
        story.exec(child, "/usr/bin/cc", argv=["cc", level, name], **how)
        thread = story.thread(child, 201 + number)
        story._t += pause
        story.exit(thread)
        story.exit(child, code if name == "b.c" else 0)
    story.exit(root)
    return story.end()


def two() -> Differing:
    """b.c fails now, c.c is gone, d.c came, all are compiled otherwise and take longer."""
    old = build("-O2", ("a.c", "b.c", "c.c"), envp=["LANG=C"])
    new = build("-O0", ("d.c", "b.c", "a.c"), pause=200 * MS, code=1, envp=["LANG=de"])
    return set_against(old, new, ("old.jsonl", "new.jsonl"))


def labels(opened: Opened, side: str) -> list[str]:
    found: list[str] = opened.page.evaluate(
        """(side) => [...document.querySelectorAll(`#${side}-tree [role=treeitem]`)].filter((row) => !row.hidden)
          .sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
          .map((row) => ['.differs', '.label'].map((part) => row.querySelector(part)?.textContent ?? '').join(' '))""",
        side,
    )
    return found


def selected(opened: Opened) -> list[str]:
    """The command lines of the two tasks that are selected."""
    rows = opened.page.locator("[role=treeitem][aria-selected=true]:visible .label").all()
    return [row.inner_text() for row in rows]


def test_both_traces_are_there_with_what_differs(open_page: Open) -> None:
    opened = open_page(two())
    assert opened.page.title() == "old.jsonl → new.jsonl – forklore"
    assert labels(opened, "old") == ["≠ make", "≠ cc -O2 a.c", "≠ cc -O2 b.c", "≠ cc -O2 c.c"]
    assert labels(opened, "new") == ["≠ make", "≠ cc -O0 d.c", "≠ cc -O0 b.c", "≠ cc -O0 a.c"]
    told = opened.page.locator("#list").inner_text()
    for text in ("cc (2 runs): -O2 became -O0", "LANG was 'C', is 'de'", "exit 1 never before, once now", "time of cc"):
        assert text in told, text
    assert "times are of one run a side" in opened.page.locator("#remarks").inner_text()
    opened.page.locator("#summary summary").click()
    assert "make" in opened.page.locator("#facts").inner_text()


def test_what_is_there_once_has_a_sign_of_its_own(open_page: Open) -> None:
    opened = open_page(set_against(build("-O2", ("a.c", "b.c")), build("-O2", ("a.c", "b.c", "c.c"))))
    assert labels(opened, "old") == [" make", " cc -O2 a.c", " cc -O2 b.c"]
    assert labels(opened, "new")[3] == "+ cc -O2 c.c"
    # The sentence about one more leads to that one, which is alone.
    opened.page.get_by_role("button", name="make executes /usr/bin/cc 3 times").click()
    opened.page.wait_for_selector("#card h2")
    assert opened.page.evaluate("() => forklore.selected()") == [-1, 5]
    assert "It is in the trace now alone." in opened.card()


def test_a_difference_leads_to_its_tasks_one_after_the_other(open_page: Open) -> None:
    opened = open_page(two())
    item = opened.page.locator("#list li", has_text="-O2 became -O0")
    item.locator(".link").click()
    assert selected(opened) == ["cc -O2 a.c", "cc -O0 a.c"]
    assert item.locator("output").inner_text() == "1 of 2 tasks"
    item.get_by_role("button", name="The next one").click()
    assert selected(opened) == ["cc -O2 b.c", "cc -O0 b.c"]
    opened.page.wait_for_function("() => document.querySelector('#card h2')?.textContent.includes('b.c')")
    card = opened.card()
    for text in ("cc: -O2 became -O0", "LANG=C → de", "exit 0 before, exit 1 now"):
        assert text in card
    row = opened.page.locator("#card tr.other", has=opened.page.get_by_role("rowheader", name="ended", exact=True))
    assert row.inner_text().split("\t")[1:] == ["≠", "exit 0", "exit 1"]
    opened.page.select_option("#about", "environment")
    assert opened.page.locator("#list li:visible").count() == 1


def test_by_keyboard_alone(open_page: Open) -> None:
    opened = open_page(two())
    page = opened.page
    page.locator("#new-tree").focus()
    opened.press("ArrowDown", "ArrowDown")
    assert selected(opened) == ["cc -O2 c.c", "cc -O0 d.c"]
    assert page.get_attribute("#old-tree", "aria-activedescendant")
    opened.press("o")
    assert page.evaluate("() => document.activeElement.id") == "old-tree"
    opened.press("ArrowUp")
    assert selected(opened) == ["cc -O2 b.c", "cc -O0 b.c"]
    page.wait_for_function("() => document.querySelector('#card h2')?.textContent.includes('b.c')")
    opened.press("D")
    assert selected(opened) == ["cc -O2 a.c", "cc -O0 a.c"]
    opened.press("d")
    assert selected(opened) == ["cc -O2 b.c", "cc -O0 b.c"]
    page.wait_for_function("() => document.querySelector('#card h2')?.textContent.includes('b.c')")
    opened.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "card-title"
    opened.press("Escape")
    assert opened.card() == ""
    assert page.evaluate("() => document.activeElement.id") == "new-tree"
    opened.press("/")
    assert page.evaluate("() => document.activeElement.id") == "search"


def test_both_are_zoomed_in_step(open_page: Open) -> None:
    opened = open_page(two())

    def shown() -> list[list[float]]:
        found: list[list[float]] = opened.page.evaluate("() => forklore.shown()")
        return found

    old, new = shown()
    assert old == new
    opened.page.locator("#new-tree").focus()
    opened.press("+", ".")
    old, new = shown()
    assert old == pytest.approx(new)
    assert new[0] > 0
    opened.page.locator("#one-scale").uncheck()
    old, new = shown()
    assert old[1] < new[1] / 5
    opened.page.locator("#new-tree").focus()
    opened.press("+")
    assert shown()[0] == old
    opened.page.get_by_role("button", name="Zoom in").click()
    assert shown()[0] != old


def test_a_search_looks_at_both(open_page: Open) -> None:
    opened = open_page(two())
    opened.page.fill("#search", "-O0")
    assert opened.page.locator("#found").inner_text() == "0 tasks before, 3 now"
    opened.press("Enter")
    assert selected(opened) == ["cc -O2 c.c", "cc -O0 d.c"]
    opened.page.fill("#search", "b.c")
    assert opened.page.locator("#found").inner_text() == "1 task before, 1 now"
    opened.press("Enter", "Enter")
    assert opened.page.locator("#found").inner_text() == "1 of 1"


def test_only_what_differs(open_page: Open) -> None:
    opened = open_page(set_against(build("-O2", ("a.c", "b.c")), build("-O2", ("a.c", "b.c"), code=3)))
    opened.page.locator("#only-differing").check()
    assert labels(opened, "old") == [" make", "≠ cc -O2 b.c"]
    assert opened.page.locator("#counted").inner_text() == "1 and 1 tasks shown"
    opened.page.locator("#threads").check()
    opened.page.locator("#only-differing").uncheck()
    assert opened.page.locator("#counted").inner_text() == "5 and 5 tasks shown"


def test_a_link_leads_to_a_task(open_page: Open) -> None:
    opened = open_page(two(), "#before=4")
    opened.page.wait_for_selector("#card h2")
    assert selected(opened) == ["cc -O2 b.c", "cc -O0 b.c"]
    assert opened.page.evaluate("() => location.hash") == "#now=4"


def test_a_difference_of_nothing(open_page: Open) -> None:
    opened = open_page(set_against(build("-O2", ("a.c",)), build("-O2", ("a.c",))))
    assert "Nothing changed; " in opened.page.locator("#totals").inner_text()
    assert "Nothing changed." in opened.page.locator("#changes").inner_text()
    assert opened.problems() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(scheme: str, open_page: Open) -> None:
    opened = open_page(two(), color_scheme=scheme)
    opened.page.locator("#summary summary").click()
    opened.page.locator("footer summary").click()
    opened.page.locator("#list .link").first.click()
    opened.page.wait_for_selector("#card h2")
    assert opened.problems() == []
    opened.page.locator("#beside").check()
    assert opened.problems() == []


def test_side_by_side_and_on_a_small_screen(open_page: Open) -> None:
    opened = open_page(two())

    def boxes() -> list[dict[str, float]]:
        found = [opened.page.locator(f"#{side}-timeline").bounding_box() for side in ("old", "new")]
        return [{name: box[name] for name in ("x", "y", "width", "height")} for box in found if box is not None]

    above, below = boxes()
    assert above["x"] == below["x"]
    assert above["y"] + above["height"] <= below["y"]
    opened.page.locator("#beside").check()
    left, right = boxes()
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    opened.page.set_viewport_size({"width": 400, "height": 700})
    assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= 400


def test_on_paper_it_is_light_and_has_the_list(open_page: Open) -> None:
    opened = open_page(two(), color_scheme="dark")
    opened.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.locator("#list li").count() == opened.page.locator("#list li:visible").count() > 3
    assert not opened.page.locator("#tools").is_visible()
    assert opened.page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_no_name_is_anything_but_text(open_page: Open) -> None:
    evil = (
        "</script><script>document.title='taken'</script>", "<img src=x onerror=document.title='taken'>",
        "<!--<script>", "\u202ereversed", "\x1b[31mred", "a\nb", "@SCRIPT@", "javascript:alert(1)", "שלום",
    )  # fmt: skip
    stories = []
    for word in evil[:2]:
        story = Story(command=[word], host=word, blind=[ev.Blind(word, word)])
        root = story.begin(100, comm=word)
        for number, name in enumerate(evil):
            child = story.clone(root, 101 + number)
            story.exec(child, f"/bin/{name}", argv=[name, word], comm=name[:15], envp=[f"{name}={word}"])
            story.exit(child, len(word) % 7)
        stories.append(story.end())
    opened = open_page(set_against(stories[0], stories[1], (evil[0], evil[1])))
    for link in opened.page.locator("#list .link").all():
        link.click()
        opened.still()
    opened.page.wait_for_selector("#card h2")
    assert opened.page.title().endswith("– forklore")
    assert opened.page.locator("img").count() == 0
    assert "\u202e" not in opened.page.locator("body").inner_text()
    opened.page.fill("#search", "<img")
    assert opened.page.locator("#found").inner_text() == "1 task before, 10 now"
