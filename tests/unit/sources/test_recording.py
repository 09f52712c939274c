"""Any source can be recorded: whole, in time, with a limit, to files and to be looked at again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from forklore.events import jsonl
from forklore.events import records as ev
from forklore.events.rotate import Rotation
from forklore.model.build import built
from forklore.sources.files import open_any
from forklore.sources.recording import Recording
from forklore.sources.source import Emit, Idle, Source

HEADER = ev.Header(source=ev.Source(tool="forklore", version="0.1"), clock=ev.Clock(start=5, wall=7))
BEGIN = ev.Begin(t=0, task=1, tid=10, tgid=10, how="root")
NAMES = [ev.Name(t=n, task=1, comm="x", how="found") for n in range(1, 20)]
EVENTS: list[ev.Event] = [BEGIN, *NAMES]
LOG = Path(__file__).parent / "logs/data/strace-python.log"


class Told:
    """A source that tells what it was made with; ``between`` is called with the recording's idle after each event."""

    header = HEADER

    def __init__(self, events: Iterable[ev.Event], between: Callable[[Idle], None] = lambda _idle: None) -> None:
        self.warnings: list[str] = []
        self._events = events
        self._between = between

    def run(self, emit: Emit, idle: Idle) -> ev.EndReason:
        for event in self._events:
            emit(event)
            self._between(idle)
        return "done"

    def elapsed(self) -> int:
        return 99

    def stop(self) -> None:
        raise NotImplementedError


def end(count: int, lost: int = 0) -> ev.End:
    return ev.End(t=99, reason="done", events=count, lost=lost)


def test_a_log_of_another_tool_is_a_source_like_a_program(tmp_path: Path) -> None:
    source: Source = open_any(LOG)
    seen: list[ev.Event] = []
    recording = Recording(source.header, os.fspath(tmp_path / "t"))
    recording.record(source, seen.append)
    back, log = jsonl.read(tmp_path / "t"), open_any(LOG)
    assert back.header == log.header
    events = list(log)
    assert (list(back), seen) == (events, events[:-1])
    assert recording.complaints() == []


def test_a_source_that_is_cut_off_says_so(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(b"\n".join([msgspec.json.encode(HEADER), msgspec.json.encode(BEGIN), b""]))
    Recording(HEADER, os.fspath(tmp_path / "t")).record(jsonl.read(tmp_path / "cut"))
    assert list(jsonl.read(tmp_path / "t")) == [BEGIN, ev.End(t=None, reason="cut off", events=1)]


def test_a_file_that_is_told_to_stop_gives_no_more(tmp_path: Path) -> None:
    source = open_any(LOG)
    seen: list[ev.Event] = []

    def stop_at_the_third(event: ev.Event) -> None:
        seen.append(event)
        if len(seen) == 3:
            source.stop()

    Recording(source.header, os.fspath(tmp_path / "t")).record(source, stop_at_the_third)
    assert len(seen) == 3
    assert list(jsonl.read(tmp_path / "t")) == [*seen, ev.End(t=None, reason="interrupted", events=3)]


def test_what_came_is_in_the_file_50_ms_later(tmp_path: Path) -> None:
    """When the source says that it is about to wait, by its own clock; and no sooner, for writes are dear."""
    file = tmp_path / "t"
    times = iter([1_000_000, 2_000_000, 50_999_999, 51_000_000, 52_000_000])
    lines: list[tuple[float, int]] = []

    def wait(idle: Idle) -> None:
        lines.append((idle(next(times)), file.read_bytes().count(b"\n")))

    Recording(HEADER, os.fspath(file)).record(Told(EVENTS[:5], wait))
    assert lines == [(0.05, 1), (0.05, 1), (0.05, 1), (0.0, 5), (0.05, 5)]


def test_nothing_waits_to_be_written_where_nobody_can_look(tmp_path: Path) -> None:
    asked: list[float] = []
    recording = Recording(HEADER, reread=True)
    recording.record(Told(EVENTS, lambda idle: asked.append(idle(len(asked) * 10**9))))
    assert set(asked) == {0.0}
    assert list(recording.trace_file() or ()) == [*EVENTS, end(20)]


@pytest.mark.parametrize("rotation", [None, Rotation(300)])
def test_a_recording_can_be_told_to_end(rotation: Rotation | None, tmp_path: Path) -> None:
    recording = Recording(HEADER, os.fspath(tmp_path / "t"), rotation=rotation, most=7)
    seen: list[ev.Event] = []
    recording.record(Told(EVENTS), seen.append)
    assert recording.left_out == 13
    assert recording.complaints() == ["--max-events: 13 more events were not recorded"]
    assert len(seen) == 20
    last = Path(recording.name or "")
    assert (last == tmp_path / "t") == (rotation is None)
    trace = built(jsonl.read(last))
    assert trace.notes[-1] == ("what happened from here on", "the recording was to end after 7 events")
    assert trace.end_reason == "done"
    assert any(warning.startswith(f"{last}: 13 events are not in it") for warning in trace.warnings)


@pytest.mark.parametrize("output", [None, "file", "fifo"])
def test_what_was_recorded_can_be_looked_at(output: str | None, tmp_path: Path) -> None:
    name = None if output is None else os.fspath(tmp_path / output)
    reader = None
    if output == "fifo":
        os.mkfifo(tmp_path / "fifo")
        reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    recording = Recording(HEADER, name, reread=True)
    recording.record(Told(EVENTS))
    assert list(recording.trace_file() or ()) == [*EVENTS, end(20)]
    if reader is not None:
        assert os.read(reader, 1 << 16).count(b"\n") == 22
        os.close(reader)


def test_of_several_files_the_last_is_looked_at(tmp_path: Path) -> None:
    recording = Recording(HEADER, os.fspath(tmp_path / "t"), rotation=Rotation(300, 2), reread=True)
    recording.record(Told(EVENTS))
    assert recording.name == max(map(os.fspath, tmp_path.iterdir()), key=lambda name: int(name.rpartition(".")[2]))
    assert list(recording.trace_file() or ()) == list(jsonl.read(recording.name))
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_written_is_said() -> None:
    recording = Recording(HEADER, "/dev/full")
    recording.record(Told(EVENTS))
    assert recording.name is None  # there is nothing to look at
    assert recording.complaints() == [
        "the trace in /dev/full is not whole: No space left on device; 20 of 20 events could not be written"
    ]


def test_rotation_needs_a_file() -> None:
    with pytest.raises(OSError, match="give -o FILE too"):
        Recording(HEADER, rotation=Rotation(300))
