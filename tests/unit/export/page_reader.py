"""Reads a page as a browser does, and says what is wrong with it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

from forklore.export.page.page import CARDS

_ELEMENTS = re.compile(r"<!--|</?script", re.IGNORECASE)


class Page(HTMLParser):
    """Its elements, its blocks by their ids, and the script and style that it runs."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: dict[str, Any] = {}
        self.script = self.style = self.policy = ""
        self.title = ""
        self.names: set[str] = set()
        """Of all attributes."""
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= given.keys()
        self._open.append((tag, given))
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_data(self, data: str) -> None:
        tag, given = self._open[-1] if self._open else ("", {})
        if tag == "style":
            self.style += data
        elif tag == "title":
            self.title += data
        elif tag == "script" and "id" in given:
            # A raw text element ends only where the parser says: what a browser takes for its end, this does too.
            assert not _ELEMENTS.search(data)
            name = given["id"] or ""
            packed = given["type"] == "application/gzip"
            self.blocks[name] = json.loads(gzip.decompress(base64.b64decode(data)) if packed else data)
        elif tag == "script":
            self.script += data

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass


def check_page(written: str) -> Page:
    """AssertionError where a browser would refuse it, or would do something else than show it."""
    page = _checked(written)
    check_data(page.blocks)
    return page


def check_comparison(written: str) -> Page:
    """The same for a page of two traces."""
    page = _checked(written)
    sides = []
    for side in ("old-", "new-"):
        sides.append({name.removeprefix(side): data for name, data in page.blocks.items() if name.startswith(side)})
        check_data({**sides[-1], "sharing": None})
    found = page.blocks["comparison"]
    old, new = (len(side["overview"]["tasks"]["id"]) for side in sides)
    assert len(found["match"]) == old
    matched = [other for other in found["match"] if other >= 0]
    assert len(set(matched)) == len(matched)
    assert all(other < new for other in matched)
    for task, other, told in found["pairs"]:
        assert found["match"][task] == other
        assert told
        assert all(text < len(found["strings"]) for _, text in told)
    for _, text, before, now in found["changes"]:
        assert text.isprintable()
        assert all(0 <= task < old for task in before)
        assert all(0 <= task < new for task in now)
    texts = [found["title"], found["totals"], *found["names"], *found["strings"], *found["remarks"]]
    assert all(text.isprintable() for text in [*texts, *(text for fact in found["facts"] for text in fact)])
    return page


def _checked(written: str) -> Page:
    page = Page(written)
    for kind, text in (("script", page.script), ("style", page.style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page.policy
    assert "unsafe" not in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert not {name for name in page.names if name.startswith("on") or name in ("src", "style", "href")}
    return page


def check_data(blocks: dict[str, Any]) -> None:
    """The parts agree with each other, and no text can command a terminal or turn a line around."""
    overview = blocks["overview"]
    tasks = overview["tasks"]
    many = len(tasks["id"])
    assert {len(column) for column in tasks.values()} == {many}
    assert len(blocks["words"]["of"]) == many
    cards = [card for number in range(-(-many // CARDS)) for card in blocks[f"cards-{number}"]]
    assert len(cards) == many
    if blocks["sharing"] is not None:
        assert all(len(holds) == many for holds in blocks["sharing"]["holds"])
        assert overview["shared"] == bool(blocks["sharing"]["resources"])
    assert all(text.isprintable() for text in [*overview["strings"], *blocks["words"]["words"], overview["title"]])
    assert all(term.isprintable() and text.isprintable() for card in cards for _, lines in card for term, text in lines)
    places = len(overview["strings"])
    for place in range(many):
        assert -1 <= tasks["creator"][place] < place
        assert tasks["start"][place] <= tasks["end"][place]
        assert overview["start"] <= tasks["start"][place] <= overview["end"]
        assert max(tasks["name"][place], tasks["label"][place], tasks["ended"][place]) < places
        times = tasks["images"][place][::2]
        assert all(tasks["start"][place] <= t <= tasks["end"][place] for t in times)
    for step in overview["path"]["steps"]:
        assert step[1] <= step[2]
        assert step[3] < len(overview["path"]["after"])
