"""From the tasks that are asked about to all that their waits lead to, looked at twice."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum, auto
from typing import Final

import msgspec

from forklore.abi.arch import Arch
from forklore.abi.text import printable
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.decode.waits.calls import CALLS, Waits
from forklore.elf.dwarf.registers import dwarf_block
from forklore.features.why.conclude import Certainty, conclude, stuck_tasks
from forklore.features.why.graph import Gone, Graph, Task, Wait, WaitKind
from forklore.features.why.observe.code import Code, Stack
from forklore.features.why.observe.machine import Machine
from forklore.features.why.observe.places import Places
from forklore.features.why.observe.proof import Proof
from forklore.features.why.observe.waits import TaskWaits
from forklore.linux import proc, tasks
from forklore.linux.waits.held import registers
from forklore.linux.waits.look import Look, RawCall, age, asleep_since, kernel_stack, look, where
from forklore.report.words.words import count

_MOST: Final = 4000
"""Processes that chains may lead to."""
_NAMES: Final = 64
"""So many processes that wait for locks have the names of these looked up."""


class Stacks(StrEnum):
    """Which call stacks are read."""

    NO = auto()
    AS_IT_GOES = auto()
    """Without stopping anybody: as far as stack pointer and program counter lead."""
    HELD = auto()
    """Each thread is held for a moment, unless the call that it is in would fail for it."""


def observe(
    pids: Iterable[int], *, trees: Iterable[int] = (), everything: bool = False, stacks: Stacks = Stacks.NO
) -> Graph:
    """What the processes wait for, and all that leads to.

    ``pids`` may be of threads: their processes are meant. ``trees``: those processes with their descendants.
    ``everything``: all processes but the kernel's threads. Nothing is stopped or changed. What is gone, or may not be
    read, is in the graph with its reason; OSError is not raised.
    """
    begun = time.monotonic()
    asked, gone = _asked(pids, trees, everything=everything)
    machine = Machine(asked, many=len(asked) > _NAMES)
    try:
        found = _Observation(machine, asked, gone, names=len(asked) <= _NAMES, stacks=stacks).graph()
    finally:
        machine.close()
    found.seconds = time.monotonic() - begun
    return found


def _asked(pids: Iterable[int], trees: Iterable[int], *, everything: bool) -> tuple[list[Pid], list[Gone]]:
    if everything:
        return [pid for pid in tasks.all_pids() if pid != os.getpid()], []
    found: dict[Pid, None] = {}
    gone = []
    roots = {int(pid) for pid in trees}
    for number in [*map(int, pids), *roots]:
        leader = tasks.leader_of(Tid(number))
        if isinstance(leader, Unavailable):
            gone.append(Gone(Tid(number), leader.why))
        else:
            found.update(dict.fromkeys(tasks.descendants(leader) if number in roots else [leader]))
    return list(found), gone


class _Observation:
    def __init__(
        self, machine: Machine, asked: Sequence[Pid], gone: list[Gone], *, names: bool, stacks: Stacks
    ) -> None:
        self._machine = machine
        self._asked = list(asked)
        self._gone = gone
        arch = proc.machine()
        self._arch = arch
        self._code = Code(arch) if arch is not None else None
        self._places = None if self._code is None else Places(self._code, self._reader)
        self._named = names
        """Whether locks have their names looked up; else only those that look wrong."""
        self._waits = TaskWaits(machine, arch)
        self._with_names = TaskWaits(machine, arch, self._code)
        self._stacks = stacks
        self._found: dict[Tid, Task] = {}
        self._seen: set[Pid] = set()
        self._left = 0
        self._many = len(asked) > _NAMES
        """Whether only what looks wrong is looked at twice and named."""
        self._few = frozenset(asked) if len(asked) <= _NAMES else frozenset()

    def graph(self) -> Graph:
        self._spread(self._asked)
        if self._many:
            wrong = self._wrong()
            self._again(wrong)
            self._name(tid for tid in wrong if tid in self._found)
        else:
            self._again(self._found)
        graph = self._made()
        candidates = stuck_tasks(graph)
        if candidates:
            doubts = Proof(self._machine, graph).doubts(candidates)
            for tid, why in doubts.items():
                task = self._found[tid]
                wait = msgspec.structs.replace(task.wait, closed=False, beyond=why)
                self._found[tid] = msgspec.structs.replace(task, wait=wait)
            self._again(candidates if self._many else self._found)
            graph = self._made()
        if self._stacks is Stacks.HELD:
            # Last: whoever is held for a moment has run since.
            self._hold(graph)
            graph = self._made()
        return graph

    def _hold(self, graph: Graph) -> None:
        for task in [task for pid in graph.asked for task in graph.threads(pid)]:
            found = self._machine.looks[task.tid]
            if self._code is None or isinstance(found, Unavailable) or found.state not in "SR" or found.tracer:
                continue
            if task.restarts is False:
                why = "it is not held: its call would fail with EINTR"
                self._found[task.tid] = msgspec.structs.replace(task, stack_end=f"{task.stack_end}; {why}")
                continue
            stack = self._held_stack(found)
            told = (f"{task.stack_end}; {stack.why}",) if isinstance(stack, Unavailable) else (stack.end,)
            frames = task.stack if isinstance(stack, Unavailable) else tuple(_frames(task.tid, stack))
            self._found[task.tid] = msgspec.structs.replace(task, stack=frames, stack_end=told[0])

    def _held_stack(self, found: Look) -> Stack | Unavailable:
        assert self._code is not None
        assert self._arch is not None
        held = registers(found.tid)
        if isinstance(held, Unavailable):
            return held
        arch = Arch.I386 if held.layout.word == 4 and self._arch is Arch.X86_64 else self._arch
        return self._code.stack(found, arch, dwarf_block(arch, held.raw), self._reader(found.pid))

    def _name(self, tids: Iterable[Tid]) -> None:
        """Look the locks of these up by their names after all, of so many processes."""
        self._named = True
        pids = list(dict.fromkeys(self._found[tid].pid for tid in sorted(tids)))[:_NAMES]
        for pid in pids:
            for task in [task for task in self._found.values() if task.pid == pid]:
                found = self._machine.looks[task.tid]
                if not isinstance(found, Unavailable) and not task.ended:
                    again = self._task(found)
                    self._found[task.tid] = msgspec.structs.replace(again, steady=task.steady)
                    self._spread(ender.pid for ender in again.wait.enders)
        self._again(list(tids))

    def _wrong(self) -> set[Tid]:
        """The tasks of the chains that would look wrong if none of them had run."""
        asleep = {tid: msgspec.structs.replace(task, steady=True) for tid, task in self._found.items()}
        chains = [chain for each in conclude(Graph(tuple(self._asked), asleep)) for chain in (each.chain, *each.others)]
        return {step.task.tid for chain in chains if chain.certainty is not Certainty.OPEN for step in chain.steps}

    def _made(self) -> Graph:
        there = {task.pid for task in self._found.values()}
        asked = tuple(pid for pid in self._asked if pid in there)
        unread = [
            f"the descriptors of {', '.join(map(str, pids[:8]))}{_more(pids)} may not be read: {why}"
            for why, pids in _grouped(self._machine.tables.unread).items()
        ]  # fmt: skip
        cut = self._machine.tables.cut
        if cut:
            unread.append(
                f"the descriptors of {count(cut, 'process', 'processes')} were not read, for they are so many that it"
                " would last too long: who holds the other end of something may be among them"
            )
        return Graph(asked, dict(self._found), tuple(self._gone), tuple(unread), left=self._left)

    def _spread(self, pids: Iterable[Pid]) -> None:
        queue = deque(pids)
        while queue:
            pid = queue.popleft()
            if pid in self._seen:
                continue
            if len(self._seen) >= max(_MOST, len(self._asked)):
                self._left += 1
                continue
            self._seen.add(pid)
            for tid in self._machine.threads(pid):
                found = self._machine.look(tid)
                if isinstance(found, Unavailable) or (found.kernel and pid not in self._asked):
                    continue
                if found.kernel and len(self._asked) > _NAMES:
                    continue
                self._found[tid] = task = self._task(found)
                queue.extend(ender.pid for ender in task.wait.enders if ender.pid not in self._seen)

    def _task(self, found: Look) -> Task:
        call = self._waits.call(found)
        asleep = asleep_since(found.tid) if found.state != "R" and found.call is not None and not self._many else None
        stack = self._stack(found, call)
        if found.pid == os.getpid():
            wait = Wait(WaitKind.NOTHING, "nothing: it is the process that asks")
        else:
            wait = (self._with_names if self._named else self._waits).of(found, asleep, stack)
        if stack is not None and self._places is not None:
            wait = msgspec.structs.replace(wait, place=self._places.place(found, stack))
        waiting = None if call is None else CALLS.get(call[0])
        unread = () if not isinstance(found.call, Unavailable) else (found.call,)
        frames = [] if stack is None or self._stacks is Stacks.NO else _frames(found.tid, stack)
        return Task(
            tid=found.tid, pid=found.pid, ppid=found.ppid, name=found.name, state=found.letters(), start=found.start,
            age=age(found.start), wait=wait, call=None if call is None else call[1],
            restarts=None if waiting is None else waiting.restarts,
            kernel=where(found.tid) if len(self._asked) <= _NAMES else None, asleep=asleep, cpu=found.cpu,
            stack=tuple(frames), stack_end="" if stack is None or self._stacks is Stacks.NO else stack.end,
            unread=unread,
            zombies=self._zombies(found),
        )  # fmt: skip

    def _stack(self, found: Look, call: tuple[str, str] | None) -> Stack | None:
        if self._code is None or not self._named or not isinstance(found.call, RawCall) or found.ended:
            return None
        waiting = None if call is None else CALLS.get(call[0])
        futex = waiting is not None and waiting.waits is Waits.FUTEX
        if not futex and self._stacks is Stacks.NO:
            return None
        if self._machine.closed_memory(found.pid) is not None:
            return None

        return self._code.asleep(found, found.call, self._reader(found.pid))

    def _reader(self, pid: Pid) -> Callable[[int, int], bytes | None]:
        def read(address: int, size: int) -> bytes | None:
            return self._machine.memory(pid, address, size)

        return read

    def _zombies(self, found: Look) -> tuple[Pid, ...]:
        if found.pid not in self._few or int(found.tid) != int(found.pid):
            return ()
        looks = [self._machine.look(Tid(int(pid))) for pid in self._machine.children.get(found.pid, ())]
        return tuple(each.pid for each in looks if not isinstance(each, Unavailable) and each.state == "Z")

    def _again(self, tids: Iterable[Tid]) -> None:
        """The second look: who has not run since the first, who is gone."""
        for tid in list(tids):
            task = self._found.get(tid)
            if task is None:
                continue
            before, now = self._machine.looks[tid], look(tid)
            if isinstance(before, Unavailable):
                continue
            if isinstance(now, Unavailable) or now.start != before.start:
                del self._found[tid]
                why = (
                    "ended meanwhile"
                    if isinstance(now, Unavailable)
                    else "ended meanwhile; its number is another task's now"
                )
                self._gone.append(Gone(tid, why))
                continue
            steady = before.same(now) or (before.ended and now.ended)
            self._found[tid] = msgspec.structs.replace(task, steady=steady, wait=_moved(task.wait, before, now))


def _moved(wait: Wait, before: Look, now: Look) -> Wait:
    # Who has gone on since waits no more for what it did, whatever it does now.
    if before.same(now) or before.ended or wait.kind is WaitKind.NOTHING:
        return wait
    if now.call == before.call and now.state == before.state and isinstance(now.call, RawCall):
        return wait  # woken for a moment, and back in the same call
    if isinstance(now.call, Unavailable) and now.state == before.state:
        return wait
    return Wait(
        WaitKind.NOTHING, "nothing for long: it has run meanwhile", note=f"it waited for {wait.what} just before"
    )


def _frames(tid: Tid, stack: Stack) -> list[str]:
    kernel = kernel_stack(tid)
    lines = [f"{name} (kernel)" for name in ([] if isinstance(kernel, Unavailable) else kernel)]
    for frame in stack.frames:
        where_ = frame.line or printable(frame.file.rpartition(b"/")[2])
        lines.append(f"{frame.function or '?'} ({where_})" if where_ else frame.function or "?")
    return lines


def _more(pids: list[Pid]) -> str:
    return f" and {len(pids) - 8} more processes" if len(pids) > 8 else ""


def _grouped(unread: dict[Pid, Unavailable]) -> dict[str, list[Pid]]:
    found: dict[str, list[Pid]] = {}
    for pid, why in unread.items():
        found.setdefault(why.why, []).append(pid)
    return found
