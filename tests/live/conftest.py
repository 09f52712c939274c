"""Fixtures of the live tests: test programs by name, and runs of them under forklore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from programs import Missing, build
from tracing import Program, Trace_, Traced, trace


@pytest.fixture
def program() -> Program:
    """``program("fork_tree", libc="musl")``: its executable; the test is skipped where it cannot be compiled."""

    def built(name: str, **how: Any) -> Path:
        try:
            return build(name, **how)
        except Missing as missing:
            pytest.skip(str(missing))

    return built


@pytest.fixture
def traced(tmp_path: Path) -> Trace_:
    """``traced(program, "argument", options=["--follow=none"])``: a run under forklore and its trace."""
    count = 0

    def run(*command: Any, **how: Any) -> Traced:
        nonlocal count
        count += 1
        return trace(tmp_path / f"trace-{count}.jsonl", command, **how)

    return run
