"""The seccomp filter that stops a traced program at the calls we decode, and nowhere else.

A filter is inherited by every descendant and can never be removed, and SECCOMP_RET_TRACE without a tracer makes
the call fail with ENOSYS (kernel/seccomp.c: __seccomp_filter). So a tracee that carries it must never be let go.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from signal import SIGKILL
from typing import Final

from forklore.abi import seccomp as sc
from forklore.abi import syscalls
from forklore.abi.arch import X32_SYSCALL_BIT, X86, Arch
from forklore.abi.flags import CLOSE_RANGE_UNSHARE
from forklore.abi.ptrace import ASKING
from forklore.abi.syscalls import CREATIONS
from forklore.linux.libc import fail, prctl, syscall

_CAP_SYS_ADMIN: Final = 21
_PR_SET_NO_NEW_PRIVS: Final = 38

EXECS: Final = ("execve", "execveat")
UNSHARING: Final = ("unshare", "setns", "setsid", "close_range")
NAMING: Final = ("prctl",)
TRACING: Final = ("ptrace",)
KILLING: Final[Mapping[str, int]] = {"kill": 1, "tkill": 1, "tgkill": 2, "pidfd_send_signal": 1}
"""The calls that send SIGKILL, and which argument is the signal."""
TRACED: Final = (*CREATIONS, *EXECS, *UNSHARING, *NAMING, *TRACING, *KILLING)
PR_SET_NAME: Final = 15
MARK: Final = 0x464C
"""The data of every RET_TRACE of ours. A filter that the program installed later and that asks for a tracer, too,
goes first with data of its own (kernel/seccomp.c: seccomp_run_filters), and there is no tracer of its own to ask."""

# Which low word of which argument makes the call of interest: by one of these bits, or by being equal to one.
_ONLY_WITH: Final[Mapping[str, tuple[int, int, tuple[int, ...]]]] = {
    "close_range": (2, sc.JUMP_IF_ANY_BIT, (CLOSE_RANGE_UNSHARE,)),
    "prctl": (0, sc.JUMP_IF_EQUAL, (PR_SET_NAME,)),
    "ptrace": (0, sc.JUMP_IF_EQUAL, ASKING),
    **{name: (argument, sc.JUMP_IF_EQUAL, (SIGKILL,)) for name, argument in KILLING.items()},
}


def host_arches(machine: Arch) -> tuple[Arch, ...]:
    """The ABIs that a program on this machine can make calls through."""
    return X86 if machine is Arch.X86_64 else (machine,)


def _statement(code: int, k: int) -> bytes:
    return sc.FILTER.pack(code, 0, 0, k)


def _jump(code: int, k: int, yes: int, no: int) -> bytes:
    return sc.FILTER.pack(code, yes, no, k)


def _one_abi(arch: Arch, names: Sequence[str]) -> list[bytes]:
    """Instructions that end in a return, for a call whose number is loaded already."""
    plain = [n for name in names if name not in _ONLY_WITH and (n := syscalls.number(arch, name)) is not None]
    code: list[bytes] = []
    for name, (argument, test, values) in _ONLY_WITH.items():
        number = syscalls.number(arch, name) if name in names else None
        if number is not None:
            code += [
                _jump(sc.JUMP_IF_EQUAL, number, 0, 3 + len(values)),
                _statement(sc.LOAD_WORD, sc.DATA_ARGS[argument]),
                *(_jump(test, value, left, 0) for left, value in zip(range(len(values), 0, -1), values, strict=True)),
                _statement(sc.RETURN, sc.Action.ALLOW),
                _statement(sc.RETURN, sc.Action.TRACE | MARK),
            ]
    for position, number in enumerate(plain):
        code.append(_jump(sc.JUMP_IF_EQUAL, number, len(plain) - position, 0))
    return [*code, _statement(sc.RETURN, sc.Action.ALLOW), _statement(sc.RETURN, sc.Action.TRACE | MARK)]


def assemble(arches: Sequence[Arch], names: Sequence[str] = TRACED) -> bytes:
    """A BPF program: RET_TRACE for ``names`` in each of ``arches``, RET_ALLOW for all else, foreign arches included."""
    code = [_statement(sc.LOAD_WORD, sc.DATA_ARCH)]
    for audit in dict.fromkeys(arch.audit for arch in arches):
        same = [arch for arch in arches if arch.audit == audit]
        body = [_statement(sc.LOAD_WORD, sc.DATA_NR)]
        if Arch.X32 in same:
            x32 = _one_abi(Arch.X32, names)
            body += [_jump(sc.JUMP_IF_GREATER_OR_EQUAL, X32_SYSCALL_BIT, 0, len(x32)), *x32]
        body += _one_abi(next(arch for arch in same if arch is not Arch.X32), names)
        code += [_jump(sc.JUMP_IF_EQUAL, audit, 0, len(body)), *body]
    return b"".join([*code, _statement(sc.RETURN, sc.Action.ALLOW)])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def needs_no_new_privs(effective_capabilities: int) -> bool:
    """Whether this process must give up new privileges before it may install a filter (seccomp(2), EACCES)."""
    return not effective_capabilities >> _CAP_SYS_ADMIN & 1


def set_no_new_privs() -> None:
    """prctl(PR_SET_NO_NEW_PRIVS): irrevocable, inherited."""
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1:
        raise fail("prctl(PR_SET_NO_NEW_PRIVS)")


def install(program: bytes, machine: Arch) -> None:
    """Install ``program`` for the calling thread and what it will create. OSError where it is refused."""
    buffer = ctypes.create_string_buffer(program, len(program))
    described = _Program(len(program) // sc.FILTER.size, ctypes.addressof(buffer))
    number = syscalls.number(machine, "seccomp")
    # SPEC_ALLOW keeps speculation controls as they are: before 5.16 a filter would switch mitigations on.
    for flags in (sc.FilterFlag.SPEC_ALLOW, 0):
        if syscall(number, sc.Operation.SET_MODE_FILTER, flags, ctypes.addressof(described), 0, 0, 0) == 0:
            return
        problem = fail("seccomp(SECCOMP_SET_MODE_FILTER)")
        if problem.errno != 22:
            break
    raise problem
