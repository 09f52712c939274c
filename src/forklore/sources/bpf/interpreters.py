"""Interpreters of Python in programs that nobody holds: the programs in the kernel copy the frames of whoever makes a
child while it is in the call, and what these refer to is read afterwards, where the process, or the child that its
memory was copied to, is still there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from forklore.abi.flags import CLONE_THREAD, CLONE_VM
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.elf.cpython.frames import Interpreter, PyStack, StartedThread
from forklore.elf.cpython.layout import ABSENT
from forklore.linux.mappings import Mapping, MappingKind
from forklore.linux.pages.whole import Memory, memory_of
from forklore.sources.bpf import raw
from forklore.sources.stacks.code import CodeSpace, TracedCode

_NAMES: Final = (b"libpython", b"python")
"""How the files are called that hold an interpreter."""
_TRIES: Final = 16
_NOWHERE: Final = 0xFFFF
_ENDS: Final = {
    raw.OUTERMOST: "outermost",
    raw.DEEPER: "depth",
    raw.UNREADABLE: "a frame that cannot be read",
}


def may_hold(entry: Mapping) -> bool:
    """Whether a mapping's file may be that of an interpreter."""
    return entry.kind is MappingKind.FILE and entry.path.rpartition(b"/")[2].startswith(_NAMES)


class Told(Struct, frozen=True):
    """What is known of an interpreter that makes a child."""

    language: str
    stack: PyStack
    started: StartedThread | None
    """The thread that its library ``threading`` starts."""


class Interpreters:
    """Those of all processes that are followed."""

    def __init__(self, code: TracedCode, tell: Callable[[int, bytes], None], *, by_tid: bool) -> None:
        """``tell``: have the frames of a process copied, by its pid, as struct interpreter says; OSError where that
        cannot be. ``by_tid``: the thread pointer of a thread is not among the registers that are copied.
        """
        self._code = code
        self._tell = tell
        self._by_tid = by_tid
        self._of: dict[Pid, Interpreter] = {}
        self._expected: dict[Pid, int] = {}
        """Processes that have an interpreter which was not found yet, and how often it will be looked for."""
        self._ahead: dict[int, Told] = {}
        """By the number of a creation's record."""
        self._memory: Memory | None = None

    def expect(self, pid: Pid) -> None:
        """A process has mapped code of an interpreter."""
        if pid not in self._of:
            self._expected.setdefault(pid, _TRIES)

    def look_into(self, pid: Pid, space: Callable[[], CodeSpace]) -> None:
        """Find the interpreter that is expected in a process: whoever makes a child there has its frames copied then.

        What it has of its own lies in memory only when all of its file is mapped, which no record tells.
        """
        left = self._expected.pop(pid, 0)
        if not left:
            return
        try:
            with memory_of(Tid(pid)) as self._memory:
                found = self._found(pid, space())
                if found is not None:
                    self._of[pid] = found
                elif left > 1:
                    self._expected[pid] = left - 1
        except OSError:
            pass  # it is gone, or may not be looked at; or this kernel wants CAP_BPF for it (before Linux 6.0)

    def _found(self, pid: Pid, space: CodeSpace) -> Interpreter | None:
        found = Interpreter.find(lambda name: self._code.symbol(space, Tid(pid), name, may_hold), self._read, None)
        if isinstance(found, Unavailable) or (told := self._packed(found)) is None:
            return None
        self._tell(pid, told)
        return found

    def _packed(self, found: Interpreter) -> bytes | None:
        layout = found.layout
        thread = layout.native_thread_id if self._by_tid else layout.thread_id
        if thread == ABSENT:
            return None
        size = found.frame_size_with_local
        fields = (
            layout.interpreters_head, layout.threads_head, layout.thread_next, thread, layout.thread_frame,
            layout.cframe_frame, layout.current_thread, layout.gil, layout.gil_holder, layout.frame_back,
            size if size <= raw.MOST_OF_FRAME else found.frame_size,
        )  # fmt: skip
        return struct.pack(
            raw.INTERPRETER, found.runtime, *(_NOWHERE if one == ABSENT else one for one in fields), self._by_tid
        )

    def look_ahead(self, made: Iterable[tuple[Pid, Pid, raw.Create]], depth: int) -> None:
        """Read what the frames of creators refer to, as soon as possible: they may be about to end. ``made``: creator's
        process, child's, and the record.
        """
        for creator, child, record in made:
            copied = not record.flags & CLONE_VM
            if copied and creator in self._of:
                self._of[child] = self._of[creator]  # as the programs in the kernel have it
            found = self._told(creator, (creator, child) if copied else (creator,), record, depth)
            if found is not None:
                self._ahead[record.head.number] = found
        while len(self._ahead) > raw.AHEAD:  # some belong to creations that nobody asks about
            del self._ahead[next(iter(self._ahead))]

    def _told(self, pid: Pid, tids: Iterable[Pid], record: raw.Create, depth: int) -> Told | None:
        interpreter = self._of.get(pid)
        if interpreter is None or not record.frames:
            return None
        for tid in tids:
            try:
                with memory_of(Tid(tid)) as self._memory:
                    stack = interpreter.of_copies(record.frames, _ENDS.get(record.frames_end, ""), depth)
                    starts = record.flags & CLONE_THREAD and stack.starts_thread
                    started = interpreter.started_by(record.frames) if starts else None
            except OSError:
                continue  # it is gone, and the child's memory is a copy
            if stack.frames:
                return Told(interpreter.language, stack, started)
        return None

    def told(self, record: raw.Create) -> Told | None:
        """What was found of a creator: None where it has no interpreter, or was gone."""
        return self._ahead.pop(record.head.number, None)

    def _read(self, address: int, size: int) -> bytes | None:
        return None if self._memory is None else self._memory.read(address, size)

    def forget(self, pid: Pid) -> None:
        """A process has ended, or has another image."""
        self._of.pop(pid, None)
        self._expected.pop(pid, None)
