"""The views of the recorded traces are what they were when somebody last looked at them."""

from __future__ import annotations

import difflib

import pytest
from golden import EXAMPLE, GOLDEN, PAGE, kept, views

VIEWS = dict(views())


@pytest.mark.parametrize("name", VIEWS)
def test_the_view_is_as_recorded(name: str) -> None:
    path = GOLDEN / name
    assert path.exists(), f"{path} is missing: run scripts/update-golden"
    before, now = path.read_text().splitlines(), VIEWS[name].decode().splitlines()
    changes = "\n".join(difflib.unified_diff(before, now, f"tests/golden/{name}", "now", lineterm=""))
    assert path.read_bytes() == VIEWS[name], f"look at it; if it is right, run scripts/update-golden\n{changes}"


def test_there_is_no_other_file() -> None:
    assert {path.name for path in kept()} == set(VIEWS)


@pytest.mark.parametrize("name", [name for name in VIEWS if "tree-" in name])
def test_no_tree_is_wider_than_it_may_be(name: str) -> None:
    columns = int(name.partition("tree-")[2].removesuffix(".txt"))
    assert max(map(len, VIEWS[name].decode().splitlines())) <= columns


def test_the_tree_of_the_page_is_what_is_printed() -> None:
    assert EXAMPLE.findall(PAGE.read_text()) == [VIEWS["python.tree-80.txt"].decode()]
