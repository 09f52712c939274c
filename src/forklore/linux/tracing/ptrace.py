"""ptrace(2) for a tracer that seizes: every request is one call, errors are OSError.

Requests raise ProcessLookupError when the tracee is gone, which SIGKILL makes possible at any moment.
All requests must come from the thread that seized: ptrace belongs to a thread.
"""

from __future__ import annotations

import ctypes
import errno
import signal
import struct
from typing import Final

from msgspec import Struct

from forklore.abi import ptrace as pt
from forklore.abi.arch import Arch
from forklore.abi.registers import AARCH32, LAYOUTS, Layout, layout_of_size
from forklore.abi.units import Pid, Tid
from forklore.linux.libc import Iovec, fail, function, quick_function

_ptrace: Final = function(
    "ptrace", ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t
)
_ask: Final = quick_function("ptrace")
"""For the requests of every stop, of a task that is stopped: they wait for nobody."""

_CONT: Final = int(pt.Request.CONT)
_SYSCALL: Final = int(pt.Request.SYSCALL)
_LISTEN: Final = int(pt.Request.LISTEN)
_GETEVENTMSG: Final = int(pt.Request.GETEVENTMSG)
_GET_SYSCALL_INFO: Final = int(pt.Request.GET_SYSCALL_INFO)

_OP_ENTRY: Final = int(pt.SyscallInfoOp.ENTRY)
_OP_EXIT: Final = int(pt.SyscallInfoOp.EXIT)
_OP_SECCOMP: Final = int(pt.SyscallInfoOp.SECCOMP)
_read_header: Final = pt.SYSCALL_INFO_HEADER.unpack_from
_read_entry: Final = pt.SYSCALL_INFO_ENTRY.unpack_from
_read_seccomp: Final = pt.SYSCALL_INFO_SECCOMP.unpack_from
_read_exit: Final = pt.SYSCALL_INFO_EXIT.unpack_from
_BODY: Final = pt.SYSCALL_INFO_HEADER.size
_INFO_SIZE: Final = pt.SYSCALL_INFO_SIZE
_info: Final = ctypes.create_string_buffer(_INFO_SIZE)
_info_there: Final = ctypes.byref(_info)
_message: Final = ctypes.c_ulong()
_message_there: Final = ctypes.byref(_message)
_siginfo: Final = ctypes.create_string_buffer(128)
_siginfo_address: Final = ctypes.addressof(_siginfo)
_siginfo_there: Final = ctypes.byref(_siginfo)
_GETSIGINFO: Final = int(pt.Request.GETSIGINFO)
_read_code: Final = struct.Struct("=i").unpack_from


def seize(tid: Tid, options: int) -> None:
    """PTRACE_SEIZE with PTRACE_O_* ``options``. PermissionError where the kernel does not allow it."""
    if _ptrace(pt.Request.SEIZE, tid, 0, options) == -1:
        raise fail(f"PTRACE_SEIZE of {tid}")


def set_options(tid: Tid, options: int) -> None:
    """PTRACE_SETOPTIONS: other PTRACE_O_* for a tracee that is held. What it makes has them, too."""
    if _ptrace(pt.Request.SETOPTIONS, tid, 0, options) == -1:
        raise fail(f"PTRACE_SETOPTIONS of {tid}")


def cont(tid: Tid, signal: int = 0) -> None:
    """Restart until the next event, delivering ``signal`` if it is not 0."""
    if _ask(_CONT, tid, 0, signal) == -1:
        raise fail(f"PTRACE_CONT of {tid}")


def cont_to_syscall(tid: Tid, signal: int = 0) -> None:
    """Restart until the next event, syscall entry or exit."""
    if _ask(_SYSCALL, tid, 0, signal) == -1:
        raise fail(f"PTRACE_SYSCALL of {tid}")


def listen(tid: Tid) -> None:
    """Leave a tracee in its group-stop, but hear of what happens to it."""
    if _ptrace(_LISTEN, tid, 0, 0) == -1:
        raise fail(f"PTRACE_LISTEN of {tid}")


def interrupt(tid: Tid) -> None:
    """Ask a tracee to stop; the stop comes later, or never."""
    if _ptrace(pt.Request.INTERRUPT, tid, 0, 0) == -1:
        raise fail(f"PTRACE_INTERRUPT of {tid}")


def detach(tid: Tid, signal: int = 0) -> None:
    """Let go of a stopped tracee."""
    if _ptrace(pt.Request.DETACH, tid, 0, signal) == -1:
        raise fail(f"PTRACE_DETACH of {tid}")


def event_message(tid: Tid) -> int:
    """PTRACE_GETEVENTMSG: the new tid, the old tid: what the event carries that a tracee stopped at.

    ProcessLookupError where SIGKILL has taken it to its last stop since: what it would answer is its exit status.
    """
    if _ask(_GETEVENTMSG, tid, 0, _message_there) == -1:
        raise fail(f"PTRACE_GETEVENTMSG of {tid}")
    message = _message.value
    if in_exit_stop(tid):
        raise ProcessLookupError(errno.ESRCH, f"{tid} is in its last stop")
    return message


Entry = tuple[int, int, int, int, int, int]
"""A call's six argument words."""


def syscall_info(tid: Tid) -> tuple[int, int, int, Entry | int]:
    """PTRACE_GET_SYSCALL_INFO: ``(op, audit arch, nr, words)`` at entry and seccomp stops,
    ``(op, audit arch, 0, result)`` at exit stops, ``(op, audit arch, 0, 0)`` at any other.
    """
    if _ask(_GET_SYSCALL_INFO, tid, _INFO_SIZE, _info_there) == -1:
        raise fail(f"PTRACE_GET_SYSCALL_INFO of {tid}")
    op, _flags, arch, _ip, _sp = _read_header(_info)
    if op in (_OP_SECCOMP, _OP_ENTRY):
        nr, a, b, c, d, e, f = _read_entry(_info, _BODY)
        return op, arch, nr, (a, b, c, d, e, f)
    return op, arch, 0, _read_exit(_info, _BODY)[0] if op == _OP_EXIT else 0


def seccomp_filter(tid: Tid, index: int, buffer: int) -> int:
    """PTRACE_SECCOMP_GET_FILTER: a filter's instructions, written to the address ``buffer``; how many there are.

    ENOENT past the last one, EACCES or EPERM where the caller may not.
    """
    count = _ptrace(pt.Request.SECCOMP_GET_FILTER, tid, index, buffer)
    if count == -1:
        raise fail(f"PTRACE_SECCOMP_GET_FILTER of {tid}")
    return int(count)


def seccomp_data() -> int:
    """After :func:`syscall_info` at a seccomp stop: the data that the filter returned, SECCOMP_RET_DATA."""
    *_call, data = _read_seccomp(_info, _BODY)
    return int(data)


class SignalInfo(Struct, frozen=True):
    """The origin of a signal, from siginfo_t: ``sender`` where a process sent it, ``address`` of a fault."""

    signal: int
    code: int
    sender: int | None
    address: int | None


_FAULTS: Final = frozenset({4, 5, 7, 8, 11})  # SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV
_SI_USER, _SI_QUEUE, _SI_TKILL = 0, -1, -6


def signal_info(tid: Tid) -> SignalInfo:
    """PTRACE_GETSIGINFO of a tracee in signal-delivery-stop (siginfo_t: sigaction(2))."""
    if _ptrace(pt.Request.GETSIGINFO, tid, 0, _siginfo_address) == -1:
        raise fail(f"PTRACE_GETSIGINFO of {tid}")
    signal, _errno, code = struct.unpack_from("=iii", _siginfo)
    sender = address = None
    if code in (_SI_USER, _SI_QUEUE, _SI_TKILL):
        (sender,) = struct.unpack_from("=i", _siginfo, 16)
    elif signal in _FAULTS and code > 0:
        (address,) = struct.unpack_from("=Q", _siginfo, 16)
    return SignalInfo(signal, code, sender, address)


_EXIT_STOP: Final = int(signal.SIGTRAP) | pt.Event.EXIT << 8


def in_exit_stop(tid: Tid) -> bool:
    """Whether a tracee that is held stands in PTRACE_EVENT_EXIT, its last stop.

    With PTRACE_O_TRACEEXIT, SIGKILL takes it there out of any other, and it answers for that one no more: its event
    message is its exit status then.
    """
    if _ask(_GETSIGINFO, tid, 0, _siginfo_there) == -1:
        if ctypes.get_errno() == errno.EINVAL:
            return False  # a stop without siginfo_t
        raise fail(f"PTRACE_GETSIGINFO of {tid}")
    return int(_read_code(_siginfo, 8)[0]) == _EXIT_STOP


_CLD_ENDED: Final = (1, 2, 3)  # CLD_EXITED, CLD_KILLED, CLD_DUMPED: sigaction(2)
_read_child: Final = struct.Struct("=8xi4xi").unpack_from


def ended_child_told(tid: Tid) -> Pid | None:
    """The child whose end the SIGCHLD tells of that a tracee is about to take, by its number in the tracee's pid
    namespace; None: it tells of none.
    """
    if _ask(_GETSIGINFO, tid, 0, _siginfo_there) == -1:
        raise fail(f"PTRACE_GETSIGINFO of {tid}")
    code, child = _read_child(_siginfo)
    return Pid(child) if code in _CLD_ENDED else None


def set_signal_origin(tid: Tid, code: int, sender: int, user: int) -> None:
    """Have a tracee in signal-delivery-stop take its signal as sent by ``sender`` of uid ``user`` (sigaction(2))."""
    if _ptrace(pt.Request.GETSIGINFO, tid, 0, _siginfo_address) == -1:
        raise fail(f"PTRACE_GETSIGINFO of {tid}")
    struct.pack_into("=i", _siginfo, 8, code)
    struct.pack_into("=iI", _siginfo, 16, sender, user)
    if _ptrace(pt.Request.SETSIGINFO, tid, 0, _siginfo_address) == -1:
        raise fail(f"PTRACE_SETSIGINFO of {tid}")


_GETREGSET: Final = int(pt.Request.GETREGSET)
_PEEKUSER: Final = int(pt.Request.PEEKUSR)
_block: Final = ctypes.create_string_buffer(512)
_block_view: Final = memoryview(_block)
_vector: Final = Iovec(ctypes.addressof(_block), 512)
_vector_there: Final = ctypes.byref(_vector)
_layouts: Final[dict[int, Layout]] = {}
_NT_PRSTATUS: Final = int(pt.RegisterSet.NT_PRSTATUS)


class Registers(Struct, frozen=True):
    """A tracee's general registers as the kernel gave them, all of them, with the layout that fits their size."""

    layout: Layout
    raw: bytes

    def __getitem__(self, name: str) -> int:
        start = self.layout.offsets[name]
        return int.from_bytes(self.raw[start : start + self.layout.word], "little")

    def words(self) -> tuple[int, ...]:
        """Each register in the order of the layout's names."""
        return self.layout.format.unpack(self.raw)

    def replace(self, name: str, value: int) -> Registers:
        """The same registers with one changed."""
        start, size = self.layout.offsets[name], self.layout.word
        kept = value & ((1 << 8 * size) - 1)
        return Registers(self.layout, self.raw[:start] + kept.to_bytes(size, "little") + self.raw[start + size :])

    def argument_names(self, arch: Arch) -> tuple[str, str, str, str, str, str]:
        """The registers of a call made through ``arch``: a 64-bit program can make an i386 call (int 0x80)."""
        if arch is Arch.I386 and self.layout is LAYOUTS[Arch.X86_64]:
            return ("rbx", "rcx", "rdx", "rsi", "rdi", "rbp")
        return self.layout.args

    def call(self, arch: Arch) -> tuple[int, Entry]:
        """The number and the six argument words of the call through ``arch`` that the tracee is in."""
        mask = (1 << 8 * arch.word) - 1
        a, b, c, d, e, f = (self[name] & mask for name in self.argument_names(arch))
        return self[self.layout.nr], (a, b, c, d, e, f)


def registers(tid: Tid) -> Registers:
    """PTRACE_GETREGSET NT_PRSTATUS. The size that comes back tells a 32-bit program from a 64-bit one."""
    _vector.length = len(_block)
    if _ask(_GETREGSET, tid, _NT_PRSTATUS, _vector_there) == -1:
        raise fail(f"PTRACE_GETREGSET of {tid}")
    size = _vector.length
    layout = _layouts.get(size) or layout_of_size(size)
    if layout is None:
        raise OSError(errno.ENOTSUP, f"registers of {size} bytes are of no known layout", f"tracee {tid}")
    _layouts[size] = layout
    return Registers(layout, bytes(_block_view[:size]))


def user_word(tid: Tid, offset: int) -> int:
    """PTRACE_PEEKUSER: one word of a stopped tracee's ``struct user``, signed; -1 if it is gone, or if it is that.

    A quarter of the price of :func:`registers`.
    """
    return int(_ptrace(_PEEKUSER, tid, offset, 0))


def set_registers(tid: Tid, changed: Registers) -> None:
    """PTRACE_SETREGSET NT_PRSTATUS."""
    buffer = ctypes.create_string_buffer(changed.raw, len(changed.raw))
    vector = Iovec(ctypes.addressof(buffer), len(changed.raw))
    if _ptrace(pt.Request.SETREGSET, tid, _NT_PRSTATUS, ctypes.addressof(vector)) == -1:
        raise fail(f"PTRACE_SETREGSET of {tid}")


def skip_call(tid: Tid) -> None:
    """Have a tracee that is about to make a call, in seccomp or entry stop, leave it with ENOSYS instead."""
    held = registers(tid)
    layout = held.layout
    # The number that counts is not the one in x8, or r7 of a 32-bit program (arch/arm64/kernel/ptrace.c).
    if layout in (LAYOUTS[Arch.AARCH64], AARCH32):
        number = ctypes.c_int(-1)
        vector = Iovec(ctypes.addressof(number), ctypes.sizeof(number))
        if _ptrace(pt.Request.SETREGSET, tid, int(pt.RegisterSet.NT_ARM_SYSTEM_CALL), ctypes.addressof(vector)) == -1:
            raise fail(f"PTRACE_SETREGSET NT_ARM_SYSTEM_CALL of {tid}")
    else:
        held = held.replace(layout.nr, -1)
    set_registers(tid, held.replace(layout.ret, -errno.ENOSYS))


def poke(tid: Tid, address: int, word: int) -> None:
    """PTRACE_POKEDATA: write one machine word, even where the page is read-only for the tracee itself."""
    if _ptrace(pt.Request.POKEDATA, tid, address, word) == -1:
        raise fail(f"PTRACE_POKEDATA at {address:#x} of {tid}")
