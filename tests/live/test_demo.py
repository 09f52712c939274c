"""The demo of an installed forklore."""

from __future__ import annotations

import shutil

from tracing import FORKLORE, bare


def test_it_shows_each_command_and_what_it_says() -> None:
    done = bare(*FORKLORE, "demo")
    assert done.status == 0
    commands = [line for line in done.out.splitlines() if line.startswith("$ ")]
    assert [line.split()[2] for line in commands] == (
        ["run", "run", "run", "explain"] if shutil.which("gcc") else ["run", "explain"]
    )
    assert "sort  fork" in done.err
    assert "CLONE_CHILD_CLEARTID" in done.out
