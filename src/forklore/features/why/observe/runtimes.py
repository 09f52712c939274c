"""What a wait is to the language that a program is written in, by the functions of its runtime on the stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct


class Runtime(Struct, frozen=True):
    """A lock or a wait of a language's runtime."""

    prefixes: tuple[str, ...]
    """Of functions on the stack, one of which tells it."""
    what: str
    words: str
    """After "waits for"."""
    no_owner: str = ""
    c_library: bool = True
    """Whether the word is one of the C library's locks, below."""
    lock: bool = False
    """Whether it is a lock, that somebody has taken."""
    only_flags: bool = False
    """Whether its signal handlers do no more than note the signal: the program runs only once the wait is over."""


_PYTHON: Final = "CPython does not note who has it"
_RUNTIMES: Final = (
    Runtime(
        ("take_gil", "PyEval_RestoreThread", "PyEval_AcquireThread"), "GIL",
        "the GIL of CPython, which another thread has", _PYTHON, lock=True, only_flags=True,
    ),
    Runtime(
        ("PyThread_acquire_lock", "_PyMutex_LockTimed", "PyMutex_Lock", "_PySemaphore_", "_PyParkingLot_Park"),
        "lock of CPython", "a lock of CPython", _PYTHON, lock=True, only_flags=True,
    ),
    Runtime(
        ("std::sys::sync::mutex", "std::sys_common::mutex", "std::sys::unix::locks::futex_mutex"),
        "Mutex of Rust", "a std::sync::Mutex of Rust", "Rust's Mutex does not note who has it",
        c_library=False, lock=True,
    ),
    Runtime(
        ("std::sys::sync::rwlock", "std::sys::unix::locks::futex_rwlock"),
        "RwLock of Rust", "a std::sync::RwLock of Rust",
        "Rust's RwLock does not note who has it", c_library=False, lock=True,
    ),
    Runtime(
        ("std::sys::sync::condvar", "std::sys::unix::locks::futex_condvar"), "Condvar of Rust",
        "a std::sync::Condvar of Rust", "a condition variable has no owner: any thread can signal it", c_library=False,
    ),
    Runtime(
        ("std::thread::park", "std::thread::Thread::park", "std::thread::thread::Thread",
         "std::sys::sync::thread_parking", "std::sys_common::thread_parking"), "parked thread of Rust",
        "another thread to unpark it (Rust: thread::park, a channel, or an idle worker)", "nothing says who will",
        c_library=False,
    ),
    Runtime(
        ("std::__atomic_futex_unsigned_base",), "future of C++", "a std::future of C++ to become ready",
        "nothing says which thread is to fulfil it", c_library=False,
    ),
    Runtime(
        ("runtime.futex", "runtime.notesleep", "runtime.mPark", "runtime.stopm", "runtime.lock2"), "futex of Go",
        "Go's scheduler to have work for it",
        "what goroutines wait for is not seen from here", c_library=False,
    ),
    Runtime(
        ("Monitor::", "ObjectMonitor::", "Parker::park", "ParkEvent::park", "PlatformMonitor::", "os::PlatformEvent"),
        "lock of the JVM", "a lock or condition of the JVM (jstack says which)", "the JVM keeps its owners to itself",
    ),
)  # fmt: skip


def runtime(functions: Sequence[str]) -> Runtime | None:
    """The runtime that a wait is of: that of the innermost function that tells."""
    for function in functions:
        name = function.lstrip("<&")
        for each in _RUNTIMES:
            if name.startswith(each.prefixes):
                return each
    return None
