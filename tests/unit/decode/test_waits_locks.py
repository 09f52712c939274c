"""Locks by the bytes around the word that a thread waits for."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.units import Address
from forklore.decode.waits.futex import FutexWait, futex_wait
from forklore.decode.waits.locks import LockKind, Read, recognised

BASE = 0x5000
PRIVATE, REALTIME = 128, 256


def memory(raw: bytes, base: int = BASE) -> Read:
    def read(address: int, size: int) -> bytes | None:
        start = address - base
        return raw[start : start + size] if start >= 0 and start + size <= len(raw) else None

    return read


def wait(operation: int, value: int, address: int = BASE, timeout: int = 0) -> FutexWait:
    found = futex_wait("futex", (address, operation, value, timeout, 0, 0))
    assert found is not None
    return found


def mutex(lock: int, owner: int, kind: int, users: int = 1) -> bytes:
    return struct.pack("<IIIII", lock, 0, owner, users, kind) + bytes(20)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(0, "mutex"), (1, "recursive mutex"), (2, "errorcheck mutex"), (3, "adaptive mutex"), (128, "mutex")],
)
def test_a_mutex_of_glibc_names_its_owner(kind: int, words: str) -> None:
    found = recognised(wait(PRIVATE, 2), memory(mutex(2, 4711, kind)), 8)
    assert (found.kind, found.what, found.owner, found.address) == (LockKind.MUTEX, words, 4711, BASE)


def test_32_bit_programs_have_kind_before_users() -> None:
    raw = struct.pack("<IIIII", 2, 0, 4711, 1, 1) + bytes(4)
    assert recognised(wait(PRIVATE, 2), memory(raw), 4).what == "recursive mutex"


def test_of_a_robust_mutex_the_word_is_the_owner() -> None:
    found = recognised(wait(PRIVATE, 0x8000_0000 | 4711), memory(mutex(0x8000_0000 | 4711, 0, 16)), 8)
    assert (found.what, found.owner) == ("robust mutex", 4711)


def test_of_priority_inheritance_the_kernel_knows_the_owner() -> None:
    found = recognised(wait(6 | PRIVATE, 0), memory(mutex(0x8000_0000 | 4711, 4711, 32)), 8)
    assert (found.what, found.owner) == ("mutex with priority inheritance", 4711)


def test_one_word_alone_has_no_owner() -> None:
    found = recognised(wait(PRIVATE, 2), memory(struct.pack("<I", 2)), 8)
    assert (found.kind, found.owner) == (LockKind.LOW_LEVEL, None)
    found = recognised(wait(PRIVATE, 2), memory(mutex(2, 4711, 0)), 8, "lll_lock_wait_private")
    assert (found.kind, found.owner) == (LockKind.LOW_LEVEL, None)


@pytest.mark.parametrize("offset", [8, 12])
def test_a_writer_of_a_read_write_lock(offset: int) -> None:
    raw = struct.pack("<IIIIIIi", 3, 0, 1, 1, 0, 0, 4711)
    found = recognised(wait(9 | PRIVATE | REALTIME, 1, BASE + offset), memory(raw), 8, "pthread_rwlock_rdlock")
    assert (found.kind, found.owner, found.address) == (LockKind.RWLOCK, 4711, BASE)


def test_readers_are_not_noted() -> None:
    raw = struct.pack("<IIIIIIi", 3 << 3 | 2, 0, 0, 3, 0, 0, 0)
    found = recognised(wait(9 | PRIVATE | REALTIME, 3, BASE + 12), memory(raw), 8, "pthread_rwlock_wrlock")
    assert (found.owner, found.readers) == (None, 3)


def test_a_join_is_a_wait_for_a_tid_by_a_shared_futex() -> None:
    found = recognised(wait(9 | REALTIME, 4711), memory(struct.pack("<I", 4711)), 8)
    assert (found.kind, found.owner) == (LockKind.JOIN, 4711)


def test_a_semaphore() -> None:
    raw = struct.pack("<IIi", 0, 1, 0)
    assert recognised(wait(9 | PRIVATE | REALTIME, 0), memory(raw), 8).kind is LockKind.SEMAPHORE


def musl(type_: int, lock: int, waiters: int = 1) -> bytes:
    return struct.pack("<IIi", type_, lock, waiters) + bytes(28)


def test_musl_notes_the_owner_of_all_but_normal_mutexes() -> None:
    found = recognised(wait(PRIVATE, 0x8000_0010, BASE + 4), memory(musl(0, 0x8000_0010)), 8, musl=True)
    assert (found.what, found.owner, found.address) == ("mutex", None, BASE)
    assert "does not say who has it" in found.no_owner
    found = recognised(wait(PRIVATE, 0x8000_1267, BASE + 4), memory(musl(1, 0x8000_1267)), 8, musl=True)
    assert (found.what, found.owner) == ("recursive mutex", 0x1267)


def test_musl_joins_by_the_state_behind_the_tid() -> None:
    raw = struct.pack("<iii", 4711, 0, 2)
    found = recognised(wait(PRIVATE, 2, BASE + 8), memory(raw), 8, musl=True)
    assert (found.kind, found.owner) == (LockKind.JOIN, 4711)


def test_calls_that_wake_do_not_wait() -> None:
    assert futex_wait("futex", (BASE, 1 | PRIVATE, 1, 0, 0, 0)) is None
    assert futex_wait("read", (3, BASE, 1, 0, 0, 0)) is None


@given(
    st.binary(max_size=64), st.sampled_from([0, 6, 9, 11, 13]), st.integers(0, 511), st.integers(0, 2**32 - 1),
    st.sampled_from([4, 8]), st.booleans(),
    st.sampled_from(["", "pthread_mutex_lock", "pthread_rwlock_rdlock", "pthread_join"]),
    st.integers(0, 64),
)  # fmt: skip
def test_any_bytes_are_some_lock(
    raw: bytes, command: int, flags: int, value: int, word: int, is_musl: bool, function: str, offset: int
) -> None:
    found = recognised(
        wait(command | flags & (PRIVATE | REALTIME), value, BASE + offset), memory(raw), word, function, musl=is_musl
    )
    assert found.owner is None or 0 < found.owner < 1 << 30
    assert found.what
    assert isinstance(found.address, int)
    assert Address(found.address) <= BASE + offset
