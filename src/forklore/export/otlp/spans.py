"""The spans of a trace, as OpenTelemetry's data model has them.

Names of attributes: OpenTelemetry's semantic conventions for processes, threads, hosts and operating systems; what
these have no name for begins with ``forklore.``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

from msgspec import Struct

from forklore.abi.errors import errno_name
from forklore.abi.text import as_text
from forklore.abi.units import TaskId
from forklore.export.table import NO_TIMES, CannotExportError, ExportOptions
from forklore.export.tables.rows import run_id
from forklore.findings.check import check
from forklore.model.tasks import Task, Trace
from forklore.report.words import words
from forklore.report.words.deaths import death_words

Value = str | int | bool | list[str]
Attributes = dict[str, Value]

NAME: Final = "forklore"
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""
_ARCHS: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_ARGUMENTS: Final = 256
_ARGUMENT: Final = 1024
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_RECENT: Final = 4096
"""So many ids are kept, for who makes a task has one, too."""
_MICROSECONDS: Final = 1_000_000


class Happened(Struct, frozen=True):
    """An event of a span; ``t`` in ns since 1970."""

    name: str
    t: int
    attributes: Attributes


class Link(Struct, frozen=True):
    """To another span of the trace."""

    span: bytes
    edge: str
    """``parent``: who waits for it, where that is not its creator; ``reaper``: who inherited it; ``heir``: the thread
    whose exec took over its tid."""


class Span(Struct, frozen=True):
    """A process or thread; times in ns since 1970."""

    span: bytes
    parent: bytes | None
    name: str
    start: int
    end: int
    attributes: Attributes
    events: list[Happened]
    links: list[Link]
    failed: bool | None
    """None: how it ended is not known."""
    message: str
    """How it ended, where that was no success."""


class Spans:
    """The spans of a trace, below the span that TRACEPARENT names. Raises CannotExportError for one without times."""

    def __init__(self, trace: Trace, options: ExportOptions) -> None:
        self._trace = trace
        wall = trace.header.clock.wall
        if wall is None or all(task.created is None for task in trace.tasks.values()):
            raise CannotExportError(NO_TIMES)
        self._wall = wall
        self._run = run_id(trace)
        self._hash = sha256(f"{self._run}:".encode())
        self._id_of = lru_cache(_RECENT)(self._new_id)
        above = parent_of(trace, options.traceparent)
        self.trace_id = bytes.fromhex(self._run) if above is None else above[0]
        self._above = None if above is None else above[1]
        header = trace.header
        self.resource: Attributes = {"service.name": NAME, "os.type": "linux", "forklore.run": self._run}
        told = {
            "host.name": header.host,
            "os.version": header.kernel,
            "host.arch": None if header.arch is None else _ARCHS.get(header.arch, header.arch),
        }
        self.resource |= {name: value for name, value in told.items() if value is not None}

    def __iter__(self) -> Iterator[Span]:
        found: dict[TaskId, list[Happened]] = {}
        for folded in check(self._trace).findings:
            for each in (folded.first, *folded.others):
                if each.tasks and each.t is not None:
                    about: Attributes = {"forklore.rule": each.rule, "forklore.severity": each.severity}
                    event = Happened("finding", self._wall + each.t, {**about, "forklore.text": each.text})
                    found.setdefault(each.tasks[0], []).append(event)
        for task in self._trace.tasks.values():
            if task.created is not None:
                yield self._span(task, task.created, found.get(task.id, []))

    def id_of(self, number: TaskId) -> bytes:
        """The span's id of a task: the same whenever the trace is written."""
        return self._id_of(number)

    def _new_id(self, number: TaskId) -> bytes:
        begun = self._hash.copy()
        begun.update(b"%d" % number)
        return begun.digest()[:8]

    def _timed(self, number: TaskId | None) -> bool:
        return number is not None and self._trace.tasks[number].created is not None

    def _span(self, task: Task, created: int, found: list[Happened]) -> Span:
        ended = task.ended if task.ended is not None else self._trace.ended
        death = task.death
        failed = None if death is None else death.signal is not None or bool(death.code)
        above = task.creator if self._timed(task.creator) else None
        return Span(
            self.id_of(task.id),
            self._above if above is None else self.id_of(above),
            words.task_name(task) or task.kind,
            self._wall + created,
            self._wall + max(ended if ended is not None else created, created),
            self._attributes(task),
            [*self._events(task), *found],
            list(self._links(task)),
            failed,
            death_words(death, task.tgid) if failed and death is not None else "",
        )

    def _attributes(self, task: Task) -> Attributes:
        told: Attributes = {"forklore.task": task.id, "forklore.kind": task.kind}
        if task.tgid:
            told["process.pid"] = task.tgid
        if task.kind == "thread":
            told |= {"thread.id": task.tid, "thread.name": words.task_name(task)}
        else:
            told["process.creation.time"] = _instant(self._wall + (task.created or 0))
        parent = None if task.parent is None else self._trace.tasks[task.parent]
        if parent is not None and parent.tgid:
            told["process.parent_pid"] = parent.tgid
        if task.images:
            image = task.images[-1]
            if isinstance(image.exe, bytes):
                told["process.executable.path"] = as_text(image.exe)
            told["process.executable.name"] = words.task_name(task)
            if isinstance(image.argv, tuple) and image.argv:
                told["process.command"] = as_text(image.argv[0][:_ARGUMENT])
                told["process.command_args"] = [as_text(word[:_ARGUMENT]) for word in image.argv[:_ARGUMENTS]]
        if task.death is not None and task.death.code is not None:
            told["process.exit.code"] = task.death.code
        if task.creation is not None:
            told["forklore.call"] = task.creation.text()
        if task.cpu is not None:
            told["forklore.cpu_us"] = task.cpu
        if task.peak is not None:
            told["forklore.peak_kib"] = task.peak
        # Only a file that somebody made has larger numbers.
        return {name: value for name, value in told.items() if not isinstance(value, int) or _LEAST <= value <= _MOST}

    def _events(self, task: Task) -> Iterator[Happened]:
        for image in task.images:
            if image.t is not None:
                yield Happened("exec", self._wall + image.t, {"process.executable.path": words.path(image.path)})
        for failure in task.failures:
            if failure.t is not None:
                about: Attributes = {"forklore.call": failure.creation.text()}
                if failure.errno is not None:
                    about["error.type"] = errno_name(failure.errno)
                if failure.reasons:
                    about["forklore.why"] = failure.reasons[0].text
                yield Happened("refused", self._wall + failure.t, about)
        for failed in task.failed_execs:
            if failed.t is not None:
                about = {"process.executable.path": words.path(failed.paths[-1])}
                yield Happened("refused", self._wall + failed.t, {**about, "error.type": errno_name(failed.errnos[-1])})

    def _links(self, task: Task) -> Iterator[Link]:
        if task.parent is not None and task.parent != task.creator and self._timed(task.parent):
            yield Link(self.id_of(task.parent), "parent")
        for reaper in task.reapers:
            if reaper.task is not None and self._timed(reaper.task):
                yield Link(self.id_of(reaper.task), "reaper")
        if task.heir is not None and self._timed(task.heir):
            yield Link(self.id_of(task.heir), "heir")


def parent_of(trace: Trace, given: str | None) -> tuple[bytes, bytes] | None:
    """The trace and span that TRACEPARENT names: in the program's recorded environment, else ``given``."""
    for told in (*_recorded(trace), given):
        found = None if told is None else _TRACEPARENT.fullmatch(told.strip())
        if found is not None and int(found[1], 16) and int(found[2], 16):
            return bytes.fromhex(found[1]), bytes.fromhex(found[2])
    return None


def _recorded(trace: Trace) -> Iterator[str]:
    for root in trace.roots:
        entries = root.images[0].envp if root.images else None
        for entry in entries or ():
            if entry.startswith(b"TRACEPARENT="):
                yield as_text(entry.partition(b"=")[2])


def _instant(ns: int) -> str:
    seconds, micros = divmod(ns // 1000, _MICROSECONDS)
    second = _second(seconds)
    return f"{second}.{micros:06}+00:00" if second else "?"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    except (OverflowError, ValueError, OSError):
        return ""
