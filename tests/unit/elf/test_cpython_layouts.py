"""Python frames out of memory images that these tests write, for every version; broken ones give an answer too."""

from __future__ import annotations

import json.decoder
import struct
import types
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Unavailable
from forklore.elf.cpython._layouts import LAYOUTS, PUBLISHED, VERSIONS
from forklore.elf.cpython.frames import Interpreter, PyFrame, PyStack
from forklore.elf.cpython.layout import ABSENT, COOKIE, CPythonLayout, layout_of
from forklore.elf.cpython.lines import line_at
from forklore.elf.cpython.objects import LARGEST_TABLE, LONGEST_TEXT

THREAD, TID = 0x7F00_0000_1000, 4711
NAMES = sorted(LAYOUTS, key=lambda name: (int(name.strip("t")[2:]), name))


def layout_named(name: str) -> CPythonLayout:
    layout = layout_of(int(name.strip("t")[2:]), name.endswith("t"))
    assert isinstance(layout, CPythonLayout)
    return layout


class Image:
    """A process with an interpreter in it: one thread, no frames, until more are added."""

    BASE, SIZE = 0x10_0000, 1 << 18

    def __init__(self, layout: CPythonLayout) -> None:
        self.layout = layout
        self.memory = bytearray(self.SIZE)
        self._next = self.BASE + 4096
        self.reads = 0
        self.runtime = self.room(4096)
        self.code_type = self.room(512)
        self.put(self.code_type + layout.type_name, self.data(b"code\0"))
        self.version = self.data(struct.pack("<Q", 3 << 24 | layout.minor << 16 | 0xF0))
        self.symbols = {b"_PyRuntime": self.runtime, b"PyCode_Type": self.code_type}
        if layout.minor >= 11:
            self.symbols[b"Py_Version"] = self.version
        if layout.minor >= 13:
            self.publish(layout)
        self.interpreter = self.room(8192)
        self.put(self.runtime + layout.interpreters_head, self.interpreter)
        self.thread = self.add_thread(self.interpreter, THREAD, TID)

    @property
    def used(self) -> int:
        return self._next - self.BASE

    def room(self, size: int) -> int:
        start = self._next
        self._next += -(-size // 16) * 16
        assert self._next <= self.BASE + self.SIZE
        return start

    def data(self, data: bytes) -> int:
        start = self.room(len(data))
        self.write(start, data)
        return start

    def write(self, address: int, data: bytes) -> None:
        self.memory[address - self.BASE : address - self.BASE + len(data)] = data

    def put(self, address: int, value: int, form: str = "<Q") -> None:
        self.write(address, struct.pack(form, value))

    def publish(self, layout: CPythonLayout) -> None:
        positions = PUBLISHED[f"3.{layout.minor}"]
        self.write(self.runtime, COOKIE)
        self.put(self.runtime + positions["debug_version"], 3 << 24 | layout.minor << 16 | 0xF0)
        self.put(self.runtime + positions["debug_free_threaded"], layout.free_threaded)
        for name, position in positions.items():
            if not name.startswith("debug_"):
                self.put(self.runtime + position, getattr(layout, name))

    def add_thread(self, interpreter: int, pthread: int, tid: int) -> int:
        """As the interpreter does, at the head of the list."""
        layout, thread = self.layout, self.room(512)
        head = interpreter + layout.threads_head
        old = self.word(head)
        self.put(thread + layout.thread_next, old)
        if old:
            self.put(old + layout.thread_previous, thread)
        self.put(head, thread)
        self.put(thread + layout.thread_interpreter, interpreter)
        self.put(thread + layout.thread_id, pthread)
        if layout.native_thread_id != ABSENT:
            self.put(thread + layout.native_thread_id, tid)
        return thread

    def word(self, address: int) -> int:
        return int(struct.unpack_from("<Q", self.memory, address - self.BASE)[0])

    def give_lock(self, interpreter: int, thread: int) -> None:
        if self.layout.current_thread != ABSENT:
            self.put(self.runtime + self.layout.current_thread, thread)
        else:
            gil = self.room(64)
            self.put(interpreter + self.layout.gil, gil)
            self.put(gil + self.layout.gil_holder, thread)

    def text(self, text: str) -> int:
        layout = self.layout
        widest = max(map(ord, text), default=0)
        width, encoding = (1, "latin-1") if widest < 256 else (2, "utf-16-le") if widest < 65536 else (4, "utf-32-le")
        is_ascii = widest < 128
        data = text.encode(encoding, "strict" if width == 1 else "surrogatepass")
        start = layout.unicode_ascii_size if is_ascii else layout.unicode_compact_size
        place = self.room(start + len(data))
        self.put(place + layout.unicode_length, len(text))
        state = width << layout.unicode_kind_shift | 1 << layout.unicode_compact_shift
        state |= is_ascii << layout.unicode_ascii_shift
        self.put(place + layout.unicode_state, state, "<I")
        self.write(place + start, data)
        return place

    def code(self, name: str, file: str, first: int, table: bytes) -> int:
        layout = self.layout
        code = self.room(1024)
        self.put(code + layout.object_type, self.code_type)
        self.put(code + layout.code_name, self.text(name))
        self.put(code + layout.code_filename, self.text(file))
        self.put(code + layout.code_first_line, first, "<i")
        lines = self.room(layout.bytes_data + len(table))
        self.put(lines + layout.bytes_size, len(table))
        self.write(lines + layout.bytes_data, table)
        self.put(code + layout.code_lines, lines)
        if layout.code_bytecodes != ABSENT:
            copies = self.room(64)
            self.put(code + layout.code_bytecodes, copies)
            self.put(copies + layout.bytecodes_size, 2)
            self.put(copies + layout.bytecodes_entries, code + layout.code_instructions)
            self.put(copies + layout.bytecodes_entries + 8, 0x6660_0000)
        return code

    def push(self, code: int, offset: int, owner: int = 0, thread: int | None = None) -> int:
        """A frame that is at an offset in the bytecode, called by the innermost so far."""
        layout = self.layout
        thread = self.thread if thread is None else thread
        frame = self.room(256)
        top = thread + layout.thread_frame
        if layout.cframe_frame != ABSENT:
            if not self.word(top):
                self.put(top, self.room(64))
            top = self.word(top) + layout.cframe_frame
        self.put(frame + layout.frame_back, self.word(top))
        self.put(top, frame)
        self.put(frame + layout.frame_code, code)
        if layout.minor < 11:
            index = offset // 2 if layout.minor == 10 else offset
            self.put(frame + layout.frame_instruction, index, "<i")
        else:
            self.put(frame + layout.frame_instruction, code + layout.code_instructions + offset)
            self.put(frame + layout.frame_owner, owner, "<B")
        return frame

    def read(self, address: int, size: int) -> bytes | None:
        self.reads += 1
        start = address - self.BASE
        return bytes(self.memory[start : start + size]) if 0 <= start <= self.SIZE - size else None

    def interpreter_found(self, hint: str | None = None) -> Interpreter:
        found = Interpreter.find(self.symbols.get, self.read, hint or f"/usr/lib/libpython3.{self.layout.minor}.so.1.0")
        assert isinstance(found, Interpreter), found
        return found

    def frames(self, pthread: int | None = THREAD, tid: int = TID, limit: int = 64) -> PyStack:
        return self.interpreter_found().frames(tid, pthread, limit)


def table_of(minor: int) -> bytes:
    """Three instructions of the first line, two of the one after, one of the tenth; one without a line from 3.10."""
    if minor >= 11:
        return bytes([
            0x80 | 10 << 3 | 2, 0, 0,  # three units, the same line, columns
            0x80 | 11 << 3 | 1, 0, 0,  # two, one on
            0x80 | 13 << 3 | 0, 8 << 1,  # one, eight on
            0x80 | 15 << 3 | 0,  # one without a line
        ])  # fmt: skip
    if minor == 10:
        return bytes([6, 0, 4, 1, 2, 8, 2, 0x80])
    return bytes([6, 1, 4, 8])


OFFSETS = [(0, 100), (4, 100), (6, 101), (8, 101), (10, 109)]


@pytest.fixture(params=NAMES)
def image(request: pytest.FixtureRequest) -> Image:
    return Image(layout_named(request.param))


def fill(image: Image) -> tuple[PyFrame, ...]:
    """Give the thread five frames; what must be read, innermost first."""
    for number, (offset, _line) in enumerate(OFFSETS):
        image.push(image.code(f"f{number}", "/src/größe.py", 100, table_of(image.layout.minor)), offset)
    return tuple(
        PyFrame(f"f{number}".encode(), "/src/größe.py".encode(), line)
        for number, (_offset, line) in reversed(list(enumerate(OFFSETS)))
    )


def test_every_version_is_read(image: Image) -> None:
    wanted = fill(image)
    assert image.frames() == PyStack(wanted, "outermost", "pthread")
    assert image.interpreter_found().language == image.layout.language


def test_an_instruction_without_a_line_has_none(image: Image) -> None:
    if image.layout.minor < 10:
        pytest.skip("co_lnotab gives every instruction a line")
    image.push(image.code("f", "f.py", 100, table_of(image.layout.minor)), 12)
    assert image.frames().frames == (PyFrame(b"f", b"f.py", None),)


def test_a_stack_ends_at_its_limit(image: Image) -> None:
    wanted = fill(image)
    assert image.frames(limit=2) == PyStack(wanted[:2], "depth", "pthread")
    assert image.frames(limit=5) == PyStack(wanted, "outermost", "pthread")


def test_frames_of_the_interpreter_itself_are_not_shown(image: Image) -> None:
    if image.layout.minor < 12:
        pytest.skip("the interpreter has no frames of its own before 3.12")
    wanted = fill(image)
    image.push(0, 0, owner=3)
    image.push(image.code("new", "f.py", 1, table_of(image.layout.minor)), 0)
    stack = image.frames()
    assert stack == PyStack((PyFrame(b"new", b"f.py", 1), *wanted), "outermost", "pthread")


def test_a_frame_that_has_not_begun_is_shown_only_of_a_generator(image: Image) -> None:
    if image.layout.minor < 11:
        pytest.skip("a frame is made when it begins before 3.11")
    code = image.code("f", "f.py", 7, table_of(image.layout.minor))
    image.put(code + image.layout.code_first_traceable, 1, "<i")
    image.push(code, 0, owner=1)
    image.push(code, -2)
    assert image.frames().frames == (PyFrame(b"f", b"f.py", 7),)


def test_a_copy_of_the_bytecode_is_measured_from_its_own_start() -> None:
    image = Image(layout_named("3.14t"))
    code = image.code("f", "f.py", 100, table_of(14))
    frame = image.push(code, 0)
    image.put(frame + image.layout.frame_instruction, 0x6660_0000 + 10)
    image.put(frame + image.layout.frame_bytecode_index, 1, "<i")
    assert image.frames().frames == (PyFrame(b"f", b"f.py", 109),)


def test_what_is_published_goes_before_the_headers() -> None:
    layout = layout_named("3.13")
    image = Image(msgspec.structs.replace(layout, frame_owner=90, code_lines=400))
    assert image.frames() == PyStack((), "outermost", "pthread")
    wanted = fill(image)
    assert image.frames().frames == wanted


def test_without_the_symbol_a_code_object_is_told_by_the_name_of_its_type(image: Image) -> None:
    del image.symbols[b"PyCode_Type"]
    wanted = fill(image)
    assert image.frames().frames == wanted


# --- which thread


def test_the_thread_is_found_among_others(image: Image) -> None:
    wanted = fill(image)
    other = image.add_thread(image.interpreter, THREAD + 8, TID + 1)
    image.push(image.code("other", "f.py", 1, b""), 0, thread=other)
    interpreter = image.interpreter_found()
    for _ in range(2):  # the second time from memory
        assert interpreter.frames(TID, THREAD).frames == wanted
        assert [frame.function for frame in interpreter.frames(TID, THREAD + 8).frames] == [b"other"]


def test_a_thread_that_has_no_state_has_no_frames(image: Image) -> None:
    fill(image)
    image.give_lock(image.interpreter, image.thread)
    assert image.frames(pthread=THREAD + 8) == PyStack((), "the thread has no Python state", None)


def test_a_thread_in_the_making_has_its_makers_id(image: Image) -> None:
    wanted = fill(image)
    image.add_thread(image.interpreter, THREAD, TID)
    assert image.frames().frames == wanted


def test_without_a_thread_pointer_the_native_id_tells_or_the_lock(image: Image) -> None:
    wanted = fill(image)
    image.give_lock(image.interpreter, image.thread)
    native = image.layout.native_thread_id != ABSENT
    assert image.frames(None) == PyStack(wanted, "outermost", "native id" if native else "lock")
    assert image.frames(None, TID + 1) == PyStack(wanted, "outermost", "lock")


def test_a_holder_that_is_gone_is_not_believed(image: Image) -> None:
    fill(image)
    stale = image.room(512)
    image.put(stale + image.layout.thread_interpreter, image.interpreter)
    image.put(stale + image.layout.thread_id, THREAD)
    image.give_lock(image.interpreter, stale)
    assert len(image.frames().frames) == 5
    assert image.frames(None, TID + 1) == PyStack((), "no thread has the interpreter's lock", None)


def test_a_thread_in_a_second_interpreter_is_found(image: Image) -> None:
    fill(image)
    second = image.room(8192)
    image.put(second + image.layout.interpreter_next, image.interpreter)
    image.put(image.runtime + image.layout.interpreters_head, second)
    thread = image.add_thread(second, THREAD, TID)
    assert len(image.frames().frames) == 5  # it has frames in the first one only
    image.push(image.code("inner", "f.py", 1, b""), 0, thread=thread)
    assert [frame.function for frame in image.frames().frames] == [b"inner"]


def test_an_interpreter_that_has_not_started_says_so(image: Image) -> None:
    image.put(image.runtime + image.layout.interpreters_head, 0)
    assert image.frames() == PyStack((), "the interpreter has not started, or has ended", None)


# --- which version


@pytest.mark.parametrize(
    ("symbols", "hint", "minor"),
    [
        ((b"PyCode_NewWithPosOnlyArgs",), None, 8),
        ((b"PyCode_NewWithPosOnlyArgs", b"PyObject_CallNoArgs"), "python3.8", 9),
        ((b"PyCode_NewWithPosOnlyArgs", b"PyObject_CallNoArgs", b"PyIter_Send"), None, 10),
        ((), "/opt/3.11/lib/libpython3.12.so.1.0", 12),
        ((), "3.10.2", 10),
    ],
)
def test_older_versions_are_told_by_their_functions_or_the_hint(
    symbols: tuple[bytes, ...], hint: str | None, minor: int
) -> None:
    image = Image(layout_named("3.8"))
    image.symbols.update(dict.fromkeys(symbols, 1))
    found = Interpreter.find(image.symbols.get, image.read, hint)
    assert isinstance(found, Interpreter)
    assert found.language == f"CPython 3.{minor}"


@pytest.mark.parametrize(("hint", "why"), [(None, "could not be told"), ("python3.7", "3.7 is not"), ("3.99", "3.99")])
def test_an_unknown_version_says_why(hint: str | None, why: str) -> None:
    image = Image(layout_named("3.8"))
    found = Interpreter.find(image.symbols.get, image.read, hint)
    assert isinstance(found, Unavailable)
    assert why in found.why


def test_a_future_version_is_refused_by_name() -> None:
    image = Image(layout_named("3.13"))
    image.put(image.runtime + 8, 3 << 24 | 99 << 16)
    found = Interpreter.find(image.symbols.get, image.read, None)
    assert isinstance(found, Unavailable)
    assert "CPython 3.99" in found.why


def test_a_program_without_python_says_so() -> None:
    found = Interpreter.find(lambda _name: None, lambda _address, _size: None, "python3.11")
    assert isinstance(found, Unavailable)
    assert "_PyRuntime" in found.why


def test_the_tables_are_of_every_version() -> None:
    of_headers = {version.rpartition(".")[0] for version in VERSIONS}
    assert of_headers == {name.strip("t") for name in LAYOUTS} == {f"3.{minor}" for minor in range(8, 16)}


# --- strings


@pytest.mark.parametrize("text", ["", "f", "größe", "分叉", "𝔣", "\udcff.py", "a" * 300, "é" * LONGEST_TEXT])
def test_names_come_as_the_program_has_them(image: Image, text: str) -> None:
    image.push(image.code(text, "f", 1, b""), 0)
    assert image.frames().frames[0].function == text.encode("utf-8", "surrogateescape")


def test_a_name_that_is_too_long_is_cut(image: Image) -> None:
    image.push(image.code("a" * (LONGEST_TEXT + 1), "f", 1, b""), 0)
    assert image.frames().frames[0].function == b"a" * LONGEST_TEXT + "…".encode()


# --- hostile memory


def test_a_chain_of_frames_that_comes_back_ends(image: Image) -> None:
    fill(image)
    code = image.code("f", "f.py", 1, b"")
    frame = image.push(code, 0)
    image.put(frame + image.layout.frame_back, frame)
    stack = image.frames()
    assert (len(stack.frames), stack.end) == (1, "a chain of frames that does not end")


def test_lists_that_come_back_end(image: Image) -> None:
    image.put(image.thread + image.layout.thread_next, image.thread)
    stack = image.frames(pthread=1)
    assert "the list of threads does not end" in stack.end
    image.put(image.interpreter + image.layout.interpreter_next, image.interpreter)
    assert "the list of interpreters does not end" in image.frames().end


@pytest.mark.parametrize("length", [1 << 60, (1 << 64) - 1, LARGEST_TABLE + 1])
def test_lengths_are_not_believed(image: Image, length: int) -> None:
    layout = image.layout
    code = image.code("f", "f.py", 1, b"")
    image.push(code, 0)
    image.put(image.word(code + layout.code_lines) + layout.bytes_size, length)
    assert image.frames().frames == (PyFrame(b"f", b"f.py", None),)
    image.put(image.word(code + layout.code_name) + layout.unicode_length, length)
    stack = image.frames()
    if length < 1 << 63:  # what follows in memory, as far as a name is read at all
        assert len(stack.frames[0].function) <= 4 * LONGEST_TEXT
    else:
        assert "no str" in stack.end


def test_a_frame_without_code_ends_the_stack(image: Image) -> None:
    wanted = fill(image)
    image.push(image.text("no code"), 0)
    image.push(image.code("f", "f.py", 1, b""), 0)
    stack = image.frames()
    assert len(stack.frames) == 1
    assert "no code object" in stack.end
    assert wanted[0] not in stack.frames


@settings(max_examples=25, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_any_memory_gives_an_answer(data: st.DataObject, name: str) -> None:
    image = Image(layout_named(name))
    fill(image)
    image.give_lock(image.interpreter, image.thread)
    words = st.integers(min_value=4096 // 8, max_value=(image.used - 8) // 8)
    places = words.map(lambda word: image.BASE + 8 * word)
    values = st.one_of(st.integers(0, (1 << 64) - 1), places, st.sampled_from([0, 1, 1 << 60, (1 << 63) - 8]))
    for place, value in data.draw(st.lists(st.tuples(places, values), max_size=40)):
        image.put(place, value)
    found = Interpreter.find(image.symbols.get, image.read, f"3.{image.layout.minor}")
    if isinstance(found, Unavailable):
        assert found.why
        return
    for pthread in (THREAD, None):
        stack = found.frames(TID, pthread)
        assert stack.end
        assert len(stack.frames) <= 64
    assert image.reads < 4000


# --- tables of lines


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


@pytest.mark.parametrize("module", [json.decoder, struct, types, pytest])
def test_lines_are_those_of_the_interpreter_that_runs_the_test(module: Any) -> None:
    """``co_lines`` of 3.11 and newer is the oracle, in every code object of a module."""
    with open(module.__file__, encoding="utf-8") as file:
        top = compile(file.read(), module.__file__, "exec")
    count = 0
    for code in codes(top):
        for start, end, line in code.co_lines():
            for offset in range(start, end, 2):
                assert line_at(11, code.co_linetable, code.co_firstlineno, offset) == line
                count += 1
    assert count


steps = st.lists(st.tuples(st.integers(0, 127).map(lambda n: 2 * n), st.integers(-127, 127)), max_size=30)


@given(steps=steps, first=st.integers(1, 1000))
def test_line_tables_of_3_10_are_ranges(steps: list[tuple[int, int]], first: int) -> None:
    table = b"".join(struct.pack("<Bb", length, delta) for length, delta in steps)
    address, line = 0, first
    for length, delta in steps:
        line += delta
        for offset in range(address, address + length, 2):
            assert line_at(10, table, first, offset) == line
        address += length
    assert line_at(10, table, first, address) is None


@given(steps=steps, first=st.integers(1, 1000))
def test_lnotab_is_of_increments(steps: list[tuple[int, int]], first: int) -> None:
    table = b"".join(struct.pack("<Bb", length, delta) for length, delta in steps)
    ends = [sum(length for length, _ in steps[: n + 1]) for n in range(len(steps))]
    for offset in {0, *ends}:
        wanted = first + sum(delta for end, (_, delta) in zip(ends, steps, strict=True) if end <= offset)
        assert line_at(8, table, first, offset) == wanted


@given(st.sampled_from([8, 10, 11]), st.binary(max_size=200), st.integers(-4, 4000))
def test_any_table_gives_an_answer(minor: int, table: bytes, offset: int) -> None:
    assert isinstance(line_at(minor, table, 1, offset), int | None)
