"""Walking stacks that are written by hand, of every arch; code without rules; memory that holds anything at all."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest
from frame_writer import cie, eh_frame_table, uleb
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.registers import LAYOUTS
from forklore.elf.cfi.frame_table import FrameTable
from forklore.elf.cfi.unwind import CodeMapping, Walk, walk
from forklore.elf.dwarf.registers import NUMBERS, dwarf_block

RULED, BARE = 0x5000, 0x20000
"""Where the code with rules and the code without lie."""
BY_POINTER, OUTERMOST = RULED + 0x10E, RULED + 0x30C
"""Return addresses in the functions at 0x100 and 0x300 of :data:`X86`."""
SP = 0x7000_0000
SIZE = 0x1000


class Task:
    """A task of an arch whose code and stack a test writes."""

    def __init__(self, arch: Arch, table: FrameTable | None = None, code: bytes = b"") -> None:
        self.arch = arch
        self.word = NUMBERS[arch].word
        self.stack = bytearray(SIZE)
        self.code = code.ljust(0x400, b"\xcc")
        self.ruled = CodeMapping(table, 0, fixed=False)  # whatever a test takes for a return address is one
        self.bare = CodeMapping(None, 0)
        self.registers = {NUMBERS[arch].pc: RULED, NUMBERS[arch].sp: SP, NUMBERS[arch].fp: 0}
        self.called = bytearray(b"\xe8\0\0\0\0" * 410)  # a call returns to each multiple of five

    def push(self, at: int, *words: int) -> None:
        for place, word in enumerate(words):
            start = at - SP + place * self.word
            self.stack[start : start + self.word] = word.to_bytes(self.word, "little")

    def lookup(self, address: int) -> CodeMapping | None:
        if RULED <= address < RULED + 0x800:
            return self.ruled
        return self.bare if BARE <= address < BARE + 0x400 else None

    def read(self, address: int, size: int) -> bytes | None:
        for start, content in ((SP, self.stack), (BARE, self.code), (RULED, self.called)):
            if start <= address and address + size <= start + len(content):
                return bytes(content[address - start : address - start + size])
        return None

    def walk(self, depth: int = 32, *, window: bool = False) -> Walk:
        stack = (SP, bytes(self.stack)) if window else (0, b"")
        return walk(self.arch, self.registers, self.lookup, self.read, depth, stack=stack)


def frames(found: Walk) -> list[tuple[int, str]]:
    return [(pc, how) for pc, how, _ in found.frames]


X86 = {
    RULED: b"\x0e\x10",  # CFA is rsp+16
    RULED + 0x100: b"\x0c\x06\x10\x86\x02",  # CFA is rbp+16, rbp saved at cfa-16
    RULED + 0x200: b"\x0e\x20\x86\x02\x83\x03",  # rsp+32, rbp at cfa-16, rbx at cfa-24
    RULED + 0x300: b"\x07\x10",  # outermost
    RULED + 0x400: b"\x0e\x00\x09\x10\x05",  # rsp+0, return address in rdi
    RULED + 0x500: b"\x0f\x03\x73\x10\x06",  # CFA is what lies at rbx+16
    RULED + 0x600: b"\x0e\x00",  # CFA is rsp: nothing grows
    RULED + 0x700: b"\x0e\x10\x16\x06\x02\x77\x04\x14\x03\x01",  # rbp is rsp+4, rbx is cfa-8
}


def x86(code: bytes = b"") -> Task:
    return Task(Arch.X86_64, eh_frame_table([(start, 0x100, program) for start, program in X86.items()]), code)


@pytest.mark.parametrize("window", [False, True])
def test_rules_lead_from_frame_to_frame(window: bool) -> None:
    task = x86()
    task.push(SP + 8, RULED + 0x220)
    task.push(SP + 16 + 8, 0xB0B, SP + 0x100, RULED + 0x120)
    task.push(SP + 0x100, SP + 0x200, RULED + 0x320)
    found = task.walk(window=window)
    assert found == Walk(
        (
            (RULED, "register", SP + 16),
            (RULED + 0x220, "rule", SP + 48),
            (RULED + 0x120, "rule", SP + 0x110),
            (RULED + 0x320, "rule", 0),
        ),
        "outermost",
    )


def test_a_call_at_the_end_of_a_function_belongs_to_it() -> None:
    task = x86()
    task.push(SP + 8, RULED + 0x300)  # one behind the function at 0x200
    task.push(SP + 16 + 24, RULED + 0x320)
    assert [pc for pc, _, _ in task.walk().frames] == [RULED, RULED + 0x300, RULED + 0x320]


def test_the_return_address_can_be_in_a_register() -> None:
    task = x86()
    task.registers |= {16: RULED + 0x400, 5: RULED + 0x320}
    assert task.walk() == Walk(((RULED + 0x400, "register", SP), (RULED + 0x320, "rule", 0)), "outermost")


def test_registers_are_found_where_frames_saved_them() -> None:
    task = x86()
    task.registers[16] = RULED + 0x200
    task.push(SP + 8, SP + 0x40, 0, RULED + 0x520)  # rbx, rbp, return address
    task.push(SP + 0x50, SP + 0x80)  # at rbx + 16: the next frame's address
    task.push(SP + 0x78, RULED + 0x320)
    assert [cfa for *_, cfa in task.walk().frames] == [SP + 32, SP + 0x80, 0]


def test_registers_can_be_computed() -> None:
    task = x86()
    task.registers[16] = RULED + 0x700
    task.push(SP + 8, RULED + 0x520)  # rbx is SP + 8 there
    task.push(SP + 24, SP + 0x80)
    task.push(SP + 0x78, RULED + 0x320)
    assert [cfa for *_, cfa in task.walk().frames] == [SP + 16, SP + 0x80, 0]


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize(
    ("target", "count", "end"),
    [
        (0, 1, "outermost"),
        (0x9999_0000, 1, "the return address 0x99990000 is in no executable mapping"),
        (RULED + 0x620, 2, f"the stack pointer does not grow: {SP + 16:#x} after {SP + 16:#x}, a corrupted stack"),
        (RULED + 0x120, 2, f"the stack pointer does not grow: 0x10 after {SP + 16:#x}, a corrupted stack"),
        (RULED + 0x520, 2, f"the rule at {RULED + 0x520:#x} has an expression without a value"),
    ],
)
def test_how_a_stack_ends(target: int, count: int, end: str, window: bool) -> None:
    task = x86()
    task.push(SP + 8, target)
    found = task.walk(window=window)
    assert (len(found.frames), found.end) == (count, end)


def test_a_pc_outside_all_code_is_all_there_is() -> None:
    task = x86()
    task.registers[16] = 0x1234
    assert task.walk() == Walk(((0x1234, "register", 0),), "the program counter 0x1234 is in no executable mapping")


def test_a_mapping_that_is_not_executable_is_no_code() -> None:
    task = x86()
    task.ruled.executable = False
    assert task.walk().end == f"the program counter {RULED:#x} is in no executable mapping"


def test_a_stack_that_is_not_there() -> None:
    task = x86()
    task.registers[7] = 0x10
    assert task.walk() == Walk(((RULED, "register", 0),), "the stack cannot be read at 0x18")


def test_a_stack_that_goes_round_is_cut_by_depth_or_growth() -> None:
    task = x86()
    for place in range(0, SIZE, 16):
        task.push(SP + place + 8, RULED + 1)
    assert task.walk(5).end == "depth"
    found = task.walk(10_000)
    assert found.end == f"the stack cannot be read at {SP + SIZE + 8:#x}"
    assert len(found.frames) == SIZE // 16 + 1


# Code without rules

GLIBC_CLONE = "4885c0 7c13 7401 c3 31ed 58 5f ffd0 4889c7 b83c000000 0f05 488b0d00000000 f7d8 648901 4883c8ff c3"
GLIBC_CLONE3 = (
    "4885c0 7c18 7401 c3 31ed 4883e4f0 4c89c7 ffd2 4889c7 b83c000000 0f05 488b0d00000000 f7d8 648901 4883c8ff c3"
)
MUSL_CLONE = "85c0 750f 31ed 5f 41ffd1 89c7 31c0 b03c 0f05 f4 c3"
I386_CLONE = "5f 5e 5b 85c0 0f8c00010000 7401 c3 89f5 ffd3 89c3 b801000000 f4"
I386_CLONE3 = "85c0 7409 5e 5b 0f8c00010000 c3 31ed 83e4f0 83ec0c 56 ffd2 f4"


@pytest.mark.parametrize(
    ("arch", "code", "above"),
    [
        (Arch.X86_64, GLIBC_CLONE, 0), (Arch.X86_64, GLIBC_CLONE3, 0), (Arch.X86_64, MUSL_CLONE, 0),
        (Arch.X32, GLIBC_CLONE, 0), (Arch.I386, I386_CLONE, 12), (Arch.I386, I386_CLONE3, 8),
    ],
)  # fmt: skip
class TestWrappersOfClone:
    def task(self, arch: Arch, code: str, above: int) -> Task:
        initial = b"\x0c\x04\x04\x88\x01\x07\x08" if arch is Arch.I386 else b"\x0c\x07\x08\x90\x01\x07\x10"
        column = 8 if arch is Arch.I386 else 16
        ends = eh_frame_table([(RULED, 0x100, b"")], head=cie(initial=initial, column=column))
        task = Task(arch, ends, bytes.fromhex(code))
        task.registers[NUMBERS[arch].pc] = BARE
        task.push(SP + above, RULED + 5)
        return task

    def test_the_parent_returns(self, arch: Arch, code: str, above: int) -> None:
        task = self.task(arch, code, above)
        task.registers[0] = -38 & (1 << 8 * task.word) - 1
        cfa = SP + above + task.word
        expected = Walk(((BARE, "register", cfa), (RULED + 5, "wrapper", 0)), "outermost")
        assert task.walk() == expected
        assert task.walk() == expected  # from memory now
        assert list(task.bare.ways) == [BARE]

    def test_the_new_task_does_not(self, arch: Arch, code: str, above: int) -> None:
        task = self.task(arch, code, above)
        task.registers[0] = 0
        found = task.walk()
        assert frames(found) == [(BARE, "register")]
        assert found.end.startswith("a new task")

    def test_nothing_is_believed_that_was_not_called(self, arch: Arch, code: str, above: int) -> None:
        task = self.task(arch, code, above)
        task.called = bytearray(0x800)
        assert frames(task.walk()) == [(BARE, "register")]


@pytest.mark.parametrize(
    ("code", "register"), [("57 3d01f0ffff 7301 c3 c3", 5), ("52 4889c7 eb00 483d00f0ffff 7701 c3", 1)]
)
def test_vfork_keeps_its_return_address_in_a_register(code: str, register: int) -> None:
    task = x86(bytes.fromhex(code))
    task.registers |= {16: BARE, register: OUTERMOST}
    assert task.walk() == Walk(((BARE, "register", SP), (OUTERMOST, "wrapper", 0)), "outermost")


def test_registers_come_back_from_code_without_rules() -> None:
    # add rsp, 16; pop rbp; ret: then a rule that goes by rbp
    task = x86(bytes.fromhex("4883c410 5d c3"))
    task.registers[16] = BARE
    task.push(SP + 16, SP + 0x100, BY_POINTER)
    task.push(SP + 0x108, OUTERMOST)
    assert frames(task.walk()) == [(BARE, "register"), (BY_POINTER, "wrapper"), (OUTERMOST, "rule")]


def in_the_middle(entry: str, rest: str) -> Task:
    """A frame with rules that was called by code without, which was called at ``entry``; ``rest`` follows its call."""
    before = bytes.fromhex(entry) + b"\xe8\0\0\0\0"
    task = x86(before + bytes.fromhex(rest))
    task.push(SP + 8, BARE + len(before))
    distance = BARE - OUTERMOST
    task.called[0x307:0x30C] = b"\xe8" + struct.pack("<i", distance)
    return task


def test_a_caller_without_rules_is_certain_if_its_entry_agrees() -> None:
    task = in_the_middle("53 4883ec20", "31c0 e800000000 4883c420 5b c3")
    task.push(SP + 16 + 0x28, OUTERMOST)
    expected = [(RULED, "register"), (BARE + 10, "rule"), (OUTERMOST, "wrapper")]
    assert frames(task.walk()) == expected
    assert frames(task.walk()) == expected


def test_a_caller_without_rules_is_not_believed_if_its_entry_disagrees() -> None:
    # The call is the last instruction and never comes back; what follows is another function, which returns at once.
    task = in_the_middle("53 4883ec20", "31c0 c3")
    task.push(SP + 16, OUTERMOST)
    assert frames(task.walk()) == [(RULED, "register"), (BARE + 10, "rule")]


def test_a_way_back_that_nothing_confirms_is_a_guess_and_all_behind_it() -> None:
    task = in_the_middle("53 4883ec20", "4883c420 5b c3")
    task.called[0x200:0x205] = b"\x90\x90\x90\xff\xd0"  # an indirect call
    task.push(SP + 16 + 0x28, RULED + 0x205)
    task.push(SP + 16 + 0x30 + 24, OUTERMOST)
    assert frames(task.walk())[2:] == [(RULED + 0x205, "pointer"), (OUTERMOST, "pointer")]


# Frame pointers

UNREADABLE = bytes.fromhex("ffe0")  # jmp rax


def pointed(arch: Arch, *records: tuple[int, int, int]) -> Task:
    task = Task(arch, None, UNREADABLE * 64 if arch is not Arch.AARCH64 else b"\x1f\x20\x03\xd5" * 3)
    task.ruled = CodeMapping(None, 0)
    task.called = bytearray(0x800) if arch is Arch.AARCH64 else task.called
    task.code = b"\x00\x00\x00\x94" * 256 if arch is Arch.AARCH64 else b"\xe8\0\0\0\0" + UNREADABLE * 100
    task.registers |= {NUMBERS[arch].pc: BARE + 5, NUMBERS[arch].fp: records[0][0]}
    for at, pointer, target in records:
        task.push(at, pointer, target)
    return task


@pytest.mark.parametrize("arch", [Arch.X86_64, Arch.I386, Arch.AARCH64])
def test_frame_pointers_are_guesses(arch: Arch) -> None:
    step = 4 if arch is Arch.AARCH64 else 5
    target = BARE + step
    task = pointed(arch, (SP + 0x40, SP + 0x80, target), (SP + 0x80, 0, target))
    found = task.walk()
    assert frames(found) == [(BARE + 5, "register"), (target, "pointer"), (target, "pointer")]
    assert "leads nowhere" in found.end or found.end == "outermost"


@pytest.mark.parametrize(
    "pointer", [SP + 0x40, SP + 0x20, SP - 0x100, 0x10, (1 << 64) - 8, SP + 0x83], ids=hex
)
def test_frame_pointers_that_lead_nowhere(pointer: int) -> None:
    found = pointed(Arch.X86_64, (SP + 0x40, pointer, BARE + 5)).walk()
    assert len(found.frames) == 2
    assert "leads nowhere" in found.end


def test_code_that_was_made_at_run_time_is_called_that() -> None:
    task = pointed(Arch.X86_64, (SP + 0x40, 0x10, BARE + 5))
    task.bare = CodeMapping(None, 0, fixed=False, made=True)
    where = f"code made at run time, {BARE + 5:#x},"
    assert task.walk().end == f"no call-frame rule for {where} and its frame pointer leads nowhere"


def test_frame_pointers_lead_to_calls_in_code_only() -> None:
    for target in (0x1234, BARE + 9, 0):
        assert len(pointed(Arch.X86_64, (SP + 0x40, SP + 0x80, target)).walk().frames) == 1


# Other machines

AARCH64 = {RULED: b"\x0e\x20\x9d\x04\x9e\x03", RULED + 0x100: b"", RULED + 0x300: b"\x07\x1e"}
"""sp+32 with x29 and x30 at cfa-32 and cfa-24; a leaf; outermost."""


def aarch64(code: bytes = b"") -> Task:
    head = cie(initial=b"\x0c\x1f\x00", column=30)
    functions = [(start, 0x100, program) for start, program in AARCH64.items()]
    task = Task(Arch.AARCH64, eh_frame_table(functions, head=head), code)
    task.called = bytearray(b"\x00\x00\x00\x94" * 0x200)
    return task


def test_a_leaf_s_return_address_is_in_the_link_register() -> None:
    task = aarch64()
    task.registers |= {32: RULED + 0x104, 30: RULED + 0x8}
    signature = 0x5A << 48  # pointer authentication
    task.push(SP, 0, (RULED + 0x308) | signature)
    expected = [(RULED + 0x104, "register"), (RULED + 0x8, "rule"), (RULED + 0x308, "rule")]
    assert (frames(task.walk()), task.walk().end) == (expected, "outermost")


def test_a_callers_rule_says_where_its_frame_record_lies() -> None:
    # The frame of the code without rules has 0x40 bytes above its record; that of its caller begins with the record.
    task = aarch64(b"\x00\x00\x00\x94" * 3)
    caller = SP + 0x50
    task.registers |= {32: BARE + 8, 29: SP, 30: 0}
    task.push(SP, caller, RULED + 0x8)
    task.push(caller, 0, RULED + 0x308)
    task.push(SP + 16, 0x1234, 0x5678)
    assert frames(task.walk()) == [(BARE + 8, "register"), (RULED + 0x8, "pointer"), (RULED + 0x308, "pointer")]


def test_a_caller_that_has_not_saved_its_return_address_ends_the_stack() -> None:
    task = aarch64()
    task.push(SP, 0, RULED + 0x108)
    found = task.walk()
    assert frames(found) == [(RULED, "register"), (RULED + 0x108, "rule")]
    assert found.end.startswith("the stack pointer does not grow")


@pytest.mark.parametrize(
    ("words", "child"),
    [((0xF100001F, 0x540000A0, 0x5400004B, 0xD65F03C0), True), ((0xB13FFC1F, 0x54000042, 0xD65F03C0), False),
     ((0x34000040, 0xD65F03C0), True)],
)  # fmt: skip
def test_aarch64_wrappers_return_by_the_link_register(words: tuple[int, ...], child: bool) -> None:
    task = aarch64(b"".join(struct.pack("<I", word) for word in words))
    task.registers |= {32: BARE, 30: RULED + 0x308, 0: 1}
    assert frames(task.walk()) == [(BARE, "register"), (RULED + 0x308, "wrapper")]
    task.registers[0] = 0
    assert task.walk().end.startswith("a new task") == child


@pytest.mark.parametrize(
    ("beginning", "leaf"),
    [
        ((0xD503233F, 0xA9BE7BFD), True),  # paciasp; stp x29, x30, [sp, #-32]!: musl's __syscall_ret
        ((0xA9BF7BFD, 0x910003FD), True),
        ((0xF94007F3, 0xA8C27BFD), False),  # ldr x19, [sp, #8]; ldp x29, x30, [sp], #32: the end of a function
        ((0xD503233F, 0xD10083FF), False),
    ],
)
def test_an_aarch64_function_may_end_by_a_jump_to_another(beginning: tuple[int, int], leaf: bool) -> None:
    task = aarch64(b"".join(struct.pack("<I", word) for word in (0x14000003, 0, 0, *beginning)))  # b +12
    task.registers |= {32: BARE, 30: RULED + 0x308, 0: 1}
    found = frames(task.walk())
    assert found == [(BARE, "register"), (RULED + 0x308, "wrapper")][: 1 + leaf]
    task.registers[0] = 0
    assert frames(task.walk()) == found, "the child of a vfork goes the same way"


def test_a_new_aarch64_task_is_known_where_rules_cover_its_creator() -> None:
    # cmp x0, 0; b.eq; b.lt; ret: glibc's clone, whose rules say that the return address is in x30, for both tasks
    code = b"".join(struct.pack("<I", word) for word in (0xF100001F, 0x540000A0, 0x5400004B, 0xD65F03C0))
    task = aarch64()
    task.called[0x104 : 0x104 + len(code)] = code
    task.registers |= {32: RULED + 0x104, 30: RULED + 0x308, 0: 1}
    assert len(task.walk().frames) == 2
    task.registers[0] = 0
    assert task.walk().end.startswith("a new task")


SIGCONTEXTS: list[tuple[Arch, str, int, Callable[[dict[str, int]], list[int]]]] = [
    (Arch.X86_64, "48c7c00f0000000f05", 40,
     lambda of: [*range(8), 0, 0, of["fp"], 0, 0, 0, 0, of["sp"], of["pc"]]),
    (Arch.I386, "b8ad000000cd80", 160, lambda of: [0, 0, 0, 0, 0, 0, of["fp"], of["sp"], 0, 0, 0, 0, 0, 0, of["pc"]]),
    (Arch.I386, "58b877000000cd80", 4, lambda of: [0, 0, 0, 0, 0, 0, of["fp"], of["sp"], 0, 0, 0, 0, 0, 0, of["pc"]]),
    (Arch.AARCH64, "681180d2010000d4", 312, lambda of: [*range(29), of["fp"], 0, of["sp"], of["pc"]]),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "code", "offset", "context"), SIGCONTEXTS)
def test_trampolines_without_rules_are_known_by_their_code(
    arch: Arch, code: str, offset: int, context: Callable[[dict[str, int]], list[int]]
) -> None:
    task = Task(arch, None, bytes.fromhex(code))
    task.registers[NUMBERS[arch].pc] = BARE
    interrupted = {"pc": RULED + 0x20, "sp": SP + 0x800, "fp": 0}
    task.push(SP + offset, *context(interrupted))
    task.ruled = CodeMapping(None, 0)
    found = task.walk(1)
    assert frames(found) == [(BARE, "register")]
    assert frames(task.walk(2))[1] == (RULED + 0x20, "signal")


def test_a_signal_frame_may_lie_above_what_it_interrupted() -> None:
    table = eh_frame_table(
        # rsp is what lies at rsp+8, rip at rsp+16: the CFA is the interrupted stack pointer
        [(RULED + 0x200, 0x100, b"\x0f\x03\x77\x08\x06\x10\x10\x02\x77\x10\x16\x07\x03\x77\x08\x06")],
        head=cie(b"zRS"),
    )
    task = Task(Arch.X86_64, table)
    task.registers[16] = RULED + 0x201
    task.push(SP + 8, SP - 0x4000, RULED + 0x200)
    found = task.walk(3)
    assert frames(found)[:2] == [(RULED + 0x201, "register"), (RULED + 0x200, "signal")]


def by_number(arch: Arch, values: dict[str, int]) -> dict[int, int]:
    return {number: values[name] for number, name in enumerate(NUMBERS[arch].names) if name and name in values}


def test_registers_by_number_and_by_block() -> None:
    for arch, layout in LAYOUTS.items():
        values = {name: number for number, name in enumerate(layout.names)}
        block = layout.format.pack(*values.values())
        numbered = dwarf_block(arch, block)
        assert numbered == by_number(arch, values)
        assert numbered[NUMBERS[arch].pc] == values[layout.ip]
        assert numbered[NUMBERS[arch].sp] == values[layout.sp]
        assert numbered[NUMBERS[arch].result] == values[layout.ret]


def test_numbers_of_the_psabi() -> None:
    expected = {
        Arch.X86_64: {
            "rax": 0, "rdx": 1, "rcx": 2, "rbx": 3, "rsi": 4, "rdi": 5, "rbp": 6, "rsp": 7, "r15": 15, "rip": 16,
        },
        Arch.I386: {"eax": 0, "ecx": 1, "edx": 2, "ebx": 3, "esp": 4, "ebp": 5, "esi": 6, "edi": 7, "eip": 8},
        Arch.AARCH64: {"x0": 0, "x29": 29, "x30": 30, "sp": 31, "pc": 32},
        Arch.RISCV64: {"ra": 1, "sp": 2, "s0": 8, "a0": 10, "t6": 31, "pc": 64},
    }  # fmt: skip
    for arch, numbers in expected.items():
        assert by_number(arch, numbers) == {number: number for number in numbers.values()}


@settings(max_examples=80, deadline=2000)
@given(st.data(), st.sampled_from(list(Arch)))
def test_any_memory_gives_a_stack_soon(data: st.DataObject, arch: Arch) -> None:
    program = data.draw(st.binary(max_size=24))
    head = cie(initial=data.draw(st.binary(max_size=8)), column=NUMBERS[arch].link or NUMBERS[arch].pc)
    task = Task(arch, eh_frame_table([(RULED, 0x800, program)], head=head), data.draw(st.binary(max_size=64)))
    words = st.integers(0, (1 << 8 * task.word) - 1) | st.integers(SP - 64, SP + SIZE) | st.integers(BARE, BARE + 70)
    places = st.integers(RULED, RULED + 0x7FF) | words
    for place in range(0, 512, task.word):
        task.push(SP + place, data.draw(places) & (1 << 8 * task.word) - 1)
    task.registers |= {number: data.draw(words) for number in range(3)}
    task.registers |= {NUMBERS[arch].pc: data.draw(places), NUMBERS[arch].fp: data.draw(words)}
    began = time.perf_counter()
    found = task.walk(64)
    assert time.perf_counter() - began < 1
    assert len(found.frames) <= 64
    assert found.end
    assert task.walk(64, window=True) == found


@settings(max_examples=200, deadline=2000)
@given(st.binary(min_size=1, max_size=300), st.sampled_from([Arch.X86_64, Arch.I386, Arch.AARCH64]))
def test_any_code_without_rules_is_followed_to_an_end(code: bytes, arch: Arch) -> None:
    task = Task(arch, None, code)
    task.registers |= {NUMBERS[arch].pc: BARE, 0: 0}
    task.push(SP, *(RULED + 5 * place for place in range(60)))
    began = time.perf_counter()
    task.walk(40)
    assert time.perf_counter() - began < 1


def test_an_expression_in_a_rule_may_not_read_everywhere() -> None:
    table = eh_frame_table([(RULED, 0x100, b"\x0f" + uleb(4) + b"\x08\x08\x06\x96")])
    task = Task(Arch.X86_64, table)
    assert task.walk().end == f"the rule at {RULED:#x} has an expression without a value"


@pytest.mark.parametrize(("before", "follows"), [(b"\xff\xd0", True), (b"\x90", True), (b"\xff\xe0", False)])
def test_a_return_address_follows_a_call_or_a_nop(before: bytes, follows: bool) -> None:
    task = x86()
    task.ruled = CodeMapping(task.ruled.table, 0)
    task.called[0x20E - len(before) : 0x20E] = before
    task.push(SP + 8, RULED + 0x20E)
    task.push(SP + 16 + 24, OUTERMOST - 2)
    whole = [(RULED, "register"), (RULED + 0x20E, "rule"), (OUTERMOST - 2, "rule")]
    for _ in range(2):
        found = task.walk()
        assert frames(found) == (whole if follows else whole[:1])
        assert follows or found.end == f"the return address {RULED + 0x20E:#x} follows no call: a corrupted stack"
