"""The reader's side of a ring: records in order, none before it is complete, none twice, and the room given back."""

from __future__ import annotations

import struct
import sys

from hypothesis import given
from hypothesis import strategies as st

from forklore.linux.bpf.ring import RingReader, barrier, power_of_two

SIZE = 4096
BUSY, DISCARDED = 1 << 31, 1 << 30


class Kernel:
    """The producer's side, in memory that begins again as the kernel's mapping does."""

    def __init__(self) -> None:
        self.position = bytearray(8)
        self.produced = bytearray(8)
        self.data = bytearray(2 * SIZE)
        self.reader = RingReader(memoryview(self.position), memoryview(self.produced), memoryview(self.data), SIZE)

    @property
    def consumed(self) -> int:
        return int.from_bytes(self.position, "little")

    @property
    def end(self) -> int:
        return int.from_bytes(self.produced, "little")

    def reserve(self, payload: bytes) -> int | None:
        """Room for a record, and its bytes in it; where it begins. None where there is no room."""
        room = (8 + len(payload) + 7) & ~7
        if self.end + room - self.consumed > SIZE:
            return None
        at = self.end
        self._put(at, struct.pack("=II", len(payload) | BUSY, 0) + payload)
        self.produced[:] = (at + room).to_bytes(8, "little")
        return at

    def finish(self, at: int, length: int, *, discard: bool = False) -> None:
        self._put(at, struct.pack("=I", length | (DISCARDED if discard else 0)))

    def _put(self, at: int, raw: bytes) -> None:
        for index, byte in enumerate(raw):
            where = (at + index) % SIZE
            self.data[where] = self.data[where + SIZE] = byte

    def write(self, payload: bytes, *, discard: bool = False) -> bool:
        at = self.reserve(payload)
        if at is not None:
            self.finish(at, len(payload), discard=discard)
        return at is not None

    def read(self, most: int = sys.maxsize) -> list[bytes]:
        return [bytes(record) for record in self.reader.records(most)]


@given(st.lists(st.tuples(st.integers(1, 900), st.booleans(), st.integers(0, 5)), max_size=60))
def test_what_is_written_is_read_in_order_however_often_the_ring_begins_again(
    steps: list[tuple[int, bool, int]],
) -> None:
    kernel, expected, got = Kernel(), [], []
    for number, (length, discard, most) in enumerate(steps):
        payload = struct.pack("=I", number).ljust(length, b"x")
        if kernel.write(payload, discard=discard) and not discard:
            expected.append(payload)
        before = kernel.reader.read
        got += kernel.read(most)
        assert kernel.reader.read > before or most == 0 or kernel.reader.waiting == 0
    got += kernel.read()
    assert got == expected
    assert kernel.reader.waiting == 0
    assert kernel.reader.read == kernel.reader.written


def test_no_more_is_read_than_was_asked_for() -> None:
    kernel = Kernel()
    for payload in (b"1", b"2", b"3"):
        kernel.write(payload)
    assert kernel.read(2) == [b"1", b"2"]
    assert kernel.read(2) == [b"3"]


def test_a_record_that_is_not_complete_holds_up_those_behind_it() -> None:
    kernel = Kernel()
    kernel.write(b"first")
    at = kernel.reserve(b"second")
    assert at is not None
    kernel.write(b"third")
    assert kernel.read() == [b"first"]
    assert kernel.read() == []
    kernel.finish(at, 6)
    assert kernel.read() == [b"second", b"third"]


def test_room_is_given_back_record_by_record() -> None:
    kernel = Kernel()
    for _ in range(4):
        assert kernel.write(bytes(1000))
    assert not kernel.write(bytes(1000))
    records = kernel.reader.records()
    next(records)
    assert not kernel.write(bytes(1000))  # the first is still being looked at
    next(records)
    assert kernel.write(bytes(1000))


def test_a_ring_has_a_size_that_the_kernel_takes() -> None:
    assert [power_of_two(size) for size in (1, 4096, 4097, 1 << 20, (1 << 20) + 1)] == [
        4096, 4096, 8192, 1 << 20, 1 << 21,
    ]  # fmt: skip


def test_a_barrier_can_be_called_anywhere() -> None:
    barrier()
