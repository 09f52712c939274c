"""Runs of the engine on the scripted kernel, and what must be true of each of them, whatever came in which order."""

from __future__ import annotations

from collections import Counter

from scripted_kernel import ROOT, Chooser, Script, ScriptedKernel, Task

from forklore.abi.arch import Arch
from forklore.events import records as ev
from forklore.events.check import Checker
from forklore.sources.ptrace.engine import Engine
from forklore.sources.ptrace.options import Leave, Observe, Options, Stops
from forklore.sources.source import nothing_to_do

OPTIONS = {
    "argv": False, "stack_depth": 0, "observe": Observe.KCMP,
}  # fmt: skip


class Run:
    """One run, from the root's seizing to its end, checked."""

    def __init__(
        self, script: Script, choose: Chooser, stops: Stops = Stops.SECCOMP, *, kills: int = 0, adopts: bool = False,
        subreaper: bool = False, reuses: bool = False, leaves: bool = False, abandons: bool = False, **options: object,
    ) -> None:  # fmt: skip
        """``leaves``: somebody asks to leave after the root's end; ``abandons``: to leave everything as it is."""
        asks = None
        if leaves:
            asks, options["leave"] = self._ask_to_leave, Leave.DETACH
        elif abandons:
            asks = self._abandon
        self.kernel = ScriptedKernel(
            script, choose, stops, kills=kills, adopts=adopts, subreaper=subreaper, reuses=reuses, asks=asks
        )
        self.events: list[ev.Event] = []
        self.left = leaves or abandons
        given = Options(**{**OPTIONS, "stops": stops, **options})  # type: ignore[arg-type]
        self.engine = Engine(Arch.X86_64, given, 0, self.events.append, nothing_to_do, kernel=self.kernel)
        self.engine.seize(ROOT)  # type: ignore[arg-type]
        self.engine.run()
        self.of = self._matched()
        self._check()

    def _ask_to_leave(self) -> None:
        self.engine.ask_to_leave()

    def _abandon(self) -> None:
        self.engine.abandon()

    # What the log says

    def created(self) -> list[ev.Create]:
        return [event for event in self.events if isinstance(event, ev.Create)]

    def adopted(self) -> list[ev.Begin]:
        return [event for event in self.events if isinstance(event, ev.Begin) and event.how == "adopted"]

    def task(self, number: int) -> Task:
        """Which task of the kernel's is meant by a number of the log."""
        return self.of[number]

    def _matched(self) -> dict[int, Task]:
        # Tids can be used again, but never while the former task is there: in the order of the log.
        told = Counter[int]()
        found: dict[int, Task] = {}
        for event in self.events:
            if isinstance(event, ev.Begin | ev.Create):
                number = event.child if isinstance(event, ev.Create) else event.task
                same = [task for task in self.kernel.tasks if task.first_tid == event.tid]
                assert told[event.tid] < len(same), f"{event} tells of a task that there never was"
                found[number] = same[told[event.tid]]
                told[event.tid] += 1
        return found

    # What must be true

    def _check(self) -> None:
        assert self.kernel.wrong == []
        checker = Checker()
        for event in [*self.events, ev.End(t=None, reason="done", events=len(self.events))]:
            checker(event)
        self._check_ends()
        self._check_tasks()
        self._check_creators()
        self._check_nobody_is_held()

    def _check_ends(self) -> None:
        untraced = {event.child for event in self.created() if not event.traced}
        ends = Counter(event.task for event in self.events if isinstance(event, ev.Exit | ev.Gone))
        assert ends == dict.fromkeys(set(self.of) - untraced, 1), "every task ends once"
        for event in self.events:
            if isinstance(event, ev.Exit):
                assert event.status == self.task(event.task).ended

    def _check_tasks(self) -> None:
        told = list(self.of.values())
        assert len(told) == len({id(task) for task in told}), "every task begins once"
        for task in self.kernel.tasks:
            if task.was_traced and (task.events or task.announced) and not self.left:
                assert task in told, f"{task} is not in the log"

    def _check_creators(self) -> None:
        for event in self.created():
            assert self.task(event.task) is self.task(event.child).creator
        for begin in self.adopted():
            assert not self.task(begin.task).announced, "its creator's event came"

    def _check_nobody_is_held(self) -> None:
        for task in self.kernel.tasks:
            assert task.stop is None or (task.traced and self.left), f"{task} is left in a stop"
            assert task.released or not task.traced or self.left, f"{task} has not ended"
