"""The memory that clone3 points to: struct clone_args, of any size, and its set_tid array.

Read as kernel/fork.c: copy_clone_args_from_user reads them: what lies beyond the caller's size counts as
zero.
"""

from __future__ import annotations

import errno
import struct as _struct
from typing import Final

from msgspec import Struct

from forklore.abi.clone_args import SIZES, STRUCT, VER0, VER2
from forklore.abi.units import Address, Unavailable

PAGE_SIZE: Final = 4096
"""The smallest page of the arches that forklore decodes; aarch64 kernels can have 16 or 64 KiB."""
SET_TID_MAX: Final = 32
"""MAX_PID_NS_LEVEL of include/linux/pid_namespace.h."""


class Words(Struct, frozen=True, gc=False):
    """A creation's words by the names of struct clone_args; None where the call has no such word or it is
    not known.

    For clone(2), ``stack`` is the top of the stack and ``flags`` holds the exit signal in its low byte.
    """

    tail: bytes = b""
    """What a clone_args larger than 88 bytes holds beyond them, as far as it was read."""
    flags: int | None = None
    pidfd: Address | None = None
    child_tid: Address | None = None
    parent_tid: Address | None = None
    exit_signal: int | None = None
    stack: Address | None = None
    stack_size: int | None = None
    tls: Address | None = None
    set_tid: Address | None = None
    set_tid_size: int | None = None
    cgroup: int | None = None

    def items(self) -> tuple[tuple[str, int | None], ...]:
        """Each word's name and value, in the order of the struct, without ``tail``."""
        return tuple((name, getattr(self, name)) for name in self.__struct_fields__ if name != "tail")


NO_WORDS: Final = Words()


def is_unmapped(found: bytes | Unavailable | None, size: int) -> bool:
    """Whether a reading of ``size`` bytes of the caller's memory came to the end of it."""
    if isinstance(found, Unavailable):
        return found.errno == errno.EFAULT
    return found is not None and len(found) < size


def read_struct(struct: bytes | Unavailable | None, size: int | None) -> tuple[Words, list[str]]:
    """The words of a clone_args of ``size`` bytes of which ``struct`` was read, and what is wrong with it."""
    if struct is None:
        return NO_WORDS, ["the clone_args of this call were not read"]
    if isinstance(struct, Unavailable):
        return NO_WORDS, [f"the clone_args of this call could not be read: {struct.why}"]
    if len(struct) == size and size in SIZES:
        return Words(b"", *STRUCT.unpack(struct.ljust(VER2, b"\0"))), []
    problems: list[str] = []
    if size is None:
        size = len(struct)
        problems.append(f"the size argument is not known; {size} bytes were read")
    if size < VER0:
        problems.append(f"size {size} is less than the first clone_args ({VER0} bytes)")
    elif size > PAGE_SIZE:
        problems.append(f"size {size} is more than a page of {PAGE_SIZE} bytes")
    data = struct[:size]
    if len(data) < min(size, PAGE_SIZE):
        problems.append(f"only {len(data)} of {size} bytes were read")
    words = _words(data, size)
    if words.tail.strip(b"\0"):
        problems.append(f"the bytes beyond the known clone_args ({VER2}) are not zero: {words.tail.hex()}")
    return words, problems


def _words(data: bytes, size: int) -> Words:
    if size >= VER0 and len(data) >= min(size, VER2):
        return Words(data[VER2:], *STRUCT.unpack(data[:VER2].ljust(VER2, b"\0")))
    return Words(b"", *_struct.unpack_from(f"<{min(len(data), VER2) // 8}Q", data))


def read_tids(array: bytes | Unavailable | None, count: int) -> tuple[tuple[int, ...], list[str]]:
    """The pids of a set_tid array of ``count`` elements, and what is wrong with it."""
    problems = []
    if count > SET_TID_MAX:
        problems.append(f"set_tid_size {count} is more than the {SET_TID_MAX} levels of pid namespaces there can be")
    if array is None:
        return (), [*problems, "the set_tid array was not read"]
    if isinstance(array, Unavailable):
        return (), [*problems, f"the set_tid array could not be read: {array.why}"]
    whole = min(len(array) // 4, count)
    if whole < count:
        problems.append(f"only {whole} of {count} elements of set_tid were read")
    return tuple(t for (t,) in _struct.iter_unpack("<i", array[: 4 * whole])), problems
