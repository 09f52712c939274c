"""strace's printed calls, turned back into the words that the kernel was given."""

from __future__ import annotations

import re
import struct
from typing import Any, Final

from forklore.abi.arch import CLONE_BACKWARDS, Arch
from forklore.abi.clone_args import OFFSETS, VER0, VER2, pack
from forklore.abi.flags import AT_FDCWD, CLONE_VFORK, CLONE_VM
from forklore.abi.text import as_text
from forklore.abi.units import LOW32, Unavailable
from forklore.events.records import ExecAt, text
from forklore.sources.logs.assembly.dialect import Dialect, LoggedImage, Returned
from forklore.sources.logs.printed import words
from forklore.sources.logs.printed.calls import members, result, string, strings, unescaped

POINTER_NOT_PRINTED: Final = words.WORD_MASK
"""Stands in a rebuilt clone_args for a set_tid pointer: the log has what it points to, not the pointer."""

_PLAIN_FIELDS: Final = {name.encode(): name for name in OFFSETS.keys() - {"flags", "exit_signal", "set_tid"}}
_NAMED: Final = re.compile(rb"[a-z_]+=")
_TAIL: Final = re.compile(rb'/\* bytes (\d+)\.\.(\d+) \*/ "((?:[^"\\]|\\.)*)"(?!\.)', re.DOTALL)
_TAMPERED: Final = {
    b"INJECTED: args": "calls whose arguments in memory strace changed",
    b"DELAYED": "calls that strace delayed: how long they took is its doing",
}
_STATUS: Final = re.compile(rb"(WEXITSTATUS|WTERMSIG)\(s\) == (\w+)")
_FD_NAME: Final = re.compile(rb"[0-9]+<(.*)>\Z", re.DOTALL)


def _creation(arch: Arch, name: bytes, args: list[bytes]) -> tuple[dict[str, Any], int | None]:
    call: dict[str, Any] = {"arch": arch, "nr": words.call_number(arch, name.decode()), "args": ()}
    if name == b"vfork":
        return call, CLONE_VM | CLONE_VFORK
    if name == b"fork":
        return call, 0
    if name == b"clone":
        call["args"], flags = _clone(arch, args)
        return call, flags
    flags = _clone3(call, args)
    return call, flags


def _clone(arch: Arch, args: list[bytes]) -> tuple[tuple[int | None, ...], int | None]:
    if args and not _NAMED.match(args[0]):
        raw = tuple(words.word(arg) for arg in args[:5])
        return raw, raw[0]
    named = dict((*part.partition(b"=")[::2],) for part in args)
    flags = words.flag_word(named.get(b"flags", b""))
    stack = words.word(named.get(b"child_stack", named.get(b"stack", b"")))
    parent = words.word(named.get(b"parent_tidptr", b""))
    child = words.word(named.get(b"child_tidptr", b""))
    tls = words.word(named.get(b"tls", b""))
    return (flags, stack, parent, *((tls, child) if arch in CLONE_BACKWARDS else (child, tls))), flags


def _clone3(call: dict[str, Any], args: list[bytes]) -> int | None:
    size = words.word(args[1]) if len(args) > 1 else None
    printed = args[0] if args else b""
    if not printed.startswith(b"{"):
        pointer = words.word(printed)
        call["args"] = (pointer, size)
        why = "the log has only the pointer" if pointer else "a null pointer, or none in the log"
        call["struct"] = Unavailable(errno=0, why=why)
        return None
    call["args"] = (None, size)
    fields = members(printed)
    values: dict[str, int] = {}
    flags = words.flag_word(fields.get(b"flags", b""))
    values["flags"] = _or_zero(flags)
    values["exit_signal"] = _or_zero(words.signal_word(fields.get(b"exit_signal", b"0")))
    for printed_name, field in fields.items():
        if (name := _PLAIN_FIELDS.get(printed_name)) is not None:
            values[name] = _or_zero(words.word(_before_name(field)))
    values["set_tid"] = _set_tid(call, fields.get(b"set_tid", b"NULL"))
    whole = pack(**values)
    tail = _TAIL.search(printed)
    if tail is not None and int(tail[1][:6]) == VER2:
        whole += unescaped(tail[3])
    if size is not None and VER0 <= size < len(whole):
        whole = whole[:size]
    elif size is not None and size <= 4096 and tail is None:
        whole = whole.ljust(size, b"\0")
    call["struct"] = whole.hex()
    if flags is None:
        call["struct"] = Unavailable(errno=0, why="the log has no flags for it that are understood")
        return None
    return values["flags"]


def _set_tid(call: dict[str, Any], printed: bytes) -> int:
    pointer = words.word(printed)
    if pointer is not None:
        if pointer:
            call["set_tid"] = Unavailable(errno=0, why="the log has only the pointer")
        return pointer
    tids = [words.number(part) for part in printed.strip(b"[]").split(b",")]
    good = [tid for tid in tids if tid is not None and -(1 << 31) <= tid < 1 << 31]
    if len(good) == len(tids):
        call["set_tid"] = struct.pack(f"<{len(good)}i", *good).hex()
    else:
        call["set_tid"] = Unavailable(errno=0, why="the log does not have it whole")
    return POINTER_NOT_PRINTED


def _or_zero(value: int | None) -> int:
    return 0 if value is None else value & words.WORD_MASK


def _before_name(text: bytes) -> bytes:
    """A descriptor without the name that ``-y`` adds."""
    return text.partition(b"<")[0]


def _change(arch: Arch, name: bytes, args: list[bytes]) -> dict[str, Any]:
    call: dict[str, Any] = {"arch": arch, "nr": words.call_number(arch, name.decode())}
    if name == b"unshare":
        call["args"] = (words.flag_word(args[0]) if args else None,)
    elif name == b"setns":
        fd = args[0] if args else b""
        call["args"] = (words.word(_before_name(fd), 32), words.flag_word(args[1]) if len(args) > 1 else None)
        named = _FD_NAME.match(fd)
        if named is not None:
            call["target"] = as_text(unescaped(named[1]))
    elif name == b"close_range":
        ends = (words.word(_before_name(arg), 32) for arg in (*args, b"", b"")[:2])
        call["args"] = (*ends, words.flag_word(args[2]) if len(args) > 2 else None)
    return call


def _image(name: bytes, args: list[bytes]) -> LoggedImage:
    given = args if name == b"execve" else args[1:]
    path = string(given[0]) if given else None
    at = None if name == b"execve" or path is None else _at(args, path[0])
    argv = strings(given[1]) if len(given) > 1 else None
    whole = (path is None or path[1]) and (argv is None or argv[1])
    not_printed = Unavailable(errno=0, why="the log has no string for it")
    file = not_printed if path is None else text(path[0])
    if at is not None and path is not None and isinstance(at.directory, str):
        file = text(at.directory.encode() + (b"/" + path[0] if path[0] else b""))
    return LoggedImage(
        file,
        not_printed if argv is None else [text(arg) for arg in argv[0]],
        None if whole else ("arguments", "strace printed only a part of them"),
        at,
    )


def _at(args: list[bytes], path: bytes) -> ExecAt | None:
    fd = AT_FDCWD if args[0].startswith(b"AT_FDCWD") else words.number(_before_name(args[0]))
    flags = words.flag_word(args[4]) if len(args) > 4 else None
    if fd is None:
        return None
    named = None if path.startswith(b"/") or fd == AT_FDCWD else _FD_NAME.match(args[0])
    directory = None if named is None else text(unescaped(named[1]))
    return ExecAt(fd=fd, directory=directory, path=text(path), flags=(flags or 0) & LOW32)


def _returned(line: bytes, end: int) -> Returned | None:
    found = result(line, end)
    if found is None:
        return None
    failed = found.error is not None
    errno = None if found.error is None else words.error_number(found.error)
    restarted = failed and found.value is None
    injected = any(mark == b"INJECTED" or mark.endswith(b"retval") for mark in found.marks)
    tampered = next((does for mark, does in _TAMPERED.items() if mark in found.marks), None)
    return Returned(found.value, failed, errno, restarted, found.outer, found.took, injected, tampered)


def child_ended(info: dict[bytes, bytes]) -> tuple[int, int | None] | None:
    """The pid and the wait status in a siginfo that tells of a child's end."""
    code = words.SI_CODES.get(words.without_comments(info.get(b"si_code", b"")))
    pid = words.number(_before_name(info.get(b"si_pid", b"")))
    if pid is None or code not in words.CLD_ENDS:
        return None
    status = words.signal_word(info.get(b"si_status", b""))
    return pid, None if status is None else status << 8 if code == words.SI_CODES[b"CLD_EXITED"] else status


def _waited(name: bytes, args: list[bytes], answer: Returned) -> tuple[int, int | None] | None:
    if answer.failed or answer.injected or answer.value is None:
        return None
    if name == b"waitid":
        return child_ended(members(args[2])) if len(args) > 2 and answer.value == 0 else None
    status = _STATUS.search(args[1]) if len(args) > 1 else None
    if answer.value <= 0 or (status is None and len(args) > 1 and b"WIF" in args[1]):
        return None
    if status is None:
        return answer.value, None
    number = words.signal_word(status[2])
    return answer.value, None if number is None else number << 8 if status[1] == b"WEXITSTATUS" else number


DIALECT: Final = Dialect(
    creation=_creation,
    change=_change,
    image=_image,
    returned=_returned,
    interleaved=False,
    announces_execs=False,
    waited=_waited,
)
