"""The kernel's records of tasks: taken out of their bytes, and put in order however they come."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.units import Pid, Tid
from forklore.linux.perf.events import COMM_EXEC, Kind
from forklore.linux.perf.tasks import (
    CodeMapped,
    Ended,
    Executed,
    Forked,
    InOrder,
    Lost,
    Named,
    Points,
    Record,
    _Flags,
    parse,
)
from forklore.linux.tracefs import fields

BY = struct.pack("=IIQ", 7, 8, 123)
"""Written by tid 8 of process 7, at 123."""
POINTS = Points(newtask=500, flags=32, exec=501, filename=8)
FORMAT = b"""\
name: task_newtask
ID: 125
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;
\tfield:char comm[16];\toffset:12;\tsize:16;\tsigned:0;
\tfield:unsigned long clone_flags;\toffset:32;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;
"""


def test_a_creation_names_both_tasks() -> None:
    body = struct.pack("=IIIIQ", 20, 7, 21, 8, 123) + BY
    assert parse(Kind.FORK, 0, body) == Forked(123, Pid(20), Tid(21), Pid(7), Tid(8))


def test_an_end_names_who_waits_for_it() -> None:
    assert parse(Kind.EXIT, 0, struct.pack("=IIIIQ", 7, 1, 8, 1, 123) + BY) == Ended(123, Pid(7), Tid(8), Pid(1))


def test_a_name_is_an_exec_or_somebody_gave_it() -> None:
    body = struct.pack("=II8s", 7, 9, b"ls") + BY
    assert parse(Kind.COMM, COMM_EXEC, body) == Named(123, Pid(7), Tid(9), b"ls", executes=True, by=Tid(8))
    assert parse(Kind.COMM, 0, body) == Named(123, Pid(7), Tid(9), b"ls", executes=False, by=Tid(8))


def test_code_has_the_path_of_its_file_if_it_has_a_file() -> None:
    def mapped(name: bytes) -> Record | None:
        found = parse(Kind.MMAP2, 0, struct.pack("=II56x", 7, 8) + name + BY)
        assert not isinstance(found, _Flags)
        return found

    assert mapped(b"/usr/bin/ls\0\0\0\0\0") == CodeMapped(123, Pid(7), Tid(8), b"/usr/bin/ls")
    assert mapped(b"[vdso]\0\0") == CodeMapped(123, Pid(7), Tid(8), None)
    assert mapped(b"//anon\0\0") == CodeMapped(123, Pid(7), Tid(8), None)


def test_what_was_lost_is_counted() -> None:
    assert parse(Kind.LOST, 0, struct.pack("=QQ", 5, 17) + BY) == Lost(123, 17)


def sample(number: int, rest: bytes) -> bytes:
    raw = struct.pack("=H6x", number) + rest
    return struct.pack("=IIQI", 7, 8, 123, len(raw)) + raw


def test_a_tracepoint_is_told_by_its_number() -> None:
    newtask = sample(500, struct.pack("=24xQ", 0x3D0F00))
    assert parse(Kind.SAMPLE, 0, newtask, POINTS) == _Flags(123, Tid(8), 0x3D0F00)
    path = b"/bin/true\0"
    executed = sample(501, struct.pack("=I", len(path) << 16 | 12) + path)
    assert parse(Kind.SAMPLE, 0, executed, POINTS) == Executed(123, Tid(8), b"/bin/true")
    assert parse(Kind.SAMPLE, 0, newtask) is None


def test_where_fields_lie_is_read_out_of_the_format() -> None:
    found = fields(FORMAT)
    assert (found["clone_flags"], found["comm"], found["filename"]) == ((32, 8), (12, 16), (8, 4))


@given(st.sampled_from([*Kind, 1]), st.integers(0, 65535), st.binary(min_size=80, max_size=200))
def test_any_bytes_have_an_answer(kind: int, misc: int, body: bytes) -> None:
    found = parse(kind, misc, body, POINTS)
    assert found is None or found.time >= 0


def fork(time: int, creator: int, child: int) -> Forked:
    return Forked(time, Pid(child), Tid(child), Pid(creator), Tid(creator))


def test_nothing_is_given_before_all_that_is_earlier_must_have_come() -> None:
    order = InOrder()
    assert order.look([fork(50, 1, 5)], now=100) == []
    # What another processor wrote before that look and was not there to be read yet.
    early, late = fork(40, 1, 4), fork(150, 1, 6)
    assert order.look([late, early], now=200) == [early, fork(50, 1, 5)]
    assert order.waiting == 1
    assert order.look([], now=300, all_of_it=True) == [late]


def test_flags_go_to_the_creation_before_them_of_the_same_creator() -> None:
    order = InOrder()
    made: list[Record | _Flags] = [fork(10, 1, 5), fork(11, 2, 6)]
    found = order.look([*made, _Flags(12, Tid(2), 0x100), _Flags(13, Tid(1), 0x200)], now=20, all_of_it=True)
    assert [(record.tid, record.flags) for record in found if isinstance(record, Forked)] == [(5, 0x200), (6, 0x100)]


def test_flags_that_come_a_look_later_are_in_time() -> None:
    order = InOrder()
    order.look([fork(90, 1, 5)], now=100)
    (found,) = order.look([_Flags(101, Tid(1), 0x100)], now=200)
    assert isinstance(found, Forked)
    assert found.flags == 0x100


@given(st.lists(st.lists(st.integers(1, 1000), max_size=5), max_size=6))
def test_records_come_in_order_and_none_is_kept(looks: list[list[int]]) -> None:
    order, now, written = InOrder(), 0, 0
    found: list[Record] = []
    for batch in looks:
        now += 1000
        written += len(batch)
        # A look that begins at ``now`` finds what was written since the one before.
        found += order.look([fork(now - 1000 + each, 1, each) for each in batch], now)
    found += order.look([], now + 1, all_of_it=True)
    times = [record.time for record in found]
    assert len(times) == written
    assert times == sorted(times)
