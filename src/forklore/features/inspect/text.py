"""What running tasks share, as a table for people and as one JSON object for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from forklore.abi.errors import errno_name
from forklore.abi.flags import CLONE3
from forklore.abi.resources import NAMESPACES, NULLABLE, OBJECTS
from forklore.abi.signals import signal_name
from forklore.abi.text import printable
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.decode.flagset import flag_set
from forklore.decode.object_groups import Grouping
from forklore.decode.task_states import state_text
from forklore.events.records import text as record_text
from forklore.features.inspect.inspection import Apart, Between, InspectedThread, Inspection
from forklore.features.inspect.table import table
from forklore.report.styled_lines import Line, Piece, fit, width_of
from forklore.report.words.words import count

JSON_FORMAT: Final = {"name": "forklore-inspect", "version": [1, 0]}

_NAMED: Final = 8
"""So many tasks of one kind are named in a sentence."""


def lines(inspection: Inspection, width: int, *, each: bool = False) -> list[Line]:
    """The whole view. ``each``: no folding of tasks that look the same."""
    view = _View(inspection, width)
    found = [*view.heading(), (), *table(inspection, width, each=each), *view.sentences()]
    found += [*view.namespaces(), *view.cgroups(), *view.states(), *view.unknown(), *view.dropped(), *view.elsewhere()]
    return [fit(line, width) for line in found]


class _View:
    """The parts above and below the table."""

    def __init__(self, inspection: Inspection, width: int) -> None:
        self._all = inspection
        self._width = width
        self._by_tid = {task.tid: task for task in inspection.tasks}
        self._first = {pid: tasks[0] for pid, tasks in inspection.processes().items()}

    def heading(self) -> Iterator[Line]:
        threads = len(self._all.tasks) - len(self._first)
        text = count(len(self._first), "process", "processes")
        if threads:
            text += f", {count(threads, 'further thread')}"
        beside = len(self._first.keys() - self._all.asked)
        if beside:
            text += f"; {beside} of the processes found by what they share"
        yield (Piece(text),)

    def sentences(self) -> Iterator[Line]:
        said = [*self._of_between(), *self._of_apart(), *self._of_makers(), *self._of_pending()]
        yield from self._section("Out of the ordinary", said)

    def _of_between(self) -> Iterator[str]:
        for each in self._all.between:
            yield self._between(each)

    def _between(self, found: Between) -> str:
        text = f"{self._processes(found.pids)} share {_listed(found.objects)}, though they are different processes"
        if found.holder is not None:
            return f"{text}: thread {found.holder} is held in vfork until its child executes or ends"
        how = "|".join(flag_set(CLONE3, OBJECTS[name].shared_by).text() for name in found.objects)
        return f"{text} ({how} without CLONE_THREAD)"

    def _of_apart(self) -> Iterator[str]:
        alike: dict[tuple[Pid, tuple[str, ...], tuple[str, ...]], list[Apart]] = {}
        for each in self._all.apart:
            alike.setdefault((each.pid, each.objects, each.namespaces), []).append(each)
        for (pid, objects, namespaces), several in alike.items():
            own = [*objects, *(f"{name} namespace" for name in namespaces)]
            who = self._named([each.tid for each in several], "thread")
            do = "does" if len(several) == 1 else "do"
            yield f"{who} of {self._process(pid)} {do} not share the process's {_listed(own, 'or')}"

    def _of_makers(self) -> Iterator[str]:
        made: dict[tuple[Pid, str], list[Tid]] = {}
        for task in self._all.tasks:
            if task.made_by is not None:
                made.setdefault((task.pid, task.made_by), []).append(task.tid)
        for (pid, maker), tids in made.items():
            by = {"kernel": "the kernel", "io_uring": "the kernel for io_uring"}.get(maker, f"the kernel for {maker}")
            were = "was" if len(tids) == 1 else "were"
            yield f"{self._named(tids, 'thread')} of {self._process(pid)} {were} made by {by}, not by a clone call"

    def _of_pending(self) -> Iterator[str]:
        for namespace, each in NAMESPACES.items():
            at_exec = ", and it itself at execve," if each.entered_by_exec() else ""
            tids = [pending.tid for pending in self._all.pending if pending.namespace == namespace]
            if tids:
                enters = f"children{at_exec} enter"
                yield f"{self._named(tids, 'task')}: {enters} another {namespace} namespace than its own"

    def namespaces(self) -> Iterator[Line]:
        said: list[str] = []
        first: dict[str, Any] = {}
        for each in self._all.namespaces.groups:
            values = self._by_tid[each.members[0]].namespaces
            shown = {name: _inode(value) for name, value in values.items()}
            for kind in NAMESPACES:  # what children enter is news only where it is something else
                if shown.get(f"{kind}_for_children") == shown.get(kind):
                    shown.pop(f"{kind}_for_children", None)
            other = {name: inode for name, inode in shown.items() if first.get(name) != inode}
            text = ", ".join(f"{name} {inode}" for name, inode in other.items())
            said.append(f"{each.letter}  {f'as A, but {text}' if first and len(other) < len(shown) else text}")
            first = first or shown
        yield from self._section("Namespaces", said)

    def cgroups(self) -> Iterator[Line]:
        said = []
        for each in self._all.cgroups.groups:
            places = self._by_tid[each.members[0]].cgroups
            if not isinstance(places, Unavailable):
                said.append(f"{each.letter}  {_places(places)}")
        yield from self._section("Cgroups", said)

    def states(self) -> Iterator[Line]:
        letters: dict[str, list[Tid]] = {}
        for task in self._all.tasks:
            letters.setdefault(task.state + task.marks, []).append(task.tid)
        said = [f"{letter}  {self._named(tids, 'task')}: {state_text(letter)}" for letter, tids in letters.items()]
        yield from self._section("States", said)

    def unknown(self) -> Iterator[Line]:
        said = []
        for why, columns, tids in unknowns(self._all):
            said.append(f"{_listed(columns)} of {self._named(tids, 'task')}: unknown ({why.why})")
        yield from self._section("Not known", [printable(text) for text in said])

    def dropped(self) -> Iterator[Line]:
        alike: dict[str, list[Tid]] = {}
        for each in self._all.dropped:
            alike.setdefault(each.why, []).append(each.tid)
        yield from self._section("Left out", [f"{_numbers(tids)}: {printable(why)}" for why, tids in alike.items()])

    def elsewhere(self) -> Iterator[Line]:
        found = self._all.elsewhere
        if found is None:
            return
        text = f"{count(found.compared, 'other process', 'other processes')} compared as well"
        if found.refused:
            text += f"; {found.refused:,} more could not be, and may share something unseen"
        yield ()
        yield from _wrapped("", text, self._width)

    def _section(self, title: str, said: Sequence[str]) -> Iterator[Line]:
        if said:
            yield ()
            yield (Piece(title, "name"),)
            for text in said:
                yield from _wrapped("  ", text, self._width)

    def _process(self, pid: Pid) -> str:
        return f"{pid} ({printable(self._first[pid].name)})"

    def _processes(self, pids: Sequence[Pid]) -> str:
        shown = [self._process(pid) for pid in pids[:_NAMED]]
        more = len(pids) - len(shown)
        return _listed([*shown, f"{more:,} more"] if more else shown)

    def _named(self, tids: Sequence[Tid], what: str) -> str:
        if len(tids) == 1:
            return f"{what} {tids[0]} ({printable(self._by_tid[tids[0]].name)})"
        return f"{count(len(tids), what)} {_numbers(tids)}"


def _numbers(tids: Sequence[Tid]) -> str:
    shown = ", ".join(map(str, tids[:_NAMED]))
    return shown if len(tids) <= _NAMED else f"{shown} and {len(tids) - _NAMED:,} more"


def _listed(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _inode(value: int | Unavailable) -> str:
    return f"({printable(value.why)})" if isinstance(value, Unavailable) else str(value)


def _places(places: Iterable[tuple[int, bytes, bytes]]) -> str:
    # Hierarchies with one path together; v2 is the one without controllers.
    paths: dict[bytes, list[str]] = {}
    for hierarchy, controllers, path in places:
        paths.setdefault(path, []).append(printable(controllers) if hierarchy else "v2")
    if list(paths.values()) == [["v2"]]:
        return printable(next(iter(paths)))
    return "; ".join(f"{printable(path)} ({', '.join(names)})" for path, names in paths.items())


def _wrapped(indent: str, text: str, width: int) -> Iterator[Line]:
    line = indent
    for word in text.split(" "):
        if line.strip() and width_of(line) + 1 + width_of(word) > width:
            yield (Piece(line),)
            line = f"{indent}  "
        line += word if not line.strip() else f" {word}"
    yield (Piece(line),)


def unknowns(inspection: Inspection) -> list[tuple[Unavailable, tuple[str, ...], tuple[Tid, ...]]]:
    """What could not be read: the reason, of which columns, of which tasks; equal ones together."""
    columns: dict[tuple[Tid, Unavailable], list[str]] = {}
    for name, grouping in _columns(inspection):
        for tid, why in grouping.unknown.items():
            columns.setdefault((tid, why), []).append(name)
    tids: dict[tuple[Unavailable, tuple[str, ...]], list[Tid]] = {}
    for (tid, why), names in columns.items():
        tids.setdefault((why, tuple(names)), []).append(tid)
    return [(why, names, tuple(several)) for (why, names), several in tids.items()]


def _columns(inspection: Inspection) -> Iterator[tuple[str, Grouping]]:
    yield from inspection.objects.items()
    yield "namespaces", inspection.namespaces
    yield "cgroups", inspection.cgroups


def to_json(inspection: Inspection) -> bytes:
    """The object of docs/inspect.md, indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(to_data(inspection)), indent=2) + b"\n"


def to_data(inspection: Inspection) -> dict[str, Any]:
    """The object as Python builtins."""
    letters = {name: grouping.letters() for name, grouping in inspection.objects.items()}
    return {
        "format": JSON_FORMAT,
        "processes": [
            {
                "pid": pid,
                "ppid": tasks[0].ppid,
                "comm": _text(tasks[0].name),
                "uid": tasks[0].uid,
                "asked": pid in inspection.asked,
                "tasks": [_task(task, inspection, letters) for task in tasks],
            }
            for pid, tasks in inspection.processes().items()
        ],
        "groups": {
            name: {
                "objects": [{"letter": each.letter, "tids": each.members} for each in grouping.groups],
                "unset": grouping.unset,
            }
            for name, grouping in inspection.objects.items()
        },
        "between": [
            {"pids": each.pids, "share": each.objects, "vfork_held": each.holder} for each in inspection.between
        ],
        "apart": [
            {"tid": each.tid, "pid": each.pid, "objects": each.objects, "namespaces": each.namespaces}
            for each in inspection.apart
        ],
        "pending": [{"tid": each.tid, "namespace": each.namespace} for each in inspection.pending],
        "unknown": [{"what": names, "tids": tids, **_unavailable(why)} for why, names, tids in unknowns(inspection)],
        "dropped": [{"tid": each.tid, "why": each.why} for each in inspection.dropped],
        "others": None
        if inspection.elsewhere is None
        else {"compared": inspection.elsewhere.compared, "refused": inspection.elsewhere.refused},
        "comparisons": inspection.comparisons,
    }


def _task(task: InspectedThread, inspection: Inspection, letters: dict[str, dict[Tid, str]]) -> dict[str, Any]:
    return {
        "tid": task.tid,
        "comm": _text(task.name),
        "state": task.state,
        "marks": task.marks,
        "state_text": state_text(task.state + task.marks),
        "start": task.start,
        "ns_tids": task.ns_tids,
        "exit_signal": signal_name(task.exit_signal) if task.exit_signal > 0 else None,
        "made_by": task.made_by or "program",
        "vfork_held": task.in_vfork,
        **{name: _cell(name, task, inspection, letters[name]) for name in OBJECTS},
        "namespaces": {
            name: _unavailable(value) if isinstance(value, Unavailable) else value
            for name, value in task.namespaces.items()
        },
        "cgroups": _unavailable(task.cgroups)
        if isinstance(task.cgroups, Unavailable)
        else [
            {"hierarchy": hierarchy, "controllers": _text(controllers), "path": _text(path)}
            for hierarchy, controllers, path in task.cgroups
        ],
    }


def _cell(name: str, task: InspectedThread, inspection: Inspection, letters: dict[Tid, str]) -> Any:  # noqa: ANN401 - JSON
    if task.tid in letters:
        return letters[task.tid]
    if name in NULLABLE and task.tid in inspection.objects[name].unset:
        return None
    return _unavailable(inspection.objects[name].unknown[task.tid])


def _unavailable(value: Unavailable) -> dict[str, Any]:
    number = value.errno
    return {"unavailable": value.why, "errno": number, "errno_name": errno_name(number) if number else None}


def _text(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    return msgspec.to_builtins(record_text(raw))
