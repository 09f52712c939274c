"""The formats that a trace is written in, by name: what ``show --format`` offers.

Each is a module of this folder with a ``write``, and an entry in :data:`EXPORTERS`; the module is imported when it is
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Final, Literal, get_args

from msgspec import Struct

if TYPE_CHECKING:
    from forklore.events.trace_file import TraceFile
    from forklore.model.tasks import Trace

View = Literal["tree", "sites", "time", "sharing", "descriptors", "environment", "task"]
VIEWS: Final[tuple[View, ...]] = get_args(View)


class ExportOptions(Struct, frozen=True, kw_only=True):
    """What is asked of a format, which leaves alone what it has no use for."""

    view: View = "tree"
    task: str | None = None
    """The task of the view of that name: its tid, or its number as ``#3``."""
    columns: int = 80
    cut: int | None = None
    """As wide a line of the log may be; None: as long as it gets. Only where that was asked for: who searches a log
    does not want it cut to a terminal."""
    depth: int | None = None
    """Levels of the tree; None: as many as fit."""
    siblings: int = 40
    """Lines of the tree below one task."""
    everything: bool = False
    """Nothing is folded and nothing left out."""
    stacks: bool = False
    """Whole call stacks, below what they made."""
    verbose: bool = False
    """In the tree, the calls, flags, what is shared and paths of every task."""
    color: bool = False
    traceparent: str | None = None
    """The span that those of OpenTelemetry stand below, as the variable TRACEPARENT has it."""


WriteTrace = Callable[["Trace", IO[Any], ExportOptions], None]
WriteEvents = Callable[["TraceFile", IO[Any], ExportOptions], None]


class CannotExportError(Exception):
    """A trace has not what a format is made of; the text says what, and what to do."""


NO_TIMES: Final = (
    "the trace has no times, and this format is about nothing else; strace and ltrace write them with -ttt"
)


class Exporter(Struct, frozen=True):
    """A format that is written from a whole trace."""

    about: str
    """What it is, for ``show --help``."""
    load: Callable[[View], WriteTrace]
    """Imports what writes a view of it."""
    text: bool = False
    """Its stream takes text; otherwise bytes."""
    sharing: frozenset[View] = frozenset()
    """The views of it that tell who shared what, for which a trace takes several times as long to read."""

    def write(self, source: TraceFile, out: IO[Any], options: ExportOptions, warn: Callable[[str], None]) -> None:
        """Write what ``source`` tells to ``out``, after giving ``warn`` what is wrong with the file. Raises TraceError,
        :class:`forklore.report.task_card.NoSuchTaskError`, CannotExportError, and OSError of ``out``."""
        from forklore.model.build import built
        from forklore.model.without_gc import uncollected

        with uncollected():  # what is made of a trace holds on to it, too
            trace = built(source, sharing=options.view in self.sharing)
            for warning in trace.warnings:
                warn(warning)
            self.load(options.view)(trace, out, options)


class EventExporter(Struct, frozen=True):
    """A format that is written event by event, while the source is read."""

    about: str
    load: Callable[[], WriteEvents]
    text: bool = False

    def write(self, source: TraceFile, out: IO[Any], options: ExportOptions, warn: Callable[[str], None]) -> None:
        """As :meth:`Exporter.write`; what is wrong with the file is told at the end."""
        self.load()(source, out, options)
        for warning in source.warnings:
            warn(warning)


def _text(_view: View) -> WriteTrace:
    from forklore.export.text import write

    return write


def _log() -> WriteEvents:
    from forklore.export.log import write

    return write


def _json(view: View) -> WriteTrace:
    if view == "sites":
        from forklore.export.json_sites import write
    elif view == "environment":
        from forklore.export.json_environment import write
    elif view == "time":
        from forklore.export.json_times import write
    else:
        from forklore.export.json_tree.tree import write
    return write


def _html(_view: View) -> WriteTrace:
    from forklore.export.page.page import write

    return write


def _folded(_view: View) -> WriteTrace:
    from forklore.export.folded import write

    return write


def _chrome(_view: View) -> WriteTrace:
    from forklore.export.timeline.chrome import write

    return write


def _perfetto(_view: View) -> WriteTrace:
    from forklore.export.timeline.perfetto import write

    return write


def _dot(_view: View) -> WriteTrace:
    from forklore.export.graph.dot import write

    return write


def _mermaid(_view: View) -> WriteTrace:
    from forklore.export.graph.mermaid import write

    return write


def _gantt(_view: View) -> WriteTrace:
    from forklore.export.graph.mermaid import write_gantt

    return write_gantt


def _csv(_view: View) -> WriteTrace:
    from forklore.export.csv_tasks import write

    return write


def _otlp_json(_view: View) -> WriteTrace:
    from forklore.export.otlp.json_lines import write

    return write


def _otlp(_view: View) -> WriteTrace:
    from forklore.export.otlp.official import write

    return write


EXPORTERS: Final[dict[str, Exporter | EventExporter]] = {
    "tree": Exporter("text for people, by --view", _text, text=True, sharing=frozenset({"sharing", "task"})),
    "log": EventExporter("every event on a line", _log, text=True),
    "json": Exporter("one object for programs", _json, sharing=frozenset(VIEWS) - {"sites", "time", "environment"}),
    "html": Exporter("a page for a browser, one file", _html, sharing=frozenset(VIEWS)),
    "folded": Exporter("call stacks, as flame graph tools take them", _folded),
    "chrome": Exporter("a timeline as JSON, for chrome://tracing and Perfetto", _chrome),
    "perfetto": Exporter("the same as Perfetto's own protobuf", _perfetto),
    "dot": Exporter(
        "a graph for Graphviz, by --view: tree, sharing, or descriptors for pipes", _dot, text=True,
        sharing=frozenset({"sharing"}),
    ),
    "mermaid": Exporter("the same as a Mermaid flowchart", _mermaid, text=True, sharing=frozenset({"sharing"})),
    "gantt": Exporter("a bar for each task, as a Mermaid Gantt chart", _gantt, text=True),
    "otlp-json": Exporter("spans of OpenTelemetry as JSON lines", _otlp_json),
    "otlp": Exporter("the same as protobuf, by the extra otlp", _otlp),
    "csv": Exporter("a line for each task, with its times and its end", _csv, text=True),
}
