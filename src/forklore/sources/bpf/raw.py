"""What the BPF programs write (programs/records.h), taken apart: bytes in, values out.

A unit test holds every layout here against the type information in the committed objects.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final

from msgspec import Struct

from forklore.abi.arch import X32_SYSCALL_BIT, Arch
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Unavailable, signed
from forklore.linux.tracing.ptrace import Registers


class Kind(IntEnum):
    """The first number of each record."""

    CREATE = 1
    EXECUTING = 2
    TEXT = 3
    EXEC = 4
    EXIT = 5
    SIGNAL = 6
    NAME = 7
    BEGIN = 8
    RETURN = 9
    JOB = 10


NAMES: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "creations",
    Kind.EXECUTING: "calls of execve",
    Kind.TEXT: "arguments of execve",
    Kind.EXEC: "execs",
    Kind.EXIT: "ends",
    Kind.SIGNAL: "signals",
    Kind.NAME: "names",
    Kind.BEGIN: "tasks that ran before",
    Kind.RETURN: "refused calls",
    Kind.JOB: "stops by job control",
}
"""What is lost with a record, in words."""

INTERPRETER: Final = "=Q12H"
"""struct interpreter, as the programs are given it."""
MOST_OF_FRAME: Final = 128
"""Bytes of an interpreter's frame that the programs copy at most."""
NO_INTERPRETER, OUTERMOST, DEEPER, UNREADABLE, NO_THREAD = range(5)
"""Why no more frames of an interpreter were copied."""
ARGV, ENVP, DIRECTORY = 1, 2, 3
WHOLE, MORE = 1, 2

AHEAD: Final = 20_000
"""Records that are read before what was before them is given on, so that there is room again. Each is 5 KiB at most."""
WORDS: Final = {Arch.X86_64: 21, Arch.AARCH64: 36, Arch.RISCV64: 36}
"""How many words of the kernel's pt_regs there are."""

HEAD: Final = "HHIQQII"
OBJECTS: Final = "6Q"
STANDING: Final = "4i4IQ10I"
_NAMESPACES: Final = (
    "mnt", "uts", "ipc", "net", "pid", "pid_for_children", "time", "time_for_children", "cgroup", "user",
)  # fmt: skip
_STRUCT_ROOM: Final = 128
_PAGE: Final = 4096
_CLONE3: Final = 435
"""Its number on every ABI but x32, which has its bit in it."""

Objects = tuple[int, ...]
"""The addresses of what a task holds, in the order of COMPARED: good for a comparison, and for nothing else."""


class Head(Struct, frozen=True, gc=False):
    """What every record begins with."""

    kind: int
    cpu: int
    tid: int
    """In the kernel's first pid namespace."""
    time: int
    number: int
    task: int
    """The programs' own number of the task."""
    tgid: int


class Standing(Struct, frozen=True, gc=False):
    """How the kernel had a task."""

    ppid: int
    pgrp: int
    session: int
    exit_signal: int
    no_new_privs: bool
    seccomp: int
    seccomp_filters: int
    umask: int
    cgroup: int
    """Of the unified hierarchy: the inode number of its directory."""
    namespaces: dict[str, int]


class Call(Struct, frozen=True, gc=False):
    """A system call, from the caller's registers."""

    registers: Registers
    arch: Arch | None
    """None: of a 32-bit program whose calls are not decoded."""
    nr: int
    words: tuple[int, int, int, int, int, int]
    struct: bytes | Unavailable | None
    set_tid: bytes | Unavailable | None


class Create(Struct, frozen=True, gc=False):
    """A task was made."""

    head: Head
    flags: int
    child: int
    child_tid: int
    child_tgid: int
    kernel_flags: int
    exit_signal: int
    level: int
    apart: bool
    pids: tuple[int, ...]
    creators: Objects
    childs: Objects
    standing: Standing
    call: Call
    comm: bytes
    stack: bytes
    beside: tuple[tuple[int, bytes], ...] = ()
    """Other memory of the creator's, by its address: of the child's own stack and of a thread's descriptor."""
    frames: tuple[bytes, ...] = ()
    """Those of an interpreter of Python, innermost first, as :class:`Interpreter` said what to copy."""
    frames_end: int = 0
    """Why there are no more: :data:`NO_INTERPRETER`, :data:`OUTERMOST` and so on."""

    @property
    def by_kernel(self) -> bool:
        """The kernel made it for itself: no call asked for it."""
        return bool(self.kernel_flags & (_PF_KTHREAD | _PF_IO_WORKER | _PF_USER_WORKER))


_PF_IO_WORKER, _PF_USER_WORKER, _PF_KTHREAD = 0x10, 0x4000, 0x200000


class Executing(Struct, frozen=True, gc=False):
    """A task is about to have another image: nothing can fail any more."""

    head: Head
    argc: int
    fd: int
    at_flags: int
    at: bool
    path: bytes | Unavailable


class Text(Struct, frozen=True, gc=False):
    """Strings of an exec, or a part of them."""

    head: Head
    what: int
    error: int
    last: int
    text: bytes


class Exec(Struct, frozen=True, gc=False):
    """A task has another image."""

    head: Head
    former_tid: int
    script: bool
    argc: int
    objects: Objects
    standing: Standing
    comm: bytes
    exe: bytes
    path: bytes


class Exit(Struct, frozen=True, gc=False):
    """A task ends."""

    head: Head
    code: int
    group_code: int
    signal_flags: int
    last: bool
    reaper: int | None
    """Who inherits its children: 0: nobody that is seen here; None: there is nothing to inherit."""


class Signal(Struct, frozen=True, gc=False):
    """A signal was sent."""

    head: Head
    signal: int
    code: int
    sender: int
    to_process: bool
    address: int


class Name(Struct, frozen=True, gc=False):
    """A task was given a name."""

    head: Head
    comm: bytes
    by_itself: bool


class Begin(Struct, frozen=True, gc=False):
    """A task that was there before."""

    head: Head
    ppid: int
    level: int
    late: bool
    kernel_flags: int
    pids: tuple[int, ...]
    process: int
    objects: Objects
    standing: Standing
    comm: bytes


class Return(Struct, frozen=True, gc=False):
    """A call returned."""

    head: Head
    result: int
    objects: Objects
    standing: Standing
    call: Call


class Job(Struct, frozen=True, gc=False):
    """A process stopped, or goes on."""

    head: Head
    signal: int
    continued: bool


Record = Create | Executing | Text | Exec | Exit | Signal | Name | Begin | Return | Job


def formats(arch: Arch) -> dict[str, str]:
    """The layout of each struct of records.h by its name, as struct.unpack has it."""
    call = f"{WORDS[arch]}QQiIiIII{_STRUCT_ROOM}s128s"
    layouts = {
        "create": "QIIIIiIII8i" + OBJECTS + OBJECTS + STANDING + call + "16sQQIIIIII",
        "executing": "iiiIII",
        "text": "IIiI",
        "exec": "IIiIIIII" + OBJECTS + STANDING + "16s",
        "exit": "iiIIiI",
        "signal": "iiiIQ",
        "name": "16sII",
        "begin": "iIII8iiI" + OBJECTS + STANDING + "16s",
        "returned": "q" + OBJECTS + STANDING + call,
        "job": "iI",
    }
    return {name: f"={HEAD}{layout}" for name, layout in layouts.items()} | {"interpreter": INTERPRETER}


class Reader:
    """Reads the records of one machine."""

    def __init__(self, arch: Arch) -> None:
        self._arch = arch
        self._words = WORDS[arch]
        self._layout = LAYOUTS[arch]
        layouts = {name: struct.Struct(layout) for name, layout in formats(arch).items()}
        self._create, self._executing, self._text = layouts["create"], layouts["executing"], layouts["text"]
        self._exec, self._exit, self._signal = layouts["exec"], layouts["exit"], layouts["signal"]
        self._name, self._begin, self._return = layouts["name"], layouts["begin"], layouts["returned"]
        self._job = layouts["job"]
        self._readers: dict[int, Callable[[memoryview], Record]] = {
            Kind.CREATE: self._read_create,
            Kind.EXECUTING: self._read_executing,
            Kind.TEXT: self._read_text,
            Kind.EXEC: self._read_exec,
            Kind.EXIT: self._read_exit,
            Kind.SIGNAL: self._read_signal,
            Kind.NAME: self._read_name,
            Kind.BEGIN: self._read_begin,
            Kind.RETURN: self._read_return,
            Kind.JOB: self._read_job,
        }

    def read(self, record: memoryview) -> Record:
        """One record. Raises ValueError for what no program of ours has written."""
        try:
            return self._readers[record[0] | record[1] << 8](record)
        except (struct.error, KeyError, IndexError) as problem:
            raise ValueError(f"a record of {len(record)} bytes that no program of forklore writes") from problem

    def _read_create(self, raw: memoryview) -> Create:
        v = self._create.unpack_from(raw)
        *_, comm, stack_at, descriptor_at, stack_bytes, descriptor_bytes, frames, each, end, _pad = v
        own = self._create.size + v[15]
        of_thread = own + stack_bytes
        first = of_thread + descriptor_bytes
        beside = (stack_at, bytes(raw[own:of_thread])), (descriptor_at, bytes(raw[of_thread:first]))
        return Create(
            Head(*v[:7]), v[7], v[8], v[9], v[10], v[11], v[12], v[13], v[14] != 0, v[16:24], v[24:30], v[30:36],
            _standing(v[36:55]), self._call(v[55:-9], made=True), _string(comm), bytes(raw[self._create.size : own]),
            tuple(one for one in beside if one[1]),
            tuple(bytes(raw[at : at + each]) for at in range(first, first + frames * each, each or 1)), end,
        )  # fmt: skip

    def _call(self, v: tuple[int | bytes, ...], *, made: bool) -> Call:
        """``made``: the call has made a task, so that the kernel has taken all of its struct."""
        count = self._words
        words: list[int] = list(v[:count])  # type: ignore[arg-type]
        fs_base, error, size, set_error, set_count, compat, copied, block, set_tid = v[count:]
        assert isinstance(block, bytes)
        assert isinstance(set_tid, bytes)
        held, arch, nr, first = self._registers(words, int(fs_base), bool(compat))
        is_clone3 = arch is not None and nr & ~X32_SYSCALL_BIT == _CLONE3
        arguments = (0, 0, 0, 0, 0, 0)
        if arch is not None:
            _, (a, b, c, d, e, f) = held.call(arch)
            arguments = (a if first is None else first, b, c, d, e, f)
        given = _given(block[: int(copied)], int(size), int(error), made=made) if is_clone3 else None
        return Call(
            held, arch, nr, arguments, given,
            _ids(set_tid, int(set_count), int(set_error)),
        )  # fmt: skip

    def _registers(
        self, words: list[int], fs_base: int, compat: bool
    ) -> tuple[Registers, Arch | None, int, int | None]:
        """All of them, the call's ABI, its number, and its first argument where a register has lost it."""
        layout, first = self._layout, None
        arch: Arch | None = self._arch
        if self._arch is Arch.X86_64:
            nr = signed(words[15])
            arch = Arch.I386 if compat else Arch.X32 if nr > 0 and nr & X32_SYSCALL_BIT else arch
            kept = [*words, fs_base, 0, 0, 0, 0, 0]
        elif self._arch is Arch.AARCH64:
            nr, first, kept = signed(words[35]), words[34], words[:34]
        else:
            nr, first, kept = signed(words[17]), words[35], words[:32]
        return Registers(layout, layout.format.pack(*kept)), arch, nr, first

    def _read_executing(self, raw: memoryview) -> Executing:
        *head, argc, size, fd, flags, at, _ = self._executing.unpack_from(raw)
        return Executing(Head(*head), argc, fd, flags, bool(at), _path(raw[self._executing.size :], size))

    def _read_text(self, raw: memoryview) -> Text:
        *head, what, size, error, last = self._text.unpack_from(raw)
        start = self._text.size
        return Text(Head(*head), what, error, last, bytes(raw[start : start + size]))

    def _read_exec(self, raw: memoryview) -> Exec:
        v = self._exec.unpack_from(raw)
        former, script, argc, links, _, file, path, _ = v[7:15]
        start = self._exec.size
        exe = path_of(bytes(raw[start : start + file]), deleted=not links)
        given = bytes(raw[start + file : start + file + path]).rstrip(b"\0")
        return Exec(Head(*v[:7]), former, bool(script), argc, v[15:21], _standing(v[21:40]), _string(v[40]), exe, given)

    def _read_exit(self, raw: memoryview) -> Exit:
        *head, code, group, flags, last, reaper, _ = self._exit.unpack_from(raw)
        return Exit(Head(*head), code, group, flags, bool(last), reaper if reaper >= 0 else None)

    def _read_signal(self, raw: memoryview) -> Signal:
        *head, number, code, sender, to_process, address = self._signal.unpack_from(raw)
        return Signal(Head(*head), number, code, sender, bool(to_process), address)

    def _read_name(self, raw: memoryview) -> Name:
        *head, comm, by_itself, _ = self._name.unpack_from(raw)
        return Name(Head(*head), _string(comm), bool(by_itself))

    def _read_begin(self, raw: memoryview) -> Begin:
        v = self._begin.unpack_from(raw)
        ppid, level, late, flags = v[7:11]
        return Begin(
            Head(*v[:7]), ppid, level, bool(late), flags, v[11:19], v[19], v[21:27], _standing(v[27:46]), _string(v[46])
        )

    def _read_return(self, raw: memoryview) -> Return:
        v = self._return.unpack_from(raw)
        return Return(Head(*v[:7]), v[7], v[8:14], _standing(v[14:33]), self._call(v[33:], made=False))

    def _read_job(self, raw: memoryview) -> Job:
        *head, number, continued = self._job.unpack_from(raw)
        return Job(Head(*head), number, bool(continued))


def path_of(names: bytes, *, deleted: bool) -> bytes:
    """A path as /proc names it, from the names on the way up to the root."""
    return b"/" + b"/".join(reversed(names.split(b"\0")[:-1])) + (b" (deleted)" if deleted else b"")


def _string(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _standing(v: tuple[int, ...]) -> Standing:
    namespaces = dict(zip(_NAMESPACES, v[9:], strict=True))
    return Standing(v[0], v[1], v[2], v[3], v[4] != 0, v[5], v[6], v[7], v[8], namespaces)


def _given(block: bytes, size: int, error: int, *, made: bool) -> bytes | Unavailable:
    if size > _PAGE:
        return Unavailable(0, f"its size is given as {size}, more than the kernel reads")
    if error:
        return Unavailable(-error, "the struct lies in memory that was not there")
    # Behind what the kernel knows of it there are zeros, or the call is refused (copy_struct_from_user).
    return block.ljust(size, b"\0") if made else block


def _ids(block: bytes, count: int, error: int) -> bytes | Unavailable | None:
    if not count:
        return None
    return Unavailable(-error, "set_tid lies in memory that was not there") if error else block[: 4 * count]


def _path(raw: memoryview, size: int) -> bytes | Unavailable:
    if size < 0:
        return Unavailable(-size, "the path lies in memory that was not there any more")
    return bytes(raw[:size]).rstrip(b"\0")
