"""Where the debug file of a program is looked for, and which ones are refused."""

import os
from pathlib import Path
from typing import Any

import pytest
from elf_files import compiled
from oracle_tools import run

from forklore.abi.units import Unavailable
from forklore.elf.image.debug_files import find_debug_file
from forklore.elf.image.image import ElfImage
from forklore.elf.image.symbols import Symbols
from forklore.linux.files.strangers_file import Folder

SOURCE = "static __attribute__((noinline)) int inner(int n) { return n * 3; } int main(int n) { return inner(n); }"


def opened(path: Path) -> ElfImage:
    image = ElfImage.open(path)
    assert isinstance(image, ElfImage), image
    return image


def found_for(image: ElfImage, path: str, root: str = "/", **how: Any) -> ElfImage | Unavailable | None:
    folder = Folder(root)
    try:
        return find_debug_file(image, path, folder, **how)
    finally:
        folder.close()


def split(directory: Path, *options: str) -> tuple[Path, Path]:
    """A stripped program with a link to its debug file, and that file beside it."""
    whole = compiled(directory, SOURCE, "-g", "-O1", *options, name="whole")
    program, debug = directory / "program", directory / "program.debug"
    run("objcopy", "--only-keep-debug", whole, debug)
    run("objcopy", "-S", f"--add-gnu-debuglink={debug}", whole, program)
    return program, debug


@pytest.fixture(params=["-Wl,--build-id", "-Wl,--build-id=none"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    return split(tmp_path, str(request.param))


@pytest.mark.parametrize("place", ["{0}/program.debug", "{0}/.debug/program.debug", "{1}{0}/program.debug"])
def test_the_link_is_followed(pair: tuple[Path, Path], tmp_path: Path, place: str) -> None:
    program, debug = pair
    store = tmp_path / "store"
    target = Path(place.format(tmp_path, store))
    target.parent.mkdir(parents=True, exist_ok=True)
    debug.rename(target)
    image = opened(program)
    found = found_for(image, str(program), directories=[str(store)])
    assert isinstance(found, ElfImage), found
    assert Symbols(image).find(b"inner") is None
    asked: list[int] = []

    def give() -> ElfImage:
        asked.append(1)
        assert isinstance(found, ElfImage)
        return found

    symbols = Symbols(image, give)
    assert symbols.find(b"inner", own=True) is None
    assert not asked
    inner = symbols.find(b"inner")
    assert inner is not None
    assert inner == Symbols(opened(tmp_path / "whole")).find(b"inner")
    assert symbols.at(inner.address + 1) == inner
    assert symbols.at(inner.address + 1, inner.address) == inner


def test_the_build_id_finds_it_below_another_root(tmp_path: Path) -> None:
    program, debug = split(tmp_path, "-Wl,--build-id")
    image = opened(program)
    assert image.build_id is not None
    target = tmp_path / f"root/usr/lib/debug/.build-id/{image.build_id[:2]}/{image.build_id[2:]}.debug"
    target.parent.mkdir(parents=True)
    debug.rename(target)
    found = found_for(image, "/opt/program", root=str(tmp_path / "root"))
    assert isinstance(found, ElfImage), found
    assert found.build_id == image.build_id
    assert found_for(image, str(program), directories=[]) is None


def test_a_file_that_is_not_the_one_is_refused(pair: tuple[Path, Path]) -> None:
    program, debug = pair
    image = opened(program)
    other = compiled(program.parent, SOURCE.replace("3", "4"), "-g",
                     "-Wl,--build-id=0x1234" if image.build_id else "-Wl,--build-id=none", name="other")
    other.rename(debug)
    found = found_for(image, str(program), directories=[])
    assert isinstance(found, Unavailable)
    assert str(debug) in found.why
    assert ("has build-id" if image.build_id else "another CRC-32") in found.why


def test_one_changed_byte_changes_the_sum(tmp_path: Path) -> None:
    program, debug = split(tmp_path, "-Wl,--build-id=none")
    content = bytearray(debug.read_bytes())
    content[-1] ^= 1
    debug.write_bytes(content)
    found = found_for(opened(program), str(program), directories=[])
    assert isinstance(found, Unavailable)
    assert "another CRC-32" in found.why


def test_junk_and_pipes_under_the_name_are_told(tmp_path: Path) -> None:
    program, debug = split(tmp_path)
    debug.unlink()
    image = opened(program)
    assert found_for(image, str(program), directories=[]) is None
    os.mkfifo(debug)
    assert found_for(image, str(program), directories=[]) == Unavailable(0, f"{debug}: not a regular file")


def test_a_program_is_not_its_own_debug_file(tmp_path: Path) -> None:
    program, debug = split(tmp_path, "-Wl,--build-id")
    debug.unlink()
    program.rename(debug)
    assert found_for(opened(debug), str(debug), directories=[]) is None
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere/program"
    copy.write_bytes(debug.read_bytes())
    (tmp_path / "elsewhere/program.debug").write_bytes(debug.read_bytes())
    found = found_for(opened(copy), str(copy), directories=[])
    assert isinstance(found, Unavailable)
    assert "neither symbols nor debug information" in found.why
