"""Chromium without a window, on pages written for a test: what the console says and what is to be loaded is kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from forklore.export.page import comparison
from forklore.export.page.differing import Differing
from forklore.export.page.page import pieces
from forklore.model.tasks import Trace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT: Final = Path(__file__).resolve().parents[2]
AXE: Final = ROOT / "front-end/node_modules/axe-core/axe.min.js"
FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def executable() -> str:
    """The browser; the test is skipped where there is none."""
    found = os.environ.get("FORKLORE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium on this machine (package: chromium)")
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for the tests of a module, as it takes a second to start; no longer, for a test that traces in its process
    waits for every child that this has."""
    program = executable()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed (pip install '.[dev]')")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A page in the browser."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        """By the console, and errors that nobody took."""
        self.asked: list[str] = []
        """Addresses that were to be loaded."""
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda problem: self.said.append(f"error: {problem}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))

    def load(self, file: Path, fragment: str = "") -> Opened:
        """Until a search can be made."""
        self.page.goto(f"file://{file}{fragment}")
        self.page.wait_for_selector("html[data-ready=all]", state="attached", timeout=60_000)
        return self

    def rows(self) -> list[str]:
        """What the rows say that can be seen, from the top."""
        rows = self.page.locator("#tree [role=treeitem]:visible").all()
        placed = [(row.bounding_box() or {"y": 0})["y"] for row in rows]
        return [text for _, text in sorted(zip(placed, (row.inner_text() for row in rows), strict=True))]

    def labels(self) -> list[str]:
        """The command lines of these rows."""
        found: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll('#tree [role=treeitem]')].filter((row) => !row.hidden)
              .sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
              .map((row) => row.querySelector('.label').textContent)"""
        )
        return found

    def card(self) -> str:
        """What the card says; empty where none is shown."""
        card = self.page.locator("#card")
        return card.inner_text() if card.is_visible() else ""

    def shown(self) -> tuple[float, float]:
        """What part of the time the timeline shows, in µs."""
        since, until = self.page.evaluate("() => forklore.shown()")
        return since, until

    def still(self) -> None:
        """Until what was done is drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, *keys: str) -> None:
        """Keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)
        self.still()

    def problems(self) -> list[str]:
        """What axe-core finds wrong for people who cannot see, or not use a mouse."""
        if not AXE.exists():
            pytest.skip("axe-core is not installed: scripts/generate-front-end installs it into front-end/node_modules")
        self.page.evaluate(AXE.read_text())
        found = json.loads(self.page.evaluate("async () => JSON.stringify((await axe.run(document)).violations)"))
        nodes = [(each["id"], node) for each in found for node in each["nodes"]]
        return [f"{rule}: {node['html'][:200]}: {node['failureSummary']}" for rule, node in nodes]


Open = Callable[..., Opened]


@pytest.fixture
def open_page(chromium: Browser, tmp_path: Path) -> Iterator[Open]:
    """``open_page(trace)``, or of two that were set against each other: its page, opened; in the end its console must
    be empty and nothing asked of a network."""
    made: list[Any] = []
    opened: list[Opened] = []

    def show(trace: Trace | Differing, fragment: str = "", file: Path | None = None, **how: Any) -> Opened:
        path = tmp_path / f"page-{len(made)}.html" if file is None else file
        if file is None and isinstance(trace, Differing):
            path.write_text("".join(comparison.pieces(trace)))
        elif file is None and isinstance(trace, Trace):
            path.write_text("".join(pieces(trace, how.pop("checked", None))))
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **how})
        made.append(context)
        opened.append(Opened(context.new_page()))
        return opened[-1].load(path, fragment)

    yield show
    try:
        for each in opened:
            assert each.said == []
            assert {url.partition(":")[0] for url in each.asked} <= {"file", "blob"}
    finally:
        for context in made:
            context.close()
