"""The tree as a comparison needs it, loaded from what ``forklore show --format json`` prints.

All knowledge of that JSON is here, so that a renamed field is a change of one line.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import OracleError

CSIGNAL: Final = 0xFF
"""clone(2) carries the exit signal in its flags' low byte (include/uapi/linux/sched.h)."""
CLONE_VM: Final = 0x100
CLONE_VFORK: Final = 0x4000
CLONE_THREAD: Final = 0x10000
CLONE_UNTRACED: Final = 0x800000

NAMES: Final = {
    0x80: "NEWTIME", CLONE_VM: "VM", 0x200: "FS", 0x400: "FILES", 0x800: "SIGHAND", 0x1000: "PIDFD",
    0x2000: "PTRACE", CLONE_VFORK: "VFORK", 0x8000: "PARENT", CLONE_THREAD: "THREAD", 0x20000: "NEWNS",
    0x40000: "SYSVSEM", 0x80000: "SETTLS", 0x100000: "PARENT_SETTID", 0x200000: "CHILD_CLEARTID",
    0x400000: "DETACHED", CLONE_UNTRACED: "UNTRACED", 0x1000000: "CHILD_SETTID", 0x2000000: "NEWCGROUP",
    0x4000000: "NEWUTS", 0x8000000: "NEWIPC", 0x10000000: "NEWUSER", 0x20000000: "NEWPID",
    0x40000000: "NEWNET", 0x80000000: "IO", 1 << 32: "CLEAR_SIGHAND", 1 << 33: "INTO_CGROUP",
    1 << 34: "AUTOREAP", 1 << 35: "NNP", 1 << 36: "PIDFD_AUTOKILL", 1 << 37: "EMPTY_MNTNS",
}  # fmt: skip
"""Written here by hand: a witness that borrows the tables of what it checks proves nothing."""


def flag_names(flags: int) -> str:
    """Names of the kernel's own clone flags, for messages: ``VM|VFORK``, unknown bits in hexadecimal."""
    words = [name for bit, name in NAMES.items() if flags & bit]
    if rest := flags & ~sum(NAMES):
        words.append(hex(rest))
    return "|".join(words) or "0"


@dataclass(frozen=True, slots=True)
class Exec:
    """A successful execve: ``path`` as given, None if unknown; ``former_tid`` if the tid changed."""

    path: str | None
    former_tid: int | None = None


@dataclass(slots=True)
class Task:
    """One task of a tree. ``tid`` is the number that it was created with."""

    id: int
    tid: int
    creator: int | None
    thread: bool
    call: str | None
    flags: int | None
    """As the kernel keeps them, the exit signal apart; None for a task whose creation was not seen."""
    exit_signal: int | None
    execs: list[Exec] = field(default_factory=list)
    end: str | None = None
    """``exit 0``, ``killed by SIGKILL``, ``superseded`` …; None for a task that was not seen to end."""
    gone: str | None = None

    @property
    def kind(self) -> str:
        return "thread" if self.thread else "process"


@dataclass(frozen=True, slots=True)
class Failure:
    """A creation that the kernel refused."""

    call: str
    errno: str
    flags: int | None


@dataclass(slots=True)
class Tree:
    """The tasks of one run in the order of their ids, which is the order of their creation; a root first."""

    tasks: list[Task]
    failures: list[Failure]

    @property
    def root(self) -> Task:
        """The program that was run."""
        return next(task for task in self.tasks if task.creator is None)


def text_of(value: object) -> str | None:
    """A string out of a traced program, as fsdecode would give it; None where forklore could not read it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("hex"), str):
        return os.fsdecode(bytes.fromhex(value["hex"]))
    return None


def kernel_flags(call: str | None, raw: int | None) -> int | None:
    """The flags that ``task:task_newtask`` shows for a call: what kernel_clone gets, without the exit signal.

    fork and vfork take no flags; the kernel supplies theirs (kernel/fork.c: SYSCALL_DEFINE0(vfork)).
    """
    if call == "fork":
        return 0
    if call == "vfork":
        return CLONE_VM | CLONE_VFORK
    if raw is None or call == "clone3":
        return raw
    return raw & 0xFFFFFFFF & ~CSIGNAL


def _end_of(record: Mapping[str, Any]) -> str | None:
    ended = record.get("exit")
    if not isinstance(ended, Mapping):
        return None
    if ended.get("code") is not None:
        return f"exit {ended['code']}"
    number = ended.get("signal")
    try:
        name = signal.Signals(number).name if isinstance(number, int) else str(number)
    except ValueError:
        name = f"signal {number}"
    return f"killed by {name}" + (" (core)" if ended.get("core") else "")


def _task_of(record: Mapping[str, Any]) -> Task:
    creation: Mapping[str, Any] = record.get("creation") or {}
    execs = [Exec(text_of(entry.get("path")), entry.get("former_tid")) for entry in record.get("execs") or []]
    former = [entry.former_tid for entry in execs if entry.former_tid is not None]
    gone = record.get("gone")
    call = creation.get("call")
    return Task(
        id=record["id"],
        tid=former[0] if former else record["tid"],
        creator=record.get("creator"),
        thread=record["kind"] == "thread",
        call=call,
        flags=kernel_flags(call, creation.get("flags_raw")),
        exit_signal=creation.get("exit_signal"),
        execs=execs,
        end=_end_of(record),
        gone=gone.get("why") if isinstance(gone, Mapping) else gone,
    )


def load(document: Mapping[str, Any]) -> Tree:
    """The tree in one document of ``forklore show --format json``.

    Raises :class:`OracleError`, naming the field, if the document has another form.
    """
    try:
        tasks = sorted((_task_of(record) for record in document["tasks"]), key=lambda task: task.id)
        failures = [_failure_of(record) for record in document.get("failures", [])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OracleError(
            f"what `forklore show --format json` printed is not what this tool reads ({error!r}): "
            "adapt scripts/oracles/tree.py"
        ) from error
    if not any(task.creator is None for task in tasks):
        raise OracleError("the trace has no root task: the program did not start, or the log has no execve")
    return Tree(tasks, failures)


def _failure_of(record: Mapping[str, Any]) -> Failure:
    call = str(record["call"])
    errno = str(record.get("errno_name") or record["errno"])
    creation: Mapping[str, Any] = record.get("creation") or {}
    return Failure(call, errno, kernel_flags(call, creation.get("flags_raw")))


def children_of(tasks: Sequence[Task]) -> dict[int, list[Task]]:
    """The tasks by the id of their creator."""
    found: dict[int, list[Task]] = {}
    for task in tasks:
        if task.creator is not None:
            found.setdefault(task.creator, []).append(task)
    return found
