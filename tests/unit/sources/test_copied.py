"""What is copied of a held task: how much of its stack, which files, what lies around changed bytes and routines."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from forklore.abi.arch import Arch
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Address, Tid
from forklore.linux import memory, proc
from forklore.linux.mappings import Mapping, executable
from forklore.linux.pages.vfork_memory import MemoryChange, MemoryPart
from forklore.linux.tracing.ptrace import Registers
from forklore.sources.outbox import MOST_BYTES, Outbox
from forklore.sources.ptrace.tracee import Class, EnteredCall, Glance
from forklore.sources.stacks import copied
from forklore.sources.stacks.code import CodeRegion, CodeSpace, TracedCode
from forklore.sources.stacks.copied import MOST, PART, MappedFiles, keep_files, parts_of_stack, whole_stack
from forklore.sources.stacks.routines import Routines
from forklore.sources.stacks.variables import Near

ME = Tid(os.getpid())
LAYOUT = LAYOUTS[Arch.X86_64]
PAGE = memory.PAGE_SIZE


def held(**values: int) -> Registers:
    words = [0] * len(LAYOUT.names)
    for name, value in values.items():
        words[LAYOUT.names.index(name)] = value
    return Registers(LAYOUT, LAYOUT.format.pack(*words))


def glance(base: int, window: bytes, **values: int) -> Glance:
    return Glance(ME, held(rsp=base, **values), base, window, 0, b"")


CONTENT = bytes(range(256)) * (40 * PAGE // 256)
BUFFER = ctypes.create_string_buffer(CONTENT, len(CONTENT))


@pytest.fixture
def stack() -> tuple[int, bytes]:
    """Memory of this process that stands for a stack, and what it holds."""
    return ctypes.addressof(BUFFER), CONTENT


def test_a_threads_stack_is_copied_up_to_its_thread_pointer(stack: tuple[int, bytes]) -> None:
    base, content = stack
    size = 20 * PAGE + 40
    found = whole_stack(glance(base, content[: 2 * PAGE], fs_base=base + size), CodeSpace(), first=False)
    assert found == content[:size]


def test_the_first_one_up_to_where_it_began(stack: tuple[int, bytes]) -> None:
    base, content = stack
    space = CodeSpace()
    space.bottom = base + 3 * PAGE
    found = whole_stack(glance(base, content[: 2 * PAGE], fs_base=base - PAGE), space, first=False)
    assert found == content[: 3 * PAGE + 64]


def test_what_was_read_already_is_not_read_again(stack: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    base, content = stack
    monkeypatch.setattr(copied, "memory_of", lambda _tid: pytest.fail("it was read"))
    window = content[: 2 * PAGE]
    assert whole_stack(glance(base, window, fs_base=base + PAGE), CodeSpace(), first=False) is window


@pytest.mark.parametrize("distance", [-8, MOST + 1])
def test_a_stack_without_bounds_is_not_copied(distance: int, stack: tuple[int, bytes]) -> None:
    base, content = stack
    space = CodeSpace()
    space.bottom = base + distance - 64
    assert whole_stack(glance(base, content[: 2 * PAGE], fs_base=base + distance), space, first=False) is None


def test_the_thread_pointer_of_the_first_thread_bounds_no_stack(stack: tuple[int, bytes]) -> None:
    base, content = stack
    space = CodeSpace()
    space.bottom = base - 8 * PAGE
    at = glance(base, content[: 2 * PAGE], fs_base=base + 3 * PAGE)
    assert whole_stack(at, space, first=True) is None
    assert whole_stack(at, space, first=False) == content[: 3 * PAGE]


def test_nor_one_that_cannot_be_read_to_its_end(stack: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    base, content = stack
    monkeypatch.setattr(copied, "_rest", lambda *_: None)
    assert whole_stack(glance(base, content[: 2 * PAGE], fs_base=base + 3 * PAGE), CodeSpace(), first=False) is None


def test_parts_of_one_without_bounds(stack: tuple[int, bytes]) -> None:
    base, content = stack
    space = CodeSpace()
    space.bottom = base + len(content) - 64
    at = glance(base, content[:PAGE], fs_base=0)
    window, others = parts_of_stack(at, space, (base + 8 * PAGE, 16), first=True)
    assert window == content[:PART]
    assert others == [
        (base + 8 * PAGE, content[8 * PAGE : 8 * PAGE + PART]),
        (base + len(content) - PART, content[-PART:]),
    ]


def test_parts_end_with_their_mapping() -> None:
    with mmap.mmap(-1, 4 * PAGE) as area:
        area.write(CONTENT[: 4 * PAGE])
        base = ctypes.addressof(start := ctypes.c_char.from_buffer(area))
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        assert mprotect(ctypes.c_void_p(base + 3 * PAGE), ctypes.c_size_t(PAGE), mmap.PROT_READ) == 0
        space = CodeSpace()
        space.bottom = 1
        window, others = parts_of_stack(glance(base, CONTENT[:64]), space, (), first=True)
        del start
    assert (window, others) == (CONTENT[: 3 * PAGE], [])


def test_where_a_programs_stack_began() -> None:
    bottom = proc.stack_bottom(ME)
    (line,) = (line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[stack]"))
    start, end = (int(word, 16) for word in line.split()[0].split("-"))
    assert bottom is not None
    assert start < bottom < end


def space_of(entries: list[Mapping]) -> CodeSpace:
    space = CodeSpace()
    space.regions = [CodeRegion(entry) for entry in entries]
    space.starts = [entry.start for entry in entries]
    return space


def test_the_files_are_kept_that_words_lead_into() -> None:
    entries = list(executable(ME))  # type: ignore[arg-type]
    libc = next(entry for entry in entries if b"libc.so" in entry.path)
    code, files = TracedCode(Outbox(lambda _event: None), Arch.X86_64), MappedFiles(ME)
    words = (libc.start + 16).to_bytes(8, "little") + bytes(8)
    assert keep_files(code, space_of(entries), Arch.X86_64, held(), files, [words])
    kept = files.of(libc)
    assert kept is not None
    assert os.fstat(kept).st_ino == libc.inode
    assert [entry for entry in entries if files.of(entry) is not None] == [libc]
    files.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)


def test_code_without_a_file_cannot_be_kept() -> None:
    made = Mapping(Address(0x10000), Address(0x20000), "rwxp", 0, 0, 0, 0, b"")
    code, files = TracedCode(Outbox(lambda _event: None), Arch.X86_64), MappedFiles(ME)
    assert keep_files(code, space_of([made]), Arch.X86_64, held(rip=0x30000), files, [bytes(16)])
    assert not keep_files(code, space_of([made]), Arch.X86_64, held(rip=0x10000), files, [bytes(16)])


def test_a_file_that_was_replaced_is_the_mapped_one_or_none() -> None:
    libc = next(entry for entry in executable(ME) if b"libc.so" in entry.path)  # type: ignore[union-attr]
    other = Mapping(libc.start, libc.end, libc.permissions, 0, libc.major, libc.minor, libc.inode, b"/etc/passwd")
    files = MappedFiles(ME)
    taken = files.take(other)
    kept = files.of(other)
    assert taken == (kept is not None)  # by the mapping, where this user may
    assert kept is None or os.fstat(kept).st_ino == libc.inode
    files.close()


def change(at: int, size: int, where: MemoryPart = MemoryPart.DATA) -> MemoryChange:
    return MemoryChange(Address(at), size, where, cast("Mapping", None), bytes(size), bytes(size))


def test_what_lies_around_changes_is_kept(stack: tuple[int, bytes]) -> None:
    base, content = stack
    near = Near(ME, [change(base + 1000, 8), change(base + 1100, 4), change(base + 9 * PAGE, 4)])
    assert near.read(base + 1000 - 256, 256 + 100 + 4 + 256) == content[1000 - 256 : 1100 + 4 + 256]
    assert near.read(base + 9 * PAGE - 256, 8) == content[9 * PAGE - 256 : 9 * PAGE - 248]
    assert near.read(base + 5 * PAGE, 8) is None
    assert near.read(base, 8) is None


def test_nothing_around_harmless_ones(stack: tuple[int, bytes]) -> None:
    assert Near(ME, [change(stack[0] + 1000, 8, MemoryPart.DEAD_STACK)]).read(stack[0] + 1000, 8) is None


def test_the_copies_that_wait_are_bounded() -> None:
    out = Outbox(lambda _event: None)
    out.later(lambda: None, MOST_BYTES)
    assert not out.full
    out.later(lambda: None, 1)
    assert out.full
    out.empty()
    assert not out.full


CLONE3 = 435


def test_of_a_thread_its_descriptor_and_what_its_routine_is_given() -> None:
    descriptor, routine, argument, behind = 0x1000, 0x2000, 0x3000, 0x4000
    there = {
        descriptor: bytes(64) + routine.to_bytes(8, "little") + argument.to_bytes(8, "little") + bytes(64),
        argument: behind.to_bytes(8, "little") + bytes(56),
        behind: b"table" + bytes(27),
    }
    struct = b"".join(word.to_bytes(8, "little") for word in (0x3D0F00, 0, descriptor, descriptor, 0, 0x9000, 0x100, 0))
    entry = EnteredCall(Class.CREATION, "clone3", 0, Arch.X86_64, CLONE3, (1, 88, 0, 0, 0, 0), struct=struct)
    found = dict(
        Routines(Arch.X86_64).copies(
            entry, held(rsp=0x8000, rdx=0x5000, r8=descriptor), lambda at, size: there.get(at, b"")[:size],
            lambda at: at == routine,
        )
    )  # fmt: skip
    assert found == there


def test_nothing_of_a_child_that_goes_on_behind_the_call() -> None:
    entry = EnteredCall(Class.CREATION, "clone", 0, Arch.X86_64, 56, (17, 0, 0, 0, 0, 0))
    fail = SimpleNamespace(some=lambda *_: pytest.fail("it was read"))
    assert Routines(Arch.X86_64).copies(entry, held(rsp=0x8000), fail.some, lambda _at: True) == ()
