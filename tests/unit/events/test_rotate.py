"""A recording in several files: each can be read on its own, and none has more than it was to have."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.units import TaskId
from forklore.events import jsonl
from forklore.events import records as ev
from forklore.events.rotate import RotatingWriter, Rotation
from forklore.model.build import built

HEADER = ev.Header(source=ev.Source(tool="forklore", version="0.1"), clock=ev.Clock(start=5, wall=7))
FORK, THREAD = 0x1200011, 0x3D0F00


Answers = tuple[int, int, int, int, int, int]


def create(
    task: int, child: int, tid: int, flags: int = FORK, stack: int | None = None, kcmp: Answers | None = None
) -> ev.Create:
    words = (flags, 0, 0, 0, 0)
    return ev.Create(
        t=tid, task=task, arch=Arch.X86_64, nr=56, args=words, child=child, tid=tid, stack=stack, kcmp=kcmp
    )


CODE: list[ev.Event] = [
    ev.Module(t=1, module=1, path="/lib/libc.so.6"),
    ev.Place(t=1, place=1, module=1, address=0x500, function="fork", start=0x400),
    ev.Lines(t=1, place=1, lines=[ev.Line("fork", "fork.c", 7)]),
    ev.Place(t=1, place=2, module=1, address=0x340, function="system", start=0x300),
    ev.Place(t=1, place=3, module=1, address=0x200, function="popen", start=0x200),
    ev.Stack(t=1, stack=1, frames=[ev.Frame(1, "register"), ev.Frame(2)], end="outermost", jumped=[ev.Jumped(1, 3)]),
]
BEGIN = ev.Begin(t=0, task=1, tid=10, tgid=10, how="root", parent_tid=3, comm="sh")


def recorded(path: Path, events: list[ev.Event], size: int, keep: int | None = None) -> list[Path]:
    writer = RotatingWriter(os.fspath(path), HEADER, Rotation(size, keep))
    for event in events:
        writer.event(event)
    writer.end(99, "done")
    assert writer.failure is None
    assert writer.lost == 0
    assert writer.events == len(events)
    return sorted(path.parent.glob(f"{path.name}*"), key=lambda file: int(file.suffix[1:]) if file != path else 0)


def test_each_file_is_a_trace_of_its_own(tmp_path: Path) -> None:
    events = [BEGIN, ev.Exec(t=1, task=1, path="/bin/sh", argv=["sh"], exe="/bin/dash", comm="sh"), *CODE]
    for n in range(2, 40):
        events += [create(1, n, 100 + n, stack=1), ev.Exit(t=n, task=n, status=0)]
    files = recorded(tmp_path / "t", events, 1000)
    assert len(files) > 3
    for file in files:
        trace = built(jsonl.read(file))
        assert trace.warnings == []
        (root,) = trace.roots
        assert (root.tid, root.name, root.images[-1].argv) == (10, b"sh", (b"sh",))
        made = [task for task in trace.tasks.values() if task.creation is not None]
        assert made
        for task in made:
            assert task.stack is not None
            called = task.stack.frames[1].called
            assert called is not None
            assert called.function == b"popen"
        assert {line.file for place in trace.code.places.values() for line in place.lines} == {"fork.c"}
        reasons = [why for _what, why in trace.notes] + [blind.why for blind in trace.header.blind]
        at = files.index(file)
        assert any(f"from {files[at - 1]}" in why for why in reasons) == (at > 0)
        following = f"goes on in {tmp_path / 't'}.{at + 1}"
        assert any(following in why for why in reasons) == (file != files[-1])
        assert trace.end_reason == ("done" if file == files[-1] else "rotated")


def test_every_creation_is_in_one_file(tmp_path: Path) -> None:
    events: list[ev.Event] = [BEGIN, *(create(1, n, 100 + n) for n in range(2, 50))]
    files = recorded(tmp_path / "t", events, 700)
    made = [event.child for file in files for event in jsonl.read(file) if isinstance(event, ev.Create)]
    assert made == list(range(2, 50))


def test_the_last_files_are_kept(tmp_path: Path) -> None:
    events: list[ev.Event] = [BEGIN]
    events += [event for n in range(2, 99) for event in (create(1, n, 100 + n), ev.Exit(t=n, task=n, status=0))]
    everything = recorded(tmp_path / "all", events, 700)
    last = recorded(tmp_path / "few", events, 700, keep=2)
    assert [file.suffix for file in last] == [file.suffix for file in everything[-2:]]


def test_what_lives_goes_on_with_its_name_and_its_place(tmp_path: Path) -> None:
    events: list[ev.Event] = [
        BEGIN,
        create(1, 2, 20),
        create(2, 3, 21, THREAD),
        ev.Name(t=1, task=3, comm="worker", how="prctl"),
        ev.GroupStop(t=2, task=2, signal=19),
        create(1, 4, 22),
        ev.Exit(t=3, task=4, status=0),
        *(ev.Name(t=4, task=1, comm=f"sh{n}", how="prctl") for n in range(30)),
    ]
    trace = built(jsonl.read(recorded(tmp_path / "t", events, 900)[-1]))
    root, process, thread = trace.tasks.values()
    assert (root.id, process.id, thread.id) == (1, 2, 3)
    assert (process.found_under, thread.found_under) == (root.id, process.id)
    assert (thread.kind, thread.tgid, thread.comm) == ("thread", 20, b"worker")
    assert [stop.signal for stop in process.stops] == [19]


FILLER: list[ev.Event] = [ev.Name(t=4, task=1, comm=f"sh{n}", how="prctl") for n in range(30)]
APART, AS_THREAD = (2, 2, 2, 2, 4, 4), (0, 0, 0, 0, 4, 4)


def together(file: Path) -> dict[int, dict[str, int] | None]:
    begins = (event for event in jsonl.read(file) if isinstance(event, ev.Begin))
    return {begin.task: begin.together for begin in begins if begin.how == "continued"}


def test_what_lives_goes_on_with_what_it_shares(tmp_path: Path) -> None:
    unshare = ev.Other(
        t=5, task=4, arch=Arch.X86_64, nr=272, args=(0x400,), result=0, compared={"mm": (2, 0), "files": (2, 1)}
    )
    files = recorded(
        tmp_path / "t",
        [
            BEGIN,
            create(1, 2, 20, kcmp=APART),
            create(2, 3, 21, THREAD, kcmp=AS_THREAD),
            create(2, 4, 22, THREAD, kcmp=AS_THREAD),
            create(1, 5, 23, kcmp=(2, 0, 2, 2, -1, 0)),
            unshare,
            *FILLER,
            ev.Exec(t=6, task=5, path="/bin/true", compared={"io": (1, 0)}),
            ev.Exit(t=7, task=3, status=0),
            *FILLER,
        ],
        1200,
    )
    thread = dict.fromkeys(("mm", "files", "fs", "sighand"), 2)
    of_four = dict.fromkeys(("mm", "fs", "sighand"), 2)
    with_root = {"files": 1, "io": 1}
    assert together(files[1]) == {1: with_root, 2: thread, 3: thread, 4: of_four, 5: with_root}
    assert together(files[-1]) == {1: {"io": 1}, 2: of_four, 4: of_four, 5: {"io": 1}}
    sharing = built(jsonl.read(files[-1]), sharing=True).sharing
    assert sharing is not None
    assert set(sharing.holdings.partners(TaskId(4))["mm"]) == {2}
    assert not sharing.holdings.partners(TaskId(4))["files"]


def test_what_was_not_compared_is_not_claimed_to_be_shared(tmp_path: Path) -> None:
    events: list[ev.Event] = [BEGIN, create(1, 2, 20, THREAD), create(1, 3, 21, kcmp=APART), *FILLER]
    assert together(recorded(tmp_path / "t", events, 900)[-1]) == {1: None, 2: None, 3: None}


def test_what_was_attached_to_goes_on_with_what_it_shares(tmp_path: Path) -> None:
    events: list[ev.Event] = [
        ev.Begin(t=0, task=1, tid=10, tgid=10, how="attached", together={"mm": 1, "io": 1}),
        ev.Begin(t=0, task=2, tid=11, tgid=10, how="attached", together={"mm": 1, "io": 2}),
        ev.Begin(t=0, task=3, tid=12, tgid=10, how="attached", together={"mm": 1}),
        ev.Exit(t=1, task=1, status=0),
        *(msgspec.structs.replace(event, task=2) for event in FILLER if isinstance(event, ev.Name)),
    ]
    assert together(recorded(tmp_path / "t", events, 900)[-1]) == {2: {"mm": 2}, 3: {"mm": 2}}


def test_a_file_says_which_one_it_continues(tmp_path: Path) -> None:
    files = recorded(tmp_path / "t\udcff\n", [BEGIN, *FILLER], 700)
    assert len(files) > 2
    headers = [built(jsonl.read(file)).header for file in files]
    names = [ev.text(os.fsencode(file)) for file in files]
    assert [header.continues for header in headers] == [None, *names[:-1]]
    (blind,) = headers[1].blind
    assert blind.why.endswith("\\udcff\\n")


def test_the_thread_that_executed_is_its_process(tmp_path: Path) -> None:
    events: list[ev.Event] = [
        BEGIN,
        create(1, 2, 21, THREAD),
        ev.Gone(t=3, task=1, why="superseded"),
        ev.Exec(t=4, task=2, path="/bin/true", former_tid=21, comm="true"),
        *(create(2, n, 100 + n) for n in range(3, 30)),
    ]
    trace = built(jsonl.read(recorded(tmp_path / "t", events, 900)[-1]))
    (root,) = trace.roots
    assert (root.id, root.tid, root.kind, root.name) == (2, 10, "process", b"true")


def test_an_event_about_a_task_that_has_ended_brings_it_back(tmp_path: Path) -> None:
    done = ev.VforkDone(t=5, task=1, child=2, tid=20)
    events: list[ev.Event] = [BEGIN, create(1, 2, 20), ev.Exit(t=3, task=2, status=0), *FILLER, done]
    files = recorded(tmp_path / "t", events, 700)
    assert done in list(jsonl.read(files[-1]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ptxen"), st.integers(0, 9)), max_size=60), st.integers(1, 1500))
def test_whatever_happens_every_file_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, doings: list[tuple[str, int]], size: int
) -> None:
    events: list[ev.Event] = [BEGIN, *CODE]
    alive, number = [1], 1
    for what, which in doings:
        task = alive[which % len(alive)]
        if what in "pt":
            number += 1
            alive.append(number)
            flags, kcmp = (FORK, APART) if what == "p" else (THREAD, AS_THREAD)
            events.append(create(task, number, 100 + number, flags, stack=1, kcmp=kcmp))
        elif what == "x" and task != 1:
            alive.remove(task)
            events.append(ev.Exit(t=5, task=task, status=0))
        elif what == "e":
            events.append(ev.Exec(t=5, task=task, path=f"/bin/{which}", comm=str(which)))
        else:
            events.append(ev.Name(t=5, task=task, comm=str(which), how="found"))
    files = recorded(tmp_path_factory.mktemp("rotated") / "t", events, size)
    for file in files:
        assert built(jsonl.read(file)).warnings == []
    exits = [event for file in files for event in jsonl.read(file) if isinstance(event, ev.Exit)]
    assert exits == [event for event in events if isinstance(event, ev.Exit)]


def test_only_a_regular_file_can_be_continued(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("-", "/dev/null"):
        with pytest.raises(OSError, match="only a regular file can be continued in others"):
            RotatingWriter(name, HEADER, Rotation(100))


def test_a_file_that_cannot_be_continued_ends_the_recording(tmp_path: Path) -> None:
    (tmp_path / "t.1").mkdir()
    writer = RotatingWriter(os.fspath(tmp_path / "t"), HEADER, Rotation(100))
    for n in range(20):
        writer.event(BEGIN if n == 0 else ev.Name(t=1, task=1, comm="x", how="found"))
    writer.end(9, "done")
    assert isinstance(writer.failure, FileExistsError)
    assert writer.lost > 10
    assert next(iter(jsonl.read(tmp_path / "t"))) == BEGIN
