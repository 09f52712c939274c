"""Tracing programs that run already: attached to without being stopped, left without being noticed.

The loop runs in a thread of its own. ptrace belongs to a thread, and when that ends the kernel detaches its tracees
where they are (kernel/ptrace.c: exit_ptrace); PTRACE_DETACH would have to stop them first, and a stop makes some
blocked calls fail with EINTR (signal(7)).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from forklore.abi.resources import KCMP, NULLABLE
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.decode.holders import join
from forklore.decode.object_groups import group
from forklore.events import records as ev
from forklore.linux import kcmp
from forklore.linux.ours.asked_to_end import AskedToEnd
from forklore.linux.tasks import descendants, leader_of
from forklore.linux.tracing.seizing import Seizing
from forklore.sources.header import TraceRefusedError, header, machine
from forklore.sources.ptrace import alarm
from forklore.sources.ptrace.engine import Engine
from forklore.sources.ptrace.options import DEFAULTS, Observe, Options, Stops, trace_options
from forklore.sources.ptrace.tracee import Tracee

if TYPE_CHECKING:
    from forklore.sources.source import Emit, Idle

_REASONS: Final[dict[bool | None, ev.EndReason]] = {None: "done", True: "interrupted", False: "time"}
_STUCK = 0.1
"""Seconds after which it is asked whether the tracing thread can end."""
_REFUSALS = 5
"""Tasks that could not be attached to and are named; the rest is counted."""


class Attachment:
    """Running programs about to be traced, a :class:`forklore.sources.source.Source`."""

    def __init__(
        self, pids: Sequence[Pid], options: Options = DEFAULTS, *, tree: bool = False, seconds: float | None = None
    ) -> None:
        """``tree``: with the descendants that each process has already. ``seconds``: leave them after that time.

        Raises TraceRefusedError.
        """
        self._machine = machine()
        self._pids = list(dict.fromkeys(pids))
        self._tree = tree
        self._seconds = seconds
        self.options = options
        self.refused: list[Unavailable] = []
        """Why some tasks could not be attached to."""
        self._seizing = Seizing(trace_options(options.effective_stops(), ends=options.looks_at_ends, exitkill=False))
        self._problem: BaseException | None = None
        self._asked = AskedToEnd()
        self._start = time.monotonic_ns()
        given = {**options.record(), "attach": " ".join(map(str, self._pids))}
        self.header = header(self._machine, self._start, given, self._blind())

    def _blind(self) -> list[ev.Blind]:
        blind = [ev.Blind("what happened before", "the programs were attached to while they ran")]
        if self.options.effective_stops() is Stops.EVENTS:
            blind.append(
                ev.Blind(
                    "creations and execs that fail, unshare, setns, close_range, setsid, names, children made with"
                    " CLONE_UNTRACED",
                    "a running program cannot be given a seccomp filter; --syscalls sees them, at the price of two"
                    " stops for every system call",
                )
            )
        elif not self.options.follow_untraced:
            blind.append(
                ev.Blind(
                    "what children made with CLONE_UNTRACED do",
                    "following them takes a flag out of the caller's registers or memory for the time of its call",
                )
            )
        return blind

    def run(self, emit: Emit, idle: Idle) -> ev.EndReason:
        """Trace until the programs have ended, the time is over, or a signal asks for the end; why it ended.

        ``done``, ``interrupted`` (they go on), or ``time``. In the main thread. Raises TraceRefusedError where nothing
        could be attached to, OSError where the loop cannot be woken to leave: the programs go on when we end.
        """
        self._asked.keep()
        alarm.hand_over()
        engine = Engine(self._machine, self.options, self._start, emit, idle)
        thread = threading.Thread(target=self._trace, args=(engine, emit), name="tracer", daemon=True)
        thread.start()
        reason = _REASONS[self._asked.wait(self._seconds)]
        if reason != "done":
            engine.abandon()
        self._join(thread)
        self._asked.close()
        if self._problem is not None:
            raise self._problem
        engine.finish()
        return reason

    def _join(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            if self._seizing.stuck:
                return  # it ends with this process
            thread.join(_STUCK)
        # Joined is before its end, which is what lets go of the programs.
        while os.path.lexists(f"/proc/self/task/{thread.native_id}"):
            os.sched_yield()

    def stop(self) -> None:
        """Leave the programs, which go on."""
        self._asked.ask()

    @property
    def warnings(self) -> list[str]:
        """What could not be attached to."""
        named = [f"not attached to: {refused.why}" for refused in self.refused[:_REFUSALS]]
        more = len(self.refused) - _REFUSALS
        return [*named, f"not attached to: {more} more"] if more > 0 else named

    def elapsed(self) -> int:
        """Nanoseconds since the start of the trace."""
        return time.monotonic_ns() - self._start

    def _trace(self, engine: Engine, emit: Emit) -> None:
        try:
            for event in self._attach(engine):
                emit(event)
            engine.read_titles()
            engine.run()
        except BaseException as problem:  # noqa: BLE001 - it is the main thread's to raise
            self._problem = problem
        finally:
            self._asked.cancel()

    def _attach(self, engine: Engine) -> list[ev.Begin]:
        seizing = self._seizing
        begun: list[tuple[Tracee, ev.Begin]] = []
        done: set[Pid] = set()
        wanted = self._leaders()
        roots = list(wanted)
        while wanted:
            for pid in wanted:
                done.add(pid)
                tasks, refused = engine.attach(pid, seizing)
                begun += tasks
                self.refused += refused
            # What a process made before it was attached to, while we were at others.
            found = [child for pid in roots for child in descendants(pid)] if self._tree else []
            wanted = list(dict.fromkeys(child for child in found if child not in done and child != os.getpid()))
        if engine.left == 0:
            why = self.refused[0].why if self.refused else "it has ended"
            more = f" (and {len(self.refused) - 1} more like it)" if len(self.refused) > 1 else ""
            raise TraceRefusedError(f"nothing to attach to: {why}{more}")
        return self._with_what_they_share(begun)

    def _leaders(self) -> list[Pid]:
        leaders = []
        for pid in self._pids:
            leader = leader_of(Tid(pid))
            if isinstance(leader, Unavailable):
                self.refused.append(leader)
            else:
                leaders.append(leader)
        return list(dict.fromkeys(leaders))

    def _with_what_they_share(self, begun: list[tuple[Tracee, ev.Begin]]) -> list[ev.Begin]:
        tasks = [task for task, _ in begun if task.alive]
        if self.options.observe is Observe.NONE:
            return [begin for task, begin in begun if task.alive]
        together: dict[int, dict[str, int]] = {task.id: {} for task in tasks}
        for index, name, members in _holders(tasks):
            first = members[0]
            for member in members:
                together[member.id][name] = first.id
                if member is not first:
                    join(member, member.shares, first, first.shares, (index,))
        return [msgspec.structs.replace(begin, together=together[task.id]) for task, begin in begun if task.alive]


def _holders(tasks: Iterable[Tracee]) -> list[tuple[int, str, list[Tracee]]]:
    """For each name of COMPARED the tasks that hold one object together, in their order. They run meanwhile."""
    of = {task.tid: task for task in tasks if not kcmp.is_zombie(task.tid)}
    near = {tid: Tid(task.group.tgid) for tid, task in of.items()}
    found: list[tuple[int, str, list[Tid]]] = []
    with kcmp.Unset() as unset:
        for index, name in enumerate(KCMP):
            try:
                control = unset.control() if name in NULLABLE else None
            except OSError:
                continue  # no task to tell by who has none
            groups = group(of, _comparing(name), near=near, without=control).groups
            found += [(index, name, list(each.members)) for each in groups]
    # One that ended meanwhile may have been compared when it had nothing left.
    ended = {tid for tid in of if kcmp.is_zombie(tid)}
    left = ((index, name, [of[tid] for tid in members if tid not in ended]) for index, name, members in found)
    return [(index, name, members) for index, name, members in left if members]


def _comparing(name: str) -> Callable[[Tid, Tid], int | Unavailable]:
    what = KCMP[name]

    def compare(a: Tid, b: Tid) -> int | Unavailable:
        answer = kcmp.raw(a, b, what)
        return answer if answer >= 0 else kcmp.refused(a, b, -answer)

    return compare
