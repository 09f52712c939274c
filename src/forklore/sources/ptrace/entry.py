"""Reading a call at its entry stop, while its arguments and what they point to are still there."""

from __future__ import annotations

import errno
from collections.abc import Callable
from signal import SIGKILL
from typing import Final

from forklore.abi import clone_args, syscalls
from forklore.abi.arch import Arch, arch_of
from forklore.abi.flags import AT_FDCWD, CLONE_UNTRACED, CLONE_VFORK, CLONE_VM
from forklore.abi.ptrace import ASKING
from forklore.abi.units import LOW32, Address, Tid, Unavailable, signed
from forklore.events import records as ev
from forklore.linux import memory
from forklore.linux.tracing import seccomp
from forklore.linux.tracing.ptrace import Entry as Words
from forklore.sources.ptrace.kernel import Kernel
from forklore.sources.ptrace.tracee import Class, EnteredCall, Glance

ARGUMENT_LIMIT: Final = 4096
"""How many arguments of an exec are recorded."""
STRING_LIMIT: Final = 1 << 16
"""How many bytes of each."""

_CSIGNAL: Final = 0xFF
_clone3_words: Final = clone_args.reader("flags", "set_tid", "set_tid_size")
_SET_TID_MAX: Final = 32
_COUNT_LIMIT: Final = 1 << 22
_COMM_LENGTH: Final = 15

_KINDS: Final = {
    **dict.fromkeys(syscalls.CREATIONS, Class.CREATION),
    **dict.fromkeys(seccomp.EXECS, Class.EXEC),
    **dict.fromkeys(seccomp.UNSHARING, Class.OTHER),
    **dict.fromkeys(seccomp.NAMING, Class.NAME),
    **dict.fromkeys(seccomp.TRACING, Class.OTHER),
    **dict.fromkeys(seccomp.KILLING, Class.KILL),
}


class EntryReader:
    """Turns an entry stop into an :class:`EnteredCall`, or None for a call that is not ours."""

    def __init__(
        self, kernel: Kernel, machine: Arch, *, argv: bool, follow_untraced: bool,
        glance: Callable[[Tid], Glance] | None = None,
    ) -> None:  # fmt: skip
        """``glance`` reads a caller's stack, where that is wanted anyway: more of what is to be read lies there."""
        self._kernel = kernel
        self._argv = argv
        self._follow_untraced = follow_untraced
        self._glance = glance
        readers: dict[str, Callable[[Tid, EnteredCall], None]] = {
            "clone": self._clone,
            "clone3": self._clone3,
            "vfork": self._vfork,
            "execve": self._execve,
            "execveat": self._execveat,
            "setns": self._setns,
            "prctl": self._prctl,
        }
        # By what the stop says, the audit arch and the number, which hash faster than an Arch.
        self._calls = {
            (arch.audit, number): (arch, kind, name, readers.get(name))
            for arch in seccomp.host_arches(machine)
            for name, kind in _KINDS.items()
            if (number := syscalls.number(arch, name)) is not None
        }

    def read(
        self, tid: Tid, t: int, audit: int, nr: int, words: Words, *, may_clear: bool = True
    ) -> EnteredCall | None:
        """The call that ``tid`` is about to make; CLONE_UNTRACED is cleared in it unless ``may_clear`` forbids it."""
        found = self._calls.get((audit, nr))
        if found is None:
            return None
        arch, kind, name, reader = found
        if name == "ptrace" and words[0] & LOW32 not in ASKING:
            return None  # as the filter has it
        if kind is Class.KILL and words[seccomp.KILLING[name]] & LOW32 != SIGKILL:
            return None
        entry = EnteredCall(kind, name, t, arch, nr, words)
        if reader is not None:
            reader(tid, entry)
        if may_clear and self._follow_untraced and entry.flags & CLONE_UNTRACED:
            entry.cleared = self._set_flags(tid, entry, entry.flags & ~CLONE_UNTRACED)
        return entry

    def from_registers(self, tid: Tid, t: int) -> EnteredCall | None:
        """The call that ``tid`` is in, from its registers: at an event stop that no entry stop came before.

        The number and the arguments are still there (they are overwritten at the return, which has not happened), but
        for the first on riscv64, whose register says -ENOSYS: /proc tells that one (arch/riscv/kernel/traps.c:
        do_trap_ecall_u). Of a child on aarch64 and riscv64 nothing tells it: it begins with the result there, and
        has forgotten the call when it stops (arch/arm64/kernel/signal.c: do_signal).
        """
        held = self._kernel.registers(tid)
        _, audit, _, _ = self._kernel.syscall_info(tid)
        nr = held[held.layout.nr]
        arch = arch_of(audit, nr)
        if arch is None:
            return None
        _, words = held.call(arch)
        if arch is Arch.RISCV64:
            told = self._kernel.call(tid)
            words = words if told is None else told[1]
        entry = self.read(tid, t, audit, nr, words, may_clear=False)  # too late: the child is made
        return entry if entry is not None and entry.kind is Class.CREATION else None

    @staticmethod
    def _clone(_tid: Tid, entry: EnteredCall) -> None:
        entry.flags = entry.words[0] & LOW32 & ~_CSIGNAL

    @staticmethod
    def _vfork(_tid: Tid, entry: EnteredCall) -> None:
        entry.flags = CLONE_VM | CLONE_VFORK

    def _clone3(self, tid: Tid, entry: EnteredCall) -> None:
        address, size = entry.words[0], entry.words[1]
        if size > memory.PAGE_SIZE:
            entry.struct = Unavailable(0, f"its size is given as {size}, more than the kernel reads")
            return
        # The struct is a variable of the caller's, as a rule, and lies in its stack.
        entry.glance = self._glance(tid) if self._glance is not None else None
        found = None if entry.glance is None else entry.glance.read(address, size)
        raw = entry.struct = found if found is not None else self._kernel.read_some(tid, Address(address), size)
        if isinstance(raw, Unavailable) or len(raw) < clone_args.VER0:
            return
        entry.flags, where, count = _clone3_words(raw)
        if where and 0 < count <= _SET_TID_MAX:
            entry.set_tid = self._kernel.read_some(tid, Address(where), 4 * count)

    def _execve(self, tid: Tid, entry: EnteredCall) -> None:
        pages = memory.Pages(tid, self._kernel.read)
        entry.path = pages.string(Address(entry.words[0]), STRING_LIMIT)
        self._arguments(pages, Address(entry.words[1]), entry)

    def _execveat(self, tid: Tid, entry: EnteredCall) -> None:
        pages = memory.Pages(tid, self._kernel.read)
        path = pages.string(Address(entry.words[1]), STRING_LIMIT)
        fd, directory = signed(entry.words[0]), None
        entry.path = path
        if isinstance(path, bytes) and not path.startswith(b"/") and fd != AT_FDCWD:
            # execveat(fd, "", AT_EMPTY_PATH) executes the descriptor itself; a relative path starts at it.
            directory = self._kernel.descriptor(tid, fd)
            if isinstance(directory, Unavailable) and (fd < 0 or directory.errno == errno.ENOENT):
                directory = Unavailable(errno.EBADF, f"descriptor {fd} is not open")
            entry.path = directory if isinstance(directory, Unavailable) or not path else directory + b"/" + path
        told = path if isinstance(path, Unavailable) else ev.text(path)
        shown = ev.text(directory) if isinstance(directory, bytes) else directory
        entry.at = ev.ExecAt(fd=fd, directory=shown, path=told, flags=entry.words[4] & LOW32)
        self._arguments(pages, Address(entry.words[2]), entry)

    def _arguments(self, pages: memory.Pages, argv: Address, entry: EnteredCall) -> None:
        if not self._argv:
            return
        pointers = pages.pointers(argv, entry.arch, ARGUMENT_LIMIT)
        if isinstance(pointers, Unavailable):
            entry.argv = pointers
            return
        addresses, complete = pointers
        strings: list[bytes] = []
        for address in addresses:
            string = pages.string(address, STRING_LIMIT + 1)
            if isinstance(string, Unavailable):
                entry.argv, entry.cut = string, []
                return
            if len(string) > STRING_LIMIT:
                entry.cut.append(len(strings))
            strings.append(string[:STRING_LIMIT])
        entry.argv = strings
        if not complete:
            counted = pages.pointers(argv, entry.arch, _COUNT_LIMIT)
            entry.argc = None if isinstance(counted, Unavailable) else len(counted[0])

    def _setns(self, tid: Tid, entry: EnteredCall) -> None:
        entry.target = self._kernel.descriptor(tid, entry.words[0] & LOW32)

    def _prctl(self, tid: Tid, entry: EnteredCall) -> None:
        if entry.words[0] & LOW32 == seccomp.PR_SET_NAME:
            entry.path = memory.Pages(tid, self._kernel.read).string(Address(entry.words[1]), _COMM_LENGTH)

    def put_back(self, tid: Tid, entry: EnteredCall) -> None:
        """Give a tracee the CLONE_UNTRACED back that :meth:`read` cleared."""
        self._set_flags(tid, entry, entry.flags)

    def _set_flags(self, tid: Tid, entry: EnteredCall, flags: int) -> bool:
        """Write a creation's flags where its call reads them: clone_args, or clone's first register.

        Answers whether that could be done: it cannot where the kernel keeps the first argument out of ptrace's reach.
        """
        try:
            if entry.struct is not None:
                where = Address(entry.words[0] + clone_args.OFFSETS["flags"])
                self._kernel.write(tid, where, clone_args.WORD.pack(flags))
                return True
            held = self._kernel.registers(tid)
            name = held.argument_names(entry.arch)[0]
            if name == held.layout.ret and (entry.arch is Arch.RISCV64 or flags & CLONE_UNTRACED):
                # aarch64 and riscv64: the register becomes the result's, so there is nothing to put back, and riscv64
                # takes the argument from a copy that ptrace does not reach (arch/riscv/kernel/traps.c: orig_a0).
                return False
            value = (entry.words[0] & _CSIGNAL) | flags
            self._kernel.set_registers(tid, held.replace(name, value))
        except OSError:
            return False
        return True
