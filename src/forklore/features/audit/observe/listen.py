"""The engine with an ear at every system call: it logs them all, and can refuse some in the kernel's place."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from forklore.abi import clone_args, syscalls
from forklore.abi.arch import Arch, arch_of
from forklore.abi.flags import CLONE_SETTLS
from forklore.abi.syscalls import CREATIONS
from forklore.abi.units import Address, Nanoseconds, Pid, TaskId, Tid, Unavailable
from forklore.events import records as ev
from forklore.features.audit.record import SAY, Became, Born, Happening, ProbeSaid, ProbeWord, SeenCall, TaskEnded
from forklore.linux import memory
from forklore.linux.tracing import ptrace, spawn
from forklore.sources.ptrace.engine import Engine
from forklore.sources.ptrace.observer import Observer
from forklore.sources.ptrace.options import Observe, Options, Stops
from forklore.sources.ptrace.tracee import Tracee
from forklore.sources.source import nothing_to_do

OPTIONS: Final = Options(stops=Stops.SYSCALLS, observe=Observe.KCMP, argv=False, stack_depth=0)
LIMIT: Final = 8.0
"""Seconds without a system call after which a probe that does not end is killed: a call takes microseconds."""
MOST: Final = 60.0
"""Seconds after which a probe is killed that makes calls and does not end: all of it takes milliseconds."""
STACK: Final = 8 << 20
"""Bytes of the probe's RLIMIT_STACK, the kernel's default."""
LOG_LIMIT: Final = 50_000
"""Happenings after which a probe is killed."""

_TICK: Final = 0.25
_STRING: Final = 4096

# Which argument points to what, and how many bytes of it are decoded.
_POINTED: Final[Mapping[str, tuple[int, int]]] = {
    "rt_sigprocmask": (1, 8),
    "rt_sigaction": (1, 8),
}
_PATHS: Final[Mapping[str, int]] = {"execve": 0, "execveat": 1, "open": 0, "openat": 1, "chdir": 0}


class Listener(Observer):
    """Logs what the probe's tasks do until they execute another program.

    ``refuse``: the calls that fail with that errno between the probe's BEGIN and RETURN without reaching the kernel.
    """

    def __init__(self, machine: Arch, refuse: Mapping[str, int]) -> None:
        self.engine = Engine(machine, OPTIONS, time.monotonic_ns(), self._seen, nothing_to_do, observers=[self])
        self.log: list[Happening] = []
        self.stops = 0
        """At calls, of any task."""
        self._refuse = refuse
        self._calls: dict[int, SeenCall] = {}
        self._programs: set[int] = set()
        """Tasks that run another program by now: theirs is no call of the library."""
        self._begun = False

    def call_entered(self, task: Tracee, t: int, audit: int, nr: int, words: ptrace.Entry) -> bool:
        """Log it; True if it is refused here, in the kernel's place."""
        self.stops += 1
        return task.id not in self._programs and self._entered(task, Nanoseconds(t), audit, nr, words)

    def call_left(self, task: Tracee, t: int, result: int) -> None:
        """Log what came of it."""
        self.stops += 1
        if task.id not in self._programs:
            self._left(task, Nanoseconds(t), result)

    def _entered(self, task: Tracee, t: Nanoseconds, audit: int, nr: int, words: ptrace.Entry) -> bool:
        arch = arch_of(audit, nr)
        name = syscalls.name(arch, nr) if arch is not None else None
        if arch is None or name is None:
            return False
        if name == "prctl" and words[0] == SAY:
            self._said(task, arch, words)
            return False
        call = SeenCall(task=task.id, t=t, arch=arch, nr=nr, name=name, words=words)
        call.data, call.second = _pointed(task.tid, arch, name, words)
        if name in CREATIONS:
            held = ptrace.registers(task.tid)
            call.sp = held[held.layout.sp]
        self._calls[task.id] = call
        self._add(call)
        if self._begun and name in self._refuse:
            call.injected = self._refuse[name]
            ptrace.skip_call(task.tid)
        return call.injected is not None

    def _left(self, task: Tracee, t: Nanoseconds, result: int) -> None:
        call = self._calls.pop(task.id, None)
        if call is None:
            return
        call.result, call.until = result, t
        if call.injected is not None:
            call.result = -call.injected
            held = ptrace.registers(task.tid)
            ptrace.set_registers(task.tid, held.replace(held.layout.ret, call.result))

    def _said(self, task: Tracee, arch: Arch, words: ptrace.Entry) -> None:
        try:
            word = ProbeWord(words[1])
        except ValueError:
            return  # the number is free: some other program's prctl
        a, b, c = (_signed(value, arch) for value in words[2:5])
        self._add(ProbeSaid(task.id, word, (a, b, c)))
        if word in (ProbeWord.BEGIN, ProbeWord.RETURN):
            self._begun = word is ProbeWord.BEGIN

    def _seen(self, event: ev.Event) -> None:
        match event:
            case ev.Create():
                compared = event.kcmp if isinstance(event.kcmp, tuple) else None
                self._add(Born(TaskId(event.task), TaskId(event.child), Tid(event.tid), compared))
            case ev.Exec():
                self._calls.pop(event.task, None)
                self._programs.add(event.task)
                if event.task != 1 or any(isinstance(past, ProbeSaid) for past in self.log):
                    self._add(Became(TaskId(event.task)))
                else:
                    self._programs.discard(event.task)  # the root becoming the probe
            case ev.Exit():
                self._add(TaskEnded(TaskId(event.task), event.status or 0))
            case _:
                return

    def _add(self, happening: Happening) -> None:
        self.log.append(happening)
        if len(self.log) == LOG_LIMIT:
            self.engine.kill()


def listen(
    machine: Arch, command: Sequence[str], environment: Sequence[bytes], refuse: Mapping[str, int]
) -> tuple[list[Happening], Pid, bool]:
    """Run a command under the tracer, which it cannot outlive; its log, its pid, and whether it had to be killed.

    Raises OSError where the kernel does not let it be traced.
    """
    arguments = [os.fsencode(word) for word in command]
    launched = spawn.launch(arguments[0], arguments, environment, None)
    listener = Listener(machine, refuse)
    engine = listener.engine
    try:
        engine.seize(launched.pid)
    except OSError:
        launched.abandon()
        raise
    ended, late = threading.Event(), threading.Event()
    watch = threading.Thread(target=_end_if_stuck, args=(listener, ended, late), name="audit-limit")
    watch.start()
    try:
        launched.limit_stack(STACK)  # libraries make threads' stacks as large as this limit
        launched.go()
        engine.run()
    finally:
        ended.set()
        watch.join()
    failure = launched.failure()
    if failure is not None:
        raise OSError(failure[1], os.strerror(failure[1]), os.fsdecode(arguments[0]))
    return listener.log, launched.pid, late.is_set() or len(listener.log) >= LOG_LIMIT


def _end_if_stuck(listener: Listener, ended: threading.Event, late: threading.Event) -> None:
    # A slow machine is not a stuck probe: what counts is that nothing comes any more.
    begun = heard = time.monotonic()
    seen = 0
    while not ended.wait(_TICK):
        now = time.monotonic()
        if listener.stops != seen:
            seen, heard = listener.stops, now
        if now - heard > LIMIT or now - begun > MOST:
            late.set()
            listener.engine.kill()  # kill(2) may come from any thread; the loop sees the ends
            return


def _pointed(tid: Tid, arch: Arch, name: str, words: ptrace.Entry) -> tuple[bytes | None, bytes | None]:
    if name == "clone3" and words[1] <= memory.PAGE_SIZE:
        data = _read(tid, words[0], words[1])
        return data, _descriptor(tid, arch, name, words, data)
    if name == "clone":
        return None, _descriptor(tid, arch, name, words, None)
    if name in _POINTED:
        argument, size = _POINTED[name]
        return (_read(tid, words[argument], size) if words[argument] else None), None
    if name in _PATHS:
        path = memory.Pages(tid).string(Address(words[_PATHS[name]]), _STRING)
        return (None if isinstance(path, Unavailable) else path), None
    return None, None


def _descriptor(tid: Tid, arch: Arch, name: str, words: ptrace.Entry, data: bytes | None) -> bytes | None:
    # i386 gives its thread pointer as the address of a struct user_desc.
    if arch is not Arch.I386:
        return None
    flags, tls = (words[0], words[3]) if name == "clone" else (0, 0)
    if data is not None and len(data) >= clone_args.VER0:
        flags, tls = clone_args.field(data, "flags"), clone_args.field(data, "tls")
    return _read(tid, tls, 16) if flags & CLONE_SETTLS else None


def _read(tid: Tid, address: int, size: int) -> bytes | None:
    got = memory.read(tid, Address(address), size)
    return None if isinstance(got, Unavailable) else got


def _signed(value: int, arch: Arch) -> int:
    bits = 8 * arch.word
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
