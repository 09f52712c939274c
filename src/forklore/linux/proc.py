"""/proc of running tasks, read as bytes: what cannot be read is :class:`Unavailable`.

psutil answers what people ask of a process; here are the few files that the tracer reads while it holds a task,
where the price of every system call counts.
"""

from __future__ import annotations

import os
from typing import Final

from forklore.abi.arch import Arch
from forklore.abi.units import Pid, Tid, Unavailable

_CHUNK: Final = 1 << 16


def read_file(path: str, limit: int = 1 << 22) -> bytes | Unavailable:
    """A whole /proc file, cut after ``limit`` bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        return unavailable(problem, path)
    try:
        chunks: list[bytes] = []
        while limit > 0 and (chunk := os.read(fd, min(_CHUNK, limit))):
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    except OSError as problem:
        return unavailable(problem, path)
    finally:
        os.close(fd)


def read_link(path: str) -> bytes | Unavailable:
    """Where a /proc link points."""
    try:
        return os.readlink(os.fsencode(path))
    except OSError as problem:
        return unavailable(problem, path)


def unavailable(problem: OSError, what: str) -> Unavailable:
    """The value form of a failed read."""
    return Unavailable(problem.errno or 0, f"{what}: {os.strerror(problem.errno or 0)}")


Status = dict[bytes, bytes]
"""/proc/TID/status: field name to its text."""


def status(tid: int) -> Status | Unavailable:
    """The fields of /proc/TID/status (proc_pid_status(5))."""
    raw = read_file(f"/proc/{tid}/status")
    if isinstance(raw, Unavailable):
        return raw
    fields: Status = {}
    for line in raw.splitlines():
        name, _, value = line.partition(b":")
        fields[name] = value.strip()
    return fields


def number(fields: Status, name: bytes, base: int = 10) -> int | None:
    """A field's first number; None where this kernel has no such field."""
    value = fields.get(name, b"").split()
    return int(value[0], base) if value else None


def state(pid: int, tid: int | None = None) -> str | None:
    """The letter of a process's state (proc_pid_stat(5)), or of one thread's: Z for one that ended and was not waited
    for; None: gone."""
    raw = read_file(f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat", 512)
    return None if isinstance(raw, Unavailable) else raw[raw.rindex(b")") + 2 :][:1].decode()


def stack_bottom(tid: Tid) -> int | None:
    """Where the first stack of a task's program began, with its arguments above (startstack); None: it is gone, or a
    kernel thread."""
    raw = read_file(f"/proc/{tid}/stat")
    if isinstance(raw, Unavailable):
        return None
    return int(raw[raw.rindex(b")") + 2 :].split()[_START_STACK - 3]) or None


_START_STACK: Final = 28
"""In proc_pid_stat(5)."""


def memory_size(tid: Tid) -> tuple[bytes, bytes] | None:
    """How much a task has mapped, and how much of that is data, as proc_pid_statm(5) writes them; None: it is gone."""
    raw = read_file(f"/proc/{tid}/statm", 256)
    fields = [] if isinstance(raw, Unavailable) else raw.split()
    return (fields[0], fields[5]) if len(fields) > 5 else None


def parent_of(pid: Pid) -> Pid | None:
    """Who waits for a process now (PPid: the tgid of the kernel's real_parent); None if it is gone."""
    fields = status(pid)
    if isinstance(fields, Unavailable):
        return None
    ppid = number(fields, b"PPid")
    return None if ppid is None else Pid(ppid)


def exists(pid: Pid) -> bool:
    """Whether there is a process with that pid, be it a zombie (kill(2) with signal 0)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def zombie_of(pid: Pid) -> Pid | None:
    """Whose zombie a process is (proc_pid_stat(5)); None if it is none, or gone."""
    stat = read_file(f"/proc/{pid}/stat", 512)
    if isinstance(stat, Unavailable):
        return None
    state, parent, _ = stat[stat.rindex(b")") + 2 :].split(b" ", 2)
    return Pid(int(parent)) if state == b"Z" else None


def call(tid: Tid) -> tuple[int, tuple[int, int, int, int, int, int]] | None:
    """The number and the argument words of the call that a task sleeps or is held in; None: in none, or not to be read.

    The first word is the one that the call was made with, where its register says something else, too.
    """
    raw = read_file(f"/proc/{tid}/syscall", 512)  # fs/proc/base.c: proc_pid_syscall
    fields = [] if isinstance(raw, Unavailable) else raw.split()
    if len(fields) != 9 or not fields[0].isdigit():
        return None
    a, b, c, d, e, f = (int(word, 16) for word in fields[1:7])
    return int(fields[0]), (a, b, c, d, e, f)


def dies_of(tid: Tid, signal: int) -> bool:
    """Whether a task is of the first process of a pid namespace and has no handler for a signal.

    No signal from within ends such a process, but a fault does: unless it is traced (kernel/signal.c:
    force_sig_info_to_task), when it would fault forever.
    """
    fields = status(tid)
    if isinstance(fields, Unavailable):
        return False
    caught = number(fields, b"SigCgt", 16)
    numbers = fields.get(b"NStgid", b"").split()
    return numbers[1:] != [] and numbers[-1] == b"1" and caught is not None and not caught >> (signal - 1) & 1


def ns_tids(tid: Tid) -> list[int] | None:
    """The tid in each pid namespace, from this process's own down to the task's; None if it cannot be read."""
    fields = status(tid)
    if isinstance(fields, Unavailable) or b"NSpid" not in fields:
        return None
    return [int(word) for word in fields[b"NSpid"].split()]


def comm(tid: Tid) -> bytes | Unavailable:
    """A task's name, at most 15 bytes."""
    raw = read_file(f"/proc/{tid}/comm")
    return raw if isinstance(raw, Unavailable) else raw.rstrip(b"\n")


def executable(tid: Tid) -> bytes | Unavailable:
    """The file that a task executes; a deleted one's name ends in " (deleted)"."""
    return read_link(f"/proc/{tid}/exe")


def root(tid: Tid) -> str:
    """Where the files of a task are seen under the names that it has for them."""
    return f"/proc/{tid}/root"


def arguments(tid: Tid) -> list[bytes] | Unavailable:
    """The argument strings of a task, as its memory has them now."""
    raw = read_file(f"/proc/{tid}/cmdline")
    return raw if isinstance(raw, Unavailable) else _strings(raw)


def environment(tid: Tid | None = None) -> list[bytes] | Unavailable:
    """The environment that a task (by default this process) was executed with, entry by entry, unparsed."""
    raw = read_file(f"/proc/{'self' if tid is None else tid}/environ")
    return raw if isinstance(raw, Unavailable) else _strings(raw)


def _strings(raw: bytes) -> list[bytes]:
    return raw.removesuffix(b"\0").split(b"\0") if raw else []


def descriptor(tid: Tid, fd: int) -> bytes | Unavailable:
    """What a descriptor of a task refers to, as /proc names it."""
    return read_link(f"/proc/{tid}/fd/{fd}")


def boot_id() -> str | None:
    """A name for the time since this machine's kernel was started."""
    raw = read_file("/proc/sys/kernel/random/boot_id")
    return None if isinstance(raw, Unavailable) else raw.decode().strip()


def machine() -> Arch | None:
    """This machine's own ABI; None for one that forklore does not know."""
    try:
        return Arch(os.uname().machine)
    except ValueError:
        return None


def setting(path: str) -> int | None:
    """A number out of a one-number file (sysctl, cgroup); None where it is absent or not a number ("max")."""
    raw = read_file(path, 64)
    try:
        return None if isinstance(raw, Unavailable) else int(raw)
    except ValueError:
        return None


def hidepid() -> str:
    """The hidepid option that /proc is mounted with (proc(5)), which hides others' processes; ``off`` without one."""
    raw = read_file("/proc/self/mounts")
    options = [b""]
    for words in map(bytes.split, [] if isinstance(raw, Unavailable) else raw.splitlines()):
        if len(words) >= 4 and words[1] == b"/proc" and words[2] == b"proc":
            options = words[3].split(b",")
    return next((each[8:].decode() for each in options if each.startswith(b"hidepid=")), "off")
