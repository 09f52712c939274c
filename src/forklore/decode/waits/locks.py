"""Locks of C libraries, by the bytes around the word that a thread waits for: what kind, and who has it.

A word alone tells nothing. What it is of is told by the way of waiting (operation and value), by where it lies in a
struct whose other fields hold what they must, and, where the caller knows it, by the function that waits. Sources:
glibc sysdeps/nptl/bits/struct_mutex.h, struct_rwlock.h, nptl/pthread_mutex_lock.c, pthread_rwlock_common.c,
semaphoreP.h; musl src/internal/pthread_impl.h, src/thread/pthread_mutex_timedlock.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import StrEnum, auto
from typing import Final

from msgspec import Struct

from forklore.abi.units import Address
from forklore.decode.waits.futex import OWNER_DIED, TID_MASK, WAIT, WAIT_BITSET, WAITERS, FutexWait

Read = Callable[[int, int], bytes | None]
"""So many bytes of the program's memory; None where they cannot be read."""


class LockKind(StrEnum):
    """What a word is of."""

    MUTEX = auto()
    RWLOCK = auto()
    JOIN = auto()
    """A thread's tid word, which the kernel clears when the thread ends."""
    SEMAPHORE = auto()
    CONDITION = auto()
    LOW_LEVEL = auto()
    """A word of the C library's own: 0 free, 1 taken, 2 taken and waited for. It has no owner."""
    OTHER = auto()


class Lock(Struct, frozen=True):
    """A lock that somebody waits for."""

    kind: LockKind
    what: str
    """``robust mutex``, ``read-write lock``."""
    address: Address
    """Where the object begins, which a variable's name is of."""
    owner: int | None = None
    """The owner's tid, in its own pid namespace; None: the lock does not tell."""
    no_owner: str = ""
    """Why it does not."""
    readers: int = 0
    """Of a read-write lock: how many hold it for reading, whom it does not name."""
    shared: bool = False
    """Made for use between processes."""


_NO_OWNER: Final = {
    LockKind.SEMAPHORE: "a semaphore has no owner: any thread can post it",
    LockKind.CONDITION: "a condition variable has no owner: any thread can signal it",
    LockKind.LOW_LEVEL: "this lock of the C library does not say who has it",
}
_TYPES: Final = ("mutex", "recursive mutex", "errorcheck mutex", "adaptive mutex")
_ROBUST, _INHERIT, _PROTECT, _SHARED, _ELISION = 16, 32, 64, 128, 256 | 512
_KNOWN: Final = 3 | _ROBUST | _INHERIT | _PROTECT | _SHARED | _ELISION
_MUTEX: Final = {8: struct.Struct("<iIiIi"), 4: struct.Struct("<iIiiI")}
"""lock, count, owner, then nusers and kind, which 32-bit machines have the other way round."""
_TID_LIMIT: Final = 1 << 22


def recognised(wait: FutexWait, read: Read, word: int, function: str = "", *, musl: bool = False) -> Lock:
    """What a futex is of. ``word``: bytes of a pointer. ``function``: of the C library, that waits, where known."""
    found = _by_function(wait, read, word, function, musl=musl)
    if found is not None:
        return found
    if wait.inherits:
        return _inheriting(wait, read, word, musl=musl)
    tries = (_musl_mutex, _musl_join) if musl else (_join, _mutex, _rwlock, _semaphore)
    for attempt in tries:
        found = attempt(wait, read, word)
        if found is not None:
            return found
    if wait.value == 2 and wait.command == WAIT and not musl:
        return plain(LockKind.LOW_LEVEL, wait.address, "low-level lock")
    return Lock(LockKind.OTHER, "futex", wait.address, no_owner="a futex says nothing of who will wake it")


def plain(kind: LockKind, address: int, what: str, why: str = "") -> Lock:
    """A lock that names no owner."""
    return Lock(kind, what, Address(address), no_owner=why or _NO_OWNER.get(kind, ""))


def _by_function(wait: FutexWait, read: Read, word: int, function: str, *, musl: bool) -> Lock | None:
    name = function.lstrip("_")
    if name.startswith("pthread_cond_"):
        return plain(LockKind.CONDITION, wait.address, "condition variable")
    if name.startswith("sem_"):
        return plain(LockKind.SEMAPHORE, wait.address, "semaphore")
    if name.startswith("pthread_barrier_"):
        return plain(LockKind.OTHER, wait.address, "barrier", "a barrier waits for as many threads as it was made for")
    if name.startswith(("pthread_join", "pthread_clockjoin", "pthread_timedjoin")):
        return (_musl_join if musl else _join)(wait, read, word)
    if name.startswith("pthread_rwlock_"):
        return _musl_rwlock(wait, read) if musl else _rwlock(wait, read, word)
    if name.startswith("pthread_mutex_"):
        return (
            _inheriting(wait, read, word, musl=musl)
            if wait.inherits
            else (_musl_mutex if musl else _mutex)(wait, read, word)
        )
    if name.startswith("lll_lock"):
        return plain(LockKind.LOW_LEVEL, wait.address, "lock of the C library")
    if name.startswith("pthread_once"):
        return plain(LockKind.OTHER, wait.address, "pthread_once", "the thread that runs its routine is not noted")
    return None


def _fields(read: Read, address: int, layout: struct.Struct) -> tuple[int, ...] | None:
    raw = read(address, layout.size)
    return None if raw is None or len(raw) < layout.size else layout.unpack(raw)


def _glibc(read: Read, address: int, word: int) -> tuple[int, int, int, int, int] | None:
    # lock, count, owner, users, kind of a mutex of glibc that fits.
    found = _fields(read, address, _MUTEX[word])
    if found is None:
        return None
    lock, count, owner, one, two = found
    users, kind = (one, two) if word == 8 else (two, one)
    if kind & ~_KNOWN or not 0 <= owner < _TID_LIMIT or kind < 0 or users > 1 << 24:
        return None
    return lock, count, owner, users, kind


def _kind_words(kind: int) -> str:
    words = _TYPES[kind & 3]
    if kind & _INHERIT:
        words = f"{words} with priority inheritance"
    if kind & _PROTECT:
        words = f"{words} with a priority ceiling"
    return f"robust {words}" if kind & _ROBUST else words


def _mutex(wait: FutexWait, read: Read, word: int) -> Lock | None:
    found = _glibc(read, wait.address, word)
    if found is None or wait.command != WAIT:
        return None
    lock, _count, owner, users, kind = found
    shared = bool(kind & _SHARED)
    if kind & _ROBUST:
        # The lock word is the owner's tid and FUTEX_WAITERS.
        if wait.value & WAITERS == 0 or wait.value & TID_MASK == 0:
            return None
        holder = lock & TID_MASK & 0xFFFFFFFF
        return Lock(LockKind.MUTEX, _kind_words(kind), wait.address, holder or None, shared=shared)
    ceiling = wait.value & 0x7FFFF  # of a mutex with a ceiling the upper bits are the priority
    if (wait.value if not kind & _PROTECT else ceiling) != 2 or not owner or not users:
        return None
    return Lock(LockKind.MUTEX, _kind_words(kind), wait.address, owner, shared=shared)


def _inheriting(wait: FutexWait, read: Read, word: int, *, musl: bool) -> Lock:
    raw = read(wait.address, 4)
    value = 0 if raw is None else int.from_bytes(raw, "little")
    kind = None if musl else _glibc(read, wait.address, word)
    words = "mutex with priority inheritance" if kind is None else _kind_words(kind[4])
    owner = value & TID_MASK
    dead = " whose owner died" if value & OWNER_DIED else ""
    return Lock(LockKind.MUTEX, words + dead, wait.address, owner or None, shared=not wait.private)


def _join(wait: FutexWait, read: Read, _word: int) -> Lock | None:
    # The kernel wakes this word with a shared futex (kernel/fork.c: mm_release), so it is waited for as such.
    raw = read(wait.address, 4)
    value = 0 if raw is None else int.from_bytes(raw, "little")
    if wait.private or wait.command not in (WAIT, WAIT_BITSET) or value != wait.value or not 1 < value < _TID_LIMIT:
        return None
    return Lock(LockKind.JOIN, "thread", wait.address, value)


_RWLOCK: Final = {8: struct.Struct("<IIIIIIi"), 4: struct.Struct("<IIIIIIIi")}
"""readers, writers, wrphase_futex, writers_futex, two of padding, on 32-bit machines flags, cur_writer."""
_READERS_SHIFT: Final = 3


def _rwlock(wait: FutexWait, read: Read, word: int) -> Lock | None:
    for offset in (8, 12):  # __wrphase_futex, __writers_futex
        base = wait.address - offset
        found = _fields(read, base, _RWLOCK[word])
        if found is None:
            continue
        readers, writers, phase, taken, *_between, writer = found
        if wait.value not in (1, 2, 3) or not 0 <= writer < _TID_LIMIT or phase > 3 or taken > 3:
            continue
        inside = readers >> _READERS_SHIFT
        if (
            (phase, taken)[offset == 12] != wait.value
            or not (writer or inside)
            or inside > 1 << 16
            or writers > 1 << 16
        ):
            continue
        why = "" if writer else f"it is held for reading ({inside} waiting or inside), and readers are not noted"
        return Lock(LockKind.RWLOCK, "read-write lock", Address(base), writer or None, why, inside)
    return None


def _semaphore(wait: FutexWait, read: Read, word: int) -> Lock | None:
    # struct new_sem: 64-bit machines have value and number of waiters in one word (nptl/semaphore internals).
    if wait.command != WAIT_BITSET or wait.value != 0 or word != 8:
        return None
    found = _fields(read, wait.address, struct.Struct("<IIi"))
    if found is None or found[0] != 0 or not 0 < found[1] < 1 << 16 or found[2] not in (0, 128):
        return None
    return plain(LockKind.SEMAPHORE, wait.address, "semaphore")


_MUSL: Final = struct.Struct("<iii")
"""_m_type, _m_lock, _m_waiters."""
_MUSL_TYPES: Final = {0: "mutex", 1: "recursive mutex", 2: "errorcheck mutex", 3: "mutex"}
_MUSL_BUSY: Final = 16  # EBUSY: what a normal mutex has for its owner


def _musl_mutex(wait: FutexWait, read: Read, _word: int) -> Lock | None:
    base = wait.address - 4
    found = _fields(read, base, _MUSL)
    if found is None or wait.command != WAIT:
        return None
    type_, lock, waiters = found
    if type_ & ~(3 | 4 | 8 | 128) or type_ & 3 not in _MUSL_TYPES or not 0 < waiters < 1 << 24:
        return None
    if lock & 0xFFFFFFFF != wait.value or not wait.value & WAITERS:
        return None
    words = (
        ("robust " if type_ & 4 else "") + _MUSL_TYPES[type_ & 3] + (" with priority inheritance" if type_ & 8 else "")
    )
    shared = bool(type_ & 128)
    owner = lock & TID_MASK
    if type_ & 15 == 0 and owner == _MUSL_BUSY:
        why = "musl's normal mutex does not say who has it"
        return Lock(LockKind.MUTEX, words, Address(base), no_owner=why, shared=shared)
    return Lock(LockKind.MUTEX, words, Address(base), owner or None, shared=shared)


def _musl_rwlock(wait: FutexWait, read: Read) -> Lock | None:
    raw = read(wait.address, 4)
    if raw is None:
        return None
    value = int.from_bytes(raw, "little") & 0x7FFFFFFF
    why = "musl's read-write lock does not say who has it"
    return Lock(LockKind.RWLOCK, "read-write lock", wait.address, None, why, 0 if value == 0x7FFFFFFF else value)


def _musl_join(wait: FutexWait, read: Read, word: int) -> Lock | None:
    # struct pthread: … int tid; int errno_val; volatile int detach_state; …
    found = _fields(read, wait.address - 8, struct.Struct("<iii"))
    if found is None or word != 8 or wait.command != WAIT or wait.value not in (1, 2, 3):
        return None
    tid, _errno, state = found
    if state != wait.value or not 1 < tid < _TID_LIMIT:
        return None
    return Lock(LockKind.JOIN, "thread", wait.address, tid)
