"""The filter stops a program at the calls that are decoded and at no other, through every ABI of its machine."""

from __future__ import annotations

import itertools

import pytest
from classic_bpf import DATA, RET_ALLOW, Instruction, check, execute, parse, reached
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi import syscalls
from forklore.abi.arch import X32_SYSCALL_BIT, Arch
from forklore.linux.tracing.seccomp import KILLING, MARK, PR_SET_NAME, TRACED, assemble, host_arches, needs_no_new_privs

MACHINES = (Arch.X86_64, Arch.AARCH64, Arch.RISCV64)
WANTED = {
    "fork", "vfork", "clone", "clone3", "execve", "execveat", "unshare", "setns", "setsid", "close_range",
    "prctl",
}  # fmt: skip
CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4
RET_TRACE = 0x7FF00000 | MARK
FOREIGN = 0x40000028
"""AUDIT_ARCH_ARM, which no machine here has."""


def program_for(machine: Arch) -> list[Instruction]:
    return parse(assemble(host_arches(machine)))


def answer(program: list[Instruction], audit: int, nr: int, flags: int = 0, option: int = PR_SET_NAME) -> int:
    signed = nr - (1 << 32) if nr >> 31 else nr
    return execute(program, DATA.pack(signed, audit, 0x401000, option, 2, flags, 4, 5, 6))


def test_what_is_traced() -> None:
    assert set(TRACED) == WANTED | {"ptrace"} | set(KILLING)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernel_would_take_it(machine: Arch) -> None:
    program = program_for(machine)
    check(program)
    assert reached(program) == set(range(len(program)))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("arch", list(Arch))
def test_every_number_of_every_table(machine: Arch, arch: Arch) -> None:
    program = program_for(machine)
    ours = arch in host_arches(machine)
    for name, nr in syscalls.numbers(arch).items():
        for flags in (0, CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC, 6, 1 << 33, CLOSE_RANGE_UNSHARE | 1 << 40):
            wanted = ours and name in WANTED
            if name == "close_range":
                wanted = wanted and bool(flags & CLOSE_RANGE_UNSHARE)
            assert answer(program, arch.audit, nr, flags) == (RET_TRACE if wanted else RET_ALLOW), (name, flags)


def test_close_range_is_in_every_table() -> None:
    assert all(syscalls.number(arch, "close_range") is not None for arch in Arch)


@pytest.mark.parametrize("machine", MACHINES)
def test_prctl_is_of_interest_where_it_names(machine: Arch) -> None:
    program = program_for(machine)
    for arch in host_arches(machine):
        nr = syscalls.number(arch, "prctl")
        assert nr is not None
        for option in (PR_SET_NAME, PR_SET_NAME | 1 << 32):  # the kernel takes an int
            assert answer(program, arch.audit, nr, 0, option) == RET_TRACE
        for option in (0, PR_SET_NAME - 1, PR_SET_NAME + 1, 1 << 32):
            assert answer(program, arch.audit, nr, 0, option) == RET_ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_ptrace_is_of_interest_where_it_asks_for_a_tracer(machine: Arch) -> None:
    program = program_for(machine)
    for arch in host_arches(machine):
        nr = syscalls.number(arch, "ptrace")
        assert nr is not None
        for request in range(0x4220):
            asks = request in (0, 16, 0x4206)  # PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE
            assert answer(program, arch.audit, nr, 0, request) == (RET_TRACE if asks else RET_ALLOW), request


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("name", "place"), [("kill", 1), ("tkill", 1), ("tgkill", 2), ("pidfd_send_signal", 1)])
def test_of_signals_sigkill_is_of_interest(machine: Arch, name: str, place: int) -> None:
    program = program_for(machine)
    for arch in host_arches(machine):
        nr = syscalls.number(arch, name)
        assert nr is not None
        for number, wanted in ((9, True), (9 | 1 << 32, True), (0, False), (15, False), (9 << 32, False)):
            words = [9, 9, 9, 9, 9, 9]
            words[place] = number
            assert execute(program, DATA.pack(nr, arch.audit, 0, *words)) == (RET_TRACE if wanted else RET_ALLOW)


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_without_a_name_and_foreign_abis(machine: Arch) -> None:
    program = program_for(machine)
    named = {arch: set(syscalls.numbers(arch).values()) for arch in host_arches(machine)}
    numbers = [*range(700), *(X32_SYSCALL_BIT + nr for nr in range(700)), 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    for arch, nr in itertools.product(host_arches(machine), numbers):
        same_audit = [other for other in host_arches(machine) if other.audit == arch.audit]
        if not any(nr in named[other] for other in same_audit):
            assert answer(program, arch.audit, nr, CLOSE_RANGE_UNSHARE) == RET_ALLOW
    for nr in numbers:
        assert answer(program, FOREIGN, nr, CLOSE_RANGE_UNSHARE) == RET_ALLOW


@given(audit=st.integers(0, (1 << 32) - 1), nr=st.integers(0, (1 << 32) - 1), flags=st.integers(0, (1 << 64) - 1))
@settings(max_examples=200, deadline=None)
def test_any_input_is_answered(audit: int, nr: int, flags: int) -> None:
    for machine in MACHINES:
        wanted = any(
            (arch.audit == audit
            and syscalls.name(arch, nr) in WANTED
            and (syscalls.name(arch, nr) != "close_range" or flags & CLOSE_RANGE_UNSHARE))
            or (arch.audit == audit and syscalls.name(arch, nr) == "tgkill" and flags & 0xFFFFFFFF == 9)
            for arch in host_arches(machine)
        )
        assert answer(program_for(machine), audit, nr, flags) == (RET_TRACE if wanted else RET_ALLOW)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("names", [("execve",), ("close_range",), ("fork", "vfork"), ()], ids=str)
def test_fewer_names(machine: Arch, names: tuple[str, ...]) -> None:
    program = parse(assemble(host_arches(machine), names))
    check(program)
    for arch in host_arches(machine):
        for name, nr in syscalls.numbers(arch).items():
            expected = RET_TRACE if name in names else RET_ALLOW
            assert answer(program, arch.audit, nr, CLOSE_RANGE_UNSHARE) == expected, name


def test_who_needs_no_new_privs() -> None:
    assert needs_no_new_privs(0)
    assert not needs_no_new_privs(1 << 21)
    assert needs_no_new_privs(((1 << 41) - 1) & ~(1 << 21))
