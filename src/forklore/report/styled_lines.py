"""Lines made of styled pieces: plain text in a pipe, colour on a terminal."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Final, Literal

from msgspec import Struct

from forklore.abi.patterns import regex
from forklore.abi.text import SIGNS, drawable

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

_ENDLESS: Final = regex(r"\S{4096,}")
_NARROW: Final = frozenset(map(chr, range(0x20, 0x7F))) | frozenset(SIGNS)
"""Characters known to take one cell, without asking rich: nearly all that is printed."""


_encoding: ContextVar[str | None] = ContextVar("encoding", default=None)
"""What the lines that are being made will be written in; None: all characters can be."""


@contextmanager
def drawn_for(file: IO[str]) -> Iterator[None]:
    """What is measured and cut inside is so for a file that may lack characters: ``…`` takes three columns in ASCII."""
    name = codecs.lookup(getattr(file, "encoding", None) or "utf-8").name
    token = _encoding.set(None if name.startswith("utf") else name)
    try:
        yield
    finally:
        _encoding.reset(token)


def _drawn(text: str) -> str:
    encoding = _encoding.get()
    return text if encoding is None else drawable(text, encoding)


def plain(line: Line) -> str:
    """The text of a line."""
    return "".join(piece.text for piece in line)


def width_of(text: str) -> int:
    """Terminal cells that a text takes."""
    text = _drawn(text)
    if _NARROW.issuperset(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def size_of(line: Line) -> int:
    """Terminal cells that a line takes."""
    text = "".join([piece.text for piece in line])
    if _encoding.get() is None and _NARROW.issuperset(text):
        return len(text)
    return sum([width_of(piece.text) for piece in line])


def cut_text(text: str, room: int) -> str:
    """A text cut to ``room`` cells, with an ellipsis where something is missing."""
    text = _drawn(text)
    if width_of(text) <= room:
        return text
    mark = _drawn("…")
    left = max(room - len(mark), 0)
    if not text.isascii():
        from rich.cells import set_cell_size

        return set_cell_size(text, left).rstrip() + mark
    return text[:left].rstrip() + mark


def fit(line: Line, width: int | None) -> Line:
    """A line cut to ``width`` cells, with an ellipsis where something is missing. None: no limit."""
    if width is None or size_of(line) <= width:
        return line
    mark = len(_drawn("…"))
    room = width - mark
    kept: list[Piece] = []
    for piece in line:
        size = width_of(piece.text)
        if size > room:
            kept.append(Piece(cut_text(piece.text, room + mark), piece.role))
            break
        kept.append(piece)
        room -= size
    return tuple(kept)


def wrapped(text: str, width: int, hang: str = "") -> list[str]:
    """Text in lines of at most ``width`` cells, those after the first indented by ``hang``, in linear time."""
    import textwrap

    text = _drawn(text)
    # textwrap counts characters: one of two cells gets another before it, which may stay in the line before.
    wide = {ord(char): f"\0{char}" for char in set(text) - _NARROW if width_of(char) > 1}
    if wide:
        text, width = text.translate(wide), width - 1
    # textwrap copies the rest of a word that is too long for each line that it fills.
    short = _ENDLESS.sub(lambda found: " ".join(_pieces(found[0], width - len(hang))), text)
    return [line.replace("\0", "") for line in textwrap.wrap(short, width, subsequent_indent=hang)]


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def write(lines: Iterable[Line], file: IO[str], *, color: bool) -> None:
    """Print lines, in colour or plain, as far as the file's encoding has the characters, else in ASCII."""
    with drawn_for(file):
        _write(lines, file, color=color)


def _write(lines: Iterable[Line], file: IO[str], *, color: bool) -> None:
    if not color:
        file.write(_drawn("".join([f"{plain(line).rstrip()}\n" for line in lines])))
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
        console.print(Text.assemble(*((_drawn(piece.text), STYLES[piece.role]) for piece in line)), end="\n")
    file.flush()
