"""What threads and children with a stack of their own run is told by the bpf engine as by the ptrace engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bpf_here import needed
from tracing import ENVIRONMENT, FORKLORE, Program

from forklore.events import jsonl
from forklore.events import records as ev


@pytest.fixture(autouse=True)
def _bpf() -> None:
    needed()


@pytest.mark.parametrize("words", [("many_threads", "3"), ("stack_shapes", "pthread"), ("clone_fn",)], ids=" ".join)
def test_what_they_run_is_what_ptrace_reads(words: tuple[str, ...], program: Program, tmp_path: Path) -> None:
    told = []
    for engine in ("ptrace", "bpf"):
        file = tmp_path / f"{engine}.jsonl"
        subprocess.run(
            [*FORKLORE, "run", "--engine", engine, "-q", "-o", str(file), "--", str(program(words[0])), *words[1:]],
            env=ENVIRONMENT, check=True, timeout=60, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        events = list(jsonl.read(str(file)))
        places = (event for event in events if isinstance(event, ev.Place))
        names: dict[int | None, object] = {place.place: place.function for place in places}
        runs = [event.runs for event in events if isinstance(event, ev.Create) and event.runs is not None]
        told.append([(each.how, names.get(each.fn_place), names.get(each.routine_place)) for each in runs])
    assert told[0] == told[1]
    assert told[0]
