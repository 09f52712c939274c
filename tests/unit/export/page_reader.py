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
    page = Page(written)
    for kind, text in (("script", page.script), ("style", page.style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page.policy
    assert "unsafe" not in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert not {name for name in page.names if name.startswith("on") or name in ("src", "style", "href")}
    check_data(page.blocks)
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
