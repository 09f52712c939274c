"""Every kind of event, through all that must know every kind: none forgets one, and none need be looked for."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from happenings import KINDS
from msgspec.structs import replace

from forklore.abi.arch import Arch
from forklore.abi.units import Unavailable
from forklore.events import carried_over, check, jsonl, schema
from forklore.events import records as ev
from forklore.events.rotate import RotatingWriter, Rotation
from forklore.model.build import Builder, built
from forklore.report.log import LogView

ALL: Final[tuple[type[ev.Event], ...]] = get_args(ev.AnyEvent)
HEADER: Final = ev.Header(source=ev.Source(tool="forklore", version="0.1"), clock=ev.Clock(start=5, wall=7))
CLONE: Final[dict[str, Any]] = {"arch": Arch.X86_64, "nr": 56, "args": (0x4111, 0, 0, 0, 0)}
NOT_READ: Final = Unavailable(13, "EACCES: no")

ONE_OF_EACH: Final[list[ev.Event]] = [
    ev.Begin(t=0, task=1, tid=10, tgid=10, how="root", comm="sh", standing=NOT_READ),
    ev.Module(t=1, module=1, path="/lib/libc.so.6", build_id="ab12"),
    ev.Place(t=1, place=1, module=1, address=0x500, function="vfork", start=0x400),
    ev.Lines(t=1, place=1, lines=[ev.Line("vfork", "vfork.S", 7)]),
    ev.Stack(t=1, stack=1, frames=[ev.Frame(1, "register")], end="outermost"),
    ev.Script(t=1, script=1, language="CPython 3.11", frames=[ev.ScriptFrame("run", "a.py", 3)], end="outermost"),
    ev.Name(t=2, task=1, comm=ev.Opaque("ff"), how="prctl"),
    ev.Title(t=2, task=1, argv=["sh: idle"]),
    ev.Create(t=3, task=1, child=2, tid=11, stop="vfork", stack=1, script=1, kcmp=(0, 1, 1, 1, 4, 4), **CLONE),
    ev.Fail(t=4, task=1, errno=11, limits={"uid": 0}, stack=1, **CLONE),
    ev.Other(t=5, task=2, arch=Arch.X86_64, nr=112, args=(), result=11),
    ev.ExecFail(t=6, task=2, path="/bin/no", argv=["no"], errno=2),
    ev.Exec(t=7, task=2, path="/bin/yes", argv=["yes"], exe=NOT_READ, comm="yes"),
    ev.VforkDone(t=8, task=1, child=2, tid=11),
    ev.Descriptors(t=8, task=2, table=[ev.Held(fd=3, kind="pipe", target="pipe:[1]")], creator=1),
    ev.Borrowed(t=8, task=2, creator=1, changes=[ev.Written(16, 1, "heap", "[heap]", "00", "01")]),
    ev.Cow(t=8, task=2, creator=1, moment="exec", side=2, copied=NOT_READ),
    ev.GroupStop(t=9, task=2, signal=19),
    ev.Resume(t=10, task=2),
    ev.Signal(t=11, task=1, signal=9, code=0, sender=1),
    ev.Exit(t=11, task=1, status=9),
    ev.Reparent(t=12, task=2, parent_tid=1),
    ev.Reap(t=12, task=1, how="left", since=11, parent_tid=1, parent=1),
    ev.Gone(t=13, task=2, why="released"),
    ev.Note(t=14, what="the end", why="it was to be"),
    ev.End(t=15, reason="done", events=25),
]
"""A trace that has every kind of event."""

TABLES: Final[dict[str, Container[type[ev.Event]]]] = {
    "the trace of this test": {type(event) for event in ONE_OF_EACH},
    "what a reader checks (events.check)": check._RULES,
    "what the next file of a rotated recording begins with (events.carried_over)": carried_over._RULES,
    "the tasks that an event names (events.carried_over)": carried_over._NAMED,
    "the model (model.build)": Builder(HEADER)._feed,
    "the log (report.log)": LogView(Builder(HEADER))._text,
    # The code that a story's events refer to comes from coded.py, the end from the story itself.
    "the random stories of these tests": {*KINDS, ev.Module, ev.Place, ev.Lines, ev.Stack, ev.Script, ev.End},
}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("table", TABLES)
def test_every_table_says_what_it_does_with_every_kind(table: str, kind: type[ev.Event]) -> None:
    assert kind in TABLES[table], f"{kind.__name__} is missing in {table}"


def test_the_schema_has_every_kind() -> None:
    made = schema.make()
    records = {one["$ref"].rpartition("/")[2] for one in made["oneOf"]}
    assert records == {"Header", *(kind.__name__ for kind in ALL)}
    for kind in ALL:
        assert made["$defs"][kind.__name__]["properties"]["event"] == {"enum": [kind.__struct_config__.tag]}


def test_every_kind_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "t"
    fd = jsonl.open_trace(path)
    writer = jsonl.Writer(fd, HEADER)
    for event in ONE_OF_EACH[:-1]:
        writer.event(event)
    writer.end(15, "done")
    os.close(fd)
    trace = jsonl.read(path)
    assert list(trace) == ONE_OF_EACH
    assert trace.warnings == []


def test_every_kind_can_be_the_first_of_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "t"
    writer = RotatingWriter(os.fspath(path), HEADER, Rotation(1))
    for event in ONE_OF_EACH[:-1]:
        writer.event(event)
    writer.end(15, "done")
    assert (writer.failure, writer.lost) == (None, 0)
    files = list(tmp_path.iterdir())
    assert len(files) > len(ONE_OF_EACH) - 3, "only the lines of a place do not begin a file"
    there = [event for file in files for event in jsonl.read(file)]
    for event in ONE_OF_EACH[:-1]:
        assert event in there, f"{type(event).__name__} is in none of the files"
    assert all(built(jsonl.read(file)).warnings == [] for file in files)


@pytest.mark.parametrize("at", range(len(ONE_OF_EACH)), ids=[type(event).__name__ for event in ONE_OF_EACH])
def test_the_tasks_that_an_event_names_must_be_known(at: int) -> None:
    event = ONE_OF_EACH[at]
    for field in carried_over._NAMED[type(event)]:
        checker = check.Checker()
        for before in ONE_OF_EACH[:at]:
            checker(before)
        with pytest.raises(check.InconsistentError, match="task 99"):
            checker(replace(event, **{field: 99}))
