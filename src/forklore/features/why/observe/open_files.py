"""Who has files open, and how many have: the kernel is asked by a BPF program that goes through all descriptors.

Of each open file (struct file, "open file description") the kernel counts its references, of a pipe how many are open
for either end, of a descriptor table the tasks that use it. Where the descriptors that are seen make up these numbers
nobody else has it: no process that is out of sight or may not be read, no message on its way (SCM_RIGHTS), no
io_uring, no call in progress.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.units import Fd, Pid, Tid, Unavailable
from forklore.linux.bpf.loader import Loaded, LoadError
from forklore.sources.bpf.programs import open_files as program

_OPENED: Final = struct.Struct("=4Qq8I")
"""struct opened of sources/bpf/programs/open_files.bpf.c."""
_FMODE_READ, _FMODE_WRITE = 1, 2
_MAJOR_SHIFT: Final = 20
"""Of a device in the kernel (include/linux/kdev_t.h)."""


class Opened(Struct, frozen=True, gc=False):
    """A descriptor and what is behind it. ``file``, ``inode`` and ``table`` tell one from another and mean no more."""

    file: int
    inode: int
    table: int
    number: int
    """The inode's."""
    references: int
    """To the open file: one by each descriptor that leads to it, and any others."""
    device: tuple[int, int]
    reads: bool
    writes: bool
    readers: int
    """How many open files of this pipe can be read from; 0 of what is no pipe."""
    writers: int
    tasks: int
    """How many use the descriptor table."""
    pid: Pid
    tid: Tid
    """Whose table it was found in: the first thread's, and that of each thread with one of its own."""
    fd: Fd


def open_files(inodes: Iterable[int]) -> list[Opened] | Unavailable:
    """All descriptors of files with one of these inode numbers, of whatever device, that lead to them just now."""
    try:
        with Loaded(program(), {}, {}) as loaded:
            loaded.load("open_files")
            loaded.mark("wanted", inodes)
            raw = loaded.iterate("open_files")
    except LoadError as problem:
        return Unavailable(0, str(problem))
    return parse_opened(raw)


def parse_opened(raw: bytes) -> list[Opened]:
    """What the program writes."""
    found = []
    for file, inode, table, number, references, *words in _OPENED.iter_unpack(raw):
        device, mode, readers, writers, tasks, pid, tid, fd = words
        numbers = device >> _MAJOR_SHIFT, device & (1 << _MAJOR_SHIFT) - 1
        reads, writes = bool(mode & _FMODE_READ), bool(mode & _FMODE_WRITE)
        found.append(Opened(file, inode, table, number, references, numbers, reads, writes, readers, writers, tasks,
                            Pid(pid), Tid(tid), Fd(fd)))  # fmt: skip
    return found


def besides(opened: Sequence[Opened], threads: Mapping[Pid, int]) -> str:
    """Who has one of these open files besides the processes by whose descriptors it was found; empty: nobody.
    ``threads``: how many each of these processes has.
    """
    files: dict[int, list[Opened]] = {}
    for each in opened:
        files.setdefault(each.file, []).append(each)
    for found in files.values():
        known = len({(each.table, each.fd) for each in found})
        more = max(each.references for each in found) - known
        which = f"fd {found[0].fd} of {found[0].pid}"
        if more > 0:
            return f"{which} is open somewhere else, too: in a message on its way, an io_uring, a call, or out of sight"
        if more < 0:
            return f"{which} was closed while it was looked at"
    return users_besides(opened, threads)


def users_besides(opened: Sequence[Opened], threads: Mapping[Pid, int]) -> str:
    """Who uses one of these descriptor tables besides the threads of the processes that have it; empty: nobody."""
    tables: dict[int, list[Opened]] = {}
    for each in opened:
        tables.setdefault(each.table, []).append(each)
    for found in tables.values():
        pids = {each.pid for each in found}
        if {each.tasks for each in found} != {sum(threads.get(pid, 0) for pid in pids)}:
            return f"another task uses the descriptor table of {min(pids)}"
    return ""


def end_besides(opened: Sequence[Opened], *, write: bool) -> str:
    """Whether an end of a pipe is open somewhere besides these descriptors of it; empty: it is not."""
    files = {each.file for each in opened if (each.writes if write else each.reads)}
    count = {each.writers if write else each.readers for each in opened}
    end = "write" if write else "read"
    return "" if count <= {len(files)} else f"its {end} end is open in no process that is in sight as well"


def pipe_device() -> tuple[int, int]:
    """The device of all pipes without a name."""
    ends = os.pipe()
    try:
        found = os.fstat(ends[0]).st_dev
    finally:
        for end in ends:
            os.close(end)
    return os.major(found), os.minor(found)
