"""What the events of a trace must satisfy together, so that a reader of them need not doubt it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from forklore.events.records import (
    Begin,
    Borrowed,
    Cow,
    Create,
    Descriptors,
    End,
    Event,
    Exec,
    ExecFail,
    Exit,
    Fail,
    Gone,
    GroupStop,
    Lines,
    Module,
    Name,
    Note,
    Other,
    Place,
    Reap,
    Reparent,
    Resume,
    Runs,
    Script,
    Signal,
    Stack,
    Title,
    VforkDone,
)

TIME_LIMIT: Final = 1 << 62
_WORD_LIMIT: Final = 1 << 64
_ID_LIMIT: Final = 1 << 53
_TID_LIMIT: Final = 1 << 31


class InconsistentError(Exception):
    """An event that cannot follow the ones before it: ``expected`` and ``found`` in words."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}; found {found}")
        self.expected = expected
        self.found = found


class Checker:
    """Follows the events of one trace.

    Each task begins once (by ``begin`` or ``create``), before anything else names it; numbers are such as
    the kernel can give; nothing follows ``end``, which counts what came before it.
    """

    def __init__(self) -> None:
        self.seen = 0
        """How many events were checked, with those that were skipped."""
        self.end: End | None = None
        self._dense = 0
        self._sparse: set[int] = set()
        self._modules: set[int] = set()
        self._places: set[int] = set()
        self._stacks: set[int] = set()
        self._scripts: set[int] = set()

    def __call__(self, event: Event) -> None:
        """Take the next event. Raises InconsistentError."""
        if self.end is not None:
            raise InconsistentError("nothing after the end record", f"a record “{_tag(event)}”")
        if event.t is not None and not -TIME_LIMIT < event.t < TIME_LIMIT:
            raise InconsistentError("a time of at most 62 bits, in nanoseconds", f"t {_short(event.t)}")
        rule = _RULES[type(event)]
        if rule is not None:
            rule(self, event)
        elif event.task > self._dense:  # type: ignore[attr-defined]
            self._known(event.task)  # type: ignore[attr-defined]
        self.seen += 1

    def skipped(self) -> None:
        """Count an event of a kind that this version does not know."""
        if self.end is not None:
            raise InconsistentError("nothing after the end record", "another record")
        self.seen += 1

    def _known(self, task: int) -> None:
        if task > self._dense and task not in self._sparse:
            raise InconsistentError("a task that an earlier begin or create record names", f"task {_short(task)}")

    def _new(self, task: int) -> None:
        if task == self._dense + 1:
            self._dense = task
            return
        if task <= self._dense or task in self._sparse:
            raise InconsistentError("a task number that was not used before", f"task {task} a second time")
        if task >= _ID_LIMIT:
            raise InconsistentError("a task number of at most 53 bits", _short(task))
        self._sparse.add(task)

    def _begin(self, event: Begin) -> None:
        _tid(event.tid)
        _tid(event.tgid)
        self._new(event.task)
        for other in (event.together or {}).values():
            self._known(other)

    def _module(self, event: Module) -> None:
        _number("module", event.module, self._modules)

    def _place(self, event: Place) -> None:
        _number("place", event.place, self._places)
        if event.module is not None and event.module not in self._modules:
            raise _unnamed("module", event.module)
        if event.address >= _WORD_LIMIT or (event.start is not None and event.start > event.address):
            raise InconsistentError("an address of at most 64 bits, in its function", _short(event.address))

    def _lines(self, event: Lines) -> None:
        if event.place not in self._places:
            raise _unnamed("place", event.place)

    def _stack(self, event: Stack) -> None:
        _number("stack", event.stack, self._stacks)
        for frame in event.frames:
            if frame.place not in self._places:
                raise _unnamed("place", frame.place)
        for jumped in event.jumped:
            if jumped.place not in self._places:
                raise _unnamed("place", jumped.place)
            if not 0 < jumped.frame < len(event.frames):
                raise InconsistentError("a frame of its stack that has called another", _short(jumped.frame))

    def _script(self, event: Script) -> None:
        _number("script", event.script, self._scripts)

    def _runs(self, runs: Runs) -> None:
        for place in (runs.fn_place, runs.routine_place):
            if place is not None and place not in self._places:
                raise _unnamed("place", place)
        for word in (runs.fn, runs.arg, runs.routine, runs.routine_arg):
            if word is not None and word >= _WORD_LIMIT:
                raise InconsistentError("addresses of at most 64 bits", _short(word))

    def _create(self, event: Create) -> None:
        self._refused(event)
        if event.runs is not None:
            self._runs(event.runs)
        _tid(event.tid)
        self._new(event.child)

    def _refused(self, event: Create | Fail) -> None:
        self._call(event)
        self._named_stack(event.stack)
        if event.script is not None and event.script not in self._scripts:
            raise _unnamed("script", event.script)

    def _named_stack(self, number: int | None) -> None:
        if number is not None and number not in self._stacks:
            raise _unnamed("stack", number)

    def _call(self, event: Create | Fail | Other) -> None:
        if event.task > self._dense:
            self._known(event.task)
        for word in event.args:
            if word is not None and word >= _WORD_LIMIT:
                raise InconsistentError("argument words of at most 64 bits", _short(word))

    def _signal(self, event: Signal) -> None:
        self._known(event.task)
        self._named_stack(event.stack)

    def _vfork_done(self, event: VforkDone) -> None:
        self._known(event.task)
        if event.child is not None:
            self._known(event.child)

    def _cow(self, event: Cow) -> None:
        self._with_creator(event)
        if event.side is not None:
            self._known(event.side)

    def _with_creator(self, event: Borrowed | Cow | Descriptors) -> None:
        self._known(event.task)
        if event.creator is not None:
            self._known(event.creator)

    def _reap(self, event: Reap) -> None:
        self._known(event.task)
        self._known(event.parent)
        if not -TIME_LIMIT < event.since < TIME_LIMIT:
            raise InconsistentError("a time of at most 62 bits, in nanoseconds", f"since {_short(event.since)}")

    def _reparent(self, event: Reparent) -> None:
        self._known(event.task)
        if event.parent is not None:
            self._known(event.parent)

    def _note(self, event: Note) -> None:
        if event.task is not None:
            self._known(event.task)

    def _end(self, event: End) -> None:
        if event.events != self.seen:
            raise InconsistentError(f"an end record that counts {self.seen} events", f"one that counts {event.events}")
        self.end = event


def _number(what: str, number: int, used: set[int]) -> None:
    if number in used:
        raise InconsistentError(f"a {what} number that was not used before", f"{what} {number} a second time")
    used.add(number)


def _unnamed(what: str, number: int) -> InconsistentError:
    return InconsistentError(f"a {what} that an earlier {what} record names", f"{what} {_short(number)}")


def _tid(tid: int) -> None:
    if not 0 <= tid < _TID_LIMIT:
        raise InconsistentError("a tid from 0 to 2147483647", _short(tid))


def _tag(event: Event) -> str:
    return str(event.__struct_config__.tag)


def _short(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _WORD_LIMIT.bit_length():
        return f"a number of {value.bit_length()} bits"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


_RULES: Final[dict[type[Event], Callable[[Checker, Any], None] | None]] = {
    # Nothing but that their task is known.
    **dict.fromkeys((Name, Title, Exec, ExecFail, Exit, Gone, GroupStop, Resume)),
    Signal: Checker._signal,
    Begin: Checker._begin,
    Module: Checker._module,
    Place: Checker._place,
    Lines: Checker._lines,
    Stack: Checker._stack,
    Script: Checker._script,
    Create: Checker._create,
    Fail: Checker._refused,
    Other: Checker._call,
    VforkDone: Checker._vfork_done,
    Descriptors: Checker._with_creator,
    Borrowed: Checker._with_creator,
    Cow: Checker._cow,
    Reparent: Checker._reparent,
    Reap: Checker._reap,
    Note: Checker._note,
    End: Checker._end,
}
