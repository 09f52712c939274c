"""What a file can call, read without running it."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.units import Unavailable
from forklore.elf.image.image import ElfImage
from forklore.features.audit.observe.target import running
from forklore.features.audit.static import findings, instructions
from forklore.features.audit.static.elf_file import BrokenElfError, identify
from forklore.features.audit.static.instructions import CallInstruction

pytest.importorskip("capstone", reason="capstone is not installed (the extra `audit`)")

NOPS = b"\x90" * 16


def found(arch: Arch, code: bytes) -> list[CallInstruction]:
    sites = instructions.sites(arch, [(0x1000, code)], [(0x1000, len(code), "here")])
    assert not isinstance(sites, Unavailable)
    return sites


@pytest.mark.parametrize(
    ("arch", "code", "number", "name"),
    [
        (Arch.X86_64, NOPS + bytes.fromhex("b838000000 0f05"), 56, "clone"),
        (Arch.X86_64, NOPS + bytes.fromhex("31c0 0f05"), 0, "read"),
        (Arch.X86_64, NOPS + bytes.fromhex("31c0 b038 0f05"), 56, "clone"),
        (Arch.X86_64, NOPS + bytes.fromhex("4889f8 0f05"), None, None),
        (Arch.X86_64, NOPS + bytes.fromhex("b838000000 c3 0f05"), None, None),
        (Arch.X86_64, NOPS + bytes.fromhex("b8380000400f05"), 0x40000038, "clone"),
        (Arch.I386, NOPS + bytes.fromhex("b878000000 cd80"), 120, "clone"),
        (Arch.I386, NOPS + bytes.fromhex("b8b3010000 65ff1510000000"), 435, "clone3"),
        (Arch.AARCH64, bytes.fromhex("881b80d2 010000d4"), 220, "clone"),
        (Arch.RISCV64, bytes.fromhex("9308c00d 73000000"), 220, "clone"),
    ],
)
def test_the_number_that_reaches_the_instruction(arch: Arch, code: bytes, number: int | None, name: str | None) -> None:
    (site,) = found(arch, code)
    assert (site.number, site.name, site.function) == (number, name, "here")


def test_bytes_within_another_instruction_are_none() -> None:
    # mov $0x050f1234, %eax: the constant holds the bytes of a system call
    assert found(Arch.X86_64, NOPS + bytes.fromhex("b834120f05") + NOPS) == []


def test_the_running_library_makes_its_calls() -> None:
    looked = findings.look(running().path)
    assert isinstance(looked.calls, list)
    names = {site.name for site in looked.calls}
    assert {"execve", "exit", "futex"} <= names
    assert names & {"clone", "fork"}
    assert looked.notes
    shown = findings.text(looked)
    assert all(site.name is None or site.name in shown for site in looked.calls)
    assert msgspec.json.decode(findings.document(looked), type=findings.Findings) == looked


def test_a_program_says_what_it_imports() -> None:
    looked = findings.look(Path("/bin/sh"))
    assert set(looked.creators) & {"fork", "vfork"}
    assert looked.interpreter is not None
    assert looked.needed


@pytest.mark.parametrize("bare", [False, True], ids=["sections", "no sections"])
@pytest.mark.parametrize("options", [["-pie", "-fPIE"], ["-no-pie"], ["-m32", "-no-pie"]], ids=" ".join)
def test_imports_of_a_program_that_exports_nothing(options: list[str], bare: bool, tmp_path: Path) -> None:
    # Its hash table, which holds what others may look up, is empty.
    program = tmp_path / "program"
    source = b"int fork(void); int system(const char *); int main(void) { return fork() + system(0); }"
    command = ["gcc", *options, "-Wl,--hash-style=gnu", "-x", "c", "-", "-o", str(program)]
    done = subprocess.run(command, input=source, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"gcc {' '.join(options)} makes no program: {done.stderr.decode().splitlines()[0]}")
    content = bytearray(program.read_bytes())
    if bare:  # e_shoff, and e_shnum with e_shstrndx
        wide = content[4] == 2
        content[40:48] = bytes(8) if wide else content[40:48]
        content[32:36] = content[32:36] if wide else bytes(4)
        content[60:64] = bytes(4) if wide else content[60:64]
        content[48:52] = content[48:52] if wide else bytes(4)
        program.write_bytes(content)
    assert findings.look(program).creators == ["fork", "system"]


def big_endian(bits: int) -> bytes:
    """A program of s390x (64) or 31-bit s390 with an interpreter and a build-id, as its headers have them."""
    at = 64 + 56 * 2 if bits == 64 else 52 + 32 * 2
    linker, note = b"/lib/ld64.so.1\0\0", struct.pack(">III4s4s", 4, 4, 3, b"GNU\0", b"\1\2\3\4")
    places = ((3, at, len(linker)), (4, at + len(linker), len(note) + 4))
    if bits == 64:
        head = struct.pack(">HHIQQQIHHHHHH", 2, 22, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
        segments = [struct.pack(">IIQQQQQQ", kind, 4, *[start] * 3, size, size, 4) for kind, start, size in places]
    else:
        head = struct.pack(">HHIIIIIHHHHHH", 2, 22, 1, 0, 52, 0, 0, 52, 32, 2, 40, 0, 0)
        segments = [struct.pack(">IIIIIIII", kind, *[start] * 3, size, size, 4, 4) for kind, start, size in places]
    return b"\x7fELF" + bytes([bits // 32, 2, 1]) + bytes(9) + head + b"".join(segments) + linker + note + bytes(4)


@pytest.mark.parametrize("bits", [32, 64])
def test_a_file_of_a_machine_that_is_not_decoded(bits: int, tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(big_endian(bits))
    looked = findings.look(path)
    assert (looked.machine, looked.arch) == (f"EM_S390, {bits}-bit, big-endian", None)
    assert looked.interpreter == "/lib/ld64.so.1"
    assert looked.notes == [findings.ElfNote("GNU", "NT_GNU_BUILD_ID", "01020304")]
    assert looked.calls == Unavailable(0, "the system calls of this machine are not known here")
    known = identify(path)
    assert (known.arch, known.machine, known.build_id) == (None, f"EM_S390 ({bits}-bit)", "01020304")
    assert (known.interpreter, known.executable) == ("/lib/ld64.so.1", True)
    assert isinstance(ElfImage.open(path), Unavailable), "a tracer reads no such file"


@pytest.mark.parametrize("raw", [b"", b"\x7fELF", b"\x7fELF" + b"\xff" * 200, b"#!/bin/sh\n"])
def test_what_is_no_elf_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(BrokenElfError):
        findings.look(path)


SMALL = Path("/bin/true").resolve().read_bytes()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(4, 1 << 12), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_file_is_an_error_or_is_read(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(SMALL)
    for at, value in changes:
        raw[at] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "damaged")
        path.write_bytes(raw)
        try:
            shown = findings.text(findings.look(path))
        except BrokenElfError:
            return
        assert shown.isascii() or shown.replace("\n", "").isprintable()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(Arch)), st.binary(max_size=400))
def test_any_bytes_are_taken_for_code(arch: Arch, code: bytes) -> None:
    for site in found(arch, code):
        assert 0x1000 <= site.address < 0x1000 + len(code)
