"""What is known of one task, as titles with lines of a term and a text, for the terminal's card and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from forklore.abi.resources import BY_KEY
from forklore.abi.signals import signal_name
from forklore.abi.text import as_text, printable
from forklore.abi.units import Nanoseconds, TaskId, Tid, Unavailable
from forklore.decode.containers import container
from forklore.decode.sharing import Fate, fates
from forklore.events.records import Standing, raw_bytes
from forklore.model.holds import RESOURCES, Hold
from forklore.model.sharing import Answer, Sharing
from forklore.model.tasks import Image, Task, Trace
from forklore.model.vfork_holds import Holding
from forklore.report.sharing_table import changes
from forklore.report.tree.edges import Edges
from forklore.report.words import words
from forklore.report.words.code import clipped, script_words
from forklore.report.words.cow import cow_lines
from forklore.report.words.descriptors import beyond, held_name, origin
from forklore.report.words.vfork_holds import vfork_lines
from forklore.report.words.vfork_memory import borrowed_lines

_SECTIONS: Final = (
    ("shared", "Shared: one object for both"),
    ("copied", "Copied: its own, equal at first"),
    ("new", "New: made for the child"),
    ("reset", "Reset: empty or off in the child"),
    ("inherited", "Inherited: the creator's value"),
)
_FEW: Final = 5
"""Tasks that are named; the rest is counted."""
_OBSERVED: Final = {"shared": "shared", "separate": "copied"}


class Section(Struct, frozen=True):
    """What belongs together."""

    title: str
    lines: tuple[tuple[str, str], ...]
    """Each with its term, which may be empty where it goes on from the one before."""


def no_creation(task: Task) -> str:
    """Of a task whose creation is not in the trace."""
    where = "is in an earlier file" if task.how == "continued" else "was not seen"
    return f"its creation {where}, so what it inherited is not known"


def command_text(image: Image, most: int | None = None) -> str:
    """``$ cc -O2 a.c``, in at most so many characters of it; empty where there are no arguments."""
    if isinstance(image.argv, Unavailable):
        return f"arguments: not known: {image.argv.why}"
    if not image.argv:
        return ""
    text = words.command(image.argv, image.cut)
    if cut := most is not None and len(text) > most:
        text = text[:most]
    if cut or (image.argc or 0) > len(image.argv):
        text += f"… ({words.count(max(image.argc or 0, len(image.argv)) - 1, 'arg')})"
    return f"$ {text}"


def made_texts(task: Task, edges: Edges, *, verbose: bool) -> Iterator[str]:
    """Who made it, as far as that is not a matter of course, and what it was given to run."""
    found = edges.attribution(task)
    if found is not None and (verbose or not found.sure):
        chain = " → ".join(found.chain)
        by = f"by {chain}" if chain else "by whom is not known" if found.source == "none" else "by no library call"
        sure = "" if found.sure or found.source == "none" else ", not sure"
        yield f"{by}{sure} [{found.why}]"
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
            yield f"{name}: {text}{given} [{runs.how}]"
    if runs.name is not None:
        target = "" if runs.script is None else f", which runs {script_words(runs.script)}"
        yield f'Python\'s thread "{clipped(as_text(raw_bytes(runs.name)))}"{target}'
    if runs.unknown is not None:
        yield f"what it runs is not known: {runs.unknown.why}"
    for naming in task.names:
        yield f'named "{printable(naming.comm)}" [{naming.how}]'


def outcomes(task: Task, sharing: Sharing) -> dict[str, list[tuple[Fate, Answer | None]]]:
    """What became of each resource: as it was seen, else by the call's flags, by the outcome."""
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


def resources(task: Task, sharing: Sharing) -> Iterator[Section]:
    """What it has of its creator, each claim with its source."""
    found = outcomes(task, sharing)
    for outcome, title in _SECTIONS:
        if outcome in found:
            yield Section(title, tuple(_resource(found[outcome])))


def _resource(found: list[tuple[Fate, Answer | None]]) -> Iterator[tuple[str, str]]:
    for fate, answer in found:
        yield fate.title, f"{fate.why} [{_source(fate, answer)}]"
        if answer is not None and answer.sentence:
            yield "", f"! {answer.sentence}"


def _source(fate: Fate, answer: Answer | None) -> str:
    if answer is None or answer.how in ("rule", "flag"):
        unknown = f"; not observed: {answer.reason}" if answer is not None and answer.reason else ""
        return f"by {fate.because}{unknown}" if fate.because != "always" else f"by rule{unknown}"
    if answer.observed == "unknown":
        return f"by {fate.because}; unknown to {answer.how}: {answer.reason}"
    seen = {"shared": "one object", "separate": "two objects", "both-unset": "neither has one"}[answer.observed]
    return f"{answer.how}: {seen}; {fate.because}"


class Companions:
    """Who shared what with whom later on; the end of a trace is worked out once, when first asked: there can be very
    many."""

    def __init__(self, trace: Trace, sharing: Sharing) -> None:
        self._trace = trace
        self._sharing = sharing
        self._found: dict[tuple[str, int], list[Tid]] | None = None

    def changes(self, task: Task) -> Iterator[tuple[str, str]]:
        """What a task left for an object of its own, and what it was seen to share later, or not."""
        for resource, before, after in changes(task.id, self._sharing):
            yield resource, _change(before, after, task)
        for change in self._sharing.changes.get(task.id, ()):
            if change.shared is not False:
                still = "still shared" if change.shared else f"not known ({change.reason})"
                other = words.tid(self._trace.tasks[change.other].tid)
                yield change.resource, f"{still} with {other} after {change.cause} [kcmp]"

    def texts(self, task: Task) -> Iterator[tuple[str, str]]:
        """By resource, with whom a task shared it: the first few tids, and how many more."""
        holdings = self._sharing.holdings
        if holdings.over(task.id):
            return
        if self._found is None:
            self._found = self._read()
        for resource, groups in zip(RESOURCES, holdings.groups(task.id), strict=True):
            tids = self._found[resource, groups[-1]]
            if len(tids) < 2:
                continue
            first = tids[: _FEW + 1]
            if task.tid in first:
                first.remove(task.tid)
            shown = ", ".join(map(words.tid, first[:_FEW]))
            more = len(tids) - 1 - len(first[:_FEW])
            yield resource, f"{shown} and {more} more" if more else shown

    def _read(self) -> dict[tuple[str, int], list[Tid]]:
        holdings = self._sharing.holdings
        found: dict[tuple[str, int], list[Tid]] = {}
        for other in sorted(self._trace.tasks.values(), key=lambda each: each.tid):
            if not holdings.over(other.id):
                for resource, groups in zip(RESOURCES, holdings.groups(other.id), strict=True):
                    found.setdefault((resource, groups[-1]), []).append(other.tid)
        return found


def later(
    trace: Trace, task: Task, holding: Holding, companions: Companions | None, *, verbose: bool
) -> Iterator[Section]:
    """What became of it after its creation, each section where there is something to tell. ``companions``: None for a
    trace that was read without its sharing."""
    found: list[tuple[str, Iterable[tuple[str, str]]]] = [
        ("Over time", () if companions is None else _over_time(task, companions)),
        ("While it held its creator (CLONE_VFORK)", _vfork(trace, task, holding)),
        ("Memory in common with its creator, copied on write", cow_lines(task.cow, trace)),
    ]
    for record in task.borrowed:
        title = f"Of {trace.tasks[TaskId(record.creator)].tid}'s memory, which it borrowed, it changed"
        found.append((title, list(borrowed_lines(record)) or [("", "nothing")]))
    found.append(("Descriptors beyond 0-2 that survived its exec", _held(trace, task)))
    if verbose:
        found.append(("As the kernel had it at its first stop", _standing(task)))
    for title, lines in found:
        if told := tuple((printable(term), text) for term, text in lines):
            yield Section(title, told)


def _over_time(task: Task, companions: Companions) -> Iterator[tuple[str, str]]:
    yield from companions.changes(task)
    if task.death is None:
        for resource, others in companions.texts(task):
            yield resource, f"shared at the end of the trace with {others}"


def _change(before: Hold, after: Hold, task: Task) -> str:
    age = None if before.until is None else task.age(Nanoseconds(before.until))
    when = "" if age is None else f" after {words.span(age)}"
    return f"of its own since {before.ended_by}{when} [{after.how}]"


def _vfork(trace: Trace, task: Task, holding: Holding) -> Iterator[tuple[str, str]]:
    found = holding.of(task)
    if found is not None:
        yield from vfork_lines(found, trace)


def _held(trace: Trace, task: Task) -> Iterator[tuple[str, str]]:
    if not task.descriptors:
        return
    record = task.descriptors[-1]
    if isinstance(record.table, Unavailable):
        yield "", f"not known: {record.table.why}"
    found = beyond(record)
    for held in found:
        yield str(held.fd), f"{held_name(held)}; {origin(held, record, trace)} [/proc, kcmp]"
    if found and record.left_out:
        yield "", f"and {record.left_out} more, which were not looked at"


def _standing(task: Task) -> Iterator[tuple[str, str]]:
    standing = task.standing
    if isinstance(standing, Unavailable):
        yield "", f"not known: {standing.why}"
    elif standing is not None:
        yield from ((name, f"{value} [/proc]") for name, value in _facts(standing))


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
        lines = [printable(raw_bytes(line)) for line in cgroups]
        yield "cgroup", ", ".join(lines)
        found = next(filter(None, map(container, lines)), None)
        if found is not None:
            yield "container", f"{found.short} of {found.engine}, as the cgroup is named"
