"""What the kernel lets this user do, each tried once on a child of our own.

A trial leaves nothing behind. What fails is :class:`Unavailable` with the error of the call that failed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from msgspec import Struct

from forklore.abi import seccomp as sc
from forklore.abi import syscalls
from forklore.abi.arch import X32_SYSCALL_BIT, Arch
from forklore.abi.flags import CLONE_NEWUSER
from forklore.abi.kcmp import KcmpType, Order
from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux import kcmp, memory
from forklore.linux.libc import fail, function, prctl, syscall
from forklore.linux.ours.own_child import OwnChild, attempt, in_child
from forklore.linux.tracing import ptrace, seccomp

_PR_SET_SECCOMP: Final = 22

_unshare: Final = function("unshare", ctypes.c_int, ctypes.c_int)

# A forked child has it at the same address.
_mark: Final = ctypes.create_string_buffer(b"forklore")


class Tracing(Struct, frozen=True):
    """What can be done with a seized child of our own: the answers hold for programs that we start."""

    kcmp: bool | Unavailable
    seize: bool | Unavailable
    syscall_info: bool | Unavailable = Unavailable(0, "no child could be traced")
    registers: bool | Unavailable = Unavailable(0, "no child could be traced")
    """Whether forklore and python-ptrace read the same registers."""
    read_memory: bool | Unavailable = Unavailable(0, "no child could be traced")


def tracing(machine: Arch | None, options: int) -> Tracing:
    """Seize a child with these PTRACE_O_*, and ask it all."""
    with OwnChild() as child:
        tid = Tid(child.pid)
        compares = attempt(lambda: machine is not None and _compares(tid))
        seizes = attempt(lambda: _seizes(child, options))
        if seizes is not True:
            return Tracing(compares, seizes)
        return Tracing(
            compares, seizes, attempt(lambda: _tells(tid, machine)), attempt(lambda: _agrees(tid)), _reads(tid)
        )


def _compares(child: Tid) -> bool:
    own = Tid(os.getpid())
    for other, differs in ((own, False), (child, True)):
        answer = kcmp.raw(own, other, KcmpType.VM)
        if answer < 0:
            raise OSError(-answer, "", "kcmp")
        if (answer != Order.EQUAL) != differs:
            return False
    return True


def _seizes(child: OwnChild, options: int) -> bool:
    ptrace.seize(Tid(child.pid), options)
    ptrace.interrupt(Tid(child.pid))
    return os.WIFSTOPPED(child.wait())


def _tells(tid: Tid, machine: Arch | None) -> bool:
    _, audit, _, _ = ptrace.syscall_info(tid)
    return machine is None or audit == machine.audit


def _agrees(tid: Tid) -> bool:
    # python-ptrace has a register struct of its own for every machine: a second reading of the same stop.
    from ptrace.binding import ptrace_getregs

    ours, theirs = ptrace.registers(tid), ptrace_getregs(tid)
    names = [name for name in ours.layout.names if hasattr(theirs, name)]
    return bool(names) and all(getattr(theirs, name) == ours[name] for name in names)


def _reads(tid: Tid) -> bool | Unavailable:
    found = memory.read(tid, Address(ctypes.addressof(_mark)), len(_mark))
    return found if isinstance(found, Unavailable) else found == _mark.raw


def seccomp_filter(*, no_new_privs: bool) -> bool | Unavailable:
    """Whether a filter of one instruction that allows everything can be installed."""
    return in_child(lambda: _installs(no_new_privs))


def _installs(no_new_privs: bool) -> bool:
    if no_new_privs:
        seccomp.set_no_new_privs()
    allow = ctypes.create_string_buffer(sc.FILTER.pack(sc.RETURN, 0, 0, sc.Action.ALLOW))
    program = ctypes.create_string_buffer(struct.pack("@HP", 1, ctypes.addressof(allow)))
    # prctl(2)'s older form: it needs no call number, and means the same as seccomp(2) without flags.
    if prctl(_PR_SET_SECCOMP, sc.Mode.FILTER, ctypes.addressof(program), 0, 0) == -1:
        raise fail("a seccomp filter")
    return True


def clone3(machine: Arch | None) -> bool | Unavailable:
    """Whether clone3 gets past filters: a struct of size 0 gets EINVAL from the kernel itself."""
    return in_child(lambda: _reaches_clone3(machine))


def _reaches_clone3(machine: Arch | None) -> bool:
    number = syscalls.number(machine, "clone3") if machine else None
    if number is None:
        return False
    syscall(number, 0, 0, 0, 0, 0, 0)
    problem = fail("clone3")
    if problem.errno != errno.EINVAL:
        raise problem
    return True


def user_namespace() -> bool | Unavailable:
    """Whether programs here may create one."""
    return in_child(_unshares_user)


def _unshares_user() -> bool:
    if _unshare(CLONE_NEWUSER) == -1:
        raise fail("unshare(CLONE_NEWUSER)")
    return True


def other_abis(machine: Arch | None) -> dict[str, bool | Unavailable]:
    """Whether programs of the ABIs besides the machine's own run."""
    if machine is not Arch.X86_64:
        return {}
    # Seccomp profiles that do not list an ABI kill whoever calls by it.
    return {"i386": attempt(_runs_i386), "x32": in_child(_runs_x32)}


# mov eax, 1 (exit); xor ebx, ebx; int 0x80
_EXIT_I386: Final = bytes.fromhex("b801000000 31db cd80")


def _tiny_i386() -> bytes:
    """A static ELF program of the i386 ABI that exits with 0 (elf(5): Elf32_Ehdr, Elf32_Phdr)."""
    base, headers = 0x08048000, 52 + 32
    size = headers + len(_EXIT_I386)
    header = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, base + headers, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    return header + struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000) + _EXIT_I386


def _runs_i386() -> bool:
    fd = os.memfd_create("forklore-i386", os.MFD_CLOEXEC)
    try:
        os.write(fd, _tiny_i386())
        pid = os.posix_spawn(f"/proc/self/fd/{fd}", ["i386"], {})
    finally:
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _runs_x32() -> bool:
    """getpid with the x32 bit in its number: a 64-bit process may call it where the kernel has the ABI."""
    number = syscalls.number(Arch.X32, "getpid")
    if number is None or not number & X32_SYSCALL_BIT:
        return False
    if syscall(number, 0, 0, 0, 0, 0, 0) == -1:
        raise fail("a call with the x32 bit")
    return True
