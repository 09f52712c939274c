"""What a continued trace file has to begin with: the tasks that are alive, and the code that later events refer to.

Memory follows what is alive and the code that was met, not the number of events.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi.flags import CLONE_THREAD
from forklore.abi.units import Unavailable
from forklore.decode.creation import decode_creation
from forklore.decode.lineage import lineage
from forklore.events import records as ev
from forklore.events.sharing_sets import Together

_ENDED_KEPT: Final = 256
"""Tasks that ended last, which an event that is told late may still name."""

_Code = ev.Module | ev.Place | ev.Stack | ev.Script


class _Alive(Struct):
    """A task, as a ``begin`` record can tell of it."""

    t: int | None
    tid: int
    tgid: int
    parent_tid: int | None
    comm: ev.Text | None
    standing: ev.Standing | Unavailable | None = None
    image: ev.Exec | None = None
    """What it executed last."""
    stop: ev.GroupStop | None = None
    """The stop for job control that it is in."""
    title: ev.Title | None = None
    """The command line that it wrote for itself since."""
    ns_tids: list[int] | None = None


class Carried:
    """Takes every event of a recording, and gives what must come before an event in a file that began later."""

    def __init__(self) -> None:
        self._alive: dict[int, _Alive] = {}
        self._ended: OrderedDict[int, _Alive] = OrderedDict()
        self._code: dict[tuple[type, int], _Code] = {}
        self._lines: dict[int, ev.Lines] = {}
        self._written: set[tuple[type, int]] = set()
        """What of the code the current file has."""
        self._begun: set[int] = set()
        """The tasks that the current file has introduced."""
        self._together = Together()

    def begin_file(self) -> Iterator[ev.Event]:
        """The records that a new file begins with: every task that is alive."""
        self._written.clear()
        self._begun.clear()
        first: dict[int, int] = {}  # of each set of tasks that hold one object: who is introduced before the others
        # A leader goes before its threads, also one that an exec has made the leader.
        for number, task in sorted(self._alive.items(), key=lambda item: (item[1].tid != item[1].tgid, item[0])):
            shared = {name: first.setdefault(id(holders), number) for name, holders in self._together.of(number)}
            yield from self._introduced(number, task, shared or None)

    def before(self, event: ev.Event) -> Iterator[ev.Event]:
        """What the current file needs before ``event``."""
        for number in _tasks_of(event):
            if number not in self._begun and number in self._ended:
                yield from self._introduced(number, self._ended[number])
        if isinstance(event, ev.Place):
            yield from self._missing(ev.Module, event.module)
        elif isinstance(event, ev.Stack):
            for number in (*(frame.place for frame in event.frames), *(one.place for one in event.jumped)):
                yield from self._missing(ev.Place, number)
        elif isinstance(event, ev.Signal | ev.Borrowed):
            yield from self._missing(ev.Stack, event.stack)
        elif isinstance(event, ev.Create | ev.Fail):
            yield from self._missing(ev.Stack, event.stack)
            yield from self._missing(ev.Script, event.script)
            if isinstance(event, ev.Create) and event.runs is not None:
                yield from self._missing(ev.Place, event.runs.fn_place)
                yield from self._missing(ev.Place, event.runs.routine_place)

    def belongs(self, event: ev.Event) -> bool:
        """Whether the current file has the tasks or place that ``event`` refers to, after :meth:`before`."""
        if isinstance(event, ev.Lines):
            return (ev.Place, event.place) in self._written
        return all(number in self._begun for number in _tasks_of(event))

    def note(self, event: ev.Event) -> None:
        """Take the next event of the recording."""
        rule = _RULES[type(event)]
        if rule is not None:
            rule(self, event)

    def _introduced(
        self, number: int, task: _Alive, together: dict[str, int] | None = None
    ) -> Iterator[ev.Event]:
        self._begun.add(number)
        yield ev.Begin(
            t=task.t, task=number, tid=task.tid, tgid=task.tgid, how="continued", parent_tid=task.parent_tid,
            comm=task.comm, standing=task.standing, together=together, ns_tids=task.ns_tids,
        )  # fmt: skip
        if task.image is not None:
            yield task.image
        if task.title is not None:
            yield task.title
        if task.stop is not None:
            yield task.stop

    def _missing(self, kind: type[_Code], number: int | None) -> Iterator[ev.Event]:
        if number is None or (kind, number) in self._written:
            return
        record = self._code[kind, number]
        yield from self.before(record)
        self._written.add((kind, number))
        yield record
        if kind is ev.Place and number in self._lines:
            yield self._lines[number]

    # Rules

    def _note_code(self, event: _Code) -> None:
        number = getattr(event, str(event.__struct_config__.tag))
        self._code[type(event), number] = event
        self._written.add((type(event), number))

    def _note_lines(self, event: ev.Lines) -> None:
        self._lines[event.place] = event

    def _note_begin(self, event: ev.Begin) -> None:
        self._begun.add(event.task)
        self._alive[event.task] = _Alive(
            event.t, event.tid, event.tgid, event.parent_tid, event.comm, event.standing, ns_tids=event.ns_tids
        )
        self._together.begun(event)

    def _note_create(self, event: ev.Create) -> None:
        self._begun.add(event.child)
        creator = self._alive.get(event.task) or self._ended.get(event.task)
        if not event.traced or creator is None:
            return
        struct = event.struct if isinstance(event.struct, str) else None
        raw = None if struct is None else bytes.fromhex(struct)
        creation = decode_creation(event.arch, event.nr, event.args, raw, flags=event.flags)
        flags = creation.flags.raw or (CLONE_THREAD if event.thread else 0)
        place = lineage(flags, event.tid, creator.tgid, creator.parent_tid)
        self._alive[event.child] = _Alive(
            event.t, event.tid, place.group, place.parent, creator.comm, event.standing, ns_tids=event.ns_tids
        )
        if event.task in self._alive:
            self._together.created(event)

    def _note_exec(self, event: ev.Exec) -> None:
        task = self._alive.get(event.task)
        if task is None:
            return
        if event.comm is not None:
            task.comm = event.comm
        if event.former_tid is not None:
            task.tid = task.tgid
        task.title = None
        task.image = replace(event, former_tid=None, compared={}, standing=None)
        self._together.executed(event)

    def _note_call(self, event: ev.Other) -> None:
        if event.result is not None and event.result >= 0:
            self._together.asked_again(event.task, event.compared)

    def _note_name(self, event: ev.Name) -> None:
        if event.task in self._alive:
            self._alive[event.task].comm = event.comm

    def _note_title(self, event: ev.Title) -> None:
        if event.task in self._alive:
            self._alive[event.task].title = event

    def _note_stop(self, event: ev.GroupStop | ev.Resume) -> None:
        if event.task in self._alive:
            self._alive[event.task].stop = event if isinstance(event, ev.GroupStop) else None

    def _note_reparent(self, event: ev.Reparent) -> None:
        if event.task in self._alive:
            self._alive[event.task].parent_tid = event.parent_tid

    def _note_end(self, event: ev.Exit | ev.Gone) -> None:
        task = self._alive.pop(event.task, None)
        if task is None:
            return
        self._together.ended(event.task)
        self._ended[event.task] = task
        if len(self._ended) > _ENDED_KEPT:
            self._begun.discard(self._ended.popitem(last=False)[0])


def _tasks_of(event: ev.Event) -> Iterator[int]:
    # The task that it is of, and the others that must have been introduced (events/check.py).
    for name in _NAMED[type(event)]:
        number = getattr(event, name)
        if number is not None:
            yield number


_NAMED: Final[dict[type[ev.Event], tuple[str, ...]]] = {
    **dict.fromkeys((ev.Begin, ev.Module, ev.Place, ev.Lines, ev.Stack, ev.Script, ev.End), ()),
    **dict.fromkeys((ev.Create, ev.Fail, ev.Other, ev.Exec, ev.ExecFail, ev.Name, ev.Title), ("task",)),
    **dict.fromkeys((ev.Exit, ev.Gone, ev.Signal, ev.GroupStop, ev.Resume, ev.Note), ("task",)),
    ev.VforkDone: ("task", "child"),
    ev.Descriptors: ("task", "creator"),
    ev.Borrowed: ("task", "creator"),
    ev.Cow: ("task", "creator", "side"),
    **dict.fromkeys((ev.Reparent, ev.Reap), ("task", "parent")),
}
_RULES: Final[dict[type[ev.Event], Callable[[Carried, Any], None] | None]] = {
    # What they tell is over when the next file begins.
    **dict.fromkeys((ev.Fail, ev.ExecFail, ev.VforkDone, ev.Descriptors, ev.Borrowed, ev.Cow, ev.Signal, ev.Note)),
    **dict.fromkeys((ev.Reap, ev.End)),
    **dict.fromkeys((ev.Module, ev.Place, ev.Stack, ev.Script), Carried._note_code),
    ev.Lines: Carried._note_lines,
    ev.Begin: Carried._note_begin,
    ev.Create: Carried._note_create,
    ev.Exec: Carried._note_exec,
    ev.Other: Carried._note_call,
    ev.Name: Carried._note_name,
    ev.Title: Carried._note_title,
    ev.GroupStop: Carried._note_stop,
    ev.Resume: Carried._note_stop,
    ev.Reparent: Carried._note_reparent,
    ev.Exit: Carried._note_end,
    ev.Gone: Carried._note_end,
}
