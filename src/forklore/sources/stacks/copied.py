"""What is copied of a task while it is held, so that its stack can be walked when it has gone on.

A walk asks for the stack from its pointer on, and for code. Of the first all is copied that a frame can be in; the
files that the other comes from are kept by descriptors that open nothing (O_PATH), so that what is looked into later is
what was mapped, whatever becomes of its name and of the task.

Where it is not known how far a stack goes, or code on it is in no file that can be read, the walk is made while the
task is held, by its memory alone: the tables that unwinding takes are mapped with the code.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct, field

from forklore.abi.arch import Arch
from forklore.abi.units import Tid
from forklore.elf.cfi.unwind import Walk
from forklore.elf.dwarf.registers import NUMBERS
from forklore.linux import memory, proc
from forklore.linux.files import strangers_file
from forklore.linux.files.file_calls import FileStatus, status
from forklore.linux.files.strangers_file import Folder
from forklore.linux.mappings import Mapping, MappingKind, extent_at
from forklore.linux.pages.whole import memory_of
from forklore.linux.tracing.ptrace import Registers
from forklore.sources.ptrace.tracee import Glance
from forklore.sources.stacks.code import CodeSpace, TracedCode, other_than_ours

MOST: Final = 1 << 18
"""Bytes of a stack that are copied at most."""
PART: Final = 1 << 16
"""Bytes of each part of a stack that is not copied as a whole."""
_TOP: Final = 1 << 63
_ABOVE: Final = 64
"""Bytes above where a program's first stack began that count as of it: the outermost frame ends there."""
_PAGES: Final = 7
"""What :func:`forklore.linux.memory.may_wait` can be asked at once."""


class Needs(Struct):
    """What a walk went by: memory, and registers by DWARF number."""

    reads: list[tuple[int, int]] = field(default_factory=list)
    registers: set[int] = field(default_factory=set)


class MappedFiles:
    """Files that a task had mapped while it was held. To be closed."""

    def __init__(self, tid: Tid) -> None:
        self.tid = tid
        self.root: Folder | None = None
        """Its root directory; None: it was not needed, or the task was killed."""
        self._found: dict[Mapping, int] = {}

    def take(self, entry: Mapping) -> bool:
        """Keep the file of a mapping, or what is needed to look it up later where that could be to wait for somebody;
        False where it will not be readable."""
        if entry.kind is not MappingKind.FILE:
            return False
        try:
            if entry in self._found:
                return _is_readable(status(self._found[entry]))
            if self.root is None:
                self.root = Folder(proc.root(self.tid), self.tid)
            found = strangers_file.mapped_at_hand(self.root, self.tid, entry)
            if found is None:
                return strangers_file.waits(self.tid, entry)
            self._found[entry] = found
            return _is_readable(status(found))
        except OSError:
            return False  # it was killed

    def of(self, entry: Mapping) -> int | None:
        """The descriptor of a file that was kept; it stays this object's."""
        return self._found.get(entry)

    def other_root(self) -> Folder | None:
        """The root directory of the task where it is another than ours: the caller's to close."""
        try:
            return None if self.root is None else other_than_ours(self.root.again())
        except OSError:
            return None

    def close(self) -> None:
        """Let go of all of them."""
        for found in self._found.values():
            os.close(found)
        self._found.clear()
        if self.root is not None:
            self.root.close()
            self.root = None


class WalkedHeld(Struct, eq=False):
    """A stack that was walked while its task was held, by the task's memory alone."""

    found: Walk
    known: bool
    """Whether all of it lies in code that is known."""
    needs: Needs | None
    again: bool
    """Whether files can tell more: some of its code has no table in memory."""


class Copy(Struct, eq=False):
    """What was copied of a task that is about to go on."""

    glance: Glance
    space: CodeSpace
    """Where its code lay then."""
    origin: CodeSpace
    """Where it lies now, if it is still the same memory."""
    files: MappedFiles
    walked: WalkedHeld | None = None
    """Where not all is copied that a walk can ask for."""

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.glance.window) + sum(len(content) for _address, content in self.glance.further)

    def learnt(self) -> None:
        """It was looked at: what is known of its code holds for the memory as well, if nothing was mapped since."""
        self.files.close()
        if self.origin.regions is self.space.regions:
            self.origin.threads, self.origin.libc = self.space.threads, self.space.libc


def _is_readable(about: FileStatus) -> bool:
    # By its mode alone: access(2) would have a file system ask its server.
    if not stat.S_ISREG(about.mode):
        return False
    user = os.geteuid()
    return user == 0 or bool(about.mode & stat.S_IROTH or (about.uid == user and about.mode & stat.S_IRUSR))


def whole_stack(glance: Glance, space: CodeSpace, *, first: bool) -> bytes | None:
    """The stack of a held task from its stack pointer to where its outermost frame ends, as far as the kernel or the
    thread pointer tells that; None where neither does, or it is larger than :data:`MOST`.

    A thread's stack lies below what its thread pointer leads to (on x86-64, where ptrace has that register), the one
    that a program was begun with below its arguments. A task that is on another stack is on neither. ``first``: it is
    the first of its process. What its thread pointer leads to can lie just above a stack of any other kind then, and in
    the same mapping.
    """
    size = next((size for size in _sizes(glance, space, first=first) if 0 <= size <= MOST), None)
    if size is None:
        return None
    missing = size - len(glance.window)
    if missing <= 0:
        return glance.window
    rest = _rest(glance.tid, glance.base + len(glance.window), missing)
    return None if rest is None else glance.window + rest


def _sizes(glance: Glance, space: CodeSpace, *, first: bool) -> Iterator[int]:
    """How large a stack is, if it is the thread's own, and if it is the one that the program was begun with."""
    held, base = glance.registers, glance.base
    if "fs_base" in held.layout.offsets and not first:
        yield held["fs_base"] - base
    if space.bottom is None:
        space.bottom = proc.stack_bottom(glance.tid) or 0
    yield space.bottom + _ABOVE - base


def _rest(tid: Tid, start: int, size: int) -> bytes | None:
    found = _read(tid, start, size)
    return found if found is not None and len(found) >= size - _ABOVE else None


def _read(tid: Tid, start: int, size: int) -> bytes | None:
    step = _PAGES * memory.PAGE_SIZE - memory.PAGE_SIZE
    if any(memory.may_wait(tid, at, min(step, start + size - at)) for at in range(start, start + size, step)):
        return None
    # Not process_vm_readv, as in :mod:`forklore.linux.pages.whole`.
    try:
        with memory_of(tid) as opened:
            return opened.read(start, size)
    except OSError:
        return None


def parts_of_stack(
    glance: Glance, space: CodeSpace, interrupted: Iterable[int], *, first: bool
) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Of the stack of a held task that is larger than :data:`MOST`, or of which it is not known how far it goes, up to
    :data:`PART` bytes from its stack pointer on; and with their addresses as much from where signals came, and of the
    upper ends of the stacks that are known: its own, or what a handler interrupted that has one to itself."""
    tid, base, known = glance.tid, glance.base, len(glance.window)
    others = [*interrupted, *(base + size - PART for size in _sizes(glance, space, first=first))]
    window = glance.window + _from(tid, base + known, PART - known)
    return window, [(start, found) for start in others if (found := _from(tid, start, PART))]


def _from(tid: Tid, start: int, size: int) -> bytes:
    """Up to so many bytes of the mapping that an address lies in."""
    extent = extent_at(tid, start) if size > 0 and 0 < start < _TOP else None
    return b"" if extent is None else _read(tid, start, min(extent[1] - start, size)) or b""


def keep_files(
    code: TracedCode, space: CodeSpace, arch: Arch, held: Registers, files: MappedFiles, blocks: Iterable[bytes]
) -> bool:
    """Keep the files that words of ``blocks``, or registers, lead into, as far as they were not looked into yet.

    False where code that they lead into cannot be kept so: code without a file, which lies in the memory alone, and
    files that cannot be read.
    """
    waiting = [region for region in space.regions if region.loaded is None or region.loaded.image is None]
    if not waiting:
        return True
    mask = NUMBERS[arch].mask
    words = {word & mask for word in held.words()}
    for block in blocks:
        content = memoryview(block)[: len(block) & -held.layout.word]
        found = content.cast("Q") if held.layout.word == 8 else content.cast("I")
        words.update(found if arch is not Arch.AARCH64 else (word & mask for word in found))
    met, kept = sorted(words), True
    for region in waiting:
        entry = region.entry
        index = bisect_left(met, entry.start)
        if index == len(met) or met[index] >= entry.end:
            continue
        if entry.path == b"[vdso]" and region.loaded is None:
            code.loaded(region, files.tid)  # no file: it is read from memory
        elif region.loaded is not None:
            kept &= region.silent
        else:
            kept &= files.take(entry)
    return kept
