"""Rules in .debug_frame sections that are compressed or in another file, against the same section as it was."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from elf_files import compiled
from oracle_tools import run
from this_machine import NATIVE, x86_64_only

from forklore.abi.arch import Arch
from forklore.elf.cfi import debug_frames
from forklore.elf.cfi.debug_frames import further_rules, keeps_its_stack
from forklore.elf.cfi.frame_table import FrameTable
from forklore.elf.image.image import ElfImage
from forklore.elf.image.symbols import Symbols

FUNCTIONS = {} if NATIVE is not Arch.X86_64 else {
    "switches": ("mov 8(%rsp), %rdi", "mov 56(%rdx), %rbx", "mov %rbx, %rsp", "call *(%rdi)", "ret"),
    "loads": ("mov 56(%rax), %rsp", "ret"),
    "aligns": ("and $-16, %rsp", "ret"),
    "stays": (
        "push %rbp", ".cfi_adjust_cfa_offset 8", "mov %rsp, %rbp", "mov 16(%rsp), %r12", "mov %r12, 8(%rsp)",
        "mov %rbp, %rsp", "pop %rbp", ".cfi_adjust_cfa_offset -8", "ret",
    ),
}  # fmt: skip
ASSEMBLY = [
    line
    for name, body in FUNCTIONS.items()
    for line in (
        f".type {name},@function", f"{name}:", ".cfi_startproc", *body, ".cfi_endproc", f".size {name}, .-{name}",
    )
]  # fmt: skip
SOURCE = """
__asm__(".cfi_sections .debug_frame");
int deep(int n, int *seen) {
	int room[64];
	room[n & 63] = n;
	*seen += room[n & 7];
	return n ? deep(n - 1, seen) + 1 : 0;
}
int other(int n) { int seen = 0; return deep(n, &seen) + seen; }
int main(int argc, char **argv) { (void)argv; return other(argc); }
""" + "\n".join(f'__asm__("{line}\\n");' for line in (".text", *ASSEMBLY))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ("-O1", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-optimize-sibling-calls")
    return compiled(tmp_path_factory.mktemp("frames"), SOURCE, *options)


def opened(path: Path) -> ElfImage:
    image = ElfImage.open(path)
    assert isinstance(image, ElfImage)
    return image


def in_place(path: Path) -> FrameTable:
    image = opened(path)
    section = image.section(".debug_frame")
    assert section is not None
    assert not section.compressed
    where = section.offset, section.address, section.size
    return FrameTable(image.data, bits=64, arch=NATIVE, eh_frame_hdr=None, eh_frame=None, debug_frame=where)


def code(path: Path, *names: str) -> list[int]:
    symbols = Symbols(opened(path))
    found = [symbols.find(name.encode()) for name in names]
    return [one.address + step for one in found if one is not None for step in range(one.size)]


@pytest.mark.parametrize("form", ["zlib", "zlib-gnu"])
def test_a_compressed_section_has_the_same_rules(program: Path, form: str) -> None:
    packed = program.with_name(f"packed-{form}")
    run("objcopy", f"--compress-debug-sections={form}", program, packed)
    image = opened(packed)
    section = image.section(".debug_frame")
    assert section is not None
    if not section.compressed:
        pytest.skip("objcopy leaves so small a section as it is")
    found, expected = further_rules(image, lambda: None, NATIVE), in_place(program)
    assert found is not None
    addresses = code(program, "deep", "other", "main", *(["stays"] if FUNCTIONS else []))
    assert [found.rule_at(address) for address in addresses] == [expected.rule_at(address) for address in addresses]
    assert all(found.rule_at(address) for address in addresses)
    assert found.function_start(addresses[5]) == addresses[0]


def test_the_rules_of_a_debug_file_are_the_programs(program: Path) -> None:
    debug, stripped = program.with_name("kept.debug"), program.with_name("stripped")
    run("objcopy", "--only-keep-debug", program, debug)
    run("strip", "-o", stripped, program)
    found, expected = further_rules(opened(stripped), lambda: opened(debug), NATIVE), in_place(program)
    assert found is not None
    for address in code(program, "deep", "main"):
        assert found.rule_at(address) == expected.rule_at(address)
    assert further_rules(opened(stripped), lambda: None, NATIVE) is None


def test_a_section_that_is_read_in_place_is_not_read_again(program: Path) -> None:
    assert further_rules(opened(program), lambda: None, NATIVE) is None


def test_a_section_is_unpacked_up_to_a_limit(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = program.with_name("packed-limit")
    run("objcopy", "--compress-debug-sections=zlib", program, packed)
    image = opened(packed)
    section = image.section(".debug_frame")
    assert section is not None
    assert section.compressed
    (size,) = struct.unpack_from("<Q", image.data, section.offset + 8)
    monkeypatch.setattr(debug_frames, "_MOST_UNPACKED", size)
    assert further_rules(image, lambda: None, NATIVE) is not None
    monkeypatch.setattr(debug_frames, "_MOST_UNPACKED", size - 1)
    assert further_rules(image, lambda: None, NATIVE) is None


@pytest.mark.parametrize("damage", [b"\0" * 24, b"\xff" * 24])
def test_a_damaged_section_has_no_rules(program: Path, damage: bytes) -> None:
    packed = program.with_name("packed-damaged")
    run("objcopy", "--compress-debug-sections=zlib", program, packed)
    whole = opened(packed)
    section = whole.section(".debug_frame")
    assert section is not None
    for at in (section.offset, section.offset + 24):
        content = bytearray(packed.read_bytes())
        content[at : at + len(damage)] = damage
        broken = ElfImage.of_bytes(bytes(content))
        assert isinstance(broken, ElfImage)
        assert further_rules(broken, lambda: None, NATIVE) is None


@x86_64_only
def test_rules_of_code_that_takes_another_stack_do_not_hold(program: Path) -> None:
    packed = program.with_name("packed-switch")
    run("objcopy", "--compress-debug-sections=zlib", program, packed)
    found, trusting = further_rules(opened(packed), lambda: None, NATIVE), in_place(program)
    assert found is not None
    for name in ("switches", "loads", "aligns"):
        for address in code(program, name):
            assert trusting.rule_at(address) is not None
            assert found.rule_at(address) is None
    assert found.rule_at(code(program, "stays")[0]) is not None


@pytest.mark.parametrize(
    ("words", "stays"),
    [
        ((0x910003FD, 0xD65F03C0), True),  # mov x29, sp; ret
        ((0x910003BF, 0xD65F03C0), True),  # mov sp, x29
        ((0x9100007F, 0xD63F0000), False),  # mov sp, x3
        ((0x910083FF, 0xD65F03C0), True),  # add sp, sp, #32
    ],
)
def test_aarch64_code_that_takes_another_stack(words: tuple[int, ...], stays: bool) -> None:
    header = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0, 120 + 4 * len(words), 120 + 4 * len(words), 4096)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    image = ElfImage.of_bytes(ident + header + load + struct.pack(f"<{len(words)}I", *words))
    assert isinstance(image, ElfImage)
    start = 0x400000 + 120
    assert keeps_its_stack(image, Arch.AARCH64, start, start + 4 * len(words)) is stays
    assert not keeps_its_stack(image, Arch.AARCH64, 0x900000, 0x900008), "code that is not in the file"
