"""No number of JSON that is meant for others has more than 53 bits, but for times: many readers would round it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from happenings import FORK, Story

from forklore.cli.main import main
from forklore.events import jsonl
from forklore.events import records as ev

ALL = 2**64 - 1
HUGE = f"clone3({{flags=CLONE_VM, stack={ALL:#x}, tls={ALL:#x}}}, {ALL:#x})"


def numbers(value: Any, place: str = "") -> Iterator[str]:
    """Where numbers are that a double cannot hold."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner, place)
    elif isinstance(value, int) and abs(value) >= 1 << 53:
        yield place


@pytest.fixture
def trace(tmp_path: Path) -> str:
    story = Story()
    root = story.begin(100)
    for refused in (11, 22):
        story.fail(root, refused, args=(ALL,) * 6, limits={"rlimit_nproc": ALL, "cap_eff": ALL})
    story.clone(root, 101, FORK, runs=ev.Runs(how="clone", fn=ALL, arg=ALL))
    story.call(root, "setns", ALL, ALL, result=-9)
    story.tell(ev.Signal(t=story.t, task=root, signal=11, code=1, address=ALL))
    held = ev.Held(fd=4, kind="file", target="/x", inode=ALL, position=ALL >> 1, device=ALL >> 1)
    story.tell(ev.Descriptors(t=story.t, task=2, table=[held], creators_pipes=[held]))
    story.killed(root, 11)
    path = tmp_path / "huge.jsonl"
    writer = jsonl.Writer(jsonl.open_trace(path), story.header)
    for event in story.events:
        writer.event(event)
    writer.end(story.t, "done", 0)
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ["show", "--format", "json"], ["show", "--format", "json", "--view", "sites"], ["diff", "--format", "json"],
        ["explain", "--format", "json", hex(ALL)], ["explain", "--format", "json", HUGE],
        ["explain", "--format", "json", "EINVAL", HUGE],
        ["inspect", "--format", "json"], ["doctor", "--format", "json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_number_is_larger_than_a_double_holds(
    words: list[str], trace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"show": [trace], "diff": [trace, trace], "inspect": ["1"]}.get(words[0], [])
    assert main([*words, *given]) == 0
    assert set(numbers(json.loads(capsys.readouterr().out))) <= {".header.clock.wall", ".header.clock.start"}
