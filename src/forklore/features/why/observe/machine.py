"""What is asked of the machine as a whole, each once: descriptor tables, sockets, file locks, frozen control groups."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from functools import cached_property
from typing import Final, TypeVar

from msgspec import structs

from forklore.abi.kcmp import KcmpType, Order
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.linux import kcmp, proc, tasks
from forklore.linux.pages.whole import Memory, open_memory
from forklore.linux.waits import file_locks, sock_diag, tables
from forklore.linux.waits.freezer import Freezers
from forklore.linux.waits.look import Look, look, started
from forklore.linux.waits.tables import Holding, Tables

_Found = TypeVar("_Found")
_PATIENCE_MANY: Final = 4.0
"""Seconds that the descriptors of all processes may take where the question is about so many."""


class Machine:
    """One observation. Each task is read once; see :meth:`look`.

    ``many``: the question is about more processes than are told one by one.
    """

    def __init__(self, asked: Iterable[Pid] = (), *, many: bool = False) -> None:
        self.many = many
        self.looks: dict[Tid, Look | Unavailable] = {}
        # Whoever holds what a process waits for is likely to be of its family. Of many, one of each comes first.
        self.tables = Tables(_PATIENCE_MANY, self._by_rank()) if many else Tables(first=self._family(asked))
        self.freezers = Freezers()
        self._memories: dict[Pid, Memory | Unavailable] = {}
        self._threads: dict[Pid, list[Tid]] = {}
        self._holds: dict[Holding, bool] = {}
        self._access: dict[Holding, tuple[bool, bool]] = {}

    def _by_rank(self) -> list[Pid]:
        ranks: dict[Pid, int] = {}
        met: dict[Pid, int] = {}
        for pid, parent in tasks.parents():
            ranks[pid] = met[parent] = met.get(parent, -1) + 1
        return sorted(ranks, key=lambda pid: (ranks[pid], pid))

    def _family(self, pids: Iterable[Pid]) -> list[Pid]:
        parents = dict(tasks.parents())
        children: dict[Pid, list[Pid]] = {}
        for pid, parent in parents.items():
            children.setdefault(parent, []).append(pid)
        found = dict.fromkeys(pids)
        for pid in list(found):
            above = parents.get(pid)
            while above and above not in found:
                found[above] = None
                above = parents.get(above)
        queue = list(found)
        for pid in queue:
            below = [each for each in children.get(pid, ()) if each not in found]
            found.update(dict.fromkeys(below))
            queue += below
        return list(found)

    def close(self) -> None:
        """Let go of what was opened."""
        for memory in self._memories.values():
            if isinstance(memory, Memory):
                memory.__exit__()
        self._memories.clear()

    def look(self, tid: Tid) -> Look | Unavailable:
        """A task, as it was when it was first asked for."""
        found = self.looks.get(tid)
        if found is None:
            found = self.looks[tid] = look(tid)
        return found

    def holds(self, held: Holding) -> bool:
        """Whether the process that was looked at has this descriptor, and not one that had its number before it or has
        it since. Each is asked once.
        """
        known = self._holds.get(held)
        if known is None:
            known = self._holds[held] = self._has(held)
        return known

    def _has(self, held: Holding) -> bool:
        found = self.look(held.tid)
        if isinstance(found, Unavailable) or tables.target(held.tid, held.fd) != held.target:
            return False
        return started(held.tid) == found.start

    def open_for(self, held: Holding, *, write: bool) -> bool:
        """Whether a descriptor is open for reading or for writing. Each is asked once."""
        known = self._access.get(held)
        if known is None:
            known = self._access[held] = tables.access(held.tid, held.fd) or (False, False)
        return known[write]

    def has_lock(self, lock: file_locks.FileLock) -> bool:
        """Whether the process that was looked at has a lock, likewise."""
        found = self.look(Tid(int(lock.pid or 0)))
        if isinstance(found, Unavailable):
            return False
        now = file_locks.file_locks()
        there = [] if isinstance(now, Unavailable) else now
        same = structs.replace(lock, number=0) in (structs.replace(each, number=0) for each in there)
        return same and started(found.tid) == found.start

    def threads(self, pid: Pid) -> list[Tid]:
        """The threads of a process; none of one that is gone."""
        found = self._threads.get(pid)
        if found is None:
            listed = tasks.thread_ids(pid)
            found = self._threads[pid] = [] if isinstance(listed, Unavailable) else listed
        return found

    def alive(self, pid: Pid) -> list[Look]:
        """The threads of a process that have not ended."""
        found = [self.look(tid) for tid in self.threads(pid)]
        return [each for each in found if not isinstance(each, Unavailable) and not each.ended]

    def reader(self, pid: Pid) -> Tid:
        """A thread whose tables are the process's: the first, unless it has ended."""
        first = self.look(Tid(int(pid)))
        if isinstance(first, Unavailable) or not first.ended:
            return Tid(int(pid))
        return next((each.tid for each in self.alive(pid)), Tid(int(pid)))

    def memory(self, pid: Pid, address: int, size: int) -> bytes | None:
        """Bytes of a process's memory; None where they cannot be read."""
        found = self._memories.get(pid)
        if found is None:
            found = self._memories[pid] = open_memory(self.reader(pid))
        if isinstance(found, Unavailable) or not 0 < address < 1 << 63:
            return None
        raw = found.read(address, size)
        return raw if raw is not None and len(raw) == size else None

    def closed_memory(self, pid: Pid) -> Unavailable | None:
        """Why a process's memory may not be read; None: it may."""
        self.memory(pid, 1, 1)
        found = self._memories[pid]
        if not isinstance(found, Unavailable):
            return None
        rule = kcmp.access_rule(Tid(int(pid))) if found.errno in (1, 13) else found.why
        return Unavailable(found.errno, f"its memory may not be read: {rule}")

    @cached_property
    def unix(self) -> dict[int, sock_diag.UnixSocket] | Unavailable:
        """The Unix sockets of our network namespace."""
        return sock_diag.unix_sockets()

    @cached_property
    def tcp(self) -> list[sock_diag.InetSocket] | Unavailable:
        """The TCP sockets of our network namespace."""
        return sock_diag.inet_sockets()

    @cached_property
    def tcp_by_inode(self) -> dict[int, sock_diag.InetSocket]:
        """Those with an inode: the others are nobody's any more."""
        return {} if isinstance(self.tcp, Unavailable) else {each.inode: each for each in self.tcp if each.inode}

    @cached_property
    def udp_by_inode(self) -> dict[int, sock_diag.InetSocket]:
        """The UDP sockets of our network namespace; empty where they are not told."""
        found = sock_diag.inet_sockets(socket.IPPROTO_UDP)
        return {} if isinstance(found, Unavailable) else {each.inode: each for each in found if each.inode}

    @cached_property
    def tcp_by_ends(self) -> dict[tuple[tuple[str, int], tuple[str, int]], list[sock_diag.InetSocket]]:
        """TCP sockets by their own and the other address."""
        found: dict[tuple[tuple[str, int], tuple[str, int]], list[sock_diag.InetSocket]] = {}
        for each in [] if isinstance(self.tcp, Unavailable) else self.tcp:
            found.setdefault((each.local, each.remote), []).append(each)
        return found

    @cached_property
    def eventfds(self) -> dict[int, list[Holding]]:
        """Who has which eventfd, by the number that fdinfo has for it."""
        return self._by_number(b"eventfd-id", b"anon_inode:[eventfd]")

    @cached_property
    def masters(self) -> dict[int, list[Holding]]:
        """Who has the master of which pseudo-terminal, by its number."""
        return self._by_number(b"tty-index", b"/dev/ptmx", b"/dev/pts/ptmx")

    def _by_number(self, line: bytes, *names: bytes) -> dict[int, list[Holding]]:
        found: dict[int, list[Holding]] = {}
        for each in [held for name in names for held in self.tables.holders(name)]:
            info = tables.info(each.tid, each.fd)
            number = None if isinstance(info, Unavailable) else info.number(line)
            if number is not None:
                found.setdefault(number, []).append(each)
        return found

    @cached_property
    def locks(self) -> list[file_locks.FileLock] | Unavailable:
        """The locks on files."""
        return file_locks.file_locks()

    @cached_property
    def children(self) -> dict[Pid, list[Pid]]:
        """The children of every process."""
        found: dict[Pid, list[Pid]] = {}
        for pid, parent in tasks.parents():
            found.setdefault(parent, []).append(pid)
        return found

    @cached_property
    def tracees(self) -> dict[Tid, list[Pid]]:
        """The processes that a task traces, by their first threads; empty where the question is about so many."""
        found: dict[Tid, list[Pid]] = {}
        for pid in () if self.many else tasks.all_pids():
            tracer = tasks.tracer_of(Tid(int(pid)))
            if tracer is not None:
                found.setdefault(tracer, []).append(pid)
        return found

    def executable(self, pid: Pid) -> bytes | None:
        """What a process executes; None where that may not be read."""
        found = proc.executable(Tid(int(pid)))
        return None if isinstance(found, Unavailable) else found

    def arguments(self, pid: Pid) -> list[bytes] | None:
        """The arguments of a process."""
        found = proc.arguments(Tid(int(pid)))
        return None if isinstance(found, Unavailable) else found

    def sharers(self, pid: Pid) -> list[Pid] | Unavailable:
        """The other processes that share a process's memory (CLONE_VM without CLONE_THREAD)."""
        mine = self.reader(pid)
        size = tasks.memory_size(mine)
        found = []
        for other in tasks.all_pids():
            if other == pid:
                continue
            answer = kcmp.raw(mine, other, KcmpType.VM)
            if answer == Order.EQUAL:
                found.append(other)
            elif answer < 0 and answer != -errno.ESRCH and tasks.memory_size(Tid(int(other))) == size:
                # Of one that may not be compared: only where it is of another size it is another memory.
                return kcmp.refused(mine, Tid(int(other)), -answer)
        return found

    def ours(self, tid: Tid, kind: str) -> bool:
        """Whether a task is in our own namespace of a kind (``net``, ``ipc``, ``time``), as far as may be read."""
        ours, theirs = proc.read_link(f"/proc/self/ns/{kind}"), proc.read_link(f"/proc/{tid}/ns/{kind}")
        return isinstance(ours, Unavailable) or isinstance(theirs, Unavailable) or ours == theirs
