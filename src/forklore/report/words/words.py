"""Small pieces of text: times, names, signals, escaped bytes. Nothing from a traced program is shown raw."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from forklore.abi.errors import errno_name
from forklore.abi.flags import AT_FDCWD, EXECVEAT
from forklore.abi.signals import signal_name
from forklore.abi.text import as_text, printable
from forklore.abi.units import Unavailable
from forklore.decode.flagset import flag_set
from forklore.events.records import UNKNOWN_TID, raw_bytes
from forklore.model.tasks import Task

if TYPE_CHECKING:
    from forklore.decode.rules.table import Reason
    from forklore.events.records import ExecAt

_PLAIN: Final = re.compile(rb"[\w@%+=:,./-]+(?: [\w@%+=:,./-]+)*")
"""Words that shlex.quote leaves as they are."""

_US, _MS, _S = 1_000, 1_000_000, 1_000_000_000
_SCALES = (
    (9_950, _US, 1, "µs"),
    (99_500, _US, 0, "µs"),
    (9_950 * _US, _MS, 1, "ms"),
    (999_500 * _US, _MS, 0, "ms"),
    (9_950 * _MS, _S, 1, "s"),
    (119_500 * _MS, _S, 0, "s"),
)
"""Below the first of each, a duration in that unit, with so many digits behind the point: 9.96 ms are 10 ms."""


def span(ns: int) -> str:
    """A duration to at most three figures: ``0.3 ms``, ``41 ms``, ``2.1 s``, ``3 min 5 s``."""
    if ns < 0:
        return f"-{span(-ns)}"
    for limit, unit, digits, name in _SCALES:
        if ns < limit:
            return f"{ns / unit:.{digits}f} {name}"
    minutes, rest = divmod(round(ns / _S), 60)
    return f"{minutes} min {rest} s"


def bounds(least: int, most: int) -> str:
    """A duration of which two bounds are known: ``0.2 ms to 1.3 s``; one where the other is not much more."""
    low, high = span(least), span(most)
    return low if low == high or most - least < least // 10 else f"{low} to {high}"


def size(count: int) -> str:
    """An amount of memory to at most three figures: ``812 KB``, ``14.2 MB``."""
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if count >= unit:
            return f"{count / unit:.{0 if count >= 99.5 * unit else 1}f} {name}"
    return f"{count} B"


def spans(sorted_ns: Sequence[int]) -> str:
    """Durations, the shortest first, as the least, the median and the most: ``22 / 41 / 107 ms``."""
    low, middle, high = (span(sorted_ns[index]) for index in (0, len(sorted_ns) // 2, -1))
    if low == high:
        return low
    shown = [low, middle, high] if len(sorted_ns) > 2 else [low, high]
    unit = high.partition(" ")[2]
    if all(each.partition(" ")[2] == unit for each in shown):
        shown[:-1] = [each.partition(" ")[0] for each in shown[:-1]]
    return " / ".join(shown)


def path(value: bytes | Unavailable) -> str:
    """A path, or why it is not known."""
    if isinstance(value, Unavailable):
        return f"? ({printable(value.why)})"
    return printable(value) or '""'


def executed(path_: bytes | Unavailable, at: ExecAt | None, call: str = "") -> str:
    """What an exec was given: the path behind ``call``, or for execveat its descriptor, path and flags."""
    if at is None:
        return f"{call}{path(path_)}"
    fd = "AT_FDCWD" if at.fd == AT_FDCWD else str(at.fd)
    if at.directory is not None:
        where = at.directory.why if isinstance(at.directory, Unavailable) else raw_bytes(at.directory)
        fd += f" [{printable(where)}]"
    given = path(at.path if isinstance(at.path, Unavailable) else raw_bytes(at.path))
    flags = f", {flag_set(EXECVEAT, at.flags).text()}" if at.flags else ""
    return f"execveat({fd}, {given}{flags})"


def base_name(raw: bytes) -> str:
    """The last part of a path."""
    return printable(raw.rstrip(b"/").rpartition(b"/")[2] or raw)


def tid(number: int) -> str:
    """A tid; a log may have none (:data:`forklore.events.records.UNKNOWN_TID`)."""
    return "pid unknown" if number == UNKNOWN_TID else str(number)


def inside(task: Task) -> str:
    """Its tids in the pid namespaces below the tracer's: ``7/1``."""
    return "/".join(str(number or "?") for number in task.ns_tids[1:])


def task_name(task: Task) -> str:
    """What to call a task; empty where nothing is known."""
    return printable(task.name or b"")


def error(number: int | None) -> str:
    """An errno's name."""
    return "an error that the log does not tell" if number is None else errno_name(number)


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 process``, ``2 processes``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def signal(number: int) -> str:
    """A signal's name."""
    return signal_name(number)


def command(argv: tuple[bytes, ...], cut: frozenset[int] = frozenset()) -> str:
    """A command line as a shell would take it, as far as it can be printed; ``…`` behind arguments that are ``cut``."""
    import shlex

    if not cut:
        joined = b" ".join(argv)
        # What needs no quotes is most of all command lines, and quoting is most of what these take.
        if joined.count(b" ") == len(argv) - 1 and _PLAIN.fullmatch(joined):
            return joined.decode("ascii")
    quoted = (shlex.quote(as_text(raw)) + "…" * (index in cut) for index, raw in enumerate(argv))
    return printable(" ".join(quoted))


def because(reasons: tuple[Reason, ...]) -> str:
    """Why a call was refused: the first rule that fits, and how many others may have. Empty for no reasons."""
    if not reasons:
        return ""
    first = reasons[0]
    join = "and" if first.certain else "or"
    more = f" ({join} {count(len(reasons) - 1, 'other reason')})" if len(reasons) > 1 else ""
    return ("" if first.certain else "perhaps ") + printable(first.text) + more
