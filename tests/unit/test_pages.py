"""The pages of docs/ that are made from the code are those that the code makes now."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import PAGES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run scripts/generate-pages"


def test_no_other_page_says_that_it_is_generated() -> None:
    said = {path.name for path in DOCS.glob("*.md") if "`scripts/generate-pages`; do not edit" in path.read_text()}
    assert said == set(PAGES)
