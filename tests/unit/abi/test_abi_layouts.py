"""Struct layouts and composed values, against what a C compiler makes of the same headers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi import _generated_registers, clone_args, ptrace, seccomp
from forklore.abi.arch import Arch
from forklore.abi.registers import LAYOUTS, layout_of_size


def compiler_agrees(machine: str, headers: Iterable[str], claims: Iterable[str]) -> None:
    """Compile each claim as a static assertion."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    if not Path("/usr/include/linux/ptrace.h").exists():
        pytest.skip("/usr/include/linux/ptrace.h is missing: no kernel headers (linux-libc-dev)")
    includes = "".join(f"#include <{header}>\n" for header in ("stddef.h", *headers))
    command = ["gcc", machine, "-x", "c", "-fsyntax-only", "-"]
    probe = subprocess.run(command, input=includes, capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"gcc {machine} cannot compile here: {probe.stderr.splitlines()[0]}")
    source = includes + "".join(f'_Static_assert({claim}, "");\n' for claim in claims)
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_clone_args() -> None:
    assert [field.name for field in clone_args.FIELDS] == [
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
        "set_tid_size", "cgroup",
    ]  # fmt: skip
    assert (clone_args.VER0, clone_args.VER1, clone_args.VER2) == (64, 80, 88)
    assert clone_args.STRUCT.size == clone_args.VER2
    claims = [f"offsetof(struct clone_args, {f.name}) == {f.offset}" for f in clone_args.FIELDS]
    for machine in ("-m64", "-m32"):
        compiler_agrees(machine, ["linux/sched.h"], [*claims, "sizeof(struct clone_args) == 88"])


def test_seccomp_data_and_filters() -> None:
    claims = [
        f"offsetof(struct seccomp_data, nr) == {seccomp.DATA_NR}",
        f"offsetof(struct seccomp_data, arch) == {seccomp.DATA_ARCH}",
        f"offsetof(struct seccomp_data, instruction_pointer) == {seccomp.DATA_INSTRUCTION_POINTER}",
        *(
            f"offsetof(struct seccomp_data, args[{i}]) == {offset}"
            for i, offset in enumerate(seccomp.DATA_ARGS)
        ),
        f"sizeof(struct sock_filter) == {seccomp.FILTER.size}",
        f"(BPF_LD | BPF_W | BPF_ABS) == {seccomp.LOAD_WORD}",
        f"(BPF_JMP | BPF_JEQ | BPF_K) == {seccomp.JUMP_IF_EQUAL}",
        f"(BPF_JMP | BPF_JGE | BPF_K) == {seccomp.JUMP_IF_GREATER_OR_EQUAL}",
        f"(BPF_JMP | BPF_JSET | BPF_K) == {seccomp.JUMP_IF_ANY_BIT}",
        f"(BPF_RET | BPF_K) == {seccomp.RETURN}",
    ]
    compiler_agrees("-m64", ["linux/seccomp.h", "linux/filter.h"], claims)


def test_filter_actions_rank_as_signed_words() -> None:
    def rank(action: int) -> int:
        return action - (1 << 32) if action & 1 << 31 else action

    assert [action.name for action in sorted(seccomp.Action, key=rank)] == [
        "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "USER_NOTIF", "TRACE", "LOG", "ALLOW",
    ]  # fmt: skip


def test_ptrace_structs() -> None:
    info = "struct ptrace_syscall_info"
    after = ptrace.SYSCALL_INFO_HEADER.size
    claims = [
        f"offsetof({info}, entry) == {after}",
        f"offsetof({info}, exit) == {after}",
        f"offsetof({info}, seccomp) == {after}",
        f"offsetof({info}, arch) == 4 && offsetof({info}, instruction_pointer) == 8",
        f"offsetof({info}, exit.is_error) + 1 == {after + ptrace.SYSCALL_INFO_EXIT.size}",
        f"offsetof({info}, seccomp.ret_data) + 4 == {after + ptrace.SYSCALL_INFO_SECCOMP.size}",
        f"offsetof({info}, entry.args[5]) + 8 == {after + ptrace.SYSCALL_INFO_ENTRY.size}",
        f"sizeof({info}) == {ptrace.SYSCALL_INFO_SIZE}",
    ]
    compiler_agrees("-m64", ["linux/ptrace.h"], claims)


def test_options_are_the_bits_of_their_events() -> None:
    for event in ("FORK", "VFORK", "CLONE", "EXEC", "VFORK_DONE", "EXIT", "SECCOMP"):
        assert ptrace.Option["TRACE" + event.replace("_", "")] == 1 << ptrace.Event[event]
    assert isinstance(ptrace.Option.TRACEFORK | ptrace.Option.EXITKILL, ptrace.Option)


WORDS = {Arch.X86_64: 27, Arch.X32: 27, Arch.I386: 17, Arch.AARCH64: 34, Arch.RISCV64: 32}


@pytest.mark.parametrize("arch", Arch)
def test_register_blocks(arch: Arch) -> None:
    layout = LAYOUTS[arch]
    assert len(layout.names) == len(set(layout.names)) == WORDS[arch]
    assert layout.size == layout.format.size == WORDS[arch] * layout.word
    assert {layout.nr, *layout.args, layout.ret, layout.sp, layout.ip} <= set(layout.names)
    assert layout_of_size(layout.size) == layout
    assert layout_of_size(layout.size - 1) is None


def test_register_words_lie_where_the_header_puts_them() -> None:
    for arch in ("X86_64", "I386", "AARCH64", "RISCV64"):
        layout = LAYOUTS[Arch[arch]]
        header = getattr(_generated_registers, arch)
        assert [(offset, size) for _, offset, size in header] == [
            (index * layout.word, layout.word) for index in range(len(header))
        ]


@pytest.mark.parametrize(("machine", "arch"), [("-m64", Arch.X86_64), ("-m32", Arch.I386)])
def test_x86_registers_are_those_of_the_c_library(machine: str, arch: Arch) -> None:
    layout = LAYOUTS[arch]
    claims = [
        f"offsetof(struct user_regs_struct, {name}) == {offset}" for name, offset in layout.offsets.items()
    ]
    compiler_agrees(machine, ["sys/user.h"], [*claims, f"sizeof(struct user_regs_struct) == {layout.size}"])


@pytest.mark.parametrize("arch", Arch)
@given(data=st.data())
def test_a_register_reads_back(arch: Arch, data: st.DataObject) -> None:
    layout = LAYOUTS[arch]
    words = data.draw(
        st.lists(st.integers(0, (1 << 8 * layout.word) - 1), min_size=WORDS[arch], max_size=WORDS[arch])
    )
    block = layout.format.pack(*words)
    assert [layout.read(block, name) for name in layout.names] == words
    assert layout.read(memoryview(block), layout.sp) == layout.read(bytearray(block), layout.sp)


def test_a_short_block_is_refused_by_name() -> None:
    layout = LAYOUTS[Arch.X86_64]
    i386_block = bytes(LAYOUTS[Arch.I386].size)
    assert layout.read(i386_block, "r15") == 0
    with pytest.raises(ValueError, match=r"register rip lies at bytes 128 to 136 of a block of 216.*has 68"):
        layout.read(i386_block, "rip")
    with pytest.raises(KeyError):
        layout.read(i386_block, "x0")
