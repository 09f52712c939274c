"""Where in the program a thread waits: the first function that is the program's own, of Python its frames."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from forklore.abi.text import as_text, printable
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.features.why.observe.code import Code, Frame, Stack
from forklore.linux import proc
from forklore.linux.mappings import Mapping, MappingKind
from forklore.linux.waits.look import Look

if TYPE_CHECKING:
    from forklore.elf.cpython.frames import Interpreter, PyFrame

_LIBRARIES: Final = (
    b"libc.",
    b"libc-",
    b"ld-",
    b"libpthread",
    b"libstdc++",
    b"libgcc",
    b"libm.",
    b"libpython",
    b"[vdso]",
)
_FOREIGN: Final = ("std::", "<std::", "core::", "<core::", "alloc::", "<alloc::", "__", "runtime.", "sync.", "pthread_")
_FILES: Final = ("futex-internal", "thread/thread.h")
_FRAMES: Final = 3
Read = Callable[[int, int], bytes | None]


class Places:
    """Finds out where in their programs threads are."""

    def __init__(self, code: Code, read: Callable[[Pid], Read]) -> None:
        self._code = code
        self._read = read
        self._interpreters: dict[Pid, Interpreter | None] = {}

    def place(self, look: Look, stack: Stack) -> str:
        """``in append, log.c:31``; of Python ``in get, queue.py:171, called from main, app.py:40``; empty: unknown."""
        frames = self.python(look)
        if frames:
            return "in " + ", called from ".join(_written(frame) for frame in frames[:_FRAMES])
        own = next((frame for frame in stack.frames if _is_own(frame)), None)
        if own is None:
            return ""
        name = printable(own.function.partition("(")[0])
        return f"in {name}, {printable(own.line)}" if own.line else f"in {name}"

    def python(self, look: Look) -> tuple[PyFrame, ...]:
        """The frames of a thread of CPython, innermost first, as far as its memory tells; none of another program's."""
        interpreter = self._interpreter(look)
        if interpreter is None:
            return ()
        return interpreter.frames(look.number, None).frames

    def _interpreter(self, look: Look) -> Interpreter | None:
        if look.pid not in self._interpreters:
            self._interpreters[look.pid] = self._find(look.pid, look.tid)
        return self._interpreters[look.pid]

    def _find(self, pid: Pid, tid: Tid) -> Interpreter | None:
        executable = proc.executable(tid)
        program = b"" if isinstance(executable, Unavailable) else os.path.basename(executable)

        def may_hold(entry: Mapping) -> bool:
            name = entry.path.rpartition(b"/")[2]
            return name.startswith(b"libpython") or (name == program and entry.kind is MappingKind.FILE)

        if self._code.symbol(pid, tid, b"_PyRuntime", may_hold) is None:
            return None
        from forklore.elf.cpython.frames import Interpreter

        found = Interpreter.find(lambda name: self._code.symbol(pid, tid, name, may_hold), self._read(pid), None)
        return None if isinstance(found, Unavailable) else found


def _written(frame: PyFrame) -> str:
    file = os.path.basename(as_text(frame.file))
    return printable(f"{as_text(frame.function)}, {file}:{frame.line}")


def _is_own(frame: Frame) -> bool:
    name = frame.file.rpartition(b"/")[2]
    if not frame.function or name.startswith(_LIBRARIES) or frame.function.startswith(_FOREIGN):
        return False
    return frame.function != "_start"
