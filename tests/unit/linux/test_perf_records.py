"""The kernel's side records: what is mapped where, and execs, taken out of their bytes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from forklore.linux.perf.code import Executed, Mapped, Missed, parse

COMM, MMAP2, LOST = 3, 10, 2
EXEC = 1 << 13


def mmap2(name: bytes, *, protection: int = 5, flags: int = 2) -> bytes:
    padded = name + bytes(8 - len(name) % 8)
    return struct.pack("=II3QIIQQII", 7, 8, 0x1000, 0x2000, 0x4000, 254, 1, 99, 0, protection, flags) + padded


def test_a_mapping_is_as_the_maps_file_would_have_it() -> None:
    found = parse(MMAP2, 0, mmap2(b"/usr/lib/libc.so.6") + struct.pack("=Q", 123))
    assert isinstance(found, Mapped)
    entry = found.entry
    assert (found.time, found.pid, entry.start, entry.end, entry.offset) == (123, 7, 0x1000, 0x3000, 0x4000)
    assert (entry.major, entry.minor, entry.inode, entry.path) == (254, 1, 99, b"/usr/lib/libc.so.6")
    assert entry.permissions == "r-xp"


def test_memory_without_a_file_has_no_name() -> None:
    found = parse(MMAP2, 0, mmap2(b"//anon", protection=7, flags=1) + bytes(8))
    assert isinstance(found, Mapped)
    assert (found.entry.path, found.entry.permissions) == (b"", "rwxs")


def test_a_new_name_is_an_exec_only_where_it_says_so() -> None:
    body = struct.pack("=II8sQ", 7, 8, b"ls", 5)
    assert parse(COMM, EXEC, body) == Executed(5, 7)  # type: ignore[arg-type]
    assert parse(COMM, 0, body) is None
    assert parse(LOST, 0, struct.pack("=QQQ", 1, 2, 6)) == Missed(6)


@given(st.sampled_from([COMM, MMAP2, LOST, 1]), st.integers(0, 65535), st.binary(min_size=80, max_size=200))
def test_any_bytes_have_an_answer(kind: int, misc: int, body: bytes) -> None:
    assert isinstance(parse(kind, misc, body), Mapped | Executed | Missed | None)
