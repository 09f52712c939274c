"""The Python interface: the same things as the command, as values.

>>> import forklore
>>> trace = forklore.trace(["sh", "-c", "ls | sort"])           # doctest: +SKIP
>>> [(task.kind, task.tid, task.name) for task in trace.tasks.values()]   # doctest: +SKIP
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from forklore.abi.text import printable
from forklore.abi.units import TaskId
from forklore.events.records import raw_bytes
from forklore.events.rotate import Rotation
from forklore.features.explain.answers import explain
from forklore.model import tasks as model
from forklore.model.build import built
from forklore.sources.files import open_any
from forklore.sources.ptrace.options import Follow, Leave, Observe, Options, Stops, Until

if TYPE_CHECKING:
    import networkx
    import pandas
    import polars
    import pyarrow

    from forklore.features.diff.audits import AuditDiff
    from forklore.features.diff.traces import TraceDiff
    from forklore.features.why.conclude import Conclusion
    from forklore.features.why.graph import Graph
    from forklore.findings.check import Checked

__all__ = ["Task", "Trace", "TraceFailedError", "Why", "diff", "explain", "load", "trace", "why"]

_OWN_FAILURES = (125, 126, 127)
_NAME = 60
"""Columns of the command in a trace's repr."""
Choice = TypeVar("Choice", bound=StrEnum)


class TraceFailedError(Exception):
    """The program could not be traced, or not be executed. ``status`` is what the command would have ended with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Task(model.Task, gc=True, eq=False):
    """A task, with the tasks that its edges lead to."""

    _tasks: Mapping[TaskId, Task] = MappingProxyType({})
    """All of the trace."""

    def __repr__(self) -> str:
        return f"<Task #{self.id}: {self.kind} {self.tid} {printable(self.name or b'?')}>"

    @property
    def creator_task(self) -> Task | None:
        """Who made it: see :attr:`creator`."""
        return self._other(self.creator)

    @property
    def parent_task(self) -> Task | None:
        """Whose child it was at first: see :attr:`parent`."""
        return self._other(self.parent)

    @property
    def leader_task(self) -> Task | None:
        """What its thread group began with: see :attr:`leader`."""
        return self._other(self.leader)

    @property
    def heir_task(self) -> Task | None:
        """Whose exec took over its tid: see :attr:`heir`."""
        return self._other(self.heir)

    @property
    def child_tasks(self) -> list[Task]:
        """What it created: see :attr:`children`."""
        return [self._tasks[number] for number in self.children]

    def _other(self, number: TaskId | None) -> Task | None:
        return None if number is None else self._tasks.get(number)


class Trace(model.Trace):
    """A whole trace, and its views."""

    tasks: dict[TaskId, Task] = msgspec.field(default_factory=dict)  # type: ignore[assignment] # of which each is one

    def __repr__(self) -> str:
        from forklore.report.tree.commands import asked_text
        from forklore.report.words import words
        from forklore.report.words.deaths import death_words

        command = tuple(map(raw_bytes, self.header.command or ()))
        what = f" of {asked_text(command, _NAME)}" if command else ""
        root = next(iter(self.roots), None)
        ended = f", {death_words(root.death, root.tgid)}" if root is not None and root.death is not None else ""
        return f"<Trace{what}: {words.count(len(self.tasks), 'task')}{ended}>"

    def __str__(self) -> str:
        return self.tree()

    @property
    def roots(self) -> list[Task]:  # type: ignore[override] # as the tasks
        """The tasks that nothing of the trace stands above."""
        return [self.tasks[task.id] for task in super().roots]

    @property
    def by_pid(self) -> dict[int, list[Task]]:
        """Task by pid and tid, in the order in which they were first seen: pids are used again."""
        found: dict[int, list[Task]] = {}
        for task in self.tasks.values():
            found.setdefault(task.tid, []).append(task)
        return found

    def tree(
        self,
        *,
        columns: int = 80,
        depth: int | None = None,
        siblings: int = 40,
        verbose: bool = False,
        stacks: bool = False,
        everything: bool = False,
    ) -> str:
        """The tree as ``forklore show`` prints it; ``everything``: nothing is folded and nothing left out."""
        from forklore.export.table import ExportOptions
        from forklore.export.text import write

        out = io.StringIO()
        options = ExportOptions(
            columns=columns, depth=depth, siblings=siblings, verbose=verbose, stacks=stacks, everything=everything
        )
        write(self, out, options)
        return out.getvalue()

    def check(self, ignore: Sequence[str] = ()) -> Checked:
        """What is wrong in it, as ``forklore check`` says; ``ignore``: entries as ``--ignore`` takes them.

        Raises ValueError for a rule that there is not.
        """
        from forklore.findings.check import Ignored, check

        return check(self, [Ignored.read(each) for each in ignore])

    def to_html(self) -> str:
        """The page that ``forklore show --format html`` writes (docs/page.md); who shared what only as loaded so."""
        from forklore.export.page.page import pieces

        return "".join(pieces(self))

    def _repr_html_(self) -> str:
        # What IPython and Jupyter show.
        from forklore.export.page.notebook import notebook_html

        return notebook_html(self)

    def to_pandas(self) -> pandas.DataFrame:
        """A frame with a row for each task (docs/python-api.md). ImportError without pandas."""
        from forklore.export.frames import to_pandas

        return to_pandas(self)

    def to_polars(self) -> polars.DataFrame:
        """The same for polars. ImportError without it."""
        from forklore.export.frames import to_polars

        return to_polars(self)

    def to_arrow(self) -> pyarrow.Table:
        """The same as a table of Arrow. ImportError without pyarrow."""
        from forklore.export.frames import to_arrow

        return to_arrow(self)

    def to_networkx(self) -> networkx.MultiDiGraph[int]:
        """Who made, waited for and inherited whom, as a graph of task numbers. ImportError without networkx."""
        from forklore.export.frames import to_networkx

        return to_networkx(self)

    def to_json(self) -> bytes:
        """The trace as ``forklore show --format json`` prints it (docs/json.md); who shared what only as loaded so."""
        from forklore.export.json_tree.tree import to_json

        return to_json(self)


class Why(msgspec.Struct, frozen=True):
    """Why processes do not end, as :func:`why` found it."""

    graph: Graph
    """What was seen of each task: what it waits for, and who could end that."""
    conclusions: list[Conclusion]
    """For each process the chain of waits that tells most, and those of its other threads."""

    def __str__(self) -> str:
        return self.text()

    def __bool__(self) -> bool:
        """Whether any of the processes was there."""
        return bool(self.conclusions)

    @property
    def headlines(self) -> list[str]:
        """The root cause of each process, in a sentence."""
        from forklore.features.why.sentences import headline

        return [headline(self.graph, each.chain) for each in self.conclusions]

    @property
    def certain(self) -> bool:
        """Whether one of them waits for ever for certain: nothing but a signal can end it (docs/why.md)."""
        return any(each.chain.certainty == "certain" for each in self.conclusions)

    def text(self, *, columns: int = 80, verbose: bool = False) -> str:
        """The view as ``forklore why`` prints it."""
        from forklore.features.why.text import lines
        from forklore.report.styled_lines import plain

        view = lines(self.graph, self.conclusions, columns, verbose=verbose)
        return "".join(f"{plain(line).rstrip()}\n" for line in view)

    def to_json(self) -> bytes:
        """The object that ``forklore why --format json`` prints."""
        from forklore.features.why.data import to_json

        return to_json(self.graph, self.conclusions)


def why(*pids: int, tree: bool = False, stack: bool = False) -> Why:
    """Why running processes do not end: what each thread waits for, to the root of the chain.

    ``tree``: with all their descendants. ``stack``: call stacks are read, as far as they are found without stopping
    anybody. Nothing is traced, stopped or changed. What is gone or may not be read is in the answer; nothing is raised.
    """
    from forklore.features.why.conclude import conclude
    from forklore.features.why.observe.observe import Stacks, observe

    stacks = Stacks.AS_IT_GOES if stack else Stacks.NO
    graph = observe([], trees=pids, stacks=stacks) if tree else observe(pids, stacks=stacks)
    return Why(graph, conclude(graph))


def load(path: str | os.PathLike[str], *, sharing: bool = False) -> Trace:
    """The trace in a file: forklore's own, or what strace, ltrace, perf, bpftrace, tracexec or QEMU_STRACE wrote, told
    apart by content. A directory, or PREFIX, stands for the files of ``strace -ff -o PREFIX``.

    ``sharing``: with who shared what over time, which takes several times as long. What is wrong with a file that can
    still be read is in ``warnings``. Raises OSError, and
    :class:`forklore.events.lines.TraceError` naming file, line and what was expected.
    """
    found = built(open_any(path), sharing=sharing)
    tasks: dict[TaskId, Task] = {}
    for number, task in found.tasks.items():
        tasks[number] = Task(*(getattr(task, name) for name in task.__struct_fields__))
        tasks[number]._tasks = tasks
    return Trace(found.header, tasks, *(getattr(found, name) for name in found.__struct_fields__[2:]))


Name = str | os.PathLike[str]


def diff(
    old: Name, new: Name, *, old_runs: Sequence[Name] = (), new_runs: Sequence[Name] = ()
) -> TraceDiff | AuditDiff:
    """What changed from one trace to another, or from one audit of a C library to another, as ``forklore diff`` says.

    Files are in any form that :func:`load` reads, or audits, or libraries, which are audited first; ``old_runs`` and
    ``new_runs`` are more runs of the same as each. The answer is true where something changed; ``text``, ``markdown``,
    ``to_json`` and, of traces, ``to_html`` are the forms of the command. What is wrong with a file that can still be
    read is a UserWarning.

    Raises OSError, :class:`forklore.events.lines.TraceError`, ValueError for a trace and an audit, and
    :class:`forklore.features.audit.errors.AuditError`.
    """
    from forklore.features.diff import diff as comparing

    for name, runs in (("old_runs", old_runs), ("new_runs", new_runs)):
        if isinstance(runs, str | bytes | os.PathLike):
            raise TypeError(f"{name} is a list of files, not one: [{os.fspath(runs)!r}]")
    options = comparing.DiffOptions(
        old=Path(old), new=Path(new), old_runs=[*map(Path, old_runs)], new_runs=[*map(Path, new_runs)]
    )
    return comparing.diff(options, warnings.warn)


_ENGINES: Final = ("ptrace", "bpf", "perf", "auto")
_FAILURES: Final = ("auto", "yes", "no")


def trace(
    argv: Sequence[str | bytes | os.PathLike[str]],
    *,
    follow: str = "all",
    max_depth: int | None = None,
    follow_untraced: bool = True,
    wait: str = "tree",
    leave: str = "kill",
    stops: str | None = None,
    observe: str = "auto",
    record_argv: bool = True,
    record_env: bool = False,
    stack_depth: int = 32,
    cow: bool = False,
    vfork_writes: bool = False,
    engine: str = "ptrace",
    buffer: int = 1 << 26,
    failures: str = "auto",
    timeout: float | None = None,
    timeout_signal: int = 15,
    kill_after: float | None = None,
    output: str | os.PathLike[str] | None = None,
    max_events: int | None = None,
    rotate: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    start: Callable[[list[str], str | None], int] | None = None,
) -> Trace:
    """Run a program to its end under the tracer, with this process's stdin, stdout and stderr, and give its trace.

    The options are those of ``forklore run``; ``stack_depth`` 0 reads no call stacks. ``output`` keeps the trace file.
    After ``timeout`` seconds the program is sent ``timeout_signal``, and SIGKILL ``kill_after`` seconds later.
    How the program ended is in the root task's ``death``. The tracer is a process of its own: ptrace belongs to a
    thread, and waiting for every child would take this program's own children from it. ``start`` starts that process:
    it is given its words and ``cwd``, and gives its exit status when it has ended.

    Raises TypeError for ``argv`` in one string and for words that are none, ValueError for options that there are not
    or that exclude each other, and :class:`TraceFailedError` where the program cannot be executed or traced; the text
    says why.
    """
    if isinstance(argv, str | bytes | os.PathLike):
        raise TypeError(f"argv is a list of words, not one string: split it, as shlex.split({argv!r}) does")
    for number, word in enumerate(argv):
        if not isinstance(word, str | bytes | os.PathLike):
            raise TypeError(f"argv[{number}] is {word!r}: a word is a str, bytes or a path")
    words = [os.fspath(word) for word in argv]
    if not words:
        raise ValueError("argv is empty: it needs at least the program to run")
    options = Options(
        stops=None if stops is None else _one_of(Stops, "stops", stops),
        follow=_one_of(Follow, "follow", follow),
        max_depth=None if max_depth is None else _number("max_depth", max_depth, 1),
        follow_untraced=follow_untraced,
        until=_one_of(Until, "wait", wait),
        leave=_one_of(Leave, "leave", leave),
        observe=_one_of(Observe, "observe", observe),
        argv=record_argv,
        env=record_env,
        stack_depth=_number("stack_depth", stack_depth, 0),
        lines_at_once=rotate is not None,
        cow=cow,
        vfork_writes=vfork_writes,
    )
    options.effective_stops()  # raises what excludes what
    if why := _refusal(engine, options):
        raise ValueError(why)
    for name, given, known in (("engine", engine, _ENGINES), ("failures", failures, _FAILURES)):
        if given not in known:
            raise ValueError(f"{name}={given!r} is none of {', '.join(map(repr, known))}")
    more = [f"--engine={engine}", f"--buffer={_number('buffer', buffer, 4096)}", f"--failures={failures}"]
    more += [] if max_events is None else [f"--max-events={_number('max_events', max_events, 1)}"]
    if timeout is not None:
        more += [f"--timeout={_seconds('timeout', timeout)}", f"--signal={int(timeout_signal)}"]
        more += [] if kill_after is None else [f"--kill-after={_seconds('kill_after', kill_after)}"]
    if rotate is not None:
        Rotation.read(rotate)
        if output is None:
            raise ValueError("rotate needs a file to continue in others: give output too")
        more.append(f"--rotate={rotate}")
    with tempfile.TemporaryDirectory(prefix="forklore-") as folder:
        complaints = Path(folder, "complaints")
        target = Path(folder, "trace.jsonl") if output is None else Path(output).absolute()
        if env is not None:
            entries = Path(folder, "environment")
            entries.write_bytes(b"\0".join(_entry(*each) for each in env.items()))
            more.append(f"--environment={entries}")
        more += [f"--complaints={complaints}", f"--options={msgspec.json.encode(options).decode()}"]
        command = [sys.executable, "-m", "forklore", "run", "-q", "-o", str(target), *more, "--", *words]
        there = None if cwd is None else os.fspath(cwd)
        if start is None:
            status = subprocess.run(command, check=False, cwd=there).returncode
        else:
            status = start(list(map(os.fsdecode, command)), there)
        said = complaints.read_text() if complaints.exists() else ""
        if said and status in _OWN_FAILURES:
            raise TraceFailedError(said.strip(), status)
        return load(target if rotate is None else _last_of(target))


def _refusal(engine: str, options: Options) -> str | None:
    """Why an engine that holds nobody cannot do what is asked for."""
    if engine == "bpf":
        from forklore.sources.bpf import blind as bpf

        return bpf.refusal(options)
    if engine == "perf":
        from forklore.sources.perf import blind as perf

        return perf.refusal(options)
    return None


def _one_of(kind: type[Choice], name: str, given: str) -> Choice:
    try:
        return kind(given)
    except ValueError:
        raise ValueError(f"{name}={given!r} is none of {', '.join(repr(each.value) for each in kind)}") from None


def _number(name: str, given: float, least: int) -> int:
    if not isinstance(given, int) or given < least:
        raise ValueError(f"{name}={given!r} is not a number from {least}")
    return given


def _seconds(name: str, given: object) -> str:
    if not isinstance(given, int | float) or not 0 < given < float("inf"):
        raise ValueError(f"{name}={given!r} is no number of seconds above 0")
    return f"{given:.6f}"


def _entry(name: object, value: object) -> bytes:
    if not (isinstance(name, str | bytes) and isinstance(value, str | bytes)):
        raise TypeError(f"env has {name!r}: {value!r}, and names and values of an environment are str or bytes")
    return os.fsencode(name) + b"=" + os.fsencode(value)


def _last_of(target: Path) -> Path:
    """The file that a rotation wrote last."""
    numbers = [name.rpartition(".")[2] for name in os.listdir(target.parent) if name.startswith(f"{target.name}.")]
    last = max((int(number) for number in numbers if number.isdecimal()), default=0)
    return target.with_name(f"{target.name}.{last}") if last else target
