"""A trace line by line, as it happens: one event a line, never cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from forklore.abi.text import printable
from forklore.abi.units import TaskId, Unavailable
from forklore.decode.creation import Creation
from forklore.decode.sharing import shared_names
from forklore.events import records as ev
from forklore.model.build import Builder
from forklore.model.tasks import Task
from forklore.report.styled_lines import Line, Piece
from forklore.report.tree.edges import Edge, Edges
from forklore.report.words import words
from forklore.report.words.cow import cow_words
from forklore.report.words.deaths import death_words, gone_words
from forklore.report.words.descriptors import Key, given, held_words
from forklore.report.words.reaping import reaped_words, stood_long
from forklore.report.words.vfork_memory import borrowed_words

_UNTOLD: Final[tuple[type, ...]] = (ev.Module, ev.Place, ev.Lines, ev.Stack, ev.Script)
"""Told with the creations that refer to them."""


class LogView:
    """Turns each event into a line, with a :class:`Builder` that was fed it already."""

    def __init__(self, builder: Builder) -> None:
        self._trace = builder.trace
        self._edges = Edges(builder.trace)
        self._given: frozenset[Key] = frozenset()
        self._text: dict[type, Callable[[Any], Line]] = {
            ev.Begin: self._begin,
            **dict.fromkeys(_UNTOLD, lambda _e: ()),
            ev.Title: lambda e: (Piece(f"calls itself {words.command(tuple(map(ev.raw_bytes, e.argv)))}"),),
            ev.Name: lambda e: (Piece(f"is named {printable(ev.raw_bytes(e.comm))}"),),
            ev.Create: self._create,
            ev.Fail: self._fail,
            ev.Other: self._other,
            ev.Exec: self._exec,
            ev.ExecFail: self._exec_fail,
            ev.VforkDone: self._vfork_done,
            ev.Cow: lambda e: (Piece(cow_words(e, self._trace)),),
            ev.Borrowed: lambda e: (Piece(borrowed_words(e, self._trace)),),
            ev.Descriptors: self._descriptors,
            ev.Exit: self._exit,
            ev.Gone: self._gone,
            ev.Signal: self._signal,
            ev.GroupStop: lambda e: (Piece(f"stopped by {words.signal(e.signal)}"),),
            ev.Resume: lambda _e: (Piece("goes on"),),
            ev.Reparent: self._reparent,
            ev.Reap: self._reap,
            ev.Note: lambda e: (Piece(f"{printable(e.what)}: {printable(e.why)}", "loud"),),
            ev.End: lambda _e: (),
        }

    def line(self, event: ev.Event) -> Line | None:
        """The line of an event; None for one that has nothing to tell."""
        text = self._text[type(event)](event)
        if not text:
            return None
        number = getattr(event, "task", None)
        task = self._trace.tasks.get(TaskId(number)) if number is not None else None
        return (Piece(_stamp(event.t), "quiet"), *_who(task), *text)

    def _task(self, number: int) -> Task:
        return self._trace.tasks[TaskId(number)]

    def _begin(self, event: ev.Begin) -> Line:
        if event.how == "root":
            return ()
        return (Piece(f"comes into the trace ({event.how})"),)

    def _create(self, event: ev.Create) -> Line:
        child = self._task(event.child)
        creation = child.creation
        made = [Piece(_call(creation), "flags"), Piece(f" → {child.kind} "), Piece(words.tid(child.tid), "tid")]
        pieces = _within(self._edges.of(child), made)
        shared = shared_names(creation) if creation is not None else ()
        if shared:
            pieces.append(Piece("  shares " + " ".join(shared)))
        if child.ns_tids:
            pieces.append(Piece("  pid " + words.inside(child) + " inside its namespace", "loud"))
        if not child.traced:
            pieces.append(Piece("  not followed", "loud"))
        return tuple(pieces)

    def _fail(self, event: ev.Fail) -> Line:
        failure = self._task(event.task).failures[-1]
        refused = [Piece(_call(failure.creation), "flags"), Piece(f" = {words.error(event.errno)}", "bad")]
        pieces = _within(self._edges.of(failure), refused)
        why = words.because(failure.reasons)
        return (*pieces, Piece(f"  {why}")) if why else tuple(pieces)

    def _other(self, event: ev.Other) -> Line:
        made = self._task(event.task).calls[-1]
        target = f" [{printable(made.target)}]" if made.target else ""
        text = Piece(made.call.text() + target, "flags")
        why = words.because(made.reasons)
        if event.result is None or event.result >= 0:
            told = "?" if event.result is None else str(event.result)
            return (text, Piece(f" = {told}"), Piece(f"  {why}" if why else ""))
        return (text, Piece(f" = {words.error(-event.result)}", "bad"), Piece(f"  {why}" if why else ""))

    def _exec(self, event: ev.Exec) -> Line:
        image = self._task(event.task).images[-1]
        pieces = [*_executed(image.path, image.at)]
        if isinstance(image.argv, tuple) and image.argv:
            pieces.append(Piece("  " + words.command(image.argv, image.cut)))
            if image.argc is not None and image.argc > len(image.argv):
                pieces.append(Piece(f" … {image.argc} arguments", "quiet"))
        if event.former_tid is not None:
            pieces.append(Piece(f"  by thread {event.former_tid}, which takes over the tid", "loud"))
        return tuple(pieces)

    def _exec_fail(self, event: ev.ExecFail) -> Line:
        failed = self._task(event.task).failed_execs[-1]
        pieces = [*_executed(failed.paths[-1], failed.at)]
        if isinstance(failed.argv, tuple) and failed.argv:
            pieces.append(Piece("  " + words.command(failed.argv)))
        by_tool = Piece("  injected by strace" if event.injected else "")
        return (*pieces, Piece(f" = {words.error(event.errno)}", "bad"), by_tool)

    def _vfork_done(self, event: ev.VforkDone) -> Line:
        child = self._task(event.child) if event.child is not None else None
        held = "" if child is None or child.held is None else f", held {words.span(child.held)}"
        return (Piece(f"goes on: {words.tid(event.tid)} released its memory{held}", "quiet"),)

    def _descriptors(self, event: ev.Descriptors) -> Line:
        if (task := self._task(event.task)).how == "root" and len(task.descriptors) == 1:
            self._given = given(self._trace)
        text = held_words([event], self._given)
        return (Piece(text),) if text else ()

    def _exit(self, event: ev.Exit) -> Line:
        task = self._task(event.task)
        death = task.death
        if death is None:
            return ()
        return (Piece(death_words(death, task.tgid), "good" if death.code == 0 else "bad"),)

    def _gone(self, event: ev.Gone) -> Line:
        return (Piece(gone_words(event.why), "quiet"),)

    def _signal(self, event: ev.Signal) -> Line:
        origin = f" from {event.sender}" if event.sender is not None else ""
        origin += f" at {event.address:#x}" if event.address is not None else ""
        return (Piece(f"{words.signal(event.signal)}{origin} (si_code {event.code})", "bad"),)

    def _reparent(self, event: ev.Reparent) -> Line:
        return (Piece(f"orphan, now of {event.parent_tid}"),)


    def _reap(self, event: ev.Reap) -> Line:
        # As a rule somebody waits at once, and then that is no line more.
        task = self._trace.tasks.get(TaskId(event.task))
        if task is None or not stood_long(task):
            return ()
        return (Piece(reaped_words(task, task.reaped[-1]), "loud"),)


def _executed(path: bytes | Unavailable, at: ev.ExecAt | None) -> Line:
    text = Piece(words.executed(path, at), "exec")
    return (text,) if at is not None else (Piece("execve ", "call"), text)


def _call(creation: Creation | None) -> str:
    return "a call that was not seen" if creation is None else creation.text()


def _within(edge: Edge | None, call: list[Piece]) -> list[Piece]:
    # The library call stands around the system call; where only the caller is known, that stands behind.
    if edge is None:
        return call
    if edge.library:
        return [Piece(edge.text(), "maker"), Piece(" { "), *call, Piece(" }")]
    told = "  ".join(filter(None, [edge.runs and f"runs {edge.runs}", edge.text()]))
    return [*call, Piece(f"  {told}", "maker")]


def _stamp(t: int | None) -> str:
    return "[            ] " if t is None else f"[{t / 1e9:12.6f}] "


def _who(task: Task | None) -> Line:
    if task is None:
        return ()
    return (Piece(f"{words.tid(task.tid)} ", "tid"), Piece(words.task_name(task) or "?", "name"), Piece("  "))
