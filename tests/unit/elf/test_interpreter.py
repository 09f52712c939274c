"""What the kernel starts for a file: read from real files and from broken ones."""

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.units import Unavailable
from forklore.elf.image.interpreter import interpreter


def test_a_script_names_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"#! /usr/bin/env  python3\nprint()\n")
    assert interpreter(script) == b"/usr/bin/env"


def test_a_dynamic_program_names_its_linker() -> None:
    found = interpreter("/bin/sh")
    assert isinstance(found, bytes)
    assert Path(found.decode()).exists()


def test_a_file_that_is_neither_needs_none(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("echo hello\n")
    assert interpreter(text) is None


def test_a_missing_file_is_unavailable_with_its_errno(tmp_path: Path) -> None:
    found = interpreter(tmp_path / "nothing")
    assert isinstance(found, Unavailable)
    assert found.errno == 2


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=4096))
def test_a_broken_elf_file_gives_an_answer(tmp_path_factory: object, junk: bytes, keep: int) -> None:
    whole = Path(sys.executable).resolve().read_bytes()[:4096]
    path = Path(tmp_path_factory.mktemp("elf"), "broken")  # type: ignore[attr-defined]
    path.write_bytes(whole[:keep] + junk)
    found = interpreter(path)
    assert found is None or isinstance(found, bytes | Unavailable)
