"""Function and argument of a clone() where this machine has no such program: registers and memory written down here.

The code is what the libraries have behind their system call instruction, as their assemblers print it.
"""

import struct
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Unavailable
from forklore.decode.creation import clone_order
from forklore.elf.image.thread_descriptors import PthreadLayout
from forklore.events import records as ev
from forklore.linux.tracing.ptrace import Registers
from forklore.sources.ptrace.tracee import Class, EnteredCall
from forklore.sources.stacks.routines import Routines

IP, SP, TOP, ARG, FN = 0x40_0100, 0x7FF0_0000, 0x50_0F00, 0x60_0000, 0x40_1000
NPTL: Final = 0x3D0F00
THREAD: Final = 0x7D0F00
GLIBC_A64_CLONE: Final = bytes.fromhex("1f0000f1 a0000054 4b000054 c0035fd6 1d0080d2 e0030caa 40013fd6")
GLIBC_A64_CLONE3: Final = bytes.fromhex("1f0000f1 a0000054 4b000054 c0035fd6 1d0080d2 e0030caa 60013fd6")
MUSL_A64: Final = bytes.fromhex("400000b4 c0035fd6 1d0080d2 e103c1a8 20003fd6")
GO_A64: Final = bytes.fromhex("1f001feb 60000054 e03300b9 c0035fd6 ea035ef8 409a80d2 5f0100eb")
CLONE_RV: Final = bytes.fromhex("63450500 11c5 8280 2955 6fd0f6a1 0100 8265 2265 8295")
GLIBC_RV_CLONE3: Final = bytes.fromhex("63450500 11c5 8280 2955 6fd0f689 0100 3685 0296")
GO_RV: Final = bytes.fromhex("63050500 23240102 67800000 833201fe 1305204d 63045500")
MUSL_I386: Final = bytes.fromhex("85c0 7510 89e8 31ed ffd0")
GO_I386: Final = bytes.fromhex("83f800 7405 89442418 c3 8b6c240c 81fdd2040000")
GLIBC_2_17: Final = bytes.fromhex("4885c0 7c11 7401 c3 31ed f7c700010000 7502 ebf0 58 5f ffd0")

Memory = dict[int, bytes]


def entry(arch: Arch, flags: int, stack: int = TOP, *, tid: int = 0, tls: int = 0, clone3: bool = False) -> EnteredCall:
    name = "clone3" if clone3 else "clone"
    nr = syscalls.number(arch, name)
    assert nr is not None
    if clone3:
        raw = struct.pack("<11Q", flags, tid, tid, tid, 0, stack - 0x1000, 0x1000, tls, 0, 0, 0)
        return EnteredCall(Class.CREATION, name, 0, arch, nr, (ARG, 88, 0, 0, 0, 0), flags=flags, struct=raw)
    named = {"flags": flags, "stack": stack, "parent_tid": tid, "child_tid": tid, "tls": tls}
    a, b, c, d, e = (named[word] for word in clone_order(arch))
    return EnteredCall(Class.CREATION, name, 0, arch, nr, (a, b, c, d, e, 0), flags=flags & ~0xFF)


def registers(arch: Arch, **values: int) -> Registers:
    layout = LAYOUTS[arch]
    values = {layout.ip: IP, layout.sp: SP, **values}
    return Registers(layout, layout.format.pack(*(values.get(name, 0) for name in layout.names)))


def found(
    machine: Arch, made: EnteredCall, held: Registers, memory: Memory, libc: str = "",
    layout: PthreadLayout | Unavailable = Unavailable(0, "nobody publishes it"),  # noqa: B008 - immutable
) -> ev.Runs | None:  # fmt: skip
    def read(address: int, size: int) -> bytes | None:
        for start, data in memory.items():
            if start <= address < start + len(data):
                return data[address - start : address - start + size].ljust(size, b"\0")
        return None

    return Routines(machine).of(made, held, lambda: layout, read, libc)


def words(*values: int, size: int = 8) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value in values)


def test_aarch64_glibc_keeps_both_in_registers() -> None:
    held = registers(Arch.AARCH64, x10=FN, x12=ARG)
    runs = found(Arch.AARCH64, entry(Arch.AARCH64, 0x111), held, {IP: GLIBC_A64_CLONE})
    assert runs == ev.Runs(how="clone", fn=FN, arg=ARG)
    held = registers(Arch.AARCH64, x11=FN, x12=ARG)
    runs = found(Arch.AARCH64, entry(Arch.AARCH64, 0x100, clone3=True), held, {IP: GLIBC_A64_CLONE3})
    assert runs == ev.Runs(how="clone", fn=FN, arg=ARG)


def test_aarch64_glibc_threads_have_their_thread_pointer_behind_the_descriptor() -> None:
    layout = PthreadLayout(start_routine=1080, tid=208, size=1856, pointer=8)
    memory = {IP: GLIBC_A64_CLONE, ARG + 1080: words(0x40_2000, 77)}
    made = entry(Arch.AARCH64, NPTL, tid=ARG + 208, tls=ARG + 1856)
    runs = found(Arch.AARCH64, made, registers(Arch.AARCH64, x10=FN, x12=ARG), memory, layout=layout)
    assert runs == ev.Runs(how="nptl", fn=FN, arg=ARG, routine=0x40_2000, routine_arg=77)


def test_aarch64_musl_and_glibc_before_2_24_push_both() -> None:
    memory = {IP: MUSL_A64, TOP: words(FN, ARG), ARG: words(0x40_2000, 77)}
    held = registers(Arch.AARCH64)
    runs = found(Arch.AARCH64, entry(Arch.AARCH64, THREAD), held, memory)
    assert runs == ev.Runs(how="musl", fn=FN, arg=ARG, routine=0x40_2000, routine_arg=77)
    runs = found(Arch.AARCH64, entry(Arch.AARCH64, THREAD), held, memory, "glibc")
    assert runs == ev.Runs(how="clone", fn=FN, arg=ARG)


def test_riscv64_glibc_keeps_both_in_registers_for_clone3() -> None:
    layout = PthreadLayout(start_routine=1544, tid=208, size=1920, pointer=8)
    memory = {IP: GLIBC_RV_CLONE3, ARG + 1544: words(0x40_2000, 77)}
    held = registers(Arch.RISCV64, a2=FN, a3=ARG)
    runs = found(Arch.RISCV64, entry(Arch.RISCV64, 0x100, clone3=True), held, memory)
    assert runs == ev.Runs(how="clone", fn=FN, arg=ARG)
    made = entry(Arch.RISCV64, NPTL, tid=ARG + 208, tls=ARG + 1936, clone3=True)
    runs = found(Arch.RISCV64, made, held, memory, layout=layout)
    assert runs == ev.Runs(how="nptl", fn=FN, arg=ARG, routine=0x40_2000, routine_arg=77)


def test_riscv64_musl_and_glibc_push_both_for_clone() -> None:
    layout = PthreadLayout(start_routine=1544, tid=208, size=1920, pointer=8)
    memory = {IP: CLONE_RV, TOP: words(FN, ARG), ARG: words(0x40_2000, 77), ARG + 1544: words(0x40_3000, 78)}
    held = registers(Arch.RISCV64)
    runs = found(Arch.RISCV64, entry(Arch.RISCV64, THREAD), held, memory)
    assert runs == ev.Runs(how="musl", fn=FN, arg=ARG, routine=0x40_2000, routine_arg=77)
    runs = found(Arch.RISCV64, entry(Arch.RISCV64, 0x111), held, memory, "glibc")
    assert runs == ev.Runs(how="clone", fn=FN, arg=ARG)
    made = entry(Arch.RISCV64, NPTL, tid=ARG + 208, tls=ARG + 1936)
    runs = found(Arch.RISCV64, made, held, memory, "glibc", layout=layout)
    assert runs == ev.Runs(how="nptl", fn=FN, arg=ARG, routine=0x40_3000, routine_arg=78)


def test_go_keeps_them_below_or_at_the_new_stack() -> None:
    memory = {IP: GO_A64, TOP - 32: words(1234, FN, 0x9999, ARG)}
    runs = found(Arch.AARCH64, entry(Arch.AARCH64, 0x50F00), registers(Arch.AARCH64), memory)
    assert runs == ev.Runs(how="go", fn=FN, arg=ARG)
    memory = {IP: GO_RV, TOP - 32: words(1234, FN, 0x9999, ARG)}
    runs = found(Arch.RISCV64, entry(Arch.RISCV64, 0x50F00), registers(Arch.RISCV64), memory)
    assert runs == ev.Runs(how="go", fn=FN, arg=ARG)
    memory = {IP: GO_I386, TOP: words(ARG, 0x9999, FN, 1234, size=4)}
    runs = found(Arch.X86_64, entry(Arch.I386, 0x50F00), registers(Arch.I386), memory)
    assert runs == ev.Runs(how="go", fn=FN, arg=ARG)


def test_i386_musl_has_the_function_in_ebp() -> None:
    memory = {IP: MUSL_I386, TOP: words(ARG, size=4), ARG: words(0x40_2000, 77, size=4)}
    runs = found(Arch.X86_64, entry(Arch.I386, THREAD), registers(Arch.I386, ebp=FN), memory)
    assert runs == ev.Runs(how="musl", fn=FN, arg=ARG, routine=0x40_2000, routine_arg=77)


def test_x86_64_glibc_2_17_has_more_code_before_it_calls() -> None:
    memory = {IP: GLIBC_2_17, TOP: words(FN, ARG)}
    runs = found(Arch.X86_64, entry(Arch.X86_64, 0x111), registers(Arch.X86_64), memory)
    assert runs == ev.Runs(how="clone", fn=FN, arg=ARG)


def test_an_older_musl_passes_its_descriptor() -> None:
    memory = {IP: MUSL_A64, TOP: words(FN, ARG), ARG: words(ARG, 0)}
    runs = found(Arch.AARCH64, entry(Arch.AARCH64, THREAD), registers(Arch.AARCH64), memory)
    assert runs is not None
    assert (runs.routine, runs.fn) == (None, FN)
    assert runs.unknown is not None
    assert "musl" in runs.unknown.why


@pytest.mark.parametrize(
    ("layout", "tid", "memory", "why"),
    [
        (Unavailable(0, "its symbols are stripped"), 720, {}, "stripped"),
        (PthreadLayout(1592, 704, 2368, 8), 720, {}, "not laid out"),
        (PthreadLayout(1592, 720, 2368, 8), 720, {}, "could not be read"),
    ],
)
def test_a_thread_whose_routine_cannot_be_found_says_why(
    layout: PthreadLayout | Unavailable, tid: int, memory: Memory, why: str
) -> None:
    made = entry(Arch.X86_64, NPTL, tid=ARG + tid, tls=ARG, clone3=True)
    runs = found(Arch.X86_64, made, registers(Arch.X86_64, rdx=FN, r8=ARG), memory, layout=layout)
    assert runs is not None
    assert (runs.how, runs.fn, runs.arg, runs.routine) == ("nptl", FN, ARG, None)
    assert runs.unknown is not None
    assert why in runs.unknown.why


def test_a_clone3_by_hand_with_a_threads_flags_is_not_taken_for_glibcs() -> None:
    made = entry(Arch.X86_64, NPTL, tid=ARG + 720, tls=ARG, clone3=True)
    runs = found(Arch.X86_64, made, registers(Arch.X86_64, rdx=3, r8=4), {IP: bytes(96)})
    assert runs is not None
    assert (runs.how, runs.fn, runs.arg) == ("raw", None, None)


@pytest.mark.parametrize("stack", [0, SP])
def test_a_child_on_its_creators_stack_returns_from_the_call(stack: int) -> None:
    made = entry(Arch.AARCH64, 0x4111, stack)
    assert found(Arch.AARCH64, made, registers(Arch.AARCH64), {IP: GLIBC_A64_CLONE}) is None


def test_a_32_bit_call_of_a_64_bit_program_is_nobodys_clone() -> None:
    runs = found(Arch.X86_64, entry(Arch.I386, 0x111), registers(Arch.X86_64), {})
    assert runs is not None
    assert runs.how == "raw"


def test_a_struct_that_could_not_be_read_tells_nothing() -> None:
    made = EnteredCall(
        Class.CREATION, "clone3", 0, Arch.X86_64, 435, (8, 88, 0, 0, 0, 0), struct=Unavailable(14, "bad")
    )
    assert found(Arch.X86_64, made, registers(Arch.X86_64), {}) is None


@settings(max_examples=100, deadline=None)
@given(
    arch=st.sampled_from([Arch.X86_64, Arch.X32, Arch.I386]),
    flags=st.sampled_from([NPTL, THREAD, 0x111, 0x50F00, 0x4100]),
    clone3=st.booleans(),
    code=st.binary(max_size=96) | st.sampled_from([GLIBC_2_17, MUSL_I386, GO_I386]),
    stack=st.binary(max_size=40),
    values=st.dictionaries(st.sampled_from(["rdx", "r8", "r9", "r12", "rip"]), st.integers(0, 2**64 - 1)),
)
def test_any_code_and_stack_have_an_answer(
    arch: Arch, flags: int, clone3: bool, code: bytes, stack: bytes, values: dict[str, int]
) -> None:
    held = registers(arch, **({} if arch is Arch.I386 else values))
    runs = found(Arch.X86_64, entry(arch, flags, tid=ARG, tls=ARG, clone3=clone3), held, {IP: code, TOP: stack})
    assert runs is not None
    assert runs.fn is not None or runs.unknown is not None
