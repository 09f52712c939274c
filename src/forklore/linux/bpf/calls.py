"""bpf(2), command by command: attributes are packed as union bpf_attr has them, and errno becomes OSError."""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntEnum
from typing import Final

from forklore.abi import syscalls
from forklore.abi.units import Fd
from forklore.linux import proc
from forklore.linux.libc import fail, syscall

_ARCH: Final = proc.machine()
_BPF: Final = None if _ARCH is None else syscalls.number(_ARCH, "bpf")


class Command(IntEnum):
    """enum bpf_cmd, as far as it is used (include/uapi/linux/bpf.h)."""

    MAP_CREATE = 0
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    PROG_LOAD = 5
    PROG_RUN = 10
    OBJ_GET_INFO_BY_FD = 15
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    MAP_FREEZE = 22
    LINK_CREATE = 28
    ITER_CREATE = 33


class MapType(IntEnum):
    """enum bpf_map_type, as far as it is used."""

    HASH = 1
    ARRAY = 2
    PERCPU_ARRAY = 6
    RINGBUF = 27


class MapFlag(IntEnum):
    """Bits of a map's flags."""

    NO_PREALLOC = 1 << 0
    RDONLY_PROG = 1 << 7
    MMAPABLE = 1 << 10


class ProgramType(IntEnum):
    """enum bpf_prog_type, as far as it is used."""

    TRACEPOINT = 5
    TRACING = 26
    SYSCALL = 31


class AttachType(IntEnum):
    """enum bpf_attach_type, as far as it is used."""

    RAW_TRACEPOINT = 23
    FEXIT = 25
    ITERATOR = 28


_NAME: Final = 15
_SLEEPABLE: Final = 1 << 4
_UPDATE: Final = struct.Struct("=I4xQQQ")
_MAP: Final = struct.Struct("=5I8x16s4xIII")
_PROGRAM: Final = struct.Struct("=IIQQIIQII16sIIIIQIIQIIIIQQII")
_RUN: Final = struct.Struct("=IIIIQQIIIIQQIII4x")
_INFO_LENGTH: Final = 256
_PIECE: Final = 1 << 15


class Refused(OSError):  # noqa: N818 - it is an OSError like any other
    """A program that the kernel does not load; ``log`` is what its verifier says."""

    log: str = ""


def bpf(command: Command, attributes: bytes | ctypes.Array[ctypes.c_char], what: str) -> int:
    """One call. Raises OSError, which names ``what`` was tried."""
    if _BPF is None:
        raise OSError(38, "no bpf(2) is known for this machine", what)
    block = ctypes.create_string_buffer(attributes, len(attributes)) if isinstance(attributes, bytes) else attributes
    result: int = syscall(_BPF, command, ctypes.addressof(block), len(block), 0, 0, 0)
    if result == -1:
        raise fail(what)
    return result


def create_map(
    name: str, kind: int, key: int, value: int, entries: int, flags: int = 0, btf: tuple[int, int, int] = (0, 0, 0)
) -> Fd:
    """A map; ``btf``: of what its keys and values are, by a descriptor and two type numbers."""
    block = _MAP.pack(kind, key, value, entries, flags, name.encode()[:_NAME], *btf)
    return Fd(bpf(Command.MAP_CREATE, block, f"the BPF map {name}"))


def update(map_: Fd, key: bytes, value: bytes, what: str) -> None:
    """Set one element."""
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    bpf(Command.MAP_UPDATE_ELEM, _UPDATE.pack(map_, ctypes.addressof(keys), ctypes.addressof(values), 0), what)


def freeze(map_: Fd, what: str) -> None:
    """Nobody in user space writes to it any more: the verifier takes what it holds for constants."""
    bpf(Command.MAP_FREEZE, struct.pack("=I", map_), what)


def load_btf(data: bytes) -> Fd:
    """The type information of an object."""
    block = ctypes.create_string_buffer(data, len(data))
    attributes = struct.pack("=QQIII4x", ctypes.addressof(block), 0, len(data), 0, 0)
    return Fd(bpf(Command.BTF_LOAD, attributes, "the type information of the BPF programs"))


def load_program(
    name: str, kind: ProgramType, instructions: bytes, *, attach: AttachType | None = None, attach_btf: int = 0,
    btf: Fd | None = None, functions: bytes = b"", relocations: bytes = b"", log: int = 0,
) -> Fd:  # fmt: skip
    """Have a program verified and loaded.

    ``attach_btf``: the kernel's BTF number of what it is attached to. ``functions``: its struct bpf_func_info
    records, by ``btf``; ``relocations``: its struct bpf_core_relo records, which the kernel applies. ``log``: bytes of
    room for what the verifier says; 0: it is not asked. Raises :class:`Refused`.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"GPL")
    info = ctypes.create_string_buffer(functions, len(functions) or 1)
    fixes = ctypes.create_string_buffer(relocations, len(relocations) or 1)
    room = ctypes.create_string_buffer(log or 1)
    typed = btf is not None
    block = _PROGRAM.pack(
        kind, len(instructions) // 8, ctypes.addressof(code), ctypes.addressof(license_),
        1 if log else 0, log, ctypes.addressof(room) if log else 0,
        0, _SLEEPABLE if kind is ProgramType.SYSCALL else 0, name.encode()[:_NAME],
        0, 0 if attach is None else attach, 0 if btf is None else btf,
        8 if typed else 0, ctypes.addressof(info) if typed else 0, len(functions) // 8,
        0, 0, 0, attach_btf, 0, len(relocations) // 16, 0, ctypes.addressof(fixes) if relocations else 0,
        16 if relocations else 0, 0,
    )  # fmt: skip
    try:
        return Fd(bpf(Command.PROG_LOAD, block, f"the BPF program {name}"))
    except OSError as problem:
        refused = Refused(problem.errno, problem.strerror, problem.filename)
        refused.log = room.value.decode(errors="replace")
        raise refused from problem


def run(program: Fd, context: bytes, what: str) -> bytes:
    """Run a program of the type SYSCALL once: its context as it leaves it."""
    block = ctypes.create_string_buffer(context, len(context))
    attributes = _RUN.pack(program, 0, 0, 0, 0, 0, 0, 0, len(context), 0, ctypes.addressof(block), 0, 0, 0, 0)
    bpf(Command.PROG_RUN, attributes, what)
    return block.raw


def attach_tracing(program: Fd, what: str) -> Fd:
    """Attach a program to what it was loaded for, until the descriptor is closed."""
    return Fd(bpf(Command.RAW_TRACEPOINT_OPEN, struct.pack("=QI4x", 0, program), what))


def iterate(program: Fd, what: str) -> bytes:
    """Run an iterator program over all that there is: what it wrote (bpf_seq_write)."""
    said = []
    link = bpf(Command.LINK_CREATE, struct.pack("=IIIIQI4x", program, 0, AttachType.ITERATOR, 0, 0, 0), what)
    try:
        found = bpf(Command.ITER_CREATE, struct.pack("=II", link, 0), what)
        try:
            while True:
                try:
                    piece = os.read(found, _PIECE)
                except BlockingIOError:
                    continue  # it has gone on a long way without a word (kernel/bpf/bpf_iter.c: MAX_ITER_OBJECTS)
                if not piece:
                    break
                said.append(piece)
        finally:
            os.close(found)
    finally:
        os.close(link)
    return b"".join(said)


def missed(program: Fd) -> int:
    """How often a program was not run because it ran on that processor already."""
    room = ctypes.create_string_buffer(_INFO_LENGTH)
    attributes = struct.pack("=IIQ", program, _INFO_LENGTH, ctypes.addressof(room))
    bpf(Command.OBJ_GET_INFO_BY_FD, attributes, "what the kernel counts of a BPF program")
    return int(struct.unpack_from("=Q", room, _RECURSION_MISSES)[0])


_RECURSION_MISSES: Final = 208  # struct bpf_prog_info.recursion_misses
