"""Small pieces of text: times, names, signals, escaped bytes. Nothing from a traced program is shown raw."""

from __future__ import annotations

from forklore.abi.errors import errno_name
from forklore.abi.signals import signal_name
from forklore.abi.units import Unavailable
from forklore.model.tasks import Death, Image, Task

_US, _MS, _S, _MIN = 1_000, 1_000_000, 1_000_000_000, 60_000_000_000


def span(ns: int) -> str:
    """A duration to two or three figures: ``0.3 ms``, ``41 ms``, ``2.1 s``, ``3 min 5 s``."""
    if ns < 0:
        return f"-{span(-ns)}"
    if ns < 10 * _US:
        return f"{ns / _US:.1f} µs"
    if ns < 100 * _US:
        return f"{ns / _US:.0f} µs"
    if ns < 10 * _MS:
        return f"{ns / _MS:.1f} ms"
    if ns < _S:
        return f"{ns / _MS:.0f} ms"
    if ns < 10 * _S:
        return f"{ns / _S:.1f} s"
    if ns < 2 * _MIN:
        return f"{ns / _S:.0f} s"
    minutes, rest = divmod(round(ns / _S), 60)
    return f"{minutes} min {rest} s"


def printable(raw: bytes | str) -> str:
    """Text that a terminal cannot mistake for commands: control characters and invalid UTF-8 as backslash escapes."""
    text = raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else raw
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def path(value: bytes | Unavailable) -> str:
    """A path, or why it is not known."""
    if isinstance(value, Unavailable):
        return f"? ({value.why})"
    return printable(value) or '""'


def base_name(raw: bytes) -> str:
    """The last part of a path."""
    return printable(raw.rstrip(b"/").rpartition(b"/")[2] or raw)


def image_name(image: Image) -> str:
    """What to call an executed program."""
    return base_name(image.file) if image.file else printable(image.comm or b"?")


def task_name(task: Task) -> str:
    """What to call a task; empty where nothing is known."""
    return printable(task.name or b"")


def death(end: Death) -> str:
    """How a task ended: ``exit 0``, ``SIGSEGV (core dumped)``."""
    if end.signal is not None:
        text = signal_name(end.signal)
        if end.sender is not None:
            text += f" from {end.sender}"
        return text + (" (core dumped)" if end.core else "")
    return "ended" if end.code is None else f"exit {end.code}"


def error(number: int) -> str:
    """An errno's name."""
    return errno_name(number)


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 process``, ``2 processes``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def signal(number: int) -> str:
    """A signal's name."""
    return signal_name(number)


def command(argv: tuple[bytes, ...]) -> str:
    """A command line as a shell would take it, as far as it can be printed."""
    import shlex

    return printable(" ".join(shlex.quote(raw.decode(errors="backslashreplace")) for raw in argv))
