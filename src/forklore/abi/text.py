"""Bytes out of traced programs and their files as text."""

from __future__ import annotations


def as_text(raw: bytes) -> str:
    """All of the bytes, invalid UTF-8 as ``\\xNN``. Control characters stay: not to be sent to a terminal."""
    return raw.decode(errors="backslashreplace")


def printable(value: bytes | str) -> str:
    """Text that a terminal cannot mistake for commands: control characters and invalid UTF-8 as backslash escapes."""
    text = as_text(value) if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
