"""Lines made of styled pieces: plain text in a pipe, colour on a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO, Final, Literal

from msgspec import Struct

Role = Literal["plain", "frame", "tid", "name", "call", "flags", "exec", "good", "bad", "quiet", "loud", "maker"]

STYLES: Final[dict[Role, str]] = {
    "plain": "",
    "frame": "dim",
    "tid": "cyan",
    "name": "bold",
    "call": "",
    "flags": "blue",
    "exec": "green",
    "good": "dim",
    "bad": "red",
    "quiet": "dim",
    "loud": "bold yellow",
    "maker": "magenta",
}
"""How rich shows each role. Nothing is told by colour alone."""


class Piece(Struct, frozen=True, gc=False):
    """A stretch of text with one role."""

    text: str
    role: Role = "plain"


Line = tuple[Piece, ...]

_NARROW: Final = frozenset(map(chr, range(0x20, 0x7F))) | frozenset("│├└─·…×→←≈✗µ✓")
"""Characters known to take one cell, without asking rich: nearly all that is printed."""


def plain(line: Line) -> str:
    """The text of a line."""
    return "".join(piece.text for piece in line)


def width_of(text: str) -> int:
    """Terminal cells that a text takes."""
    if all(char in _NARROW for char in text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut_text(text: str, room: int) -> str:
    """A text cut to ``room`` cells, with an ellipsis where something is missing."""
    if width_of(text) <= room:
        return text
    if text.isascii():
        return text[: max(room - 1, 0)].rstrip() + "…"
    from rich.cells import set_cell_size

    return set_cell_size(text, max(room - 1, 0)).rstrip() + "…"


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """A text in lines of at most ``width`` cells, the further ones indented."""
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent=indent)


def fit(line: Line, width: int | None) -> Line:
    """A line cut to ``width`` cells, with an ellipsis where something is missing. None: no limit."""
    if width is None or sum(width_of(piece.text) for piece in line) <= width:
        return line
    room = width - 1
    kept: list[Piece] = []
    for piece in line:
        size = width_of(piece.text)
        if size > room:
            kept.append(Piece(cut_text(piece.text, room + 1), piece.role))
            break
        kept.append(piece)
        room -= size
    return tuple(kept)


def write(lines: Iterable[Line], file: IO[str], *, color: bool) -> None:
    """Print lines, in colour or plain."""
    if not color:
        file.write("".join(f"{plain(line).rstrip()}\n" for line in lines))
        file.flush()
        return
    from rich.console import Console
    from rich.text import Text

    # Somebody asked for colour: rich has none for such a terminal by itself.
    system: Literal["auto", "standard"] = "standard" if os.environ.get("TERM") in ("dumb", "unknown") else "auto"
    console = Console(
        file=file, force_terminal=True, color_system=system, highlight=False, markup=False, soft_wrap=True
    )
    for line in lines:
        console.print(Text.assemble(*((piece.text, STYLES[piece.role]) for piece in line)), end="\n")
    file.flush()
