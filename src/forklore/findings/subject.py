"""A trace as rules look at it: who was alive when, in which process, and which code made what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final, TypeVar, cast

from forklore.abi.text import as_text, printable
from forklore.abi.units import Nanoseconds, TaskId, Unavailable
from forklore.events import records as ev
from forklore.findings.finding import Where
from forklore.model.attributions import Attributions
from forklore.model.names import function_name
from forklore.model.stacks import CodePlace
from forklore.model.tasks import Failure, Image, Task, Trace
from forklore.report.words import words

SHELLS: Final = frozenset({b"sh", b"bash", b"dash", b"ash", b"ksh", b"mksh", b"zsh", b"busybox"})
"""Programs that run what other programs and people write for a shell."""


_SPAWNING: Final = frozenset({
    "posix_spawn", "posix_spawnp", "pidfd_spawn", "pidfd_spawnp", "ProcessImpl.forkAndExec", "uv_spawn",
    "syscall.forkExec", "os.StartProcess",
})  # fmt: skip
"""Calls of libraries and runtimes that start programs, whose children do nothing but execute."""


Found = TypeVar("Found")


class Subject:
    """Answers what several rules ask; each question about the whole trace is worked out once."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.header = trace.header
        self._attributions = Attributions()
        self._answers: dict[object, object] = {}

    def once(self, question: Callable[[Subject], Iterable[Found]]) -> Sequence[Found]:
        """What a rule found out of the whole trace, for others that need it, too."""
        if question not in self._answers:
            self._answers[question] = tuple(question(self))
        return cast("Sequence[Found]", self._answers[question])

    @property
    def tasks(self) -> Iterator[Task]:
        """All of them, in the order in which they were first seen."""
        return iter(self.trace.tasks.values())

    @property
    def processes(self) -> Iterator[Task]:
        """Those that are no threads."""
        return (task for task in self.tasks if task.kind == "process")

    def creator(self, task: Task) -> Task | None:
        """Who made it; None where that was not seen."""
        return None if task.creator is None else self.trace.tasks.get(task.creator)

    @cached_property
    def _first(self) -> dict[TaskId, TaskId]:
        # Of each task that took over a process by its exec: the one that the process began with. Each way is gone once,
        # for a process can be taken over as often as it makes a thread.
        before = {task.heir: task.id for task in self.tasks if task.heir is not None}
        found: dict[TaskId, TaskId] = {}
        for heir in before:
            way = [heir]
            while way[-1] in before and way[-1] not in found:
                way.append(before[way[-1]])
            first = found.get(way[-1], way[-1])
            found.update(dict.fromkeys(way, first))
        return found

    def process(self, task: Task) -> TaskId:
        """The task that its process began with."""
        leader = task.leader if task.leader is not None else task.id
        return self._first.get(leader, leader)

    @cached_property
    def _members(self) -> dict[TaskId, list[Task]]:
        found: dict[TaskId, list[Task]] = {}
        for task in self.tasks:
            found.setdefault(self.process(task), []).append(task)
        return found

    def members(self, process: TaskId) -> list[Task]:
        """Every task that was in a process, in the order in which they were first seen."""
        return self._members.get(process, [])

    def beside(self, task: Task, t: Nanoseconds) -> list[Task]:
        """The other tasks of its process that were alive at a moment."""
        return [each for each in self.members(self.process(task)) if each is not task and alive(each, t)]

    @cached_property
    def root(self) -> Task | None:
        """The program that was run; None for a trace of programs that ran already."""
        return next((task for task in self.tasks if task.how in ("root", "log") and task.creator is None), None)

    def ancestors(self, task: Task) -> Iterator[Task]:
        """Its creator, that one's creator and so on, threads' processes included."""
        above = self.creator(task)
        while above is not None:
            yield above
            above = self.creator(above)

    def image_at(self, task: Task, t: Nanoseconds | None) -> Image | None:
        """What a task ran at a moment: its own last exec before, else its creator's when it was made."""
        for _ in range(len(self.trace.tasks)):
            for image in reversed(task.images):
                if t is None or image.t is None or image.t <= t:
                    return image
            above = self.creator(task)
            if above is None:
                return None
            task, t = above, task.created
        return None

    def program_at(self, task: Task, t: Nanoseconds | None) -> bytes:
        """The base name of that; empty where nothing is known."""
        image = self.image_at(task, t)
        file = None if image is None else image.file
        return (file or task.comm or b"").rstrip(b"/").rpartition(b"/")[2]

    def program(self, task: Task, t: Nanoseconds | None = None) -> str:
        """The same, as text."""
        return as_text(self.program_at(task, t))

    def who(self, task: Task) -> str:
        """``4711 make``, escaped."""
        return f"{words.tid(task.tid)} {printable(task.name or self.program_at(task, None))}".rstrip()

    def who_was(self, task: Task, t: Nanoseconds | None) -> str:
        """The same by what it ran at a moment."""
        return f"{words.tid(task.tid)} {printable(self.program_at(task, t))}".rstrip()

    def several(self, tasks: list[Task], most: int = 4) -> str:
        """``4711 sh, 4712 sh and 3 more``."""
        shown = ", ".join(self.who(task) for task in tasks[:most])
        return f"{shown} and {len(tasks) - most} more" if len(tasks) > most else shown

    def chain(self, made: Task | Failure) -> tuple[str, ...] | None:
        """The library calls behind a creation, the outermost first; None where they are not known for sure."""
        found = self._attributions.of(made)
        return found.chain if found is not None and found.source in ("stack", "log") and found.sure else None

    def by_library(self, made: Task) -> bool:
        """Whether a library made it for a call of its own that starts programs: posix_spawn, a runtime's."""
        found = self._attributions.of(made)
        return found is not None and (found.script_calls > 0 or bool(_SPAWNING & set(found.chain)))

    def in_words(self, made: Task | Failure) -> str:
        """The outermost library call behind a creation, else the system call: ``popen``, ``clone``."""
        found = self._attributions.of(made)
        if found is not None and found.chain:
            return printable(found.chain[0])
        return "a call that was not seen" if made.creation is None else made.creation.call

    def where(self, made: Task | Failure) -> Where | None:
        """The code that made a task, outside of libraries; None where that is not known."""
        found = self._attributions.of(made)
        if found is None:
            return None
        if found.script_frame is not None:
            frame = found.script_frame
            return Where(as_text(ev.raw_bytes(frame.file)), frame.line, as_text(ev.raw_bytes(frame.function)))
        return None if found.caller is None else place(found.caller.place, found.caller_line)


def place(code: CodePlace, line: ev.Line | None = None) -> Where:
    """A place of a call stack."""
    shown = line if line is not None else code.lines[0] if code.lines else None
    file = None if shown is None or shown.file is None else as_text(ev.raw_bytes(shown.file))
    return Where(file, None if shown is None else shown.line, function_name(code, line))


def alive(task: Task, t: Nanoseconds) -> bool:
    """Whether a task was there at a moment, as far as its beginning and end were seen."""
    return (task.created is None or task.created < t) and (task.ended is None or task.ended > t)


def argv_of(image: Image | None) -> tuple[bytes, ...]:
    """The arguments of a program; empty where they are not known."""
    return () if image is None or isinstance(image.argv, Unavailable) else image.argv
