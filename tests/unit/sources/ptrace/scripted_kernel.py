"""A kernel for the engine's tests: programs as scripts, and every order of wait statuses that Linux could give.

It knows what ptrace(2) and kernel/fork.c, exit.c and exec.c say of tracees, of one machine (x86_64) and of what the
loop asks. What comes next, and when somebody is killed, a chooser decides: all possibilities one after the other
(:func:`every_order`), or some that hypothesis picks. A request that no tracer may make is a failure of the test: of a
task that is not held, that is restarted twice, or whose status was not taken.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Final, Protocol, cast

from msgspec import Struct

from forklore.abi import ptrace as pt
from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_PARENT, CLONE_PTRACE, CLONE_THREAD, CLONE_UNTRACED, CLONE_VFORK, CLONE_VM
from forklore.abi.registers import LAYOUTS
from forklore.abi.syscalls import number
from forklore.abi.units import Address, Fd, Pid, Tid, Unavailable
from forklore.linux.namespaces import Namespaces
from forklore.linux.observe import Pair, TaskState
from forklore.linux.proc import Status
from forklore.linux.tracing import seccomp
from forklore.linux.tracing.ptrace import Entry, Registers, SignalInfo
from forklore.linux.tracing.wait import Kind
from forklore.sources.ptrace.options import Stops

LAYOUT: Final = LAYOUTS[Arch.X86_64]
TRACER: Final = os.getpid()
ROOT: Final = Tid(100)
THREAD: Final = CLONE_VM | CLONE_THREAD
VFORK: Final = CLONE_VM | CLONE_VFORK
APART: Final = Pair(1, 1, 1, 1, 1, 1)

_SIGTRAP: Final = 5
_EVENTS: Final = {
    Kind.FORK: pt.Event.FORK, Kind.VFORK: pt.Event.VFORK, Kind.CLONE: pt.Event.CLONE, Kind.EXEC: pt.Event.EXEC,
    Kind.VFORK_DONE: pt.Event.VFORK_DONE, Kind.SECCOMP: pt.Event.SECCOMP, Kind.TRAP: pt.Event.STOP,
}  # fmt: skip
_CALLS: Final = {name: number(Arch.X86_64, name) or 0 for name in ("clone", "execve", "unshare")}


# Programs

Script = tuple["Action", ...]
"""What a task does, until it ends with status 0."""


class Makes(Struct, frozen=True):
    """A clone(2) with these flags, of a task that does ``child``; it fails where there is an ``errno``."""

    child: Script = ()
    flags: int = 0
    errno: int = 0
    restarted: bool = False
    """It is entered twice: the first time it ends with ERESTARTNOINTR."""


class Executes(Struct, frozen=True):
    """An execve(2)."""

    errno: int = 0


class Ends(Struct, frozen=True):
    """exit_group(2) of its whole process."""

    code: int = 0


class Takes(Struct, frozen=True):
    """A signal that somebody sent, and for which there is a handler."""

    signal: int = signal.SIGUSR1


class Computes(Struct, frozen=True):
    """It runs on and on, and makes no call, until all other tasks have ended."""


Action = Makes | Executes | Ends | Takes | Computes


# Choosing


class Chooser(Protocol):
    """Picks one of so many possibilities."""

    def __call__(self, possibilities: int) -> int: ...


class _Path:
    # One way through all choices: the first of them as given, then always the first possibility.
    def __init__(self, given: list[int]) -> None:
        self._given = given
        self.taken: list[tuple[int, int]] = []

    def __call__(self, possibilities: int) -> int:
        place = len(self.taken)
        choice = self._given[place] if place < len(self._given) else 0
        self.taken.append((choice, possibilities))
        return choice


def every_order(run: Callable[[Chooser], None], deviations: int | None = None) -> int:
    """Do it in each way in which the choices can fall, how many there are.

    ``deviations``: only those ways that differ from the first possibility in at most so many places; most races need
    two or three (Musuvathi and Qadeer, Iterative Context Bounding, 2007).
    """
    given: list[int] | None = []
    ways = 0
    while given is not None:
        path = _Path(given)
        run(path)
        ways += 1
        given = _following(path.taken, deviations)
    return ways


def _following(taken: list[tuple[int, int]], deviations: int | None) -> list[int] | None:
    for place in reversed(range(len(taken))):
        choice, possibilities = taken[place]
        before = [choice for choice, _ in taken[:place]]
        if choice + 1 < possibilities and (deviations is None or sum(map(bool, before)) < deviations):
            return [*before, choice + 1]
    return None


# Tasks

Life = Iterator[Callable[[], bool] | None]
"""What a task does next, step by step; what is given is a condition that it waits for."""


class Group:
    """A thread group."""

    def __init__(self, tgid: int, parent: int) -> None:
        self.tgid = tgid
        self.parent = parent
        self.tasks: list[Task] = []
        self.ending: int | None = None
        """The status with which all of them end."""


class Task:
    """One task of the model, and what the tracer has done with it."""

    def __init__(self, tid: int, group: Group, creator: Task | None, script: Script) -> None:
        self.tid = tid
        self.first_tid = tid
        self.group = group
        self.creator = creator
        self.script = script
        self.words: Entry = (0,) * 6
        self.nr = -1
        self.result = 0
        self.call: str | None = None
        """The call that it is in."""
        self.life: Life = iter(())
        self.waits_for: Callable[[], bool] | None = None
        self.traced = False
        self.was_traced = False
        self.stop: tuple[Kind, int, int] | None = None
        """The stop that it is in, its signal and its message."""
        self.told = True
        """Whether its status was taken."""
        self.at_entry = False
        self.to_syscall = False
        self.delivered = 0
        self.interrupted = False
        self.killed = False
        self.shares_memory = False
        """A vfork child that has neither executed nor ended."""
        self.ended: int | None = None
        self.released = False
        self.announced = False
        """Whether its creator's event was asked about."""
        self.events = self.events_before = 0
        """How many statuses were taken of it, and how many of them before it took its leader's tid."""

    @property
    def has_taken_over(self) -> bool:
        """Whether it has its leader's tid, and its tracer was not told yet."""
        return self.tid != self.first_tid and self.events == self.events_before

    def __repr__(self) -> str:
        return f"{self.tid}({self.stop or self.ended})"


class ScriptedKernel:
    """Runs the script of the root, which is seized before its first step."""

    def __init__(
        self, script: Script, choose: Chooser, stops: Stops = Stops.SECCOMP, *, kills: int = 0, adopts: bool = False,
        subreaper: bool = False, reuses: bool = False, asks: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """``adopts``, ``subreaper``: who loses its parent becomes the tracer's child, or the root's. ``kills``: how
        many processes are killed, each at any time. ``asks``: called once, at any time after the root's end."""
        self._choose = choose
        self._stops = stops
        self._kills = kills
        self._adopts = adopts
        self._subreaper = subreaper
        self._reuses = reuses
        self._asks = asks
        self._time = 0
        self._last_tid = int(ROOT) - 1
        self._woken: Pid | None = None
        self.tasks: list[Task] = []
        """All that there ever were, in the order in which they were made."""
        self.wrong: list[str] = []
        self.given: list[tuple[int, Kind]] = []
        """The statuses that were taken, but for those of ends: of whom, and what they said."""
        self._asked: Task | None = None
        """Of whom the last syscall_info was."""
        self._make(script, None, 0)

    # Making and ending

    def _new_tid(self) -> int:
        used = {task.tid for task in self.tasks if not task.released}
        if self._reuses:
            free = sorted({task.tid for task in self.tasks} - used)
            if free and self._choose(2):
                return free[0]
        self._last_tid += 1
        return self._last_tid

    def _make(self, script: Script, creator: Task | None, flags: int) -> Task:
        tid = self._new_tid()
        if creator is not None and flags & CLONE_THREAD:
            group = creator.group
        else:
            parent = TRACER if creator is None else creator.group.parent if flags & CLONE_PARENT else creator.group.tgid
            group = Group(tid, parent)
        task = Task(tid, group, creator, script)
        group.tasks.append(task)
        if creator is not None:
            task.nr, task.words, task.call = creator.nr, creator.words, "clone"
            task.traced = creator.traced and bool(not flags & CLONE_UNTRACED or flags & CLONE_PTRACE)
            task.shares_memory = bool(flags & CLONE_VFORK)
        task.was_traced = task.traced
        self.tasks.append(task)
        task.life = self._life(task)
        return task

    def _life(self, task: Task) -> Life:
        if task.creator is not None:
            task.interrupted = False  # both ask for the same stop
            yield from self._stop(task, Kind.TRAP)
        task.call = None
        for action in task.script:
            if task.interrupted and task.traced:
                task.interrupted = False
                yield from self._stop(task, Kind.TRAP)
            if isinstance(action, Makes):
                if action.restarted:
                    yield from self._enter(task, "clone", action.flags | signal.SIGCHLD)
                    yield from self._leave(task, -513)
                yield from self._makes(task, action)
            elif isinstance(action, Executes):
                yield from self._executes(task, action)
            elif isinstance(action, Computes):
                while not self._is_alone(task):
                    yield lambda: task.interrupted or self._is_alone(task)
                    if task.interrupted:
                        task.interrupted = False
                        yield from self._stop(task, Kind.TRAP)
            elif isinstance(action, Takes):
                yield from self._stop(task, Kind.SIGNAL, action.signal)
                if task.was_traced and task.traced and task.delivered != action.signal:
                    self.wrong.append(f"{task.tid} was not given its signal")
            else:
                self._end_group(task, action.code << 8)
                return
        yield None
        self._die(task, 0)

    def _is_alone(self, task: Task) -> bool:
        return all(other is task or other.ended is not None for other in self.tasks)

    def _stop(self, task: Task, kind: Kind, signo: int = _SIGTRAP, message: int = 0) -> Life:
        if not task.traced:
            return
        task.stop, task.told, task.delivered = (kind, signo, message), False, 0
        yield lambda: task.stop is None

    def _enter(self, task: Task, call: str, *words: int) -> Life:
        task.call, task.nr, task.at_entry = call, _CALLS[call], True
        task.words = cast("Entry", (*words, *(0,) * (6 - len(words))))
        if self._stops is Stops.SECCOMP:
            yield from self._stop(task, Kind.SECCOMP)
        elif self._stops is Stops.SYSCALLS and task.to_syscall:
            yield from self._stop(task, Kind.SYSCALL)
        task.at_entry = False

    def _leave(self, task: Task, result: int) -> Life:
        task.result = result
        if task.to_syscall:
            yield from self._stop(task, Kind.SYSCALL)
        task.call = None

    def _makes(self, task: Task, action: Makes) -> Life:
        yield from self._enter(task, "clone", action.flags | signal.SIGCHLD)
        if action.errno:
            yield from self._leave(task, -action.errno)
            return
        flags = task.words[0] & ~0xFF
        child = self._make(action.child, task, flags)
        yield None  # kernel/fork.c: kernel_clone wakes the child, then reports
        vfork = bool(flags & CLONE_VFORK)
        if not flags & CLONE_UNTRACED:
            kind = Kind.VFORK if vfork else Kind.CLONE if flags & CLONE_THREAD else Kind.FORK
            yield from self._stop(task, kind, message=child.tid)
        if vfork:
            yield lambda: not child.shares_memory
            yield from self._stop(task, Kind.VFORK_DONE, message=child.first_tid)
        yield from self._leave(task, child.first_tid)

    def _executes(self, task: Task, action: Executes) -> Life:
        yield from self._enter(task, "execve")
        if action.errno:
            yield from self._leave(task, -action.errno)
            return
        others = [other for other in task.group.tasks if other is not task]
        for other in others:  # fs/exec.c: de_thread
            self._kill_task(other)
        leader = next((other for other in others if other.tid == task.group.tgid), None)
        yield lambda: all(other.ended is not None and (other.released or other is leader) for other in others)
        former = task.tid
        if leader is not None:
            leader.released = True
            task.group.tasks.remove(leader)
            task.tid, task.events_before = leader.tid, task.events
        task.shares_memory = False
        yield None
        yield from self._stop(task, Kind.EXEC, message=former)
        yield from self._leave(task, 0)

    def _end_group(self, task: Task, status: int) -> None:
        for other in list(task.group.tasks):
            if other is not task:
                self._kill_task(other, status)
        self._die(task, status)

    def _kill_task(self, task: Task, status: int = signal.SIGKILL) -> None:
        if task.ended is not None or task.killed:
            return
        task.killed = True
        task.stop, task.told = None, True  # out of any stop; a status that was not taken is lost

        def dying() -> Life:
            yield None
            self._die(task, status)

        task.life = dying()
        task.waits_for = None

    def _die(self, task: Task, status: int) -> None:
        task.ended, task.shares_memory, task.call = status, False, None
        task.told = False
        if not task.traced and (task.tid != task.group.tgid or task.group.parent != TRACER):
            task.told = task.released = True
            if task.tid != task.group.tgid:
                task.group.tasks.remove(task)
        self._reparent()

    def _reparent(self) -> None:
        # A process whose parent has no live task any more is the reaper's: the tracer if it adopts, or nobody's.
        for task in self.tasks:
            group = task.group
            if group.parent == TRACER or group.tgid != task.tid:
                continue
            waiting = [other for other in self.tasks if other.group.tgid == group.parent and other.ended is None]
            if not waiting:
                group.parent = TRACER if self._adopts else int(ROOT) if self._subreaper else 0
                if task.ended is not None and not task.traced and not task.released:
                    task.told = False  # the reaper is told of it, though its tracer was

    # Waiting

    def status_since(self) -> int:
        return self._time

    def usage(self) -> tuple[int, int]:
        return 0, 0

    def wait(self) -> tuple[Tid, int]:
        """Let the tasks go on, in any order, and give a status that is there."""
        while True:
            takes = [task for task in self.tasks if self._may_be_taken(task)]
            steps = [task for task in self.tasks if self._can_go_on(task)]
            moves: list[Callable[[], tuple[Tid, int] | None]] = []
            if self._woken is not None:
                moves.append(self._take_woken)
            moves += [lambda task=task: self._take(task) for task in takes]  # type: ignore[misc]
            moves += [lambda task=task: self._step(task) for task in steps]  # type: ignore[misc]
            if not moves:
                if not any(task.traced and not task.released for task in self.tasks):
                    raise ChildProcessError
                held = [task for task in self.tasks if task.stop is not None]
                raise AssertionError(f"nobody can go on: held are {held}")
            if self._kills:
                victims = self._victims()
                moves += [lambda group=group: self._strike(group) for group in victims]  # type: ignore[misc]
            if self._asks is not None and self.tasks[0].released:
                moves.append(self._ask)
            found = moves[self._choose(len(moves)) if len(moves) > 1 else 0]()
            if found is not None:
                return found

    def _victims(self) -> list[Group]:
        groups = {id(task.group): task.group for task in self.tasks if task.ended is None and task.was_traced}
        return [group for group in groups.values() if not all(task.killed for task in group.tasks)]

    def _strike(self, group: Group) -> None:
        self._kills -= 1
        self.kill(Pid(group.tgid), signal.SIGKILL)

    def _ask(self) -> None:
        assert self._asks is not None
        asks, self._asks = self._asks, None
        asks()

    def _can_go_on(self, task: Task) -> bool:
        return task.ended is None and task.stop is None and (task.waits_for is None or task.waits_for())

    def _step(self, task: Task) -> None:
        task.waits_for = next(task.life, None)

    def _may_be_taken(self, task: Task) -> bool:
        if task.told or task.released:
            return False
        if task.ended is None:
            return task.stop is not None
        # A leader's status comes when all others of its group are gone (kernel/exit.c: delay_group_leader).
        return task.tid != task.group.tgid or all(other is task for other in task.group.tasks)

    def _take(self, task: Task) -> tuple[Tid, int]:
        task.told = True
        task.events += 1
        self._time += 1000
        if task.ended is None:
            assert task.stop is not None
            kind, signo, _message = task.stop
            self.given.append((task.tid, kind))
            return Tid(task.tid), _word(kind, signo)
        if self._adopts and task.tid == task.group.tgid and task.traced and task.group.parent != TRACER:
            # A zombie again, its parent's, which does not wait for it (kernel/exit.c: wait_task_zombie).
            task.traced = False
            return Tid(task.tid), task.ended
        task.released = True
        task.group.tasks.remove(task)
        return Tid(task.tid), task.ended

    # Requests

    def _held(self, tid: int, what: str) -> Task:
        for task in self.tasks:
            if task.tid == tid and not task.released and task.traced:
                if self._kills and not task.killed and task.stop is not None and self._choose(2):
                    self._strike(task.group)
                if task.killed or task.ended is not None:
                    break
                if task.has_taken_over:
                    # Meant is its former leader, whose tid it took: the tracer cannot know yet, and the kernel does as
                    # it is told (fs/exec.c: de_thread, kernel/ptrace.c: ptrace_check_attach).
                    if task.stop is None:
                        break
                    task.told = True
                if task.stop is None or not task.told:
                    self.wrong.append(f"{what} of {task}, which is not held")
                    break
                return task
        else:
            if any(task.tid == tid and task.was_traced for task in self.tasks):
                raise ProcessLookupError(errno.ESRCH, what)
            self.wrong.append(f"{what} of {tid}, which was never traced")
        raise ProcessLookupError(errno.ESRCH, what)

    def _restart(self, tid: int, what: str, signo: int, *, to_syscall: bool) -> Task:
        task = self._held(tid, what)
        task.stop, task.delivered, task.to_syscall = None, signo, to_syscall
        return task

    def seize(self, tid: Tid, options: int) -> None:
        """PTRACE_SEIZE of the root."""
        assert options & pt.Option.TRACEFORK
        self.tasks[0].traced = self.tasks[0].was_traced = True
        self.tasks[0].to_syscall = self._stops is Stops.SYSCALLS  # as after its execve

    def set_options(self, tid: Tid, options: int) -> None:
        """PTRACE_SETOPTIONS: what stops at its end is not scripted."""
        self._held(tid, "PTRACE_SETOPTIONS")

    def cont(self, tid: Tid, signal: int = 0) -> None:
        """PTRACE_CONT."""
        self._restart(tid, "PTRACE_CONT", signal, to_syscall=False)

    def cont_to_syscall(self, tid: Tid, signal: int = 0) -> None:
        """PTRACE_SYSCALL."""
        self._restart(tid, "PTRACE_SYSCALL", signal, to_syscall=True)

    def listen(self, tid: Tid) -> None:
        """PTRACE_LISTEN: no script stops a whole group."""
        raise NotImplementedError

    def detach(self, tid: Tid, signal: int = 0) -> None:
        """PTRACE_DETACH."""
        self._restart(tid, "PTRACE_DETACH", signal, to_syscall=False).traced = False

    def interrupt(self, tid: Tid) -> None:
        """PTRACE_INTERRUPT, which needs no stop."""
        for task in self.tasks:
            if task.tid == tid and task.traced and task.ended is None:
                task.interrupted = True
                return
        raise ProcessLookupError(errno.ESRCH, "PTRACE_INTERRUPT")

    def kill(self, pid: Pid, signal: int) -> None:
        """SIGKILL of a process."""
        found = [task for task in self.tasks if task.group.tgid == pid and not task.released]
        if not found:
            raise ProcessLookupError(errno.ESRCH, "kill")
        for task in found:
            self._kill_task(task)

    def in_exit_stop(self, tid: Tid) -> bool:
        """What stops at its end is not scripted."""
        self._held(tid, "PTRACE_GETSIGINFO")
        return False

    def event_message(self, tid: Tid) -> int:
        """What the event carries."""
        task = self._held(tid, "PTRACE_GETEVENTMSG")
        assert task.stop is not None
        kind, _signo, message = task.stop
        if kind in (Kind.FORK, Kind.VFORK, Kind.CLONE):
            child = next(other for other in reversed(self.tasks) if other.first_tid == message)
            child.announced = True
        return message

    def syscall_info(self, tid: Tid) -> tuple[int, int, int, Entry | int]:
        """The call that a task is at."""
        task = self._asked = self._held(tid, "PTRACE_GET_SYSCALL_INFO")
        assert task.stop is not None
        audit = Arch.X86_64.audit
        if task.stop[0] is Kind.SECCOMP:
            return int(pt.SyscallInfoOp.SECCOMP), audit, task.nr, task.words
        if task.stop[0] is not Kind.SYSCALL:
            return int(pt.SyscallInfoOp.NONE), audit, 0, 0
        if task.at_entry:
            return int(pt.SyscallInfoOp.ENTRY), audit, task.nr, task.words
        return int(pt.SyscallInfoOp.EXIT), audit, 0, task.result

    def seccomp_data(self) -> int:
        """Our own filter's."""
        return seccomp.MARK

    def skip_call(self, tid: Tid) -> None:
        """No script has a filter of its own."""
        raise NotImplementedError

    def registers(self, tid: Tid) -> Registers:
        """The registers of a task in its call."""
        task = self._held(tid, "PTRACE_GETREGSET")
        values = dict(zip(LAYOUT.args, task.words, strict=True)) | {LAYOUT.nr: task.nr & (1 << 64) - 1}
        return Registers(LAYOUT, LAYOUT.format.pack(*(values.get(name, 0) for name in LAYOUT.names)))

    def set_registers(self, tid: Tid, changed: Registers) -> None:
        """What counts of them is the call's words."""
        task = self._held(tid, "PTRACE_SETREGSET")
        task.words = changed.call(Arch.X86_64)[1]

    def user_word(self, tid: Tid, offset: int) -> int:
        """No call of a script is interrupted."""
        self._held(tid, "PTRACE_PEEKUSER")
        return 0

    def signal_info(self, tid: Tid) -> SignalInfo:
        """Somebody's kill(2)."""
        task = self._held(tid, "PTRACE_GETSIGINFO")
        assert task.stop is not None
        return SignalInfo(task.stop[1], 0, 4242, None)

    def ended_child_told(self, tid: Tid) -> Pid | None:
        """No script sends SIGCHLD."""
        self._held(tid, "PTRACE_GETSIGINFO")
        return None

    def set_signal_origin(self, tid: Tid, code: int, sender: int, user: int) -> None:
        """Nothing is passed on."""
        raise NotImplementedError

    # The rest

    def clock(self) -> int:
        """It stands still between two statuses."""
        return self._time

    def worked(self) -> int:
        """As much as the time that it shows."""
        return self._time

    def adopts_orphans(self) -> bool:
        """As the test has it."""
        return self._adopts

    def children(self) -> set[Pid]:
        """None but the root, which is made later."""
        return set()

    def ended_child(self) -> Pid:
        """One more status to take."""
        self._last_tid += 1
        self._woken = Pid(self._last_tid)
        return self._woken

    def _take_woken(self) -> tuple[Tid, int]:
        woken, self._woken = self._woken, None
        assert woken is not None
        return Tid(woken), 0

    def reap(self, pid: Pid) -> None:
        """The status was not taken."""
        assert self._woken in (pid, None)
        self._woken = None

    def reads_for_us(self, tid: Tid) -> bool:
        """No files here."""
        return False

    def end_reader(self) -> None:
        """No files here."""

    def _there(self, tid: int) -> Task | None:
        return next((task for task in self.tasks if task.tid == tid and not task.released), None)

    def status(self, tid: int) -> Status | Unavailable:
        """Tgid and PPid."""
        task = self._there(tid)
        if task is None:
            return Unavailable(errno.ENOENT, "gone")
        return {b"Tgid": b"%d" % task.group.tgid, b"PPid": b"%d" % task.group.parent, b"SigCgt": b"0"}

    def parent_of(self, pid: Pid) -> Pid | None:
        """Who waits for it now."""
        task = self._there(pid)
        return None if task is None else Pid(task.group.parent)

    def exists(self, pid: Pid) -> bool:
        """No script waits for anybody: a zombie stays one."""
        return any(task.tid == pid for task in self.tasks)

    def zombie_of(self, pid: Pid) -> Pid | None:
        """The same."""
        found = next((task for task in reversed(self.tasks) if task.tid == pid), None)
        return None if found is None or found.ended is None else Pid(found.group.parent)

    def file(self, path: str) -> bytes | Unavailable:
        """/proc/TID/syscall, and nothing else."""
        who = path.split("/")[2]
        if who == "vmstat":
            return Unavailable(errno.ENOENT, "not there")
        if who == "self":
            return b"running\n"
        task = self._there(int(who))
        if task is None or task.ended is not None:
            return Unavailable(errno.ESRCH, "gone")
        if task.call is not None and (task.stop is not None or task.waits_for is not None):
            return b"%d 0x0\n" % task.nr
        return b"running\n"

    def link(self, path: str) -> bytes | Unavailable:
        """Everybody is in the same namespaces."""
        return b"ns:[1]"

    def read(self, tid: Tid, address: Address, size: int) -> bytes | Unavailable:
        """There is no memory."""
        return Unavailable(errno.EFAULT, "no memory")

    def read_some(self, tid: Tid, address: Address, size: int) -> bytes | Unavailable:
        """There is no memory."""
        return Unavailable(errno.EFAULT, "no memory")

    def write(self, tid: Tid, address: Address, data: bytes) -> None:
        """There is no memory."""
        raise NotImplementedError

    def call(self, tid: Tid) -> tuple[int, Entry] | None:
        """Only other machines ask."""
        raise NotImplementedError

    def dies_of(self, tid: Tid, signal: int) -> bool:
        """Nobody is an init."""
        return False

    def ns_tids(self, tid: Tid) -> list[int] | None:
        """One namespace."""
        return [tid]

    def comm(self, tid: Tid) -> bytes | Unavailable:
        """Everybody's."""
        return b"program"

    def set_ids(self, tid: Tid) -> None:
        return None

    def executable(self, tid: Tid) -> bytes | Unavailable:
        """Everybody's."""
        return b"/bin/program"

    def arguments(self, tid: Tid) -> list[bytes] | Unavailable:
        """Everybody's."""
        return [b"program"]

    def environment(self, tid: Tid) -> list[bytes] | Unavailable:
        """Nobody's."""
        return []

    def descriptor(self, tid: Tid, fd: int) -> bytes | Unavailable:
        """None is open."""
        return Unavailable(errno.ENOENT, "closed")

    def pair(self, creator: Tid, child: Tid, flags: int | None) -> Pair:
        """Both have to be held, and neither has run since."""
        for tid in (creator, child):
            task = next(task for task in reversed(self.tasks) if task.tid == tid)
            held = task.stop is not None and task.told
            if not (held or task.killed or task.ended is not None or task.has_taken_over):
                self.wrong.append(f"{task} was compared while it ran")
        return APART

    def state(self, tid: Tid) -> TaskState | Unavailable:
        """Nobody asks."""
        raise NotImplementedError

    def namespaces(self, tid: Tid) -> Namespaces:
        """Nobody asks."""
        raise NotImplementedError

    def deciding(self, tid: Tid, refused: int, flags: int, fd: Fd | None = None) -> dict[str, int]:
        """As an ordinary user's."""
        self._held(tid, "what decides")
        return {"uid": 1000, "rlimit_nproc": 9} if refused == errno.EAGAIN else {}

    def tasks_of(self, uid: int) -> int:
        """Those that there are."""
        return sum(task.ended is None for task in self.tasks)


def _word(kind: Kind, signo: int) -> int:
    if kind is Kind.SYSCALL:
        return (_SIGTRAP | pt.SYSCALL_STOP_BIT) << 8 | 0x7F
    return (_EVENTS.get(kind, 0) << 8 | signo) << 8 | 0x7F
