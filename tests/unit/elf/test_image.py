"""What is read of an ELF file, against readelf and against files that were broken on purpose."""

import mmap
import os
import re
import time
from pathlib import Path

import pytest
from elf_files import LIBC, compiled, written
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_tools import run
from this_machine import NATIVE, processor_time, x86_64_only

from forklore.abi.arch import Arch
from forklore.abi.units import Unavailable
from forklore.elf.dwarf.source import DwarfSource
from forklore.elf.image.debug_files import find_debug_file
from forklore.elf.image.image import ElfImage
from forklore.elf.image.symbols import Symbols
from forklore.linux.files.strangers_file import root_of


def opened(path: Path | str) -> ElfImage:
    image = ElfImage.open(path)
    assert isinstance(image, ElfImage), image
    return image


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = "int helper(void) { return 3; } int main(void) { return helper(); }"
    return compiled(tmp_path_factory.mktemp("image"), source, "-g", "-Wl,--build-id")


def test_segments_and_sections_are_those_of_readelf(program: Path) -> None:
    image = opened(program)
    told = [[int(word, 16) for word in line.split()[1:6] if word.startswith("0x")]
            for line in run("readelf", "-lW", program).splitlines() if line.split()[:1] == ["LOAD"]]
    assert [[load.offset, load.address, load.address, load.file_size, load.memory_size] for load in image.loads] == told
    lines = re.findall(r"^ +\[ *\d+\] (\S+) +\S+ +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)",
                       run("readelf", "-SW", program), re.M)
    assert len(lines) > 20
    for name, address, offset, size in lines:
        section = image.section(name)
        assert section is not None, name
        assert (section.address, section.offset) == (int(address, 16), int(offset, 16))
        assert section.memory_size == int(size, 16)
    assert f"Build ID: {image.build_id}" in run("readelf", "-n", program)
    frames, by_name = image.segment_eh_frame_hdr(), image.section(".eh_frame_hdr")
    assert frames is not None
    assert by_name is not None
    assert (frames.offset, frames.address, frames.size) == (by_name.offset, by_name.address, by_name.size)


@pytest.mark.parametrize(("options", "kind", "bits", "arch"), [
    (["-no-pie"], "exec", 64, NATIVE), (["-pie", "-fPIE"], "dyn", 64, NATIVE), (["-c"], "rel", 64, NATIVE),
    pytest.param(["-m32", "-c"], "rel", 32, Arch.I386, marks=x86_64_only),
    pytest.param(["-mx32", "-c"], "rel", 32, Arch.X32, marks=x86_64_only)])
def test_kind_and_arch(tmp_path: Path, options: list[str], kind: str, bits: int, arch: Arch) -> None:
    image = opened(compiled(tmp_path, "int main(void) { return 0; }", *options))
    assert (image.kind, image.bits, image.arch) == (kind, bits, arch)


def test_without_section_headers_the_program_headers_tell(program: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    content = bytearray(program.read_bytes())
    content[40:48] = bytes(8)  # e_shoff
    content[60:64] = bytes(4)  # e_shnum, e_shstrndx
    bare.write_bytes(content)
    whole, image = opened(program), opened(bare)
    assert image.section(".text") is None
    assert image.build_id == whole.build_id
    assert image.segment_eh_frame_hdr() == whole.segment_eh_frame_hdr()
    assert image.dynamic == whole.dynamic


def test_offsets_become_addresses_as_mmap_moves_whole_pages(program: Path) -> None:
    image = opened(program)
    data = next(load for load in image.loads if load.offset % mmap.PAGESIZE)
    assert image.address_of(data.offset) == data.address
    # The page that data begins in is mapped whole: the byte before it has an address unless another segment holds it.
    before = image.address_of(data.offset - 1)
    assert before is not None
    assert before % mmap.PAGESIZE == (data.offset - 1) % mmap.PAGESIZE
    assert image.address_of(image.size + mmap.PAGESIZE) is None
    for load in image.loads:
        if load.file_size:
            assert image.offset_of(load.address) == load.offset


@pytest.fixture
def in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are read as a whole: here every file is a large one."""
    monkeypatch.setattr("forklore.linux.files.strangers_file._COPIED", 0)


@pytest.mark.usefixtures("in_pages")
def test_a_large_file_is_read_as_it_is_asked(program: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(program.read_bytes() + bytes(32 << 20))
    image = opened(large)
    helper = Symbols(image).find(b"helper")
    assert helper is not None
    assert Symbols(image).at(helper.address + 1) == helper
    before = bytes_read()
    image.read(16 << 20, 1)
    assert bytes_read() - before < 1 << 16
    image.close()


def bytes_read() -> int:
    """By this process so far (proc_pid_io(5))."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.usefixtures("in_pages")
def test_a_file_cut_short_while_it_is_looked_into_holds_zeros_there(program: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(program.read_bytes() + bytes(64 << 10))
    image = opened(copy)
    os.truncate(copy, 100)
    assert image.read(0, 4) == b"\x7fELF"
    assert image.read(60 << 10, 4) == bytes(4)
    assert not image.whole
    assert DwarfSource(image).at(0) == ()


def test_compressed_sections_are_flagged(tmp_path: Path) -> None:
    image = opened(compiled(tmp_path, "int main(void) { return 0; }", "-g", "-gz=zlib"))
    section, text = image.section(".debug_info"), image.section(".text")
    assert section is not None
    assert section.compressed
    assert text is not None
    assert not text.compressed


@pytest.mark.parametrize(("content", "why"), [
    (b"", "an empty file"), (b"#!/bin/sh\n", "not an ELF file"), (b"\x7fELF", "neither 32 nor 64"),
    (b"\x7fELF\x02\x02" + bytes(70), "little-endian"), (b"\x7fELF\x02\x01" + bytes(20), "ends after 26 bytes")])
def test_what_is_no_elf_file_says_so(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    found = ElfImage.open(path)
    assert isinstance(found, Unavailable)
    assert why in found.why


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    missing = ElfImage.open(tmp_path / "nothing")
    assert isinstance(missing, Unavailable)
    assert missing.errno == 2
    os.mkfifo(tmp_path / "pipe")
    assert ElfImage.open(tmp_path / "pipe") == Unavailable(0, "not a regular file")
    assert ElfImage.open(tmp_path) == Unavailable(0, "not a regular file")
    assert isinstance(ElfImage.open("a\0b"), Unavailable)


def looked_at(data: bytes, path: str) -> None:
    """Everything that can be asked of a file, broken or not."""
    image = ElfImage.of_bytes(data)
    if isinstance(image, Unavailable):
        assert image.why
        return
    for name in (".text", ".debug_info", ".symtab", ".gnu_debugdata"):
        image.section(name)
    image.segment_eh_frame_hdr()
    image.debug_link()
    with root_of(None) as root:
        debug = find_debug_file(image, path, root, directories=())
    assert debug is None or isinstance(debug, ElfImage | Unavailable)
    symbols = Symbols(image)
    for load in image.loads[:4]:
        image.address_of(load.offset)
        image.offset_of(load.address)
        symbols.at(load.address + 64)
        symbols.at(load.address + 64, load.address)
    for symbol in (b"main", b"helper", b"nothing"):
        symbols.find(symbol)
    symbols.at(0x401136, 0x401136)


@pytest.fixture(scope="module")
def victims(program: Path) -> list[bytes]:
    whole = program.read_bytes()
    bare = whole[:40] + bytes(8) + whole[48:60] + bytes(4) + whole[64:]
    return [whole, bare, written([(b"main", 0x12, 0x401136, 20), (b"helper", 0x12, 0x401200, 0)])]


@settings(max_examples=300, deadline=2000)
@given(st.data())
def test_mutated_files_give_an_answer_in_bounded_time(victims: list[bytes], data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(victims)))
    last = len(content) - 1
    interesting = st.one_of(st.integers(0, 255), st.integers(0, last), st.integers(max(last - 2600, 0), last))
    extreme = st.sampled_from([b"\xff" * 8, bytes(8), b"\xff" * 4, b"\xff\xff\xff\x7f"])
    word = st.one_of(st.binary(min_size=1, max_size=8), extreme)
    for place, junk in data.draw(st.lists(st.tuples(interesting, word), min_size=1, max_size=6)):
        content[place:place + len(junk)] = junk
    keep = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    looked_at(bytes(content[:keep]), "/nowhere/program")


@settings(max_examples=50, deadline=2000)
@given(st.binary(max_size=600))
def test_junk_after_the_magic_gives_an_answer(junk: bytes) -> None:
    looked_at(b"\x7fELF\x02\x01\x01" + bytes(9) + junk, "/nowhere/program")


def test_a_large_library_opens_without_being_read() -> None:
    if not LIBC.exists():
        pytest.skip(f"{LIBC} is not there: not a Debian")
    started = time.thread_time()
    image = opened(LIBC)
    symbols = Symbols(image)
    assert symbols.find(b"fork") is not None
    assert time.thread_time() - started < processor_time(0.1)
