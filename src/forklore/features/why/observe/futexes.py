"""Waits for futexes: which lock a word is of, who has it, and whether anybody is there who could wake it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.text import printable
from forklore.abi.units import PID_LIMIT, Address, Pid, Tid, Unavailable
from forklore.decode.waits.futex import FutexWait
from forklore.decode.waits.locks import Lock, LockKind, recognised
from forklore.features.why.graph import LOCKS, Ender, Role, Wait, WaitKind
from forklore.features.why.observe.code import Code, Stack
from forklore.features.why.observe.machine import Machine
from forklore.features.why.observe.runtimes import Runtime, runtime
from forklore.features.why.observe.words import could_come, signal_names
from forklore.linux.waits.look import Look, RawCall, look, timers

_KINDS: Final = {
    LockKind.MUTEX: WaitKind.MUTEX, LockKind.RWLOCK: WaitKind.RWLOCK, LockKind.JOIN: WaitKind.JOIN,
    LockKind.SEMAPHORE: WaitKind.SEMAPHORE, LockKind.CONDITION: WaitKind.CONDITION, LockKind.LOW_LEVEL: WaitKind.MUTEX,
    LockKind.OTHER: WaitKind.FUTEX,
}  # fmt: skip
_SIGINT: Final = 1 << 1
_SIGALRM: Final = 1 << 13
_DEEPEST: Final = 1 << 16
_NAMED: Final = 4
_INNERMOST: Final = 3
"""Frames in which musl's own functions are looked for."""
Read = Callable[[int, int], bytes | None]


class _Waiting(Struct):
    # One wait for a futex, as far as it is known.
    task: Look
    futex: FutexWait
    read: Read
    lock: Lock
    name: str | None
    runtime: Runtime | None
    sure: bool
    """Whether the function that waits tells what the word is of; else its bytes do, alone."""
    beyond: str
    """Who beyond the tasks that share this memory may have to do with the word."""

    @property
    def object(self) -> str:
        return f"futex {self.futex.address:#x} of {self.task.pid}"

    @property
    def what(self) -> str:
        if self.runtime is not None:
            return self.runtime.words
        lock = self.lock
        article = "an" if lock.what[0] in "aeiou" else "a"
        return f"{self.name}, {article} {lock.what}" if self.name else f"{article} {lock.what} at {lock.address:#x}"

    def wait(self, enders: tuple[Ender, ...], *, closed: bool, beyond: str, by_signal: str, **more: str | bool) -> Wait:
        return Wait(
            _KINDS[self.lock.kind], self.what, enders, closed=closed, beyond=beyond, object=self.object, name=self.name,
            address=self.lock.address, by_signal=by_signal, **more,  # type: ignore[arg-type]
        )  # fmt: skip


class Futexes:
    """Finds out what futexes are of. ``code`` None: no names, and no walks."""

    def __init__(self, machine: Machine, code: Code | None) -> None:
        self._machine = machine
        self._code = code

    def wait(self, task: Look, futex: FutexWait, stack: Stack | None) -> Wait:
        """What a thread waits for that waits for a futex; when it ends by itself is the caller's to add."""
        closed = self._machine.closed_memory(task.pid)
        if closed is not None:
            return Wait(
                WaitKind.FUTEX, f"a futex at {futex.address:#x}", self._others(task), beyond=closed.why,
                object=f"futex {futex.address:#x} of {task.pid}", address=futex.address,
            )  # fmt: skip
        found = self._waiting(task, futex, Stack((), "") if stack is None else stack)
        if found.lock.kind is LockKind.JOIN:
            return self._join(found)
        if _KINDS[found.lock.kind] in LOCKS and found.lock.owner is not None:
            return self._owned(found, found.lock.owner)
        return self._unowned(found)

    def several(self, task: Look, places: Sequence[Address]) -> Wait:
        """What a thread waits for that waits for any of several words (futex_waitv)."""
        told = [self._word(task, place) for place in places[:_NAMED]]
        more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        what = f"any of {len(places)} futexes ({', '.join(told)}{more})" if told else "any of several futexes"
        return Wait(WaitKind.FUTEX, what, self._others(task), beyond="whoever wakes one, and nothing says who will")

    def _word(self, task: Look, place: Address) -> str:
        name = None if self._code is None else self._code.variable(task.pid, task.tid, place)
        return name or f"{place:#x}"

    def _waiting(self, task: Look, futex: FutexWait, stack: Stack) -> _Waiting:
        # 32-bit programs make their calls through the vdso.
        stack = Stack(tuple(frame for frame in stack.frames if frame.file != b"[vdso]"), stack.end)
        functions = stack.functions()
        word = 4 if isinstance(task.call, RawCall) and task.call.narrow else 8

        def read(address: int, size: int) -> bytes | None:
            return self._machine.memory(task.pid, address, size)

        lives = runtime(functions)
        musl = _is_musl(functions) or (self._code is not None and self._code.libc(task.pid, task.tid) == "musl")
        waits = _of_libc(functions)
        if lives is not None and not lives.c_library:
            lock = Lock(LockKind.OTHER, lives.what, futex.address, no_owner=lives.no_owner)
        elif waits or futex.inherits or not any(functions[:1]):
            lock = recognised(futex, read, word, waits, musl=musl)
        else:
            lock = Lock(LockKind.OTHER, "futex", futex.address, no_owner="a futex says nothing of who will wake it")
        if lock.kind is LockKind.LOW_LEVEL:
            lock = self._stdio(task, lock, read)
        name = None if self._code is None else self._code.variable(task.pid, task.tid, lock.address)
        sure = bool(waits) or futex.inherits or _in_libc(stack)
        return _Waiting(task, futex, read, lock, name, lives, sure, self._beyond(task, futex, lock))

    # With an owner

    def _owned(self, found: _Waiting, number: int) -> Wait:
        task = found.task
        owner = self._thread(task, number) or self._sharer(task, number) or self._stranger(found, number)
        signals = self._timers(task)
        guess = "" if found.sure else "that the word is a mutex's is told by its bytes alone"
        if owner is not None:
            beyond = found.beyond or guess
            return found.wait(
                (Ender(owner.pid, owner.tid, Role.OWNER),), closed=not beyond, beyond=beyond, by_signal=signals
            )
        enders, words, copied = self._absent(task, number)
        beyond = found.beyond or (guess if self._others(task) else "")
        return found.wait(enders, closed=not beyond, beyond=beyond, by_signal=signals, owner=words, copied=copied)

    def _thread(self, task: Look, number: int) -> Look | None:
        """The thread of the task's process that has that number in their own pid namespace."""
        return next((each for each in self._machine.alive(task.pid) if each.number == number), None)

    def _sharer(self, task: Look, number: int) -> Look | None:
        """Likewise of another process that shares the memory: the creator of a vfork child."""
        others = self._machine.sharers(task.pid)
        for pid in [] if isinstance(others, Unavailable) else others:
            found = next((each for each in self._machine.alive(pid) if each.number == number), None)
            if found is not None:
                return found
        return None

    def _stranger(self, found: _Waiting, number: int) -> Look | None:
        """The owner of a lock in memory that processes share, wherever it is."""
        if not found.beyond or len(found.task.ns_tids) > 1:
            return None
        other = self._machine.look(Tid(number))
        return None if isinstance(other, Unavailable) or other.ended else other

    def _absent(self, task: Look, number: int) -> tuple[tuple[Ender, ...], str, bool]:
        """An owner that is no task of this memory: who it is (it can end nothing here), in words, and whether the
        memory is a copy that was made while it had the lock.
        """
        # Numbers are given upwards: one below the process's own was there before the process was.
        before = number < self._number(task.pid)
        whose = "of its creator" if before else "of its own"
        other = self._of_ancestors(task, number)
        if other is not None:
            is_creator = other.pid == task.ppid
            role = "its creator" if is_creator else f"its ancestor {other.pid} {printable(other.name)}"
            if int(other.tid) != int(other.pid):
                role = f"a thread of {role}" + (f" {other.pid}" if is_creator else "")
            ender = Ender(other.pid, other.tid, Role.CREATOR, note=role, able=False)
            return (ender,), f"{other.tid}, {role},", True
        if len(task.ns_tids) == 1:
            taken = look(Tid(number))
            if not isinstance(taken, Unavailable) and not taken.ended:
                who = f"{taken.pid} {printable(taken.name)}"
                return (), f"thread {number} {whose}, which has ended since (that number is now {who}'s),", before
        return (), f"thread {number} {whose}, which has ended since,", before

    def _of_ancestors(self, task: Look, number: int) -> Look | None:
        """The thread of an ancestor that has that number in the task's own pid namespace."""
        for pid in self._ancestors(task):
            for each in self._machine.alive(pid):
                if each.number == number and len(each.ns_tids) == len(task.ns_tids):
                    return each
        return None

    def _number(self, pid: Pid) -> int:
        leader = self._machine.look(Tid(int(pid)))
        return int(pid) if isinstance(leader, Unavailable) else leader.number

    def _ancestors(self, task: Look) -> list[Pid]:
        found: list[Pid] = []
        pid = task.ppid
        while pid and pid not in found:
            found.append(pid)
            above = self._machine.look(Tid(int(pid)))
            pid = Pid(0) if isinstance(above, Unavailable) else above.ppid
        return found

    # Without

    def _unowned(self, found: _Waiting) -> Wait:
        task, lives = found.task, found.runtime
        others = self._others(task)
        caught = could_come(task.caught, task.blocked)
        flags_only = lives is not None and lives.only_flags and caught == _SIGINT
        kind = _KINDS[found.lock.kind]
        signals = self._timers(task) if kind in LOCKS else "" if flags_only else signal_names(caught)
        note = found.lock.no_owner if lives is None else lives.no_owner or found.lock.no_owner
        if flags_only and not others:
            note = f"{note}; SIGINT, which it catches, would end the wait"
        lock = kind in LOCKS or (lives is not None and lives.lock) or found.futex.value == _TAKEN
        copied = not others and lock and self._is_copy(task)
        return found.wait(
            others, closed=not found.beyond, beyond=found.beyond, by_signal=signals, copied=copied, note=note
        )

    def _is_copy(self, task: Look) -> bool:
        # It has executed nothing since it was forked, as far as that shows.
        mine, parents = self._machine.executable(task.pid), self._machine.executable(task.ppid)
        return (
            mine is not None
            and mine == parents
            and self._machine.arguments(task.pid) == self._machine.arguments(task.ppid)
        )

    def _others(self, task: Look) -> tuple[Ender, ...]:
        found = [each for each in self._machine.alive(task.pid) if each.tid != task.tid]
        return tuple(Ender(each.pid, each.tid, Role.SIBLING) for each in found)

    def _join(self, found: _Waiting) -> Wait:
        task, number = found.task, found.lock.owner or 0
        thread = self._thread(task, number)
        if thread is None:
            what = f"the end of thread {number}"
            return Wait(WaitKind.JOIN, what, beyond="that thread is not there any more", object=found.object)
        what = f"the end of its thread {thread.tid} {printable(thread.name)}"
        return Wait(
            WaitKind.JOIN, what, (Ender(thread.pid, thread.tid, Role.THREAD),), closed=True, object=found.object,
            address=found.lock.address, by_signal=self._timers(task),
        )  # fmt: skip

    # What reaches further

    def _beyond(self, task: Look, futex: FutexWait, lock: Lock) -> str:
        """Who beyond the tasks of this memory might have to do with the word; empty: nobody."""
        if futex.private:
            return ""
        maps = None if self._code is None else self._code.maps(task.pid, task.tid)
        mapping = None if maps is None else maps.find(lock.address)
        if mapping is None:
            return "other processes may share the memory that it lies in"
        if mapping.private:
            return ""
        return f"it lies in memory that other processes may share ({printable(mapping.path) or 'anonymous'})"

    def _timers(self, task: Look) -> str:
        """By which signals of its own making a thread could leave a lock that has an owner (siglongjmp(3))."""
        if task.caught & ~task.blocked & _SIGALRM:
            return "SIGALRM"
        caught = could_come(task.caught, task.blocked)
        return signal_names(caught) if caught and timers(task.pid) else ""

    def _stdio(self, task: Look, lock: Lock, read: Read) -> Lock:
        """A lock of stdio has the descriptor of the thread that took it: _IO_lock_t of glibc (stdio-lock.h)."""
        raw = read(lock.address + 4, 12)
        if raw is None or self._code is None:
            return lock
        times, owner = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")
        offset = self._code.tid_offset(task.pid, task.tid)
        # struct pthread of x86-64 begins with its own address (nptl/descr.h: tcbhead_t).
        own = read(owner, 8) if owner and not owner & 7 else None
        if not 0 < times < _DEEPEST or offset is None or own is None or int.from_bytes(own, "little") != owner:
            return lock
        raw = read(owner + offset, 4)
        number = 0 if raw is None else int.from_bytes(raw, "little")
        if not 0 < number < PID_LIMIT:
            return lock
        return Lock(LockKind.LOW_LEVEL, "lock of stdio", lock.address, number)


_TAKEN: Final = 2
"""What locks that are one word have while somebody waits for them: glibc's own, Rust's, those of allocators."""


_NEAR: Final = 8
"""Frames in which the function of the C library is looked for that waits."""
_PUBLIC: Final = ("pthread_", "sem_", "new_sem_", "mtx_", "cnd_")
_INNER: Final = ("lll_lock",)
_MUSL: Final = frozenset({"timedwait", "timedwait_cp", "sccp", "syscall_cp", "syscall_cp_asm", "do_wait"})
"""Functions of musl that wait, which static programs have too."""


def _is_musl(functions: list[str]) -> bool:
    return any(function.lstrip("_") in _MUSL for function in functions[:_INNERMOST])


def _in_libc(stack: Stack) -> bool:
    """Whether it is a function of the C library that waits, though one without a name."""
    if not stack.frames or stack.frames[0].function:
        return False
    return stack.frames[0].file.rpartition(b"/")[2].startswith((b"libc.", b"libc-", b"libpthread", b"ld-musl"))


def _of_libc(functions: list[str]) -> str:
    """The function of the C library that waits: a public one, else its own for locks that are one word."""
    names = [function.lstrip("_") for function in functions[:_NEAR]]
    for prefixes in (_PUBLIC, _INNER):
        found = next((name for name in names if name.startswith(prefixes)), None)
        if found is not None:
            return found.removeprefix("new_")
    return ""
