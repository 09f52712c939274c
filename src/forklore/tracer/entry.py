"""Reading a call at its entry stop, while its arguments and what they point to are still there."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from forklore.abi import syscalls
from forklore.abi.arch import Arch, arch_of
from forklore.abi.clone_args import VER0
from forklore.abi.flags import CLONE_UNTRACED, CLONE_VFORK, CLONE_VM
from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux import memory, proc, ptrace, seccomp
from forklore.linux.ptrace import Entry as Words
from forklore.tracer.tracee import Class, Entry

ARGUMENT_LIMIT: Final = 4096
"""How many arguments of an exec are recorded."""
STRING_LIMIT: Final = 1 << 16
"""How many bytes of each."""

_CLONE_MASK: Final = 0xFFFFFFFF
_CSIGNAL: Final = 0xFF
_SET_TID: Final = struct.Struct("=QQ")
_SET_TID_OFFSET: Final = 64
_SET_TID_MAX: Final = 32


def _table(machine: Arch) -> dict[tuple[Arch, int], tuple[str, Class]]:
    kinds = (
        *((name, Class.CREATION) for name in seccomp.CREATIONS),
        *((name, Class.EXEC) for name in seccomp.EXECS),
        *((name, Class.OTHER) for name in seccomp.UNSHARING),
    )
    return {
        (arch, number): (name, kind)
        for arch in seccomp.host_arches(machine)
        for name, kind in kinds
        if (number := syscalls.number(arch, name)) is not None
    }


class EntryReader:
    """Turns an entry stop into an :class:`Entry`, or None for a call that is not ours."""

    def __init__(self, machine: Arch, *, argv: bool, follow_untraced: bool) -> None:
        self._calls = _table(machine)
        self._argv = argv
        self._follow_untraced = follow_untraced
        self._read: dict[Class, Callable[[Tid, str, Entry], None]] = {
            Class.CREATION: self._creation,
            Class.EXEC: self._exec,
            Class.OTHER: self._other,
        }

    def read(
        self, tid: Tid, t: int, audit: int, nr: int, words: Words, *, may_clear: bool = True
    ) -> Entry | None:
        """The call that ``tid`` is about to make; CLONE_UNTRACED is cleared in it unless ``may_clear`` forbids it."""
        arch = arch_of(audit, nr)
        found = self._calls.get((arch, nr)) if arch is not None else None
        if arch is None or found is None:
            return None
        name, kind = found
        entry = Entry(kind, t, arch, nr, words)
        self._read[kind](tid, name, entry)
        if may_clear and self._follow_untraced and entry.flags & CLONE_UNTRACED:
            entry.cleared = set_flags(tid, entry, entry.flags & ~CLONE_UNTRACED)
        return entry

    def from_registers(self, tid: Tid, t: int) -> Entry | None:
        """The call that ``tid`` is in, from its registers: at an event stop that no entry stop came before.

        The number and the arguments are still there (they are overwritten at the return, which has not happened).
        """
        held = ptrace.registers(tid)
        _, audit, _, _ = ptrace.syscall_info(tid)
        nr = held[held.layout.nr]
        arch = arch_of(audit, nr)
        if arch is None:
            return None
        _, words = held.call(arch)
        entry = self.read(tid, t, audit, nr, words, may_clear=False)  # too late: the child is made
        return entry if entry is not None and entry.kind is Class.CREATION else None

    def _creation(self, tid: Tid, name: str, entry: Entry) -> None:
        words = entry.words
        if name == "clone":
            entry.flags = words[0] & _CLONE_MASK & ~_CSIGNAL
        elif name == "clone3":
            self._struct(tid, entry)
        elif name == "vfork":
            entry.flags = CLONE_VM | CLONE_VFORK

    def _struct(self, tid: Tid, entry: Entry) -> None:
        address, size = entry.words[0], entry.words[1]
        if size > memory.PAGE_SIZE:
            entry.struct = Unavailable(0, f"its size is given as {size}, more than the kernel reads")
            return
        entry.struct = memory.read(tid, Address(address), size)
        if isinstance(entry.struct, Unavailable) or size < VER0:
            return
        entry.flags = int.from_bytes(entry.struct[:8], "little")
        if size >= _SET_TID_OFFSET + _SET_TID.size:
            where, count = _SET_TID.unpack_from(entry.struct, _SET_TID_OFFSET)
            if where and 0 < count <= _SET_TID_MAX:
                entry.set_tid = memory.read(tid, Address(where), 4 * count)

    def _exec(self, tid: Tid, name: str, entry: Entry) -> None:
        path, argv = entry.words[1:3] if name == "execveat" else entry.words[0:2]
        pages = memory.Pages(tid)
        entry.path = pages.string(Address(path), STRING_LIMIT)
        if name == "execveat":
            entry.path = self._relative(tid, entry)
        if not self._argv:
            return
        pointers = pages.pointers(Address(argv), entry.arch, ARGUMENT_LIMIT)
        if isinstance(pointers, Unavailable):
            entry.argv = pointers
            return
        addresses, complete = pointers
        strings: list[bytes] = []
        for address in addresses:
            string = pages.string(address, STRING_LIMIT)
            if isinstance(string, Unavailable):
                entry.argv = string
                return
            strings.append(string)
        entry.argv = strings
        entry.argc = None if complete else self._count(pages, Address(argv), entry.arch)

    def _relative(self, tid: Tid, entry: Entry) -> bytes | Unavailable:
        # execveat(fd, "", AT_EMPTY_PATH) executes the descriptor itself; a relative path starts at it.
        path = entry.path
        directory = entry.words[0] & 0xFFFFFFFF
        if isinstance(path, Unavailable) or path is None or path.startswith(b"/") or directory == 0xFFFFFF9C:
            return path or b""
        base = proc.descriptor(tid, directory)
        if isinstance(base, Unavailable):
            return base
        return base + b"/" + path if path else base

    @staticmethod
    def _count(pages: memory.Pages, argv: Address, arch: Arch) -> int | None:
        counted = pages.pointers(argv, arch, 1 << 22)
        return None if isinstance(counted, Unavailable) else len(counted[0])

    def _other(self, tid: Tid, name: str, entry: Entry) -> None:
        if name == "setns":
            entry.target = proc.descriptor(tid, entry.words[0] & 0xFFFFFFFF)

    def put_back(self, tid: Tid, entry: Entry) -> None:
        """Give a tracee the CLONE_UNTRACED back that :meth:`read` cleared."""
        set_flags(tid, entry, entry.flags)


def set_flags(tid: Tid, entry: Entry, flags: int) -> bool:
    """Write a creation's flags where its call reads them: clone_args, or clone's first register.

    Answers whether that could be done: it cannot where the kernel keeps the first argument out of ptrace's reach.
    """
    try:
        if entry.struct is not None:
            memory.write(tid, Address(entry.words[0]), flags.to_bytes(8, "little"))
            return True
        held = ptrace.registers(tid)
        name = held.argument_names(entry.arch)[0]
        if name == held.layout.ret and (entry.arch is Arch.RISCV64 or flags & CLONE_UNTRACED):
            # aarch64 and riscv64: the register becomes the result's, so there is nothing to put back, and riscv64
            # takes the argument from a copy that ptrace does not reach (arch/riscv/kernel/traps.c: orig_a0).
            return False
        value = (entry.words[0] & _CSIGNAL) | flags
        ptrace.set_registers(tid, held.replace(name, value))
    except OSError:
        return False
    return True
