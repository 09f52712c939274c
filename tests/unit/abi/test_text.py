"""Bytes as text: all of them, and what of it a terminal is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forklore
from forklore.abi.text import as_text, printable


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        ("ünïcödé 漢字 🦊", "ünïcödé 漢字 🦊"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc\r\0", r"a\nb\tc\r\x00"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202e\u2066", r"\u202e\u2066"),
        ("\U000e0001", r"\U000e0001"),
        ("\udcff", r"\udcff"),
        ("back\\slash", "back\\slash"),
        ("", ""),
    ],
)
def test_escapes(raw: bytes | str, text: str) -> None:
    assert printable(raw) == text


@given(st.binary() | st.text(st.characters(codec=None)))
@settings(max_examples=300, deadline=None)
def test_nothing_unprintable_is_left(raw: bytes | str) -> None:
    assert printable(raw).isprintable()


@given(st.text())
def test_what_is_text_stays_as_it_is(text: str) -> None:
    assert as_text(text.encode()) == text


def test_no_other_module_turns_bytes_into_text_of_its_own() -> None:
    package = Path(forklore.__file__).parent
    own = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if re.search(r"backslashreplace|unicode_escape|isprintable|\bascii\(", file.read_text(encoding="utf-8"))
    }
    assert own == {"abi/text.py"}
