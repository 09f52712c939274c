"""Two traces of one program by two engines, as what both must say: event by event for each task.

A task is named by its way from the root (the first child of the second child), for tids and task numbers are new in
each run. Within a task the order counts; between tasks it is the scheduler's. What an engine cannot see, as its header
says, is left out on both sides: :data:`ONLY_PTRACE`, and fields that :func:`_told` does not take.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from forklore.abi import syscalls
from forklore.abi.units import Unavailable
from forklore.decode.creation import decode_creation
from forklore.events import records as ev

ONLY_PTRACE: Final = (
    ev.Descriptors, ev.Title, ev.GroupStop, ev.Resume, ev.Note, ev.Module, ev.Place,
    ev.Lines, ev.Stack, ev.Script, ev.Cow, ev.Borrowed, ev.Reap, ev.End,
)  # fmt: skip
OUTSIDE: Final = "outside"


class Named:
    """Who is who in a trace, and which functions its stacks go through."""

    def __init__(self, events: Iterable[ev.Event]) -> None:
        self.events = list(events)
        self._names: dict[int, str] = {}
        self._tids: dict[int, str] = {}
        self._places: dict[int, str] = {}
        self.stacks: dict[int, list[str]] = {}
        """The functions of each stack, innermost first."""
        made: dict[int, int] = {}
        for event in self.events:
            if isinstance(event, ev.Begin):
                self._names[event.task] = "root" if event.how == "root" else f"adopted {event.how}"
                self._tids[event.tid] = self._names[event.task]
            elif isinstance(event, ev.Place):
                self._places[event.place] = str(event.function)
            elif isinstance(event, ev.Stack):
                self.stacks[event.stack] = [self._places[frame.place] for frame in event.frames]
            elif isinstance(event, ev.Create):
                made[event.task] = made.get(event.task, 0) + 1
                self._names[event.child] = f"{self._names[event.task]}.{made[event.task]}"
                self._tids[event.tid] = self._names[event.child]

    def task(self, number: int | None) -> str:
        """The name of a task."""
        return OUTSIDE if number is None else self._names[number]

    def tid(self, tid: int | None) -> str | None:
        """Who had a tid last; a tid of nobody in the trace is somebody outside."""
        return None if tid is None else self._tids.get(tid, OUTSIDE)


def told(events: Iterable[ev.Event]) -> dict[str, list[str]]:
    """What a trace tells of each task, in order, in the form in which both engines must agree."""
    named = Named(events)
    found: dict[str, list[str]] = {}
    for event in named.events:
        if isinstance(event, ONLY_PTRACE) or _asks_for_a_tracer(event):
            continue
        who = named.task(event.task)  # type: ignore[attr-defined]
        found.setdefault(who, []).append(f"{type(event).__name__} {_told(event, named)}")
    return {who: _settled(lines) for who, lines in found.items()}


def _asks_for_a_tracer(event: ev.Event) -> bool:
    return isinstance(event, ev.Other) and syscalls.name(event.arch, event.nr or 0) == "ptrace"


def _settled(lines: list[str]) -> list[str]:
    # Who hands a child over, and who gives memory back, does so at any moment of the one that it is told of.
    loose = [line for line in lines if line.startswith(("Reparent", "VforkDone"))]
    return [line for line in lines if line not in loose] + sorted(loose)


def _told(event: ev.Event, named: Named) -> dict[str, Any]:
    match event:
        case ev.Create():
            call = _call(event)
            return {
                "child": named.task(event.child), "arch": str(event.arch), "nr": event.nr, **call,
                "kcmp": _answers(event.kcmp), "ns_tids": None if event.ns_tids is None else len(event.ns_tids),
                "traced": event.traced,
            }  # fmt: skip
        case ev.Exec():
            return {
                "path": _plain(event.path), "argv": _plain(event.argv), "argc": event.argc, "cut": event.cut,
                "exe": _plain(event.exe), "comm": _plain(event.comm), "from_thread": event.former_tid is not None,
                "compared": {name: min(answer, 1) for name, (_other, answer) in event.compared.items()},
            }  # fmt: skip
        case ev.Fail():
            return {"arch": str(event.arch), "nr": event.nr, "errno": event.errno, **_call(event)}
        case ev.ExecFail():
            return {"path": _plain(event.path), "argv": _plain(event.argv), "errno": event.errno}
        case ev.Other():
            compared = {name: min(answer, 1) for name, (_other, answer) in event.compared.items()}
            named_so = event.result is not None and event.result > 0  # a pid, or a descriptor
            return {"nr": event.nr, "result": "…" if named_so else event.result, "compared": compared}
        case ev.Exit():
            return {"status": event.status}
        case ev.Gone():
            return {"why": event.why}
        case ev.Signal():
            return {
                "signal": event.signal, "code": event.code, "by": event.by,
                "sender": named.tid(event.sender), "address": event.address is not None,
            }  # fmt: skip
        case ev.Reparent():
            return {"to": named.task(event.parent)}
        case ev.VforkDone():
            return {"child": named.task(event.child)}
        case ev.Name():
            return {"comm": event.comm}
        case ev.Begin():
            return {"how": event.how, "stands": _stands(event.standing)}
    raise AssertionError(f"{type(event).__name__} is compared by nobody")


_NEW_EACH_RUN: Final = re.compile(r"\b\d{3,}\b|(?<=guest_\w{3}\.)\w+|(?<=guest_image\.)\w+")


def _plain(text: object) -> str:
    # Pids and names of temporary files are new in each run.
    return _NEW_EACH_RUN.sub("…", str(text))


def _call(event: ev.Create | ev.Fail) -> dict[str, Any]:
    struct = bytes.fromhex(event.struct) if isinstance(event.struct, str) else event.struct
    set_tid = bytes.fromhex(event.set_tid) if isinstance(event.set_tid, str) else event.set_tid
    creation = decode_creation(event.arch, event.nr, event.args, struct, set_tid)
    return {
        "call": creation.call, "flags": str(creation.flags), "size": creation.stack_size, "struct": struct is not None,
        "given": [
            name for name in ("stack", "tls", "parent_tid", "child_tid", "pidfd_address", "set_tid")
            if getattr(creation, name, None) is not None
        ],
    }  # fmt: skip


def _answers(answers: object) -> object:
    # kcmp(2) tells in which order two objects are, a comparison of addresses does not.
    if not isinstance(answers, tuple):
        return answers
    return tuple("differ" if answer in (1, 2, 3) else answer for answer in answers)


def _stands(standing: ev.Standing | Unavailable | None) -> object:
    if not isinstance(standing, ev.Standing):
        return None if standing is None else "unavailable"
    names = sorted(standing.namespaces or {})
    return standing.exit_signal, standing.no_new_privs, standing.umask, names


def stack_differences(ptrace: Iterable[ev.Event], bpf: Iterable[ev.Event]) -> Iterator[str]:
    """Creations whose stacks are not the same, as far as the shorter one goes: a copy of a stack has an end."""
    theirs, ours = (dict(_stacks(events)) for events in (ptrace, bpf))
    for who in sorted(theirs.keys() & ours.keys()):
        a, b = theirs[who], ours[who]
        length = min(len(a), len(b))
        if a[:length] != b[:length] or not length:
            yield f"{who}: ptrace {a}, bpf {b}"


def _stacks(events: Iterable[ev.Event]) -> Iterator[tuple[str, list[str]]]:
    named = Named(events)
    for event in named.events:
        if isinstance(event, ev.Create) and event.stack is not None:
            yield named.task(event.child), named.stacks[event.stack]


def differences(ptrace: Iterable[ev.Event], bpf: Iterable[ev.Event]) -> Iterator[str]:
    """Lines that the two disagree about, as a unified diff of each task."""
    theirs, ours = told(ptrace), told(bpf)
    for who in sorted({*theirs, *ours}):
        a, b = theirs.get(who, []), ours.get(who, [])
        if a != b:
            yield from (f"{who}: {line}" for line in difflib.unified_diff(a, b, "ptrace", "bpf", lineterm="", n=0))
