"""Bytes out of traced programs and their files as text."""

from __future__ import annotations

import codecs
from typing import Final


def as_text(raw: bytes) -> str:
    """All of the bytes, invalid UTF-8 as ``\\xNN``. Control characters stay: not to be sent to a terminal."""
    return raw.decode(errors="backslashreplace")


def printable(value: bytes | str) -> str:
    """Text that a terminal cannot mistake for commands: control characters and invalid UTF-8 as backslash escapes."""
    text = as_text(value) if isinstance(value, bytes) else value
    return text if text.isprintable() else text.translate(_ESCAPES)


class _Escapes(dict[int, str]):
    # Asked character by character, so that a text of megabytes takes no more than its escapes do.
    def __missing__(self, code: int) -> str:
        char = chr(code)
        shown = char if char.isprintable() else char.encode("unicode_escape").decode()
        if len(self) < _KEPT:
            self[code] = shown
        return shown


_KEPT: Final = 4096
_ESCAPES = _Escapes()


UNENCODABLE: Final = "forklore-unencodable"
"""How streams are to treat characters that their encoding lacks (the ``errors`` of open()): signs that views are drawn
with have a substitute in ASCII, all others become backslash escapes."""

SIGNS: Final = {
    "│": "|", "├": "|", "└": "`", "─": "-", "·": "-", "…": "...", "×": "x", "→": "->", "←": "<-", "↔": "<->", "≈": "~",
    "✗": "!", "✓": "+", "µ": "u", "Σ": "sum", "“": '"', "”": '"',
    "▁": ".", "▂": ":", "▃": "-", "▄": "=", "▅": "+", "▆": "*", "▇": "#", "█": "@",
}  # fmt: skip
"""What views are drawn with, all of one column, and what stands for it in ASCII."""


def _substituted(problem: UnicodeError) -> tuple[str, int]:
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    lost = problem.object[problem.start : problem.end]
    return "".join(SIGNS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lost), problem.end


codecs.register_error(UNENCODABLE, _substituted)


def drawable(text: str, encoding: str) -> str:
    """The text as a stream of that encoding shows it: see :data:`UNENCODABLE`."""
    return text if text.isascii() else text.encode(encoding, UNENCODABLE).decode(encoding)
