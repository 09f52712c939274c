"""What one task waits for: from its state and the call that it is in."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import msgspec

from forklore.abi.arch import X86, Arch
from forklore.abi.clone_args import VER0, field
from forklore.abi.flags import CLONE_VFORK
from forklore.abi.syscalls import name as call_name
from forklore.abi.text import printable
from forklore.abi.units import LOW32, Nanoseconds, Unavailable, signed
from forklore.decode.waits.calls import CALLS, MOVES, Waiting, Waits, unfolded
from forklore.decode.waits.futex import FutexWait, futex_list_size, futex_wait, futexes_waited_for
from forklore.features.why.graph import Wait, WaitKind
from forklore.features.why.observe.awaited import Awaited, merged
from forklore.features.why.observe.children import Children
from forklore.features.why.observe.code import Code, Stack
from forklore.features.why.observe.files import Files, Polled
from forklore.features.why.observe.futexes import Futexes
from forklore.features.why.observe.machine import Machine
from forklore.features.why.observe.others import Others
from forklore.features.why.observe.stops import stop
from forklore.features.why.observe.timeouts import end_of
from forklore.features.why.observe.words import could_come, signal_names
from forklore.linux.waits import prototypes, tables
from forklore.linux.waits.look import Look, RawCall, where

_X32: Final = 0x4000_0000
_SOCKADDR: Final = 128
"""sizeof (struct sockaddr_storage)."""
Read = Callable[[int, int], bytes | None]

_KERNEL_FUNCTIONS: Final = (
    (("pipe_read", "anon_pipe_read"), WaitKind.READ, "data or the end of a pipe"),
    (("pipe_write", "anon_pipe_write"), WaitKind.WRITE, "room in a pipe"),
    (("do_wait", "kernel_wait"), WaitKind.CHILD, "a child"),
    (("futex_",), WaitKind.FUTEX, "a futex (a lock, a condition, or a thread's end)"),
    (("unix_", "inet_", "tcp_", "sk_wait", "__skb_wait"), WaitKind.READ, "a socket"),
    (("poll_schedule", "do_poll", "do_select", "ep_poll", "do_epoll_wait"), WaitKind.EVENTS, "events on descriptors"),
    (("hrtimer_nanosleep", "do_nanosleep"), WaitKind.TIME, "time to pass"),
    (("sigsuspend", "do_sigtimedwait", "__do_sys_pause"), WaitKind.SIGNAL, "a signal"),
    (("n_tty_read", "tty_"), WaitKind.INPUT, "a terminal"),
    (("locks_", "flock_", "fcntl_setlk"), WaitKind.FILE_LOCK, "a lock on a file"),
)  # fmt: skip
"""What a kernel function says of a wait, where the call may not be read."""


class TaskWaits:
    """Finds out what tasks wait for."""

    def __init__(self, machine: Machine, arch: Arch | None, code: Code | None = None) -> None:
        self._machine = machine
        self._arch = arch
        self._code = code
        self._files = Files(machine, brief=machine.many and code is None)
        self._futexes = Futexes(machine, code)
        self._children = Children(machine)
        self._others = Others(machine)

    def call(self, task: Look) -> tuple[str, str] | None:
        """Name of the call that a task is in, and how it is written."""
        found = self._named(task)
        return None if found is None else (found[0], prototypes.written(*found))

    def _named(self, task: Look) -> tuple[str, tuple[int, ...]] | None:
        call = task.call
        if not isinstance(call, RawCall) or call.number < 0 or self._arch is None:
            return None
        arch = Arch.I386 if call.narrow and self._arch in X86 and not call.number & _X32 else self._arch
        name = call_name(arch, call.number)
        return (f"call {call.number}", call.words) if name is None else unfolded(name, call.words)

    def of(self, task: Look, asleep: Nanoseconds | None, stack: Stack | None) -> Wait:
        """What a task waits for."""
        if task.ended:
            return self._children.zombie(task)
        stopped = stop(self._machine, task, self.call(task))
        if stopped is not None:
            return stopped
        if isinstance(task.call, Unavailable):
            return _unread(task, task.call)
        if task.call is None:
            return Wait(WaitKind.NOTHING, "nothing: it runs")
        call = self._named(task)
        if call is None:
            what = "a page of its memory, or a signal to be dealt with: it is in no system call"
            return Wait(WaitKind.KERNEL if task.state == "D" else WaitKind.UNKNOWN, what)
        name = call[0].removesuffix("_time64")
        waiting = CALLS.get(name)
        if waiting is None:
            return Wait(
                WaitKind.KERNEL if task.state == "D" else WaitKind.UNKNOWN, f"{call[0]}, which is not known to wait"
            )
        wide = not task.call.narrow or call[0] != name
        wait = self._in_call(task, name, waiting, call[1], asleep, stack, wide=wide)
        if task.state == "D" and wait.kind is not WaitKind.VFORK:
            return Wait(
                WaitKind.KERNEL, f"the kernel to finish {call[0]} ({wait.what})", beyond="a device or a file system"
            )
        return wait

    def _in_call(
        self, task: Look, name: str, waiting: Waiting, words: tuple[int, ...], asleep: Nanoseconds | None,
        stack: Stack | None, *, wide: bool,
    ) -> Wait:  # fmt: skip
        def read(address: int, size: int) -> bytes | None:
            return self._machine.memory(task.pid, address, size)

        futex = futex_wait(name, words) if waiting.waits is Waits.FUTEX else None
        ours = waiting.patience is None or self._machine.ours(task.tid, "time")
        timed, ends_in = end_of(waiting, words, asleep, read, wide=wide, ours=ours, futex=futex)
        match waiting.waits:
            case Waits.FUTEX:
                wait = self._futex(task, futex, stack, words, read)
            case Waits.READ | Waits.WRITE | Waits.ACCEPT | Waits.CONNECT:
                wait = self._on_file(task, waiting, words, read)
            case Waits.MOVE:
                wait = self._move(task, name, words)
            case Waits.RING:
                wait = _wait(self._files.ring(task, signed(words[0])))
            case Waits.POLL:
                wait = self._poll(task, name, words, read)
            case Waits.CHILD:
                wait = (
                    self._children.waitid(task, words[0], words[1])
                    if name == "waitid"
                    else (self._children.wait4(task, words[0]))
                )
            case Waits.VFORK:
                wait = self._vfork(task, name, words, read)
            case Waits.LOCK:
                wait = self._others.file_lock(task, name, words, read) or Wait(WaitKind.UNKNOWN, name)
            case Waits.OPEN:
                path = words[1] if name in ("openat", "openat2") else words[0]
                wait = self._others.lease(task, read, path) or Wait(
                    WaitKind.OPEN, "a file to be opened", beyond="others"
                )
            case Waits.SIGNAL:
                wait = self._others.signal(task, name, words, read)
            case Waits.TIME:
                wait = Wait(WaitKind.TIME, "time to pass", timed=True)
            case Waits.SEMAPHORE:
                wait = self._others.semaphore(task, words, read)
            case Waits.MESSAGE_IN | Waits.MESSAGE_OUT:
                wait = self._others.message(task, words, out=waiting.waits is Waits.MESSAGE_OUT)
            case Waits.QUEUE_IN | Waits.QUEUE_OUT:
                wait = self._others.queue(task, signed(words[0]), out=waiting.waits is Waits.QUEUE_OUT)
            case Waits.RESTART:
                what = "a call that was interrupted and goes on (restart_syscall): which is not told"
                return Wait(WaitKind.UNKNOWN, what, beyond="what it waits for")
            case Waits.DISK:
                wait = Wait(WaitKind.KERNEL, f"the kernel to finish {name}", beyond="a device or a file system")
        return _with_signals(msgspec.structs.replace(wait, timed=timed or wait.timed, ends_in=ends_in if timed else (
            wait.ends_in)), task)  # fmt: skip

    def _futex(
        self, task: Look, futex: FutexWait | None, stack: Stack | None, words: tuple[int, ...], read: Read
    ) -> Wait:
        if futex is not None:
            return self._futexes.wait(task, futex, stack)
        raw = read(words[0], futex_list_size(words[1] & LOW32)) if words[1] & LOW32 else None
        return self._futexes.several(task, [] if raw is None else futexes_waited_for(raw))

    def _vfork(self, task: Look, name: str, words: tuple[int, ...], read: Read) -> Wait:
        flags = words[0]
        if name == "clone3":
            raw = read(words[0], VER0)
            flags = CLONE_VFORK if raw is None else field(raw, "flags")
        if name != "vfork" and not flags & CLONE_VFORK:
            return Wait(WaitKind.KERNEL, f"the kernel to finish {name}")
        return self._children.vfork(task)

    def _on_file(self, task: Look, waiting: Waiting, words: tuple[int, ...], read: Read) -> Wait:
        fd = signed(words[waiting.fd or 0])
        if waiting.waits is Waits.CONNECT:
            size = words[2] & LOW32
            return _wait(self._files.connect(task, fd, read(words[1], size) if size <= _SOCKADDR else None))
        return _wait(self._files.awaited(task, fd, write=waiting.waits is Waits.WRITE))

    def _move(self, task: Look, name: str, words: tuple[int, ...]) -> Wait:
        """splice, tee, vmsplice and sendfile: the kernel's function says which of the two ends keeps them."""
        function = where(task.tid) or ""
        if name == "vmsplice":
            can = tables.access(task.tid, signed(words[0]))
            return _wait(self._files.awaited(task, signed(words[0]), write=can is None or can[1]))
        source, sink = (signed(words[index]) for index in MOVES[name])
        if function.startswith("pipe_wait_readable"):
            return _wait(self._files.awaited(task, source, write=False))
        into = self._files.awaited(task, sink, write=True)
        if function.startswith("pipe_wait_writable"):
            return _wait(into)
        from_ = self._files.awaited(task, source, write=False)
        possible = [each for each in (from_, into) if each.kind is not WaitKind.KERNEL]
        if len(possible) == 1:
            return _wait(possible[0])
        what = f"{from_.what}, or for {into.what}"
        return Wait(WaitKind.EVENTS, what, merged(each.enders for each in possible),
                    beyond="which of the two it waits for is not told")  # fmt: skip

    def _poll(self, task: Look, name: str, words: tuple[int, ...], read: Read) -> Wait:
        if name.startswith("epoll"):
            return _wait(self._files.awaited(task, signed(words[0]), write=False))
        listed = self._polled(name, words, read)
        if listed is None:
            return Wait(
                WaitKind.EVENTS, "events on descriptors, of which the list may not be read", beyond="whoever causes one"
            )
        if not listed:
            return Wait(WaitKind.SIGNAL, "a signal: it polls no descriptor", beyond="whoever sends one")
        return _wait(self._files.any_of(task, [Polled(fd, write) for fd, write in listed]))

    def _polled(self, name: str, words: tuple[int, ...], read: Read) -> list[tuple[int, bool]] | None:
        """Descriptors and whether they are polled for writing alone; None where the list cannot be read."""
        if name in ("poll", "ppoll"):
            count = min(words[1] & LOW32, 1024)
            raw = read(words[0], 8 * count) if count else b""
            if raw is None:
                return None
            items = [struct.unpack_from("<ihh", raw, at) for at in range(0, len(raw), 8)]
            return [(fd, bool(events & 4) and not events & 1) for fd, events, _ in items if fd >= 0]
        return self._selected(words, read)

    def _selected(self, words: tuple[int, ...], read: Read) -> list[tuple[int, bool]] | None:
        # The kernel writes the sets when the call returns, so they are as they were given.
        size = (min(signed(words[0]), 1024) + 63) // 64 * 8
        found: dict[int, bool] = {}
        for place, write in ((words[2], True), (words[1], False)):
            raw = read(place, size) if place and size > 0 else b""
            if raw is None:
                return None
            bits = int.from_bytes(raw, "little")
            found.update((fd, write) for fd in range(min(signed(words[0]), 1024)) if bits >> fd & 1)
        return sorted(found.items())


def _wait(found: Awaited) -> Wait:
    return Wait(
        found.kind, found.what, found.enders, closed=found.closed, beyond=found.beyond, object=found.object,
        ends=found.ends, idle=found.idle, timed=found.timed, ends_in=found.ends_in,
    )  # fmt: skip


def _with_signals(wait: Wait, task: Look) -> Wait:
    """A wait that a handler of the program's own can end says by which signals."""
    if wait.by_signal or wait.kind in (WaitKind.MUTEX, WaitKind.RWLOCK, WaitKind.JOIN, WaitKind.SEMAPHORE,
                                       WaitKind.CONDITION, WaitKind.FUTEX, WaitKind.VFORK):  # fmt: skip
        return wait
    caught = could_come(task.caught, task.blocked)
    return msgspec.structs.replace(wait, by_signal=signal_names(caught)) if caught else wait


def _unread(task: Look, why: Unavailable) -> Wait:
    function = where(task.tid) or ""
    for prefixes, kind, what in _KERNEL_FUNCTIONS:
        if function.startswith(prefixes):
            return Wait(kind, f"{what} (by the kernel's {printable(function)})", beyond=why.why)
    if task.state == "D":
        return Wait(
            WaitKind.KERNEL, f"the kernel ({printable(function) or 'which function may not be read'})", beyond=why.why
        )
    if task.state == "R":
        return Wait(WaitKind.NOTHING, "nothing: it runs")
    return Wait(WaitKind.UNKNOWN, "something that may not be read", beyond=why.why)
