"""The timeline in both forms: what stands in it, and that Perfetto's own package reads it."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import wire
from happenings import Story
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.units import PID_LIMIT
from forklore.export.protobuf import fixed64, number, string, varint
from forklore.export.table import CannotExportError, ExportOptions
from forklore.export.timeline import chrome, perfetto
from forklore.export.timeline.lanes import Lanes
from forklore.model.build import built
from forklore.model.tasks import Trace
from forklore.sources.files import open_any

TRACES = Path(__file__).parents[3] / "traces"
BUILD = TRACES / "make.forklore.jsonl"


def events(trace: Trace) -> list[dict[str, Any]]:
    out = io.BytesIO()
    chrome.write(trace, out, ExportOptions())
    found: list[dict[str, Any]] = json.loads(out.getvalue())["traceEvents"]
    return found


def told(trace: Trace) -> bytes:
    out = io.BytesIO()
    perfetto.write(trace, out, ExportOptions())
    return out.getvalue()


def story() -> Story:
    """make (100) forks once, runs gcc (101) by vfork, a thread (102) of gcc's is refused a fork and executes as, which
    SIGKILL ends; pid 101 is then used again."""
    made = Story()
    make = made.begin(100, comm="make")
    made.exec(make, "/usr/bin/make", argv=["make", "-j2"])
    gcc = made.vfork(make, 101)
    made.exec(gcc, "/usr/bin/gcc", argv=["gcc", "-c", "a.c"])
    made.tell(made_vfork_done(made, make, gcc))
    thread = made.thread(gcc, 102)
    made.fail(thread, 11)
    made.gone(gcc, "superseded")
    made.exec(thread, "/usr/bin/as", argv=["as"], former_tid=102)
    made.killed(thread, 9)
    again = made.clone(make, 101)
    made.exit(again, 3)
    made.exit(make, 0)
    return made.end()


def made_vfork_done(made: Story, task: int, child: int) -> Any:
    from forklore.events import records as ev

    return ev.VforkDone(t=made.t, task=task, child=child, tid=101)


def test_a_lane_has_what_ran_and_what_held() -> None:
    lanes = {lane.task.id: lane for lane in Lanes(story().trace())}
    make, gcc, thread, again = (lanes[number] for number in sorted(lanes))
    assert [(span.name, span.about) for span in make.spans] == [("make", "ran"), ("held by vfork", "held")]
    assert make.spans[1].since == 2_000_000
    assert make.spans[1].until == 4_000_000
    assert make.spans[0].arguments["command"] == "make -j2"
    assert [span.name for span in gcc.spans] == ["gcc"]
    assert thread.name == "as"
    assert thread.process == gcc.task.id
    assert [mark.name for mark in thread.marks] == ["refused: clone EAGAIN", "SIGKILL"]
    assert (again.pid, again.tid) == (PID_LIMIT + again.task.id, PID_LIMIT + again.task.id)
    assert again.spans[0].arguments["tid"] == 101
    assert (gcc.pid, gcc.tid, thread.pid) == (101, 101, 101)


def test_chrome_has_each_task_once() -> None:
    found = events(story().trace())
    kinds = Counter((event["ph"], event.get("cat", event["name"])) for event in found)
    assert kinds["M", "process_name"] == 3
    assert kinds["M", "thread_name"] == 4
    assert kinds["X", "ran"] == 4
    assert kinds["X", "held"] == 1
    assert kinds["s", "made"] == kinds["f", "made"] == 3
    assert kinds["i", "refused"] == 1
    assert kinds["i", "ended"] == 2
    alive = [event["args"]["tasks"] for event in found if event["ph"] == "C"]
    assert max(alive) == 3
    assert alive[-1] == 0


@given(steps=st.lists(st.integers(1, 10**13), min_size=13, max_size=13))
def test_what_chrome_reads_nests_where_a_viewer_adds_in_floating_point(steps: list[int]) -> None:
    left = iter(steps)

    class Uneven(Story):
        def tell(self, event: Any) -> Any:
            self.step = next(left)
            return super().tell(event)

    made = Uneven()
    make = made.begin(100)
    made.exec(make, "/usr/bin/sh")
    made.exec(make, "/usr/bin/make")
    for tid in (101, 102):
        child = made.vfork(make, tid)
        made.exec(child, "/usr/bin/gcc")
        made.tell(made_vfork_done(made, make, child))
    made.exec(make, "/usr/bin/make")
    made.killed(make, 9)
    lanes: dict[int, list[dict[str, Any]]] = {}
    for event in events(made.end().trace()):
        if event["ph"] == "X":
            lanes.setdefault(event["tid"], []).append(event)
    assert [len(lane) for lane in lanes.values()] == [5, 1, 1]
    for lane in lanes.values():
        base = lane[0]["ts"]  # speedscope lets each lane begin at 0
        above: list[float] = []
        for event in lane:
            since = event["ts"] - base
            while above and above[-1] <= since:
                above.pop()
            until = since + event["dur"]
            assert not above or until <= above[-1], event
            above.append(until)


def test_no_times_no_timeline() -> None:
    made = Story(times=False)
    made.begin(100)
    with pytest.raises(CannotExportError, match="-ttt"):
        events(made.trace())


def test_a_long_command_line_is_cut() -> None:
    made = Story()
    made.exec(made.begin(100), "/bin/x", argv=["x", *["y" * 1000] * 3000])
    (lane,) = Lanes(made.end().trace())
    command = lane.spans[0].arguments["command"]
    assert isinstance(command, str)
    assert len(command) < 5000
    assert command.endswith("…")


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, (1 << 28) - 1, 1 << 28, (1 << 64) - 1])
def test_varints(value: int) -> None:
    assert wire.varint(varint(value), 0) == (value, len(varint(value)))


def test_fields_by_the_specification() -> None:
    assert number(1, 150) == b"\x08\x96\x01"  # protobuf.dev/programming-guides/encoding: "A Simple Message"
    assert string(2, "testing") == b"\x12\x07testing"
    assert fixed64(1, 1) == b"\x09" + b"\1" + bytes(7)
    assert varint(-2) == b"\xfe" + b"\xff" * 8 + b"\x01"


def test_perfettos_own_package_reads_it() -> None:
    proto: Any = pytest.importorskip(
        "perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="the package perfetto is not installed"
    )
    trace = built(open_any(BUILD))
    read = proto.Trace()
    read.ParseFromString(told(trace))
    packets = list(read.packet)
    assert all(packet.trusted_packet_sequence_id == 1 for packet in packets)
    descriptors = [packet.track_descriptor for packet in packets if packet.HasField("track_descriptor")]
    kinds = Counter(task.kind for task in trace.tasks.values())
    assert sum(each.HasField("process") for each in descriptors) == kinds["process"]
    assert sum(each.HasField("thread") for each in descriptors) == len(trace.tasks)
    happened = [packet.track_event for packet in packets if packet.HasField("track_event")]
    begun = Counter(event.categories[0] for event in happened if event.type == proto.TrackEvent.TYPE_SLICE_BEGIN)
    assert begun["ran"] == sum(max(len(task.images), 1) for task in trace.tasks.values())
    assert begun["held"] == sum(task.vfork_released is not None for task in trace.tasks.values())
    assert begun.total() == sum(event.type == proto.TrackEvent.TYPE_SLICE_END for event in happened)
    made = {task.id for task in trace.tasks.values() if task.creator is not None}
    assert {flow for event in happened for flow in event.flow_ids} == made
    assert {flow for event in happened for flow in event.terminating_flow_ids} == made
    commands = [each.process.cmdline[0] for each in descriptors if each.process.cmdline]
    assert any(command.startswith("make") for command in commands)
    unknown: Any = pytest.importorskip("google.protobuf.unknown_fields", reason="the package protobuf is not installed")
    assert not any(len(unknown.UnknownFieldSet(packet)) for packet in packets)
