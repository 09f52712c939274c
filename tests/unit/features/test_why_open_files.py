"""Whether the descriptors that are seen of open files are all that there are, by what the kernel counts."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from forklore.abi.units import Fd, Pid, Tid
from forklore.features.why.observe.open_files import Opened, besides, end_besides, parse_opened, users_besides

READ_END = Opened(
    file=0xF1, inode=0xA, table=0xB, number=81234, references=1, device=(0, 15), reads=True, writes=False,
    readers=1, writers=1, tasks=1, pid=Pid(40), tid=Tid(40), fd=Fd(3),
)  # fmt: skip
WRITE_END = replace(READ_END, file=0xF2, reads=False, writes=True, fd=Fd(4))
ONE = {Pid(40): 1}
PARENT = replace(WRITE_END, table=0xC, pid=Pid(39), tid=Tid(39), fd=Fd(6))
BOTH = {Pid(39): 1, Pid(40): 1}


def test_one_descriptor_and_one_reference() -> None:
    assert besides([WRITE_END], ONE) == ""
    assert end_besides([READ_END, WRITE_END], write=True) == ""
    assert end_besides([READ_END, WRITE_END], write=False) == ""


def test_a_copy_of_a_descriptor_is_a_reference() -> None:
    twice = replace(WRITE_END, references=2)
    assert besides([twice, replace(twice, fd=Fd(5))], ONE) == ""


def test_a_fork_copies_the_table() -> None:
    twice, parent = replace(WRITE_END, references=2), replace(PARENT, references=2)
    assert besides([twice, parent], BOTH) == ""
    assert end_besides([twice, parent], write=True) == ""


def test_a_reference_that_no_table_has() -> None:
    # A message on its way, an io_uring's registered file, a process in another pid namespace.
    assert besides([replace(WRITE_END, references=2)], ONE).startswith("fd 4 of 40 is open somewhere else, too: ")


def test_threads_share_a_table_and_have_one_reference() -> None:
    assert besides([replace(WRITE_END, tasks=3)], {Pid(40): 3}) == ""


def test_processes_that_share_a_table() -> None:
    one = replace(WRITE_END, tasks=2)
    other = replace(one, pid=Pid(39), tid=Tid(39))
    assert besides([one, other], BOTH) == ""
    assert besides([one], ONE) == "another task uses the descriptor table of 40"
    assert users_besides([one], ONE) == "another task uses the descriptor table of 40"


def test_a_thread_with_a_table_of_its_own() -> None:
    # Its process has two threads, and one of them uses the table that was seen: the other's may be any.
    assert besides([WRITE_END], {Pid(40): 2}) == "another task uses the descriptor table of 40"


def test_an_open_file_that_nobody_in_sight_has() -> None:
    # Opened anew, as /proc/PID/fd/N is, by a process of another pid namespace.
    others = [replace(each, writers=2) for each in (READ_END, WRITE_END)]
    assert end_besides(others, write=True) == "its write end is open in no process that is in sight as well"
    assert end_besides(others, write=False) == ""


def test_what_changes_while_it_is_counted_is_no_proof() -> None:
    gone = replace(PARENT, references=1)
    assert besides([replace(WRITE_END, references=1), gone], BOTH) == "fd 4 of 40 was closed while it was looked at"
    assert end_besides([READ_END, replace(WRITE_END, writers=2)], write=True)


counted = st.builds(
    Opened,
    file=st.integers(1, 3), inode=st.integers(1, 2), table=st.integers(1, 3), number=st.integers(0, 2**64 - 1),
    references=st.integers(-(2**63), 2**63 - 1), device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    reads=st.booleans(), writes=st.booleans(), readers=st.integers(0, 3), writers=st.integers(0, 3),
    tasks=st.integers(0, 4), pid=st.integers(0, 2**22).map(Pid), tid=st.integers(0, 2**22).map(Tid),
    fd=st.integers(0, 2**20).map(Fd),
)  # fmt: skip


def written(one: Opened) -> bytes:
    mode, device = one.reads | one.writes << 1 | 1 << 18, one.device[0] << 20 | one.device[1]
    return struct.pack("=4Qq8I", one.file, one.inode, one.table, one.number, one.references, device, mode,
                       one.readers, one.writers, one.tasks, one.pid, one.tid, one.fd)  # fmt: skip


@given(st.lists(counted, max_size=5))
def test_what_the_program_writes_is_read(all_: list[Opened]) -> None:
    assert parse_opened(b"".join(map(written, all_))) == all_


def test_half_a_record_is_an_error() -> None:
    with pytest.raises(struct.error):
        parse_opened(written(WRITE_END)[:-1])


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(3, 6)), min_size=1, unique=True), st.data())
def test_whoever_is_left_out_is_missed(slots: list[tuple[int, int, int]], data: st.DataObject) -> None:
    # Open files in the tables of single-threaded processes, a number each: of what is not seen of them it is said.
    slots = list({(table, fd): (file, table, fd) for file, table, fd in slots}.values())
    references = {file: sum(each[0] == file for each in slots) for file, _table, _fd in slots}
    there = [
        replace(WRITE_END, file=file, table=table, pid=Pid(table), fd=Fd(fd), references=references[file],
                writers=len(references))
        for file, table, fd in slots
    ]  # fmt: skip
    threads = {Pid(table): 1 for _file, table, _fd in slots}
    assert besides(there, threads) == end_besides(there, write=True) == ""
    hidden = data.draw(st.sampled_from(there))
    seen = [each for each in there if each is not hidden]
    assert besides(seen, threads) or end_besides(seen, write=True) or not seen
