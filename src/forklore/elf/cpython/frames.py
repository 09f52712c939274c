"""The Python frames of a held CPython thread, out of the interpreter's own memory.

Versions 3.8 to 3.15, for 64-bit little-endian machines. What is read is a traced program's memory and may be of any
content: what does not look as it should ends the stack with the reason.

Each version was compared with what running interpreters say of themselves, on x86_64: shared and static builds of
3.8.18, 3.9.18, 3.10.13, 3.11.2, 3.11.7, 3.12.1, 3.13.0, 3.14.10 and 3.15.2, and a debug build of 3.11.2. Known by
their headers only: builds without the global interpreter lock (3.13t and on), and other releases of these versions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.units import Unavailable
from forklore.elf.cpython.attributes import Attributes
from forklore.elf.cpython.layout import ABSENT, CPythonLayout, Read, Symbol, choose
from forklore.elf.cpython.lines import NEW_LINE_TABLE
from forklore.elf.cpython.objects import ObjectMemory, Objects, UnreadableError

DEPTH: Final = 64
"""How many frames are read unless told otherwise."""
MOST_INTERPRETERS: Final = 256
MOST_THREADS: Final = 1 << 14
MOST_KNOWN: Final = 1 << 12

_OF_THREAD: Final = frozenset({b"_name", b"_target"})
_STARTS: Final = (b"Thread.start", b"start")
_SHIMS: Final = 4
"""Frames of the interpreter itself that may lie inside of the innermost one of Python's."""
_OWNED_BY_GENERATOR: Final = 1
_FIRST_WITHOUT_CODE: Final = 3
"""The owners from here on are frames of the interpreter itself (FRAME_OWNED_BY_CSTACK, FRAME_OWNED_BY_INTERPRETER)."""
_TAGS: Final = 3
"""The low bits of a _PyStackRef."""

_word = struct.Struct("<Q").unpack_from
_int = struct.Struct("<i").unpack_from


class PyFrame(Struct, frozen=True):
    """A Python frame. Names are UTF-8, as the program's own traceback would have them."""

    function: bytes
    """The qualified name from 3.11, before that the bare one; ``<module>``, ``<lambda>``."""
    file: bytes
    line: int | None
    """None: the instruction belongs to no line."""


class StartedThread(Struct, frozen=True):
    """What Python's ``threading`` is about to start."""

    name: bytes
    target: PyFrame | None
    """The function that it is to run, at the line where that begins; None: a method ``run()``, or what is no function
    of Python's."""


class PyStack(Struct, frozen=True):
    """The Python frames of a thread, innermost first; in a subinterpreter, those of that one."""

    frames: tuple[PyFrame, ...]
    end: str
    """Why there are no more: ``outermost``, ``depth``, or what was in the way."""
    found: str | None
    """How the thread was found: by its ``pthread``, by its ``native id``, or as the one that has the interpreter's
    ``lock`` or had it last, which is a guess. None: it was not looked for, or not there."""

    @property
    def starts_thread(self) -> bool:
        """Whether the innermost frame may be that of :meth:`threading.Thread.start`: what is found there tells."""
        return bool(self.frames) and self.frames[0].function in _STARTS


class Interpreter:
    """The CPython of one process image. A new image (exec) takes a new one."""

    def __init__(self, runtime: int, layout: CPythonLayout, read: Read, code_type: int | None) -> None:
        self._runtime = runtime
        self._layout = layout
        self._memory = ObjectMemory(read)
        self._objects = Objects(layout, self._memory, code_type)
        self._attributes = Attributes(layout, self._memory, self._objects)
        self._known: dict[int, int] = {}

        size = 8 + max(layout.frame_back, layout.frame_code, layout.frame_instruction, layout.frame_bytecode_index)
        self._frame_size = max(size, layout.frame_owner + 1)

    @classmethod
    def find(cls, symbol: Symbol, read: Read, version_hint: str | None) -> Interpreter | Unavailable:
        """The interpreter in the program that ``symbol`` and ``read`` look into; it need not have started.

        ``version_hint``: a version or the path of what holds ``_PyRuntime``, for programs that do not tell.
        """
        runtime = symbol(b"_PyRuntime")
        if runtime is None:
            return Unavailable(0, "no _PyRuntime: not a CPython of 3.7 or newer, or one without symbols")
        layout = choose(runtime, symbol, ObjectMemory(read).get, version_hint)
        if isinstance(layout, Unavailable):
            return layout
        return cls(runtime, layout, read, symbol(b"PyCode_Type"))

    @property
    def layout(self) -> CPythonLayout:
        """Where its fields lie."""
        return self._layout

    @property
    def runtime(self) -> int:
        """The address of ``_PyRuntime``."""
        return self._runtime

    @property
    def frame_size(self) -> int:
        """Bytes of a frame, from its beginning on, that :meth:`of_copies` needs."""
        return self._frame_size

    @property
    def frame_size_with_local(self) -> int:
        """The same for :meth:`started_by`, which asks for the first of the function's variables."""
        return max(self._frame_size, self._layout.frame_locals + 8)

    @property
    def language(self) -> str:
        """``CPython 3.11``."""
        return self._layout.language

    def frames(self, tid: int, thread_pointer: int | None, limit: int = DEPTH) -> PyStack:
        """The frames of a thread that is held.

        ``thread_pointer``: what pthread_self() gives in it (fs_base on x86_64), None where that is not known. Only then
        ``tid`` is used, what gettid() gives in it: 3.11 and newer keep that. It is one of the program's own pid
        namespace, and stale in a forked child until the interpreter has set it right.
        """
        self._memory.forget()
        try:
            thread, found = self._thread(tid, thread_pointer)
        except UnreadableError as problem:
            return PyStack((), str(problem), None)
        if not thread:
            why = "no thread has the interpreter's lock" if found == "lock" else "the thread has no Python state"
            return PyStack((), why, None)
        frames: list[PyFrame] = []
        self._objects.begin()
        try:
            end = self._walk(thread, limit, frames)
        except UnreadableError as problem:
            end = str(problem)
        return PyStack(tuple(frames), end, found)

    def of_copies(self, copies: Sequence[bytes], end: str, limit: int = DEPTH) -> PyStack:
        """The frames of which each was copied while its thread was in the call that is looked at, innermost first.

        What they refer to, code objects with their names and lines, is read now: nobody changes it. ``end``: why there
        are no more copies.
        """
        self._memory.forget()
        self._objects.begin()
        frames: list[PyFrame] = []
        try:
            for raw in copies:
                frame = self._frame(raw)
                if frame is not None:
                    if len(frames) >= limit:
                        return PyStack(tuple(frames), "depth", None)
                    frames.append(frame)
        except UnreadableError as problem:
            end = str(problem)
        return PyStack(tuple(frames), end, None)

    def starts(self, tid: int, thread_pointer: int | None) -> StartedThread | None:
        """The thread that a held one, whose innermost frame is that of ``threading.Thread.start``, is to make.

        None where that is another function, or cannot be read. Of a thread whose frames were read just now.
        """
        try:
            thread, _found = self._thread(tid, thread_pointer)
            frame = self._innermost(thread) if thread else 0
            for _ in range(_SHIMS):
                if not frame:
                    return None
                if self._frame(self._memory.exactly(frame, self._frame_size, "a frame")) is not None:
                    return self._started(self._memory.pointer(frame + self._layout.frame_locals) & ~_TAGS)
                frame = self._memory.pointer(frame + self._layout.frame_back)
        except UnreadableError:
            return None
        return None

    def started_by(self, copies: Sequence[bytes]) -> StartedThread | None:
        """As :meth:`starts`, of frames that were copied then. The thread may have dropped its target since: None, as
        where less of a frame was copied than :attr:`frame_size_with_local`.
        """
        if any(len(raw) < self.frame_size_with_local for raw in copies):
            return None
        try:
            for raw in copies[:_SHIMS]:
                if self._frame(raw) is not None:
                    return self._started(_word(raw, self._layout.frame_locals)[0] & ~_TAGS)
        except UnreadableError:
            return None
        return None

    def _started(self, thread: int) -> StartedThread | None:
        found = self._attributes.of(thread, _OF_THREAD)
        if b"_name" not in found:
            return None
        target = found.get(b"_target", 0)
        return StartedThread(self._objects.text(found[b"_name"]), self._function(target) if target else None)

    def _function(self, address: int) -> PyFrame | None:
        layout, objects = self._layout, self._objects
        kind = objects.type_name(address)
        if kind == b"method":
            address = self._memory.pointer(address + layout.method_function)
            kind = objects.type_name(address)
        if kind != b"function":
            return None
        code = objects.code(self._memory.pointer(address + layout.function_code))
        return PyFrame(objects.text(code.name), objects.text(code.file), code.first_line)

    # --- threads

    def _thread(self, tid: int, thread_pointer: int | None) -> tuple[int, str | None]:
        """The PyThreadState, 0 where there is none, and how it was found."""
        layout = self._layout
        interpreters = list(self._interpreters())
        if thread_pointer is not None:
            return self._by_id(interpreters, layout.thread_id, thread_pointer), "pthread"
        if layout.native_thread_id != ABSENT:
            thread = self._by_id(interpreters, layout.native_thread_id, tid)
            if thread:
                return thread, "native id"
        return next((holder for holder in map(self._holder, interpreters) if holder), 0), "lock"

    def _interpreters(self) -> Iterator[int]:
        """Newest first."""
        layout = self._layout
        address = self._memory.pointer(self._runtime + layout.interpreters_head)
        if not address:
            raise UnreadableError("the interpreter has not started, or has ended")
        for _ in range(MOST_INTERPRETERS):
            if not address:
                return
            yield address
            address = self._memory.pointer(address + layout.interpreter_next)
        raise UnreadableError(f"the list of interpreters does not end after {MOST_INTERPRETERS}")

    def _holder(self, interpreter: int) -> int:
        """The thread that has the lock, or had it last; 0 where it is no thread of this interpreter."""
        layout, memory = self._layout, self._memory
        if layout.current_thread != ABSENT:
            thread = memory.pointer(self._runtime + layout.current_thread)
        else:
            gil = memory.pointer(interpreter + layout.gil)
            thread = memory.pointer(gil + layout.gil_holder) if gil else 0
        return thread if thread and self._listed(interpreter, thread) else 0

    def _listed(self, interpreter: int, thread: int) -> bool:
        """Whether what may have been freed by now still hangs in the interpreter's list."""
        layout, memory = self._layout, self._memory
        raw = memory.get(thread, layout.thread_interpreter + 8)
        if raw is None or _word(raw, layout.thread_interpreter)[0] != interpreter:
            return False
        previous = _word(raw, layout.thread_previous)[0]
        back = memory.get(previous + layout.thread_next if previous else interpreter + layout.threads_head, 8)
        return back is not None and _word(back)[0] == thread

    def _by_id(self, interpreters: list[int], field: int, wanted: int) -> int:
        """The thread whose ``field`` is ``wanted``: with frames, where there is one.

        Before 3.12 a thread that is being made has its maker's ids until it runs. A thread can also have a state in
        each of several interpreters: the newest that has frames is the one that runs.
        """
        if len(interpreters) == 1:
            near = (self._holder(interpreters[0]), self._known.get(wanted, 0))
            for thread in near:
                if thread and self._is(thread, field, wanted) and self._listed(interpreters[0], thread):
                    return thread
        idle = 0
        for interpreter in interpreters:
            for thread in self._threads(interpreter):
                if self._is(thread, field, wanted):
                    if self._innermost(thread):
                        self._remember(wanted, thread)
                        return thread
                    idle = thread
        return idle

    def _remember(self, wanted: int, thread: int) -> None:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[wanted] = thread

    def _is(self, thread: int, field: int, wanted: int) -> bool:
        raw = self._memory.get(thread + field, 8)
        return raw is not None and _word(raw)[0] == wanted

    def _threads(self, interpreter: int) -> Iterator[int]:
        thread = self._memory.pointer(interpreter + self._layout.threads_head)
        for _ in range(MOST_THREADS):
            if not thread:
                return
            yield thread
            thread = self._memory.pointer(thread + self._layout.thread_next)
        raise UnreadableError(f"the list of threads does not end after {MOST_THREADS}")

    # --- frames

    def _innermost(self, thread: int) -> int:
        layout = self._layout
        frame = self._memory.pointer(thread + layout.thread_frame)
        if frame and layout.cframe_frame != ABSENT:
            return self._memory.pointer(frame + layout.cframe_frame)
        return frame

    def _walk(self, thread: int, limit: int, frames: list[PyFrame]) -> str:
        """Append the frames to ``frames``: what ended them."""
        layout, size = self._layout, self._frame_size
        address = self._innermost(thread)
        seen: set[int] = set()
        while address:
            if len(frames) >= limit:
                return "depth"
            if address in seen or len(seen) > 2 * limit + DEPTH:
                return "a chain of frames that does not end"
            seen.add(address)
            raw = self._memory.exactly(address, size, "a frame")
            frame = self._frame(raw)
            if frame is not None:
                frames.append(frame)
            address = _word(raw, layout.frame_back)[0]
        return "outermost"

    def _frame(self, raw: bytes) -> PyFrame | None:
        """None: a frame that a traceback would not show."""
        layout, objects = self._layout, self._objects
        if layout.frame_owner == ABSENT:
            code = objects.code(_word(raw, layout.frame_code)[0])
            index = _int(raw, layout.frame_instruction)[0]
            offset = 2 * index if layout.minor >= NEW_LINE_TABLE else index
        else:
            owner = raw[layout.frame_owner]
            if owner >= _FIRST_WITHOUT_CODE:
                return None
            code = objects.code(_word(raw, layout.frame_code)[0] & ~_TAGS)
            offset = _word(raw, layout.frame_instruction)[0] - self._instructions(raw, code.address)
            if owner != _OWNED_BY_GENERATOR and offset < 2 * code.first_traceable:
                return None
        return PyFrame(objects.text(code.name), objects.text(code.file), objects.line(code, offset))

    def _instructions(self, frame: bytes, code: int) -> int:
        """Where the bytecode begins that a frame runs."""
        layout, memory = self._layout, self._memory
        if layout.frame_bytecode_index != ABSENT:
            index = _int(frame, layout.frame_bytecode_index)[0]
            copies = memory.pointer(code + layout.code_bytecodes)
            if copies and 0 <= index < memory.pointer(copies + layout.bytecodes_size):
                return memory.pointer(copies + layout.bytecodes_entries + 8 * index)
        return code + layout.code_instructions
