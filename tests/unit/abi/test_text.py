"""Bytes as text: all of them, and what of it a terminal is shown."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forklore
from forklore.abi.text import SIGNS, as_text, drawable, printable


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


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("ascii", r"a -> b - 3 x f -- \xfc ... `- \u6f22 \U0001f98a \udcff sum 2 us"),
        ("latin-1", r"a -> b · 3 × f -- ü ... `- \u6f22 \U0001f98a \udcff sum 2 µs"),
        ("utf-8", r"a → b · 3 × f ── ü … └─ 漢 🦊 \udcff Σ 2 µs"),
    ],
)
def test_what_an_encoding_lacks_is_drawn_in_ascii(encoding: str, text: str) -> None:
    assert drawable("a → b · 3 × f ── ü … └─ 漢 🦊 \udcff Σ 2 µs", encoding) == text


def test_every_sign_that_is_printed_has_a_substitute() -> None:
    package = Path(forklore.__file__).parent
    printed: set[str] = set()
    for file in package.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings among them
        strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in comments)
        printed.update(*(node.value for node in strings if isinstance(node.value, str)))
    assert {sign for sign in printed if not sign.isascii() and sign.isprintable()} == set(SIGNS)
    assert all(text.isascii() for text in SIGNS.values())
