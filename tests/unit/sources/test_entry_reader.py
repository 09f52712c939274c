"""Calls at their entry stop: which are ours in every ABI, and what is read for each. This process is the tracee."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from signal import SIGKILL
from typing import cast

import pytest

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.clone_args import VER0, VER1, VER2
from forklore.abi.flags import CLONE_FS, CLONE_INTO_CGROUP, CLONE_THREAD, CLONE_UNTRACED, CLONE_VFORK, CLONE_VM
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Tid, Unavailable
from forklore.events.records import ExecAt
from forklore.linux.tracing.ptrace import Entry as Words
from forklore.linux.tracing.ptrace import Registers
from forklore.linux.tracing.seccomp import KILLING, TRACED, host_arches
from forklore.sources.ptrace.entry import ARGUMENT_LIMIT, EntryReader
from forklore.sources.ptrace.kernel import LINUX, Kernel, Linux
from forklore.sources.ptrace.tracee import Class, EnteredCall, Glance

OWN = Tid(os.getpid())
MACHINES = (Arch.X86_64, Arch.AARCH64, Arch.RISCV64)
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
UNMAPPED = 8


def reader(
    machine: Arch = Arch.X86_64, *, argv: bool = True, follow_untraced: bool = False, kernel: Kernel = LINUX
) -> EntryReader:
    return EntryReader(kernel, machine, argv=argv, follow_untraced=follow_untraced)


def entry(
    name: str, *words: int, arch: Arch = Arch.X86_64, argv: bool = True, follow_untraced: bool = False
) -> EnteredCall:
    nr = syscalls.number(arch, name)
    assert nr is not None
    a, b, c, d, e, f = (*words, *(0,) * (6 - len(words)))
    found = reader(argv=argv, follow_untraced=follow_untraced).read(OWN, 5, arch.audit, nr, (a, b, c, d, e, f))
    assert found is not None
    assert (found.t, found.arch, found.nr, found.words) == (5, arch, nr, (a, b, c, d, e, f))
    return found


@pytest.mark.parametrize("machine", MACHINES)
def test_the_same_calls_as_the_filter_stops_at(machine: Arch) -> None:
    at = reader(machine)
    for arch in host_arches(machine):
        for name, nr in syscalls.numbers(arch).items():
            # No address of it can be read, so nothing but the call is known.
            found = at.read(OWN, 0, arch.audit, nr, (0, SIGKILL, SIGKILL, 0, 0, 0))
            assert (found is not None) == (name in TRACED), name
            assert name not in KILLING or at.read(OWN, 0, arch.audit, nr, (SIGKILL, 0, 0, 0, 0, 0)) is None
            if found is not None:
                assert found.arch is arch
                assert found.kind is kind_of(name)


def kind_of(name: str) -> Class:
    if name in ("fork", "vfork", "clone", "clone3"):
        return Class.CREATION
    if name in KILLING:
        return Class.KILL
    if name == "prctl":
        return Class.NAME
    return Class.EXEC if name.startswith("execve") else Class.OTHER


def test_foreign_abis_are_not_ours() -> None:
    nr = syscalls.number(Arch.X86_64, "clone") or 0
    assert reader(Arch.AARCH64).read(OWN, 0, Arch.X86_64.audit, nr, (0, 0, 0, 0, 0, 0)) is None
    assert reader().read(OWN, 0, 0x40000028, nr, (0, 0, 0, 0, 0, 0)) is None
    assert reader().read(OWN, 0, Arch.X86_64.audit, -1, (0, 0, 0, 0, 0, 0)) is None


def test_flags() -> None:
    assert entry("fork").flags == 0
    assert entry("vfork").flags == CLONE_VM | CLONE_VFORK
    # clone looks at 32 bits, of which the low byte is the exit signal.
    assert entry("clone", CLONE_THREAD | CLONE_INTO_CGROUP | 17).flags == CLONE_THREAD


@pytest.mark.parametrize("far", [0, 64])
def test_what_lies_in_the_stack_is_not_read_again(far: int) -> None:
    raw = struct.pack("<Q", CLONE_VM).ljust(VER0, b"\0")
    asked: list[Tid] = []

    def glance(tid: Tid) -> Glance:
        asked.append(tid)
        held = Registers(LAYOUTS[Arch.X86_64], bytes(LAYOUTS[Arch.X86_64].size))
        return Glance(tid, held, UNMAPPED - 8, bytes(8) + raw, 1 << 20, b"descriptor")

    at = EntryReader(LINUX, Arch.X86_64, argv=True, follow_untraced=False, glance=glance)
    nr = syscalls.number(Arch.X86_64, "clone3") or 0
    found = at.read(OWN, 0, Arch.X86_64.audit, nr, (UNMAPPED + far, VER0, 0, 0, 0, 0))
    assert found is not None
    assert asked == [OWN]
    assert found.glance is not None
    assert found.glance.read(1 << 20, 10) == b"descriptor"
    assert found.glance.read(1 << 20, 11) is None
    if far:
        assert isinstance(found.struct, Unavailable), "it is not all there, and cannot be read"
    else:
        assert (found.struct, found.flags) == (raw, CLONE_VM)


@pytest.mark.parametrize("size", [VER0, VER1, VER2, 200])
def test_clone3_struct(size: int) -> None:
    buffer = ctypes.create_string_buffer(struct.pack("<Q", CLONE_FS | 1 << 40).ljust(size, b"\0"), size)
    found = entry("clone3", ctypes.addressof(buffer), size)
    assert found.struct == buffer.raw
    assert found.flags == CLONE_FS | 1 << 40
    assert found.set_tid is None


def test_clone3_struct_that_is_too_short_or_too_long() -> None:
    buffer = ctypes.create_string_buffer(b"\xff" * 63, 63)
    short = entry("clone3", ctypes.addressof(buffer), 63)
    assert (short.struct, short.flags) == (buffer.raw, 0)
    long = entry("clone3", ctypes.addressof(buffer), 1 << 40)
    assert isinstance(long.struct, Unavailable)
    assert str(1 << 40) in long.struct.why
    nowhere = entry("clone3", UNMAPPED, VER2)
    assert isinstance(nowhere.struct, Unavailable)
    assert nowhere.struct.errno == 14


def test_set_tid() -> None:
    tids = (ctypes.c_int32 * 3)(7, 8, 9)
    for count, wanted in ((3, bytes(tids)), (0, None), (33, None)):
        raw = struct.pack("<11Q", 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(tids), count, 0)
        buffer = ctypes.create_string_buffer(raw, len(raw))
        assert entry("clone3", ctypes.addressof(buffer), len(raw)).set_tid == wanted
    # The fields lie behind the end of the first struct's size.
    assert entry("clone3", ctypes.addressof(buffer), VER0).set_tid is None


def vector(strings: list[bytes], pointer: int = 8) -> tuple[int, object]:
    held = [ctypes.create_string_buffer(string) for string in strings]
    raw = b"".join(ctypes.addressof(each).to_bytes(pointer, "little") for each in held) + bytes(pointer)
    array = ctypes.create_string_buffer(raw, len(raw))
    return ctypes.addressof(array), (held, array)


def test_execve() -> None:
    path = ctypes.create_string_buffer(b"/bin/\xffls")
    argv, _held = vector([b"ls", b"", b"-l\n"])
    found = entry("execve", ctypes.addressof(path), argv)
    assert (found.path, found.argv, found.argc) == (b"/bin/\xffls", [b"ls", b"", b"-l\n"], None)
    bad = entry("execve", UNMAPPED, argv)
    assert isinstance(bad.path, Unavailable)
    assert bad.argv == [b"ls", b"", b"-l\n"]
    assert isinstance(entry("execve", ctypes.addressof(path), UNMAPPED).argv, Unavailable)
    assert entry("execve", ctypes.addressof(path), argv, argv=False).argv is None


def test_more_arguments_than_are_recorded() -> None:
    path = ctypes.create_string_buffer(b"/bin/true")
    argv, _held = vector([b"x"] * (ARGUMENT_LIMIT + 5))
    found = entry("execve", ctypes.addressof(path), argv)
    assert found.argv == [b"x"] * ARGUMENT_LIMIT
    assert found.argc == ARGUMENT_LIMIT + 5


def test_an_argument_that_cannot_be_read() -> None:
    path = ctypes.create_string_buffer(b"/bin/true")
    array = (ctypes.c_uint64 * 2)(UNMAPPED, 0)
    found = entry("execve", ctypes.addressof(path), ctypes.addressof(array))
    assert isinstance(found.argv, Unavailable)
    assert found.path == b"/bin/true"


@pytest.mark.parametrize("directory", [AT_FDCWD & (1 << 64) - 1, AT_FDCWD & 0xFFFFFFFF, 77])
def test_execveat_with_an_absolute_path_or_at_the_working_directory(directory: int) -> None:
    argv, _held = vector([b"x"])
    path = ctypes.create_string_buffer(b"/bin/true")
    found = entry("execveat", directory, ctypes.addressof(path), argv)
    assert (found.path, found.at) == (b"/bin/true", ExecAt(fd=77 if directory == 77 else AT_FDCWD, path="/bin/true"))


def test_execveat_with_a_descriptor(tmp_path: object) -> None:
    argv, _held = vector([b"x"])
    where = os.open(os.fspath(str(tmp_path)), os.O_RDONLY)
    try:
        empty, name = ctypes.create_string_buffer(b""), ctypes.create_string_buffer(b"tool")
        base = os.fsencode(str(tmp_path))
        itself = entry("execveat", where, ctypes.addressof(empty), argv, 0, 1 << 32 | AT_EMPTY_PATH)
        assert itself.path == base
        assert itself.at == ExecAt(fd=where, directory=str(tmp_path), path="", flags=AT_EMPTY_PATH)
        below = entry("execveat", 1 << 32 | where, ctypes.addressof(name), argv)
        assert below.path == base + b"/tool"
        assert below.at == ExecAt(fd=where, directory=str(tmp_path), path="tool")
    finally:
        os.close(where)
    closed = entry("execveat", where, ctypes.addressof(name), argv)
    not_open = Unavailable(9, f"descriptor {where} is not open")
    assert (closed.path, closed.at) == (not_open, ExecAt(fd=where, directory=not_open, path="tool"))
    none = entry("execveat", 0xFFFFFFFF, ctypes.addressof(empty), argv)
    assert none.at == ExecAt(fd=-1, directory=Unavailable(9, "descriptor -1 is not open"), path="")
    unreadable = entry("execveat", where, UNMAPPED, argv)
    assert unreadable.at is not None
    assert (unreadable.at.fd, unreadable.at.directory) == (where, None)
    assert isinstance(unreadable.at.path, Unavailable)
    assert closed.argv == [b"x"]


def test_setns_names_the_descriptor() -> None:
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        found = entry("setns", fd)
        assert found.target == os.fsencode(os.readlink("/proc/self/ns/net"))
    finally:
        os.close(fd)
    assert isinstance(entry("setns", 0xFFFFFFFF).target, Unavailable)
    assert entry("setsid").target is None


def test_untraced_is_cleared_in_the_struct_and_put_back() -> None:
    raw = struct.pack("<8Q", CLONE_UNTRACED | CLONE_FS, 0, 0, 0, 17, 0, 0, 0)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    found = entry("clone3", ctypes.addressof(buffer), len(raw), follow_untraced=True)
    assert found.cleared
    assert buffer.raw == struct.pack("<Q", CLONE_FS) + raw[8:]
    assert found.struct == raw  # what the program asked for
    reader(follow_untraced=True).put_back(OWN, found)
    assert buffer.raw == raw
    assert not entry("clone3", ctypes.addressof(buffer), len(raw)).cleared
    assert buffer.raw == raw


@pytest.mark.parametrize("machine", MACHINES)
def test_from_registers_that_may_hold_something_else_in_place_of_the_first_argument(machine: Arch) -> None:
    layout, nr = LAYOUTS[machine], syscalls.number(machine, "clone")
    assert nr is not None
    flags = CLONE_VM | CLONE_FS | 17
    values = {name: 0x100 + place for place, name in enumerate(layout.args)} | {layout.args[0]: flags, layout.nr: nr}
    values |= {layout.ret: (1 << 64) - errno.ENOSYS} if machine is Arch.RISCV64 else {}
    held = Registers(layout, layout.format.pack(*(values.get(name, 0) for name in layout.names)))
    told = (nr, cast("Words", (flags, *(values[name] for name in layout.args[1:]))))

    class InCall(Linux):
        told: tuple[int, Words] | None = None

        def registers(self, _tid: Tid) -> Registers:
            return held

        def syscall_info(self, _tid: Tid) -> tuple[int, int, int, int]:
            return 0, machine.audit, 0, 0

        def call(self, _tid: Tid) -> tuple[int, Words] | None:
            return self.told

    kernel = InCall()
    kernel.told = told
    found = reader(machine, kernel=kernel).from_registers(OWN, 5)
    assert found is not None
    assert (found.words, found.flags) == (told[1], CLONE_VM | CLONE_FS)
    kernel.told = None
    unread = reader(machine, kernel=kernel).from_registers(OWN, 5)
    assert unread is not None
    assert unread.words[1:] == told[1][1:]
