"""The argument text of a traced call, as strace and ltrace print it, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    rb'["/<=,()\[\]{}](?:'  # one of these first: the search skips all else
    rb'(?<=")(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
    rb"|(?<=/)\*.*?(?:\*/|\Z)"
    rb"|(?<=[0-9]<)[^<>]*(?:<[^<>]*>[^<>]*)*>"
    rb"|(?<==)>"
    rb'|(?<=[(\[{])(?:[^()\[\]{}"<>/]++|"(?:[^"\\]++|\\.)*+")*+[)\]}]'  # brackets, and none in them
    rb"|(?<=[,()\[\]{}]))",
    re.DOTALL,
)
_ARGUMENTS_LIMIT: Final = 1 << 16
_STRING: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"(\.\.\.)?', re.DOTALL)
_STRINGS: Final = re.compile(
    rb'\[(?:"(?:[^"\\]++|\\.)*+"(?:\.\.\.)?+(?:, "(?:[^"\\]++|\\.)*+"(?:\.\.\.)?+)*+(?:, (\.\.\.))?)?\]', re.DOTALL
)
_EACH_STRING: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"(\.\.\.)?', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f", b"a": b"\a", b"b": b"\b"}
_RESULT: Final = re.compile(
    rb"\s*=\s*(\?|-?(?:0x[0-9a-fA-F]+|\d+))(?:<[^>]*>)?(?: ([A-Z][A-Z0-9_]*)\b)?"
    rb"(?: /\* (\d+) in strace's PID NS \*/)?"
)
_MARKS: Final = re.compile(rb" \((INJECTED(?:: [a-z, ]+)?|DELAYED)\)")
_DURATION: Final = re.compile(rb"<(\d+)\.(\d{1,9})>\s*\Z")


@dataclass(frozen=True, slots=True)
class Result:
    """What a call returned.

    ``value`` is None for ``?``; ``error`` is the error's name; ``outer`` the pid in the log's own pid namespace,
    where strace adds it; ``took`` how long the call took, in nanoseconds; ``marks`` what strace adds of its own doing.
    """

    value: int | None
    error: bytes | None
    outer: int | None
    took: int | None
    marks: tuple[bytes, ...] = ()


def arguments(text: bytes, start: int) -> tuple[list[bytes], int | None]:
    """The arguments from ``start``, after the opening parenthesis, and where the closing one ends.

    None for that end where the text has none. An output part (``=> {...}``) is left out.
    """
    found: list[bytes] = []
    depth = 0
    begin = start
    out: int | None = None
    for token in _TOKEN.finditer(text, start):
        mark = token.group()
        if mark in (b"(", b"[", b"{"):
            depth += 1
        elif mark in (b")", b"]", b"}"):
            if depth == 0:
                last = text[begin : token.start() if out is None else out].strip()
                if last or found:
                    found.append(last)
                return found, token.end()
            depth -= 1
        elif depth == 0 and mark == b"," and len(found) < _ARGUMENTS_LIMIT:
            found.append(text[begin : token.start() if out is None else out].strip())
            begin, out = token.end(), None
        elif depth == 0 and mark == b"=>":
            out = token.start()
    found.append(text[begin : len(text) if out is None else out].strip())
    return found, None


def members(text: bytes) -> dict[bytes, bytes]:
    """The fields of ``{name=value, ...}`` or the named arguments of a list of them."""
    inner = text.strip()
    if inner.startswith(b"{"):
        inner = inner[1:-1] if inner.endswith(b"}") else inner[1:]
    parts, _ = arguments(inner + b")", 0)
    named = (part.partition(b"=") for part in parts)
    return {name.strip(): value.strip() for name, equals, value in named if equals}


def string(text: bytes) -> tuple[bytes, bool] | None:
    """A quoted string's bytes, and whether the log has all of it; None if the text is none."""
    match = _STRING.fullmatch(text)
    if match is None:
        return None
    return unescaped(match.group(1)), match.group(2) is None


def strings(text: bytes) -> tuple[list[bytes], bool] | None:
    """The strings of ``["a", "b"...]``, and whether the log has them whole; None for any other text."""
    if (plain := _STRINGS.fullmatch(text)) is not None:
        each: list[tuple[bytes, bytes]] = _EACH_STRING.findall(text)
        return [unescaped(value) for value, _ in each], plain[1] is None and not any(cut for _, cut in each)
    if not (text.startswith(b"[") and text.endswith(b"]")):
        return None
    items, _ = arguments(text[1:-1] + b")", 0)
    whole = True
    values: list[bytes] = []
    for item in items:
        if item.startswith(b"/*") or item == b"...":
            whole = False
            continue
        value = string(item)
        if value is None:
            whole = False
            continue
        values.append(value[0])
        whole = whole and value[1]
    return values, whole


def unescaped(text: bytes) -> bytes:
    """C escapes taken back."""
    return _ESCAPE.sub(_escape, text) if b"\\" in text else text


def _escape(match: re.Match[bytes]) -> bytes:
    hexadecimal, octal, letter = match.groups()
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    return _LETTERS.get(letter, letter)


def result(text: bytes, end: int) -> Result | None:
    """What stands after the closing parenthesis; None if that is no result."""
    match = _RESULT.match(text, end)
    if match is None:
        return None
    value, error, outer = match.groups()
    number = None if value == b"?" else int(value[:20], 16 if b"x" in value else 10)
    took = _DURATION.search(text, match.end())
    nanoseconds = None if took is None else int(took[1][:9]) * 1_000_000_000 + int(took[2].ljust(9, b"0"))
    marks = tuple(_MARKS.findall(text, match.end()))
    return Result(number, error, None if outer is None else int(outer[:9]), nanoseconds, marks)
