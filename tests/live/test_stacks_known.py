"""A stack that was met before is recognised by what its first walks went by, and is not walked again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, TIMEOUT, Program

# The loop waits for every child of its process, so it runs in one of its own.
COUNTING = """
import sys
from forklore.elf.cfi import unwind
from forklore.sources.ptrace.session import Session
from forklore.sources.source import nothing_to_do

walks, walk = [], unwind.walk
def counted(*words, **how):
    walks.append(how)
    return walk(*words, **how)
unwind.walk = counted
stacks = []
Session(sys.argv[1:]).run(lambda event: stacks.append(getattr(event, "stack", None)), nothing_to_do)
made = [number for number in stacks if number is not None]
print(f"walks={len(walks)} made={len(made)} kinds={len(set(made))}", file=sys.stderr)
"""
TIMES = 53


@pytest.mark.parametrize("words", [("many_threads", "alive"), ("many_processes", "alive")])
def test_one_place_is_walked_a_few_times_only(program: Program, words: tuple[str, str], tmp_path: Path) -> None:
    name, how = words
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, program(name), str(TIMES), how],
        env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=True,
    )  # fmt: skip
    counts = dict(pair.split("=") for pair in done.stderr.split())
    assert int(counts["made"]) >= TIMES
    # Twice for each place: the second walk notes what it goes by. The first thread's stack is made on the way.
    assert int(counts["walks"]) <= 4 * int(counts["kinds"])
