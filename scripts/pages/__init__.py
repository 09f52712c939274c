"""The pages of docs/ that are made from tables in the code: a module a page, whose ``page()`` is its whole text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from . import findings, json_tree, rules, sharing, tables

PAGES: Final[dict[str, Callable[[], str]]] = {
    "findings.md": findings.page,
    "json.md": json_tree.page,
    "rules.md": rules.page,
    "sharing.md": sharing.page,
    "tables.md": tables.page,
}
"""By the file's name in docs/."""
