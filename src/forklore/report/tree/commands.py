"""Command lines in the room that a line of the tree has, alone and for several tasks that run nearly the same."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

from msgspec import Struct

from forklore.abi.patterns import regex
from forklore.abi.text import as_text, printable
from forklore.model.roles import role
from forklore.model.tasks import Image, Task
from forklore.report.styled_lines import cut_text, width_of
from forklore.report.words import words

_WORD: Final = 240
"""Characters of an argument that are looked at; a card has all of it."""
_WORDS: Final = 60
"""Arguments that are looked at."""
_GAPS: Final = regex(r"""([\s'"();|&<>=,:]+)""")
"""What stands between the parts of a command line that can differ from task to task."""
_VARYING: Final = regex(r"[./\d]")
_SUFFIX: Final = regex(r"\.[A-Za-z]\w{0,4}$")
_NUMBERS: Final = regex(r"\d+")
_LEAST: Final = 8
"""Columns that the end of a command gets beside ``…``, or it is left out."""


class CommandLine(Struct, frozen=True, gc=False):
    """The words of a command as a shell would take them, nothing in them unprintable; the program is its base name."""

    words: tuple[str, ...]
    count: int
    """How many there are, the program not included."""
    left_out: int = 0
    """How many of them are not in :attr:`words`."""

    def text(self, room: int | None = None, common: int = 0) -> str:
        """In at most ``room`` columns. ``common``: so many arguments are those of its siblings, too: they go first."""
        whole = " ".join(self.words) + (self._counted if self.left_out else "")
        if room is None or width_of(whole) <= room:
            return whole
        name, arguments = self.words[0], self.words[1:]
        if len(arguments) < 2:
            return cut_text(whole, room)
        if 0 < common < len(arguments):
            name, arguments = f"{name} …", arguments[common:]
        shown = name
        for index, word in enumerate(arguments):
            longer = f"{shown} {word}"
            rest = "" if index + 1 == len(arguments) else self._counted
            if width_of(longer) + len(rest) > room:
                left = room - width_of(shown) - len(self._counted) - 1
                shown += f" {cut_text(word, left)}" if left >= _LEAST else ""
                break
            shown = longer
        else:
            return shown
        return cut_text(shown.removesuffix("…").rstrip() + self._counted, room)

    @property
    def _counted(self) -> str:
        return f" … ({words.count(self.count, 'arg')})"


def command_line(task: Task) -> CommandLine | None:
    """What a task runs now; None where it executed nothing and wrote no command line for itself."""
    if task.title:
        return _titled(task.title)
    return _of(task.images[-1]) if task.images else None


def _titled(title: tuple[bytes, ...]) -> CommandLine:
    # One string with blanks in it is what a server wrote: postgres: checkpointer.
    if len(title) == 1:
        return CommandLine((printable(as_text(title[0][:_WORD]).strip()),), 0)
    return _quoted(words.base_name(title[0] or b"?"), title[1:], len(title) - 1)


def _of(image: Image) -> CommandLine:
    name = words.base_name(image.named)
    argv = image.argv if isinstance(image.argv, tuple) else ()
    if found := role(argv[:_WORDS]):
        return CommandLine((name, f"({found})"), 1)
    return _quoted(name, argv[1:], max(image.argc or 0, len(argv), 1) - 1)


def asked_text(command: tuple[bytes, ...], room: int) -> str:
    """What was asked to run, where it was not seen to run."""
    return _quoted(words.base_name(command[0]), command[1:], len(command) - 1).text(room)


@lru_cache(maxsize=1024)
def _quoted(name: str, arguments: tuple[bytes, ...], count: int) -> CommandLine:
    # Cut before it is quoted: an argument can have megabytes.
    quoted = [printable(shlex.quote(as_text(raw[:_WORD]))) + "…" * (len(raw) > _WORD) for raw in arguments[:_WORDS]]
    return CommandLine((name, *quoted), count, count - len(quoted))


def pattern(task: Task) -> object:
    """The same for tasks that run nearly the same: ``cc -c a.c`` and ``cc -c b.c``, not ``git gc`` and ``git prune``.
    None for what executed nothing."""
    line = command_line(task)
    return None if line is None else _pattern(line)


@lru_cache(maxsize=4096)
def _pattern(line: CommandLine) -> tuple[str, ...]:
    parts = map(_kind, _GAPS.split(" ".join(line.words[1:]))[::2])
    return (line.words[0], *(kind for kind, _ in groupby(parts)))


def _kind(part: str) -> str:
    # A file is told by its suffix, what is numbered by what stands around the number; an option means what it says.
    if not _VARYING.search(part) or (part.startswith("-") and "/" not in part):
        return part
    suffix = _SUFFIX.search(part)
    if suffix:
        return f"*{suffix[0]}"
    return "*" if "/" in part else _NUMBERS.sub("#", part)


def common_text(tasks: Sequence[Task], room: int | None = None, common: int = 0) -> str:
    """One command line for tasks of one :func:`pattern`: ``cc -c f*.c``."""
    lines = list(dict.fromkeys(line for task in tasks if (line := command_line(task)) is not None))
    if not lines:
        return ""
    if len(lines) == 1:
        return lines[0].text(room, common)
    split = [_GAPS.split(" ".join(line.words)) for line in lines]
    if len({len(each) for each in split}) == 1:
        merged = "".join(map(together, zip(*split, strict=True)))
    else:
        # As far as they agree.
        merged = "".join(together(each) for each in _while_alike(split)).rstrip() + " …"
    most = max(lines, key=lambda line: line.count)
    return CommandLine(tuple(merged.split(" ")), most.count, most.left_out).text(room, common)


def _while_alike(split: list[list[str]]) -> list[tuple[str, ...]]:
    alike: list[tuple[str, ...]] = []
    for each in zip(*split, strict=False):
        if len(set(map(_kind, each))) > 1:
            break
        alike.append(each)
    return alike


def together(texts: Sequence[str]) -> str:
    """What several texts have in common at their start and end, ``*`` for what lies between."""
    first, *others = dict.fromkeys(texts)
    if not others:
        return first
    shortest = min(map(len, (first, *others)))
    start = next((n for n in range(shortest) if any(o[n] != first[n] for o in others)), shortest)
    left = shortest - start
    end = next((n for n in range(left) if any(o[-1 - n] != first[-1 - n] for o in others)), left)
    return f"{first[:start]}*{first[len(first) - end :] if end else ''}"


def told_apart(task: Task, among: Sequence[Task]) -> str:
    """The part of a task's command line that ``among`` do not all have; empty where there is none."""
    lines = [line for each in (task, *among[:2]) if (line := command_line(each)) is not None]
    split = [_GAPS.split(" ".join(line.words)) for line in lines]
    for each in zip(*split, strict=False):
        if len(set(each)) > 1:
            return str(each[0])
    return ""
