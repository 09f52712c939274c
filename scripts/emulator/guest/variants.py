"""A pytest plugin: of a test with many variants (``parametrize``), ``$FORKLORE_VARIANTS`` of them, spread over all."""

from __future__ import annotations

import os

import pytest

MOST = int(os.environ.get("FORKLORE_VARIANTS", "0"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The first, the last, and what lies evenly between; the others are deselected, which pytest counts."""
    alike: dict[str, list[pytest.Item]] = {}
    for item in items:
        alike.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {id(item) for variants in alike.values() for item in _spread(variants)}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


def _spread(variants: list[pytest.Item]) -> list[pytest.Item]:
    if MOST == 0 or len(variants) <= MOST:
        return variants
    if MOST == 1:
        return variants[:1]
    return [variants[number * (len(variants) - 1) // (MOST - 1)] for number in range(MOST)]
