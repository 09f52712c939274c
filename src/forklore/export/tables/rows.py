"""The rows of each table, made from a trace one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, Final

import msgspec

from forklore.abi.errors import errno_name
from forklore.abi.resources import NAMESPACES
from forklore.abi.signals import signal_name
from forklore.abi.text import as_text
from forklore.abi.units import Unavailable
from forklore.events.records import raw_bytes
from forklore.findings.check import check
from forklore.model.tasks import Task, Trace
from forklore.model.timing import cpu_of, most_at_once
from forklore.model.waits import Untimed, waits
from forklore.report.tree.edges import Edges
from forklore.report.words import words
from forklore.report.words.code import function_words, script_words, source_words

Row = tuple[Any, ...]
_NAMED: Final = 8
"""So many tasks are part of a run's id."""


class Rows:
    """The rows of one trace, which was read with who shared what (:attr:`Trace.sharing`)."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.run = run_id(trace)
        self.of: dict[str, Callable[[], Iterator[Row]]] = {
            "run": self._runs,
            "task": self._tasks,
            "creation": self._creations,
            "sharing": self._sharing,
            "exec": self._execs,
            "exit": self._exits,
            "failure": self._failures,
            "wait": self._waits,
            "finding": self._findings,
        }
        """By name of the table."""

    def _runs(self) -> Iterator[Row]:
        trace, header = self._trace, self._trace.header
        kinds = [task.kind for task in trace.tasks.values()]
        yield (
            self.run, header.boot_id, header.kernel, header.arch, header.uid, header.source.tool,
            header.source.version, words.command(tuple(map(raw_bytes, header.command))),
            None if header.clock.wall is None else header.clock.wall // 1000, trace.ended, trace.end_reason,
            kinds.count("process"), kinds.count("thread"), len(kinds), most_at_once(trace.tasks.values()),
            cpu_of(trace.tasks.values()),
        )  # fmt: skip

    def _tasks(self) -> Iterator[Row]:
        for task in self._trace.tasks.values():
            death, raw = task.death, task.name
            name = None if raw is None else as_text(raw)
            signal = None if death is None or death.signal is None else signal_name(death.signal)
            yield (
                self.run, task.id, task.tid or None, task.tgid or None, task.kind, name,
                command(task), task.creator, task.parent, task.leader, task.how, task.traced, task.created, task.ended,
                task.lifetime, None if death is None else death.code, signal, task.cpu, task.peak, task.tracer_held,
            )  # fmt: skip

    def _creations(self) -> Iterator[Row]:
        edges = Edges(self._trace)
        for task in self._trace.tasks.values():
            creation = task.creation
            if creation is None:
                continue
            signal = creation.exit_signal
            found = edges.attribution(task)
            library = caller = source = sure = None
            if found is not None and found.source != "none":
                library, sure = " → ".join(found.chain) or None, found.sure
                if found.script_frame is not None:
                    source, _, caller = script_words(found.script_frame).partition(" ")
                elif found.caller is not None:
                    caller = function_words(found.caller.place, found.caller_line)
                    source = source_words(found.caller_line) or None
            yield (
                self.run, task.id, task.creator, task.created, creation.call, creation.flags.text(),
                signal_name(signal) if signal else None, library, caller or None, source, sure, task.held,
            )  # fmt: skip

    def _sharing(self) -> Iterator[Row]:
        sharing = self._trace.sharing
        assert sharing is not None
        known: dict[int, list[tuple[str, bool, bool | None, str]]] = {}
        for number, answers in sharing.answers.items():
            unusual = known.get(id(answers))  # most tasks were made alike, and have the same answers
            if unusual is None:
                unusual = known[id(answers)] = [
                    (each.resource, each.observed == "shared", each.asked, each.how)
                    for each in answers
                    if _unusual(each.resource, each.observed)
                ]
            if not unusual:
                continue
            creator = self._trace.tasks[number].creator
            for about in unusual:
                hold = sharing.holdings.first(number, about[0])
                yield self.run, number, creator, *about, hold.since, hold.until, hold.ended_by

    def _execs(self) -> Iterator[Row]:
        for task in self._trace.tasks.values():
            for number, image in enumerate(task.images, 1):
                argv = list(map(as_text, image.argv)) if isinstance(image.argv, tuple) else None
                yield (
                    self.run, task.id, number, image.t, _known(image.path), argv, image.argc, _known(image.exe),
                    _known(image.comm),
                )  # fmt: skip

    def _exits(self) -> Iterator[Row]:
        for task in self._trace.tasks.values():
            death = task.death
            if death is not None:
                signal = None if death.signal is None else signal_name(death.signal)
                yield self.run, task.id, task.ended, death.code, signal, death.core, death.sender, death.by

    def _failures(self) -> Iterator[Row]:
        for task in self._trace.tasks.values():
            for failure in task.failures:
                errno = None if failure.errno is None else errno_name(failure.errno)
                reason = failure.reasons[0] if failure.reasons else None
                why = (None, None, None) if reason is None else (reason.rule, reason.text, reason.certain)
                yield self.run, task.id, failure.t, "creation", failure.creation.text(), errno, *why
            for failed in task.failed_execs:
                errno = errno_name(failed.errnos[-1])
                yield self.run, task.id, failed.t, "exec", _known(failed.paths[-1]) or "?", errno, None, None, None
            for call in task.calls:
                if call.result is not None and call.result < 0:
                    reason = call.reasons[0] if call.reasons else None
                    why = (None, None, None) if reason is None else (reason.rule, reason.text, reason.certain)
                    yield self.run, task.id, call.t, "call", call.call.text(), errno_name(-call.result), *why

    def _waits(self) -> Iterator[Row]:
        found = waits(self._trace)
        if isinstance(found, Untimed):
            return
        moments = found.moments
        for number, others in found.waits.items():
            moment = moments[number]
            since = None if moment.before is None else moments[moment.before].t
            for wait in others:
                if wait.why != "created":
                    other = moments[wait.moment].task
                    yield self.run, moment.task, other, wait.why, since, moment.t, wait.sure

    def _findings(self) -> Iterator[Row]:
        for folded in check(self._trace).findings:
            for finding in (folded.first, *folded.others):
                where = finding.where
                place = (None, None, None) if where is None else (where.file, where.line, where.function)
                yield (
                    self.run, finding.tasks[0] if finding.tasks else None, finding.t, finding.rule, finding.severity,
                    finding.text, finding.program or None, *place, finding.sure,
                )  # fmt: skip


def run_id(trace: Trace) -> str:
    """What names a trace among all others."""
    header = trace.header
    first = [(task.id, task.tid, task.created) for task in list(trace.tasks.values())[:_NAMED]]
    facts = (header, len(trace.tasks), trace.ended, first)
    return sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()[:32]


def command(task: Task) -> str | None:
    """The command line of a task's last exec; None where it is not known."""
    if not task.images or not isinstance(task.images[-1].argv, tuple):
        return None
    return words.command(task.images[-1].argv)


def _unusual(resource: str, observed: str) -> bool:
    return observed == ("separate" if resource in NAMESPACES else "shared")


def _known(value: bytes | Unavailable | None) -> str | None:
    return as_text(value) if isinstance(value, bytes) else None
