"""Long, wide and deep: what has been costs no memory, files are bounded, and the trace stays whole."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from tracing import ENVIRONMENT, FORKLORE, TIMEOUT

import forklore
from forklore.events import jsonl
from forklore.events import records as ev

PROBE = """
import gc, sys
from forklore.cli.main import main
from forklore.events import jsonl

file, sys.argv = sys.argv[1], ["forklore", *sys.argv[2:]]
plain, blocks = jsonl.Writer.event, []

def event(self, event):
    plain(self, event)
    if self.events in (801, 3001):
        gc.collect()
        blocks.append(sys.getallocatedblocks())

jsonl.Writer.event = event
main()
with open(file, "w") as out:
    print(*blocks, file=out)
"""
"""Counts the interpreter's live objects when 400 and when 1500 processes have ended."""


def forklore_run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FORKLORE, "run", *map(str, arguments)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT, check=True,
    )  # fmt: skip


@pytest.mark.parametrize("way", [("-q",), ("--log",), ("-q", "--rotate", "1G")])
def test_memory_does_not_follow_what_has_been(way: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROBE, str(tmp_path / "blocks"), "run", "-o", str(tmp_path / "t"), *way, "--"]
    subprocess.run(
        [*command, str(programs.build("many_processes")), "1511"],
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT, check=True,
    )  # fmt: skip
    early, late = map(int, (tmp_path / "blocks").read_text().split())
    assert late - early < 550  # half an object for each of 1100 processes


def test_many_threads_at_once(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    count = 1009 if limit == resource.RLIM_INFINITY else min(1009, limit // 4)
    forklore_run("-q", "-o", tmp_path / "t", "--", programs.build("many_threads"), str(count), "alive")
    trace = forklore.load(tmp_path / "t")
    (root,) = trace.roots
    threads = [task for task in trace.tasks.values() if task is not root]
    assert len(threads) == count
    assert all(task.kind == "thread" and task.death is not None for task in threads)
    created = [task.created for task in threads if task.created is not None]
    assert max(created) < min(task.ended for task in threads if task.ended is not None)


def test_a_deep_tree_is_shown_within_the_width(tmp_path: Path) -> None:
    done = forklore_run("--columns", "80", "-o", tmp_path / "t", "--", programs.build("deep_chain"), "211")
    assert len(forklore.load(tmp_path / "t").tasks) == 212
    lines = done.stderr.splitlines()
    assert max(map(len, lines[:-1])) <= 80  # the last one has a path
    assert len(lines) < 100
    deepest = [line for line in lines if "(+" in line]
    assert len(deepest) == 1  # and what is below it is counted


def test_two_megabytes_of_arguments(tmp_path: Path) -> None:
    script = "import os; os.execv('/bin/true', ['true'] + ['x' * 100_000] * 19)"
    forklore_run("-o", tmp_path / "t", "--", sys.executable, "-c", script)
    (root,) = forklore.load(tmp_path / "t").roots
    image = root.images[-1]
    assert image.argc == 20 or (isinstance(image.argv, tuple) and len(image.argv) == 20)
    assert root.death is not None
    assert root.death.code == 0


def test_a_recording_told_to_end_lets_the_program_go_on(tmp_path: Path) -> None:
    done = forklore_run("--max-events", "50", "-o", tmp_path / "t", "--", programs.build("many_processes"), "101")
    assert "ok processes=101" in done.stdout
    events = list(jsonl.read(tmp_path / "t"))
    end = events[-1]
    assert isinstance(end, ev.End)
    assert (end.events, len(events)) == (51, 52)
    assert end.lost > 100
    assert f"--max-events: {end.lost} more events were not recorded" in done.stderr
    assert "the recording was to end after 50 events" in done.stderr


def test_a_rotated_recording_has_every_process_once(tmp_path: Path) -> None:
    file = tmp_path / "t"
    done = forklore_run("--rotate", "8K", "-o", file, "--", programs.build("many_processes"), "307")
    said = sorted(int(pid) for pid in re.findall(r"process pid=(\d+)", done.stdout))
    files = [file, *(tmp_path / f"t.{n}" for n in range(1, len(list(tmp_path.iterdir()))))]
    assert len(files) > 5
    seen: list[int] = []
    for each in files:
        trace = forklore.load(each)
        assert trace.warnings == []
        (root,) = trace.roots
        assert root.name == b"many_processes"
        made = [task for task in trace.tasks.values() if task.creation is not None]
        assert all(task.stack is not None for task in made)
        seen += [task.tid for task in made]
    assert sorted(seen) == said
    assert f"Recorded in {files[-1]}; look again with: forklore show {files[-1]}" in done.stderr


def test_the_last_files_are_kept(tmp_path: Path) -> None:
    forklore_run("--rotate", "8K,2", "-q", "-o", tmp_path / "t", "--", programs.build("many_processes"), "307")
    kept = sorted(int(file.suffix[1:]) for file in tmp_path.iterdir())
    assert len(kept) == 2
    assert kept[0] + 1 == kept[1]
    assert kept[0] > 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rotate", "1M"], "--rotate needs a file to continue in others: give -o FILE too"),
        (["-o", "-", "--rotate", "1M"], "only a regular file can be continued in others"),
        (["--rotate", "many"], "is no SIZE[,KEEP]"),
        (["--rotate", "1M,0"], "is no SIZE[,KEEP]"),
    ],
)
def test_what_cannot_be_rotated(arguments: list[str], says: str) -> None:
    done = subprocess.run(
        [*FORKLORE, "run", *arguments, "--", "true"], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert says in done.stderr
    assert "Traceback" not in done.stderr
