"""Command lines in the room that a line of the tree has, alone and for several tasks that run nearly the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby, pairwise
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
_PATH: Final = regex(r"""(^|['"=,:])((?!-)[^'"=,:\s…]*/[^'"=,:\s]*[^'"=,:\s/])""")
_DEEP: Final = 3
"""So many names of a path are left out together, or none."""
_PASSING: Final = regex(r"-$|/dev/|(?:/var)?/tmp/[^/]*$")
"""What nobody asks for: a file for another step alone."""
_LEAST: Final = 8
"""Columns that the end of a command gets beside ``…``, or it is left out."""


class Telling(Struct, frozen=True, gc=False):
    """What tells a command line from those of its siblings that run the same program."""

    common: int = 0
    """So many of its first parts they all have."""
    at: tuple[tuple[int, int], ...] = ()
    """Which parts differ from those of the ones most like it, and how many names of a path there it takes to see that.
    Parts are what blanks stand between, behind the program."""


NOTHING: Final = Telling()


class CommandLine(Struct, frozen=True, gc=False):
    """The words of a command as a shell would take them, nothing in them unprintable; the program is its base name."""

    words: tuple[str, ...]
    count: int
    """How many there are, the program not included."""
    left_out: int = 0
    """How many of them are not in :attr:`words`."""

    def text(self, room: int | None = None, telling: Telling = NOTHING) -> str:
        """In at most ``room`` columns: what tells it from its siblings and names its file first."""
        whole = " ".join(self.words) + (self._counted if self.left_out else "")
        if room is None or width_of(whole) <= room:
            return whole
        if self.count == 0 or (self.words[1:2] and self.words[1].startswith("(")):
            return cut_text(whole, room)  # what a server wrote of itself, or a role
        parts = " ".join(self.words).split(" ")
        # Of a long path, its end.
        kept = dict(telling.at)
        parts = [parts[0], *(_path_end(part, kept.get(at, 1)) for at, part in enumerate(parts[1:]))]
        whole = " ".join(parts) + (self._counted if self.left_out else "")
        if width_of(whole) <= room or len(parts) < 3:
            return cut_text(whole, room)
        chosen = {0}
        for more in ({at + 1 for at, _depth in telling.at}, _subject(parts)):
            more = {at for at in more if at < len(parts)}
            if width_of(self._shown(parts, chosen | more)) <= room:
                chosen |= more
        rest = (at for at in range(1 + min(telling.common, len(parts) - 2), len(parts)) if at not in chosen)
        for at in rest:
            if width_of(self._shown(parts, chosen | {at})) > room:
                left = room - width_of(self._shown(parts, chosen)) - 1
                if max(chosen) < at and left >= _LEAST:
                    parts[at] = cut_text(parts[at], left)
                    chosen.add(at)
                break
            chosen.add(at)
        return cut_text(self._shown(parts, chosen), room)

    def _shown(self, parts: list[str], chosen: set[int]) -> str:
        """Some of its parts, with a mark for each gap; what is missing at the end is counted."""
        text, last = parts[0], 0
        for at in sorted(chosen - {0}):
            text += f" {parts[at]}" if at == last + 1 else f" … {parts[at]}"
            last = at
        # Where a word was cut, the mark need not be there twice.
        return text if last == len(parts) - 1 and not self.left_out else text.removesuffix("…").rstrip() + self._counted

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


def _path_end(part: str, names: int) -> str:
    """A part of a command line with as many names of each long path in it: ``…/site-packages/pip``."""

    def end(found: re.Match[str]) -> str:
        path = found[2].split("/")
        return found[0] if len(path) - names < _DEEP else f"{found[1]}…/{'/'.join(path[-names:])}"

    return _PATH.sub(end, part)


def _subject(parts: list[str]) -> set[int]:
    """Which parts say what a command is about, by the customs of compilers: what it makes, else what it reads."""
    for at, part in enumerate(parts[1:-1], 1):
        if part == "-o" and not _PASSING.match(parts[at + 1]):
            return {at, at + 1}
    files = [at for at, part in enumerate(parts) if at and part[0:1] != "-" and _SUFFIX.search(part)]
    plain = (at for at in files if not parts[at - 1].startswith("-") and parts[at][0] not in "/…")
    return {found} if (found := next(plain, files[0] if files else 0)) else set()


def apart(lines: Sequence[CommandLine]) -> list[Telling]:
    """What tells each of the command lines of one program from the others."""
    split = [" ".join(line.words).split(" ")[1:] for line in lines]
    order = sorted(range(len(lines)), key=split.__getitem__)
    common = _agree(split[order[0]], split[order[-1]])
    found: list[dict[int, int]] = [{} for _ in lines]
    # Those next to each other in the order are most alike.
    for one, other in pairwise(order):
        at = _agree(split[one], split[other])
        for each, theirs in ((one, other), (other, one)):
            if at < len(split[each]):
                there = split[theirs][at] if at < len(split[theirs]) else ""
                depth = 1 + _agree(_names(split[each][at]), _names(there))
                found[each][at] = max(depth, found[each].get(at, 1))
    return [Telling(common, tuple(each.items())) for each in found]


def _agree(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))


def _names(path: str) -> list[str]:
    return path.split("/")[::-1]


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


def common_text(tasks: Sequence[Task], room: int | None = None, telling: Telling = NOTHING) -> str:
    """One command line for tasks of one :func:`pattern`: ``cc -c f*.c``."""
    lines = list(dict.fromkeys(line for task in tasks if (line := command_line(task)) is not None))
    if not lines:
        return ""
    if len(lines) == 1:
        return lines[0].text(room, telling)
    split = [_GAPS.split(" ".join(line.words)) for line in lines]
    if len({len(each) for each in split}) == 1:
        merged = "".join(map(together, zip(*split, strict=True)))
    else:
        # As far as they agree.
        merged = "".join(together(each) for each in _while_alike(split)).rstrip() + " …"
    most = max(lines, key=lambda line: line.count)
    return CommandLine(tuple(merged.split(" ")), most.count, most.left_out).text(room, telling)


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
