"""Nothing in the package sleeps: whoever waits, waits for something."""

from __future__ import annotations

import ast
from pathlib import Path

import forklore

SOURCES = sorted(Path(forklore.__file__).parent.rglob("*.py"))


def calls_of_sleep(source: str) -> list[int]:
    """The lines at which something named sleep is called."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and (ast.unparse(node.func).rpartition(".")[2]) == "sleep"
    ]


def test_nobody_sleeps() -> None:
    assert len(SOURCES) > 100
    assert {str(path): lines for path in SOURCES if (lines := calls_of_sleep(path.read_text()))} == {}


def test_it_would_be_found() -> None:
    assert calls_of_sleep("import time\ntime.sleep(1)\n") == [2]
    assert calls_of_sleep("from time import sleep\nsleep(1)\n") == [2]
