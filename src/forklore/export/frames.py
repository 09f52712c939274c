"""A trace as a table with a row for each task, and as a graph, for the libraries that notebooks use.

None of them is needed for anything else: each is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

from forklore.abi.signals import signal_name
from forklore.abi.text import as_text
from forklore.abi.units import TaskId, Unavailable
from forklore.model.critical_path import critical_path
from forklore.model.tasks import Task, Trace
from forklore.model.timing import own_cpu
from forklore.model.waits import Untimed
from forklore.report.tree.edges import Edges

if TYPE_CHECKING:
    import networkx
    import pandas
    import polars
    import pyarrow

ColumnType = Literal["number", "text", "truth", "span"]
"""``span`` is a duration, or a time since the start of the trace."""
_LIMIT: Final = 1 << 63


class LibraryMissingError(ImportError):
    """A library that was asked for is not installed; the text says how it is."""


class Column(Struct, frozen=True):
    """A column: its name and type, what it has, and where that is taken from."""

    name: str
    type: ColumnType
    about: str
    value: Callable[[_Sight, Task], Any]


class _Sight:
    """What of a trace is worked out once for all rows."""

    def __init__(self, trace: Trace) -> None:
        self.edges = Edges(trace)
        self.own = own_cpu(trace)
        self.on_path: dict[TaskId, int] | None = None
        path = critical_path(trace)
        if not isinstance(path, Untimed):
            self.on_path = dict.fromkeys(trace.tasks, 0)
            for step in path.steps:
                self.on_path[step.task] += step.length


def _command(_sight: _Sight, task: Task) -> str | None:
    import shlex

    image = task.images[-1] if task.images else None
    if image is None or isinstance(image.argv, Unavailable) or not image.argv:
        return None
    return shlex.join(map(as_text, image.argv))


def _executable(_sight: _Sight, task: Task) -> str | None:
    file = task.images[-1].file if task.images else None
    return None if file is None else as_text(file)


def _flags(_sight: _Sight, task: Task) -> str | None:
    return None if task.creation is None else task.creation.flags.text()


def _library(sight: _Sight, task: Task) -> str | None:
    edge = sight.edges.of(task)
    return edge.library or None if edge is not None else None


def _caller(sight: _Sight, task: Task) -> str | None:
    edge = sight.edges.of(task)
    return edge.caller or None if edge is not None else None


def _own(sight: _Sight, task: Task) -> int | None:
    own = sight.own.get(task.id)
    return None if own is None else own * 1000


COLUMNS: Final = (
    Column("task", "number", "forklore's own number", lambda _, task: task.id),
    Column("tid", "number", "its thread id; none where a log does not tell it", lambda _, task: task.tid or None),
    Column("tgid", "number", "its process id", lambda _, task: task.tgid or None),
    Column("kind", "text", "`process`, `thread`, or `task` where that is not known", lambda _, task: task.kind),
    Column("creator", "number", "the task that made it", lambda _, task: task.creator),
    Column("parent", "number", "the task that waited for it at first", lambda _, task: task.parent),
    Column("leader", "number", "the task that its thread group began with", lambda _, task: task.leader),
    Column("name", "text", "what it runs", lambda _, task: None if task.name is None else as_text(task.name)),
    Column("command", "text", "the command line of its last exec", _command),
    Column("executable", "text", "the file of its last exec", _executable),
    Column("execs", "number", "how often it executed", lambda _, task: len(task.images)),
    Column("call", "text", "the call that made it", lambda _, task: None if task.form is None else task.form.call),
    Column("flags", "text", "with which flags, as C has them", _flags),
    Column("library", "text", "through which library call", _library),
    Column("caller", "text", "called by whom", _caller),
    Column("created", "span", "when it was made, since the start of the trace", lambda _, task: task.created),
    Column("ended", "span", "when it ended", lambda _, task: task.ended),
    Column("lifetime", "span", "from one to the other", lambda _, task: task.lifetime),
    Column("exec_after", "span", "from its creation to its first exec", lambda _, task: task.exec_after),
    Column("vfork_held", "span", "for how long it held its creator", lambda _, task: task.held),
    Column("exit_code", "number", "its exit status", lambda _, task: None if task.death is None else task.death.code),
    Column(
        "signal", "text", "or what ended it",
        lambda _, task: None if task.death is None or not task.death.signal else signal_name(task.death.signal),
    ),
    Column("core", "truth", "with a core dump", lambda _, task: None if task.death is None else task.death.core),
    Column("cpu", "span", "CPU time without its children's; none of a thread", _own),
    Column("peak", "number", "the most memory in KiB, its own or a child's", lambda _, task: task.peak),
    Column("failed", "number", "creations that it was refused", lambda _, task: len(task.failures)),
    Column(
        "on_path", "span", "its part of the critical path",
        lambda sight, task: None if sight.on_path is None else sight.on_path[task.id],
    ),
    Column("tracer_held", "span", "for how long forklore held it", lambda _, task: task.tracer_held),
)  # fmt: skip


def columns(trace: Trace) -> dict[str, list[Any]]:
    """Each column's values, in the order of the tasks; None for what is not known or does not apply."""
    sight = _Sight(trace)
    tasks = trace.tasks.values()
    return {column.name: [_fitting(column.value(sight, task)) for task in tasks] for column in COLUMNS}


def _fitting(value: object) -> object:
    # A file from a stranger can have numbers that no column has room for.
    return None if isinstance(value, int) and not -_LIMIT <= value < _LIMIT else value


def to_arrow(trace: Trace) -> pyarrow.Table:
    """A table with a row for each task. LibraryMissingError without pyarrow."""
    arrow = _library_of("pyarrow")
    types = {"number": arrow.int64(), "text": arrow.string(), "truth": arrow.bool_(), "span": arrow.duration("ns")}
    values = columns(trace)
    arrays = [arrow.array(values[each.name], types[each.type]) for each in COLUMNS]
    return arrow.Table.from_arrays(arrays, names=[each.name for each in COLUMNS])


def to_polars(trace: Trace) -> polars.DataFrame:
    """A frame with a row for each task. LibraryMissingError without polars."""
    found = _library_of("polars")
    types = {"number": found.Int64, "text": found.String, "truth": found.Boolean, "span": found.Int64}
    frame = found.DataFrame(columns(trace), schema={each.name: types[each.type] for each in COLUMNS})
    spans = [found.col(each.name).cast(found.Duration("ns")) for each in COLUMNS if each.type == "span"]
    made: polars.DataFrame = frame.with_columns(spans)
    return made


def to_pandas(trace: Trace) -> pandas.DataFrame:
    """A frame with a row for each task, by its number. LibraryMissingError without pandas."""
    found = _library_of("pandas")
    types = {"number": "Int64", "text": "string", "truth": "boolean", "span": "timedelta64[ns]"}
    values = columns(trace)
    frame = found.DataFrame({each.name: found.Series(values[each.name], dtype=types[each.type]) for each in COLUMNS})
    made: pandas.DataFrame = frame.set_index("task")
    return made


def to_networkx(trace: Trace) -> networkx.MultiDiGraph[int]:
    """A graph of task numbers. Its edges have the keys ``creator`` (who made it → the task), ``parent`` where somebody
    else waited for it, and ``reaper`` (who inherited it → the task); its nodes the columns of the table.
    LibraryMissingError without networkx."""
    graph = _library_of("networkx").MultiDiGraph()
    values = columns(trace)
    for place, task in enumerate(trace.tasks.values()):
        graph.add_node(task.id, **{name: column[place] for name, column in values.items() if name != "task"})
    for task in trace.tasks.values():
        if task.creator is not None:
            call = None if task.form is None else task.form.call
            graph.add_edge(task.creator, task.id, key="creator", call=call, t=task.created)
        if task.parent is not None and task.parent != task.creator:
            graph.add_edge(task.parent, task.id, key="parent")
        for reaper in task.reapers:
            if reaper.task is not None:
                graph.add_edge(reaper.task, task.id, key="reaper", t=reaper.t)
    return graph


def _library_of(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise LibraryMissingError(f"{name} is not installed: pip install {name}", name=name) from problem
