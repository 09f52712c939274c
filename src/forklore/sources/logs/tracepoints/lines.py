"""One tracepoint a line: who was running, when, which one, and its fields.

Three forms of the same, of Linux 6.18, perf 6.1 and the script for bpftrace that docs/other-tools.md has::

    takeover  3073 [000]  2028.560379:  syscalls:sys_enter_clone: clone_flags: 0x00000811, newsp: 0x00000000, ...
    takeover-6605    [001] .....  2107.196364: sys_clone(clone_flags: 0x811, newsp: 0, parent_tidptr: 0, ...)
    takeover-6605    [001] .....  2107.196366: sys_clone -> 0xffffffffffffffea

A name is the program's to choose and stands unquoted: what follows it has a form that is looked for from behind.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from forklore.abi.units import PID_LIMIT

_LONGEST: Final = 8192
"""A path and what comes with it. No tracepoint that is read here prints more."""
_MASK: Final = (1 << 64) - 1
_FLAGS: Final = rb"(?:[^\s:]{4,6} +)?"
PERF: Final = re.compile(
    rb"\s*(?P<comm>.{1,64}?)\s+(?:\d{1,7}/)?(?P<tid>\d{1,7})\s+(?:\[\d{3,4}\]\s+)?" + _FLAGS +
    rb"(?P<s>\d{1,10})\.(?P<f>\d{6,9}):\s+(?:\d+\s+)?(?P<system>[a-z_]+):(?P<name>\w+)(?P<rest>:.*)",
    re.DOTALL,
)
TRACEFS: Final = re.compile(
    rb"\s*(?P<comm>.{1,64})-(?P<tid>\d{1,7})\s+(?:\([ \d-]+\)\s+)?\[\d{3,4}\]\s+" + _FLAGS +
    rb"(?P<s>\d{1,10})\.(?P<f>\d{6,9}):\s+(?P<name>\w+)(?P<rest>(?::|\(| -> ).*)",
    re.DOTALL,
)
"""Of tracefs, trace-cmd and bpftrace."""
_ENTERS: Final = re.compile(rb"\(.*\)\s*\Z", re.DOTALL)
_RETURNS: Final = re.compile(rb"(?: -> |:\s*)(-?(?:0x[0-9a-f]{1,16}|\d{1,20}))\s*\Z")
_WORD: Final = re.compile(rb'(\w+): (-?(?:0x[0-9a-f]{1,16}|\d{1,20}))(?: "((?:[^"\\]|\\.)*)")?')
_NEWTASK: Final = re.compile(
    rb"pid=(\d{1,7}) comm=.* clone_flags=([0-9a-f]{1,16})(?: oom_score_adj=-?\d+)?\s*\Z", re.DOTALL
)
_FORK: Final = re.compile(
    rb"(?:parent_)?comm=.* (?:parent_)?pid=(\d{1,7}) child_comm=.* child_pid=(\d{1,7})\s*\Z", re.DOTALL
)
_EXEC: Final = re.compile(rb"filename=(.*) pid=(\d{1,7}) old_pid=(\d{1,7})\s*\Z", re.DOTALL)
_EXIT: Final = re.compile(
    rb"comm=.* pid=(\d{1,7}) prio=-?\d+(?: group_dead=\w+)?(?: exit_code=0x([0-9a-f]{1,8}))?\s*\Z", re.DOTALL
)
_RENAME: Final = re.compile(rb"pid=(\d{1,7}) oldcomm=.* newcomm=(.*?)(?: oom_score_adj=-?\d+)?\s*\Z", re.DOTALL)
LOST: Final = re.compile(rb"(?:CPU:\d+ \[LOST (\d+) EVENTS\]|Lost (\d+) events\b|.*PERF_RECORD_LOST[^:]*? lost (\d+))")
"""A line that says how many events the tool could not keep."""
NAMED: Final = re.compile(
    rb"\b(?:task_newtask|sched_process_(?:fork|exec|exit)|sys_(?:enter_|exit_)?(?:clone3?|v?fork|execve(?:at)?)): "
)
"""What tells that a line is about one of these, whatever else is in it."""


class Entered(Struct, frozen=True):
    """A system call begins. ``texts``: strings that the kernel printed behind pointers, by the argument's name."""

    call: bytes
    words: tuple[tuple[bytes, int], ...]
    texts: tuple[tuple[bytes, bytes], ...]


class Left(Struct, frozen=True):
    """A system call returns: the pid, 0, or an errno below zero."""

    call: bytes
    value: int


class NewTask(Struct, frozen=True):
    """task_newtask: ``flags`` are without the exit signal."""

    tid: int
    flags: int


class Forked(Struct, frozen=True):
    """sched_process_fork."""

    tid: int


class Executed(Struct, frozen=True):
    """sched_process_exec."""

    path: bytes
    tid: int
    former: int


class Ended(Struct, frozen=True):
    """sched_process_exit. ``status``: only where a script prints ``exit_code``."""

    tid: int
    status: int | None


class Renamed(Struct, frozen=True):
    """task_rename."""

    tid: int
    comm: bytes


What = Entered | Left | NewTask | Forked | Executed | Ended | Renamed


class Point(Struct, frozen=True):
    """A line: who ran, by tid and name; when, in ns of the tool's own clock; and what happened.

    ``digits``: so many of a second's fraction are printed.
    """

    tid: int
    comm: bytes
    t: int
    digits: int
    what: What


def read_line(line: bytes) -> Point | None:
    """The tracepoint of a line; None for one that tells nothing of tasks, or that is none."""
    match = None if len(line) > _LONGEST else TRACEFS.match(line) or PERF.match(line)
    if match is None:
        return None
    tid, fraction = int(match["tid"]), match["f"]
    what = _what(match["name"], match["rest"])
    if what is None or not 0 < tid < PID_LIMIT:
        return None
    t = int(match["s"]) * 1_000_000_000 + int(fraction.ljust(9, b"0"))
    return Point(tid, match["comm"].strip(), t, len(fraction), what)


def _what(name: bytes, rest: bytes) -> What | None:
    if name.startswith(b"sys_"):
        return _call(name[4:], rest)
    body = rest[1:].strip()
    if name == b"task_newtask" and (found := _NEWTASK.match(body)) and (tid := _pid(found[1])):
        return NewTask(tid, int(found[2], 16))
    if name == b"sched_process_fork" and (found := _FORK.match(body)) and (tid := _pid(found[2])):
        return Forked(tid)
    if name == b"sched_process_exec" and (found := _EXEC.match(body)) and (tid := _pid(found[2])):
        return Executed(found[1], tid, _pid(found[3]) or tid)
    if name == b"sched_process_exit" and (found := _EXIT.match(body)) and (tid := _pid(found[1])):
        return Ended(tid, None if found[2] is None else int(found[2], 16) & 0xFFFF)
    if name == b"task_rename" and (found := _RENAME.match(body)) and (tid := _pid(found[1])):
        return Renamed(tid, found[2])
    return None


def _call(name: bytes, rest: bytes) -> Entered | Left | None:
    enters, leaves = name.startswith(b"enter_"), name.startswith(b"exit_") and not rest.startswith((b"(", b" -> "))
    if enters or _ENTERS.match(rest):
        found = _WORD.findall(rest)
        words = tuple((each, int(value, 0) & _MASK) for each, value, _ in found if _is_number(value))
        texts = tuple((each, text) for each, _, text in found if text)
        return Entered(name.removeprefix(b"enter_") if enters else name, words, texts)
    returned = _RETURNS.match(rest)
    if returned is None or not _is_number(returned[1]):
        return None
    value = int(returned[1], 0) & _MASK
    return Left(name.removeprefix(b"exit_") if leaves else name, value - (1 << 64) if value >> 63 else value)


def _is_number(text: bytes) -> bool:
    digits = text.lstrip(b"-")
    return digits.startswith(b"0x") or digits == b"0" or not digits.startswith(b"0")


def _pid(text: bytes) -> int | None:
    tid = int(text)
    return tid if 0 < tid < PID_LIMIT else None
