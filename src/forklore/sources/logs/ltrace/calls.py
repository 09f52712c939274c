"""ltrace's printed calls, turned back into the words that the kernel was given."""

from __future__ import annotations

from typing import Any, Final

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.errors import MAX_ERRNO, RESTARTS
from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import Unavailable
from forklore.events.records import text
from forklore.sources.logs.assembly.dialect import Dialect, LoggedImage, Returned
from forklore.sources.logs.printed import words
from forklore.sources.logs.printed.calls import result, string

ARCH: Final = Arch.X86_64
"""ltrace does not name it."""
_WORDS: Final = {b"fork": 0, b"vfork": 0, b"clone": 5, b"clone3": 2, b"unshare": 1, b"setns": 2, b"close_range": 3}
"""How many of the six words that ltrace may print are arguments of the call."""
_INTS: Final = frozenset({b"setns", b"close_range"})
PATH_NOT_PRINTED: Final = Unavailable(errno=0, why="ltrace prints the path with -S only")
ARGV_NOT_PRINTED: Final = Unavailable(errno=0, why="ltrace prints only the address of the arguments")


def call_name(name: bytes) -> bytes:
    """The name of a call: one that ltrace has no name for is printed by its number."""
    if name.isdigit() and len(name) <= 4:
        return (syscalls.name(ARCH, int(name)) or "").encode()
    return name


def _creation(arch: Arch, name: bytes, args: list[bytes]) -> tuple[dict[str, Any], int | None]:
    count = _WORDS[name]
    given: list[int | None] = [words.word(arg) for arg in args[:count]]
    given += [None] * (count - len(given))
    call: dict[str, Any] = {"arch": arch, "nr": words.call_number(arch, name.decode()), "args": tuple(given)}
    if name == b"clone3":
        call["struct"] = Unavailable(errno=0, why="ltrace prints only the address of the struct")
        return call, None
    if name == b"clone":
        return call, given[0]
    return call, CLONE_VM | CLONE_VFORK if name == b"vfork" else 0


def _change(arch: Arch, name: bytes, args: list[bytes]) -> dict[str, Any]:
    given = tuple(words.word(arg, 32 if name in _INTS else 64) for arg in args[: _WORDS.get(name, 0)])
    return {"arch": arch, "nr": words.call_number(arch, name.decode()), "args": given}


def _image(name: bytes, args: list[bytes]) -> LoggedImage:
    place = 0 if name == b"execve" else 1
    path = string(args[place]) if len(args) > place else None
    if path is None:
        return LoggedImage(Unavailable(errno=0, why="ltrace printed no string for it"), ARGV_NOT_PRINTED, None)
    lacks = None if path[1] else ("path", "ltrace printed only its beginning")
    return LoggedImage(text(path[0]), ARGV_NOT_PRINTED, lacks)


def _returned(line: bytes, end: int) -> Returned | None:
    found = result(line, end)
    if found is None or found.value is None or not -MAX_ERRNO <= found.value < 0:
        return None if found is None else Returned(found.value)
    return Returned(found.value, failed=True, errno=-found.value, restarted=-found.value in RESTARTS)


DIALECT: Final = Dialect(
    creation=_creation,
    change=_change,
    image=_image,
    returned=_returned,
    interleaved=True,
    announces_execs=True,
)
