"""What pasting does to a log: a byte order mark, blanks before every line, results on lines of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from forklore.events.lines import Dull, LineSource

_MARK: Final = b"\xef\xbb\xbf"
_RESULT: Final = re.compile(rb"[ \t]*= (?:-?\d|0x[0-9a-f]|\?)")


def bare(line: bytes) -> bytes:
    """A line without what may have come before its text."""
    return _marked_off(line).lstrip(b" \t")


def lines(source: LineSource, head: list[bytes], dull: Dull) -> Iterator[tuple[int, bytes, bool]]:
    """The lines of a log as its tool wrote them, each with its number and whether it was too long to read whole.

    ``head``: the first of them, which ``source`` gives again; they tell what became of all. ``dull``: what can be left
    out, where nothing became of them.
    """
    indent = _indent(head)
    apart = any(_RESULT.match(line) for line in head)
    held: tuple[int, bytes] | None = None
    for line in source if indent or apart else source.past(dull):
        number, overlong = source.number, source.overlong
        if number == 1:
            line = _marked_off(line)
        if indent:
            line = line.removeprefix(indent)
        if held is not None:
            if not overlong and _RESULT.match(line):
                held = held[0], held[1].rstrip() + b" " + line.lstrip()
                continue
            yield *held, False
            held = None
        if apart and not overlong:
            held = number, line
        else:
            yield number, line, overlong
    if held is not None:
        yield *held, False


def _indent(head: list[bytes]) -> bytes:
    indents = {line[: len(line) - len(line.lstrip(b" \t"))] for line in map(_marked_off, head) if line.strip()}
    shortest = min(indents, key=len, default=b"")
    return shortest if all(indent.startswith(shortest) for indent in indents) else b""


def _marked_off(line: bytes) -> bytes:
    return line.removeprefix(_MARK)
