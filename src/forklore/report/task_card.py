"""``show --view task ID``: all that is known of one child, each claim with its source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from forklore.abi.resources import BY_KEY
from forklore.abi.signals import signal_name
from forklore.abi.text import as_text, printable
from forklore.abi.units import Nanoseconds, TaskId, Unavailable
from forklore.decode.sharing import Fate, fates
from forklore.events.records import UNKNOWN_TID, Standing, raw_bytes
from forklore.model.holds import Hold
from forklore.model.sharing import Answer, Sharing
from forklore.model.tasks import Task, Trace
from forklore.model.vfork_holds import Holding
from forklore.report.sharing_table import changes
from forklore.report.stacks import ShownStacks
from forklore.report.styled_lines import Line, Piece, fit, plain, width_of, wrapped
from forklore.report.tree import label
from forklore.report.tree.edges import Edges
from forklore.report.tree.fold import TreeRow
from forklore.report.tree.label import Detail
from forklore.report.words import words
from forklore.report.words.code import clipped, script_words
from forklore.report.words.cow import cow_lines
from forklore.report.words.descriptors import beyond, held_name, origin
from forklore.report.words.reaping import reaped_words
from forklore.report.words.vfork_holds import vfork_lines
from forklore.report.words.vfork_memory import borrowed_lines

_SECTIONS: Final = (
    ("shared", "Shared: one object for both"),
    ("copied", "Copied: its own, equal at first"),
    ("new", "New: made for the child"),
    ("reset", "Reset: empty or off in the child"),
    ("inherited", "Inherited: the creator's value"),
)
_OBSERVED: Final = {"shared": "shared", "separate": "copied"}
_IN_SHORT: Final = ("shared", "copied", "new")
"""What is told without ``verbose``, by its names alone: the rest is so for every task that is made in that way."""
_TITLE: Final = 26
_ROOM: Final = 24
"""Columns beside a title below which it stands on a line of its own."""
_WORDS: Final = 2000
"""Characters of a command line that are shown without ``verbose``."""


class NoSuchTaskError(Exception):
    """No task, or several, go by that number; the text says which there are."""


def find(trace: Trace, wanted: str) -> Task:
    """The task ``#3`` (forklore's own number) or ``4711`` (a tid). Raises NoSuchTaskError."""
    number = wanted.removeprefix("#")
    if not number.isdecimal():
        raise NoSuchTaskError(f"{wanted!r} is no task: give a tid (4711), or forklore's own number (#3)")
    if wanted.startswith("#"):
        task = trace.tasks.get(TaskId(int(number)))
        if task is None:
            raise NoSuchTaskError(f"there is no task #{number}: this trace has #1 to #{max(trace.tasks, default=0)}")
        return task
    found = [task for task in trace.tasks.values() if task.tid == int(number) != UNKNOWN_TID]
    if not found:
        raise NoSuchTaskError(f"no task of this trace has the tid {number}")
    if len(found) > 1:
        which = ", ".join(f"#{task.id} {words.task_name(task)}" for task in found)
        raise NoSuchTaskError(f"{len(found)} tasks had the tid {number}, one after the other: {which}; give its #")
    return found[0]


def card_lines(trace: Trace, task: Task, columns: int, *, verbose: bool = False) -> list[Line]:
    """The card, wrapped to ``columns``. The trace must have been read with its sharing.

    ``verbose``: with the rule or observation behind each resource, what the kernel had of the task, and all frames.
    """
    sharing = trace.sharing
    if sharing is None:
        raise ValueError("the trace was read without its sharing")
    lines = list(_head(trace, task, columns, verbose=verbose))
    if task.creation is None:
        where = "is in an earlier file" if task.how == "continued" else "was not seen"
        lines += _wrapped("", f"its creation {where}, so what it inherited is not known", columns)
    else:
        lines += _resources(task, sharing, columns) if verbose else _in_short(task, sharing, columns)
    lines += _over_time(trace, task, sharing, columns)
    lines += _vfork(trace, task, columns)
    lines += _cow(trace, task, columns)
    lines += _borrowed(trace, task, columns)
    lines += _held(trace, task, columns)
    if verbose:
        lines += _standing(task, columns)
    lines += _stack(task, columns, verbose=verbose)
    return [fit(line, columns) for line in lines]


def _head(trace: Trace, task: Task, columns: int, *, verbose: bool) -> Iterator[Line]:
    edges = Edges(trace)
    edge = edges.of(task)
    row = TreeRow([task], each=1, edges=() if edge is None else (edge,))
    behind = (Piece(f"  #{task.id}", "quiet"), Piece("   "), *label.task_end(row))
    room = columns - sum(width_of(piece.text) for piece in behind)
    yield (*label.task_head(row, room, runs=True), *behind)
    yield from _command_lines(task, columns, None if verbose else _WORDS)
    for part in label.task_parts(row, trace, Detail.FULL):
        yield from _wrapped("  ", plain(part), columns)
    creation = task.creation
    if creation is not None:
        creator = trace.tasks[task.creator] if task.creator is not None else None
        if creator is not None:
            yield from _wrapped("  ", f"made by {words.tid(creator.tid)} {words.task_name(creator)}".rstrip(), columns)
        yield from _made(task, edges, columns, verbose=verbose)
        for name, text in creation.details():
            yield from _wrapped("  ", f"{name} {text}", columns)
        for problem in creation.problems:
            yield from _wrapped("  ", f"in its call: {problem}", columns)
    for reaping in task.reaped:
        yield from _wrapped("  ", f"{reaped_words(task, reaping)} [/proc]", columns)


def _command_lines(task: Task, columns: int, most: int | None) -> Iterator[Line]:
    for image in task.images:
        if isinstance(image.argv, Unavailable):
            text = f"arguments: not known: {image.argv.why}"
        elif not image.argv:
            continue
        else:
            text = words.command(image.argv, image.cut)
            if cut := most is not None and len(text) > most:
                text = text[:most]
            if cut or (image.argc or 0) > len(image.argv):
                text += f"… ({words.count(max(image.argc or 0, len(image.argv)) - 1, 'arg')})"
            text = f"$ {text}"
        for part in wrapped(printable(text), columns - 2, "  "):
            yield (Piece("  "), Piece(part, "exec"))


def _made(task: Task, edges: Edges, columns: int, *, verbose: bool) -> Iterator[Line]:
    found = edges.attribution(task)
    if found is not None and (verbose or not found.sure):
        chain = " → ".join(found.chain)
        by = f"by {chain}" if chain else "by whom is not known" if found.source == "none" else "by no library call"
        sure = "" if found.sure or found.source == "none" else ", not sure"
        yield from _wrapped("  ", f"{by}{sure} [{found.why}]", columns)
    runs = task.runs
    if runs is None:
        return
    for name, number, code, argument in (
        ("runs", runs.routine_place, runs.routine, runs.routine_arg),
        ("fn of clone()", runs.fn_place, runs.fn, runs.arg),
    ):
        text = edges.place(number, code, source=True)
        if text:
            given = "" if argument is None else f", argument {argument:#x}"
            yield from _wrapped("  ", f"{name}: {text}{given} [{runs.how}]", columns)
    if runs.name is not None:
        target = "" if runs.script is None else f", which runs {script_words(runs.script)}"
        yield from _wrapped("  ", f'Python\'s thread "{clipped(as_text(raw_bytes(runs.name)))}"{target}', columns)
    if runs.unknown is not None:
        yield from _wrapped("  ", f"what it runs is not known: {runs.unknown.why}", columns)
    for naming in task.names:
        yield from _wrapped("  ", f'named "{printable(naming.comm)}" [{naming.how}]', columns)


def _stack(task: Task, columns: int, *, verbose: bool) -> Iterator[Line]:
    texts = ShownStacks(verbose=verbose).texts(task)
    if texts:
        yield ()
        yield (Piece("Its creator's call stack then, innermost first", "name"),)
    for text, role in texts:
        for part in wrapped(text, max(columns - 2, 24), "   "):
            yield (Piece("  "), Piece(part, role))


def _outcomes(task: Task, sharing: Sharing) -> dict[str, list[tuple[Fate, Answer | None]]]:
    """What became of each resource: as it was seen, else by the call's flags."""
    found: dict[str, list[tuple[Fate, Answer | None]]] = {}
    if task.creation is None:
        return found
    answers = {answer.resource: answer for answer in sharing.answers.get(task.id, ())}
    for fate in fates(task.creation):
        seen = BY_KEY.get(fate.resource)
        answer = None if seen is None or seen.kind == "place" else answers.get(seen.name)
        outcome = fate.outcome
        if answer is not None and answer.how == "kcmp" and answer.observed in _OBSERVED and answer.differs:
            outcome = "shared" if answer.observed == "shared" else "copied"
        found.setdefault(outcome, []).append((fate, answer))
    return found


def _in_short(task: Task, sharing: Sharing, columns: int) -> Iterator[Line]:
    outcomes = _outcomes(task, sharing)
    yield ()
    yield (Piece("What it has of its creator (-v says why, and what else there is)", "name"),)
    for outcome in _IN_SHORT:
        if titles := "; ".join(fate.title for fate, _ in outcomes.get(outcome, ())):
            for number, part in enumerate(wrapped(titles, columns - 10)):
                yield (Piece(f"  {outcome if number == 0 else '':<8}", "tid"), Piece(part))
    for fate, answer in (pair for found in outcomes.values() for pair in found):
        if answer is not None and answer.sentence:
            yield from _wrapped("  ", f"! {fate.title}: {answer.sentence}", columns)


def _resources(task: Task, sharing: Sharing, columns: int) -> Iterator[Line]:
    outcomes = _outcomes(task, sharing)
    for outcome, title in _SECTIONS:
        found = outcomes.get(outcome)
        if not found:
            continue
        yield ()
        yield (Piece(title, "name"),)
        for fate, answer in found:
            yield from _entry(fate.title, f"{fate.why} [{_source(fate, answer)}]", columns)
            if answer is not None and answer.sentence:
                yield from _entry("", f"! {answer.sentence}", columns)


def _source(fate: Fate, answer: Answer | None) -> str:
    if answer is None or answer.how in ("rule", "flag"):
        unknown = f"; not observed: {answer.reason}" if answer is not None and answer.reason else ""
        return f"by {fate.because}{unknown}" if fate.because != "always" else f"by rule{unknown}"
    if answer.observed == "unknown":
        return f"by {fate.because}; unknown to {answer.how}: {answer.reason}"
    seen = {"shared": "one object", "separate": "two objects", "both-unset": "neither has one"}[answer.observed]
    return f"{answer.how}: {seen}; {fate.because}"


def _over_time(trace: Trace, task: Task, sharing: Sharing, columns: int) -> Iterator[Line]:
    found = list(changes(task.id, sharing))
    partners = {
        resource: sorted(trace.tasks[other].tid for other in others)
        for resource, others in sharing.holdings.partners(task.id).items()
    }
    checked = [change for change in sharing.changes.get(task.id, ()) if change.shared is not False]
    if not (found or checked or any(partners.values())):
        return
    yield ()
    yield (Piece("Over time", "name"),)
    for resource, before, after in found:
        yield from _entry(resource, _change(before, after, task), columns)
    for change in checked:
        still = "still shared" if change.shared else f"not known ({change.reason})"
        other = words.tid(trace.tasks[change.other].tid)
        yield from _entry(change.resource, f"{still} with {other} after {change.cause} [kcmp]", columns)
    for resource, others in partners.items():
        if others and task.death is None:
            yield from _entry(resource, f"shared at the end of the trace with {_few(others)}", columns)


def _change(before: Hold, after: Hold, task: Task) -> str:
    age = None if before.until is None else task.age(Nanoseconds(before.until))
    when = "" if age is None else f" after {words.span(age)}"
    return f"of its own since {before.ended_by}{when} [{after.how}]"


def _few(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(words.tid, numbers[:5]))
    return f"{shown} and {len(numbers) - 5} more" if len(numbers) > 5 else shown


def _vfork(trace: Trace, task: Task, columns: int) -> Iterator[Line]:
    found = Holding(trace).of(task)
    if found is None:
        return
    yield ()
    yield (Piece("While it held its creator (CLONE_VFORK)", "name"),)
    for title, text in vfork_lines(found, trace):
        yield from _entry(title, text, columns)


def _cow(trace: Trace, task: Task, columns: int) -> Iterator[Line]:
    if task.cow:
        yield ()
        yield (Piece("Memory in common with its creator, copied on write", "name"),)
    for moment, text in cow_lines(task.cow, trace):
        yield from _entry(printable(moment), text, columns)


def _borrowed(trace: Trace, task: Task, columns: int) -> Iterator[Line]:
    for record in task.borrowed:
        yield ()
        yield (Piece(f"Of {trace.tasks[TaskId(record.creator)].tid}'s memory, which it borrowed, it changed", "name"),)
        for address, text in list(borrowed_lines(record)) or [("", "nothing")]:
            yield from _entry(address, text, columns)


def _held(trace: Trace, task: Task, columns: int) -> Iterator[Line]:
    if not task.descriptors:
        return
    record = task.descriptors[-1]
    found = beyond(record)
    if not found and not isinstance(record.table, Unavailable):
        return
    yield ()
    yield (Piece("Descriptors beyond 0-2 that survived its exec", "name"),)
    if isinstance(record.table, Unavailable):
        yield from _entry("", f"not known: {record.table.why}", columns)
    for held in found:
        yield from _entry(str(held.fd), f"{held_name(held)}; {origin(held, record, trace)} [/proc, kcmp]", columns)
    if record.left_out:
        yield from _entry("", f"and {record.left_out} more, which were not looked at", columns)


def _standing(task: Task, columns: int) -> Iterator[Line]:
    standing = task.standing
    if standing is None:
        return
    yield ()
    yield (Piece("As the kernel had it at its first stop", "name"),)
    if isinstance(standing, Unavailable):
        yield from _entry("", f"not known: {standing.why}", columns)
        return
    for name, value in _facts(standing):
        yield from _entry(name, f"{value} [/proc]", columns)


def _facts(standing: Standing) -> Iterator[tuple[str, str]]:
    if standing.ppid is not None:
        yield "parent", str(standing.ppid)
    if standing.pgrp is not None:
        yield "group, session", f"{standing.pgrp}, {standing.session}"
    if standing.exit_signal is not None:
        number = standing.exit_signal
        yield "exit signal", "none, a thread" if number < 0 else signal_name(number) if number else "none"
    if standing.no_new_privs is not None:
        yield "no_new_privs", "set" if standing.no_new_privs else "not set"
    if standing.seccomp is not None:
        filters = standing.seccomp_filters
        mode = {0: "none", 1: "strict", 2: "filters" if filters is None else words.count(filters, "filter")}
        yield "seccomp", mode.get(standing.seccomp, str(standing.seccomp))
    if standing.umask is not None:
        yield "umask", f"{standing.umask:04o}"
    for name, inode in (standing.namespaces or {}).items():
        yield f"{name} ns", inode.why if isinstance(inode, Unavailable) else str(inode)
    cgroups = standing.cgroups
    if isinstance(cgroups, Unavailable):
        yield "cgroup", cgroups.why
    elif cgroups:
        yield "cgroup", ", ".join(printable(raw_bytes(line)) for line in cgroups)


def _entry(title: str, text: str, columns: int) -> Iterator[Line]:
    beside = columns - _TITLE - 2 >= _ROOM and width_of(title) < _TITLE
    if not beside and title:
        yield (Piece(f"  {title}", "tid"),)
    left = _TITLE if beside else 2
    for number, part in enumerate(wrapped(printable(text), columns - left - 2) or [""]):
        yield (Piece(f"  {title if number == 0 and beside else '':<{left}}", "tid"), Piece(part))


def _wrapped(indent: str, text: str, columns: int) -> Iterator[Line]:
    for part in wrapped(printable(text), max(columns - len(indent), 24)):
        yield (Piece(indent + part),)
