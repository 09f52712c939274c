"""``forklore show``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from forklore.cli.common import add_view_arguments, columns, print_lines, print_sites, print_tree
from forklore.cli.main import USAGE_ERROR, complain

if TYPE_CHECKING:
    from forklore.model.tasks import Trace
    from forklore.report.styled_lines import Line

_TABLE_LINES = 400

HELP = """\
Show a trace: one that `forklore run -o` recorded, or the log of `strace -f` or
`ltrace -S -f`. What a file is, is told by its content. What a log cannot know is
marked as unknown.
"""
EPILOG = """\
examples:
  forklore show trace.jsonl
  forklore show --format json trace.jsonl | jq '.tasks[].comm'
  forklore show --view sites trace.jsonl
  forklore show --view task 4711 trace.jsonl
  forklore show --format folded trace.jsonl | flamegraph.pl > made.svg
  strace -f -o log.txt make; forklore show log.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore show``."""
    parser.add_argument("file", metavar="FILE", help="the trace or log")
    parser.add_argument(
        "--format",
        choices=("tree", "log", "json", "folded"),
        default="tree",
        help="text for people, by --view (tree, the default); every event on a line; JSON; or call stacks folded, as"
        " flame graph tools take them",
    )
    parser.add_argument(
        "--view",
        choices=("tree", "sites", "sharing", "descriptors", "task"),
        default="tree",
        help="what of it: the tree; where tasks are made, ranked (also as JSON); who shares what, a letter for each"
        " object; which descriptors survived an exec and who holds which end of a pipe; or all that is known of one"
        " task",
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="with --view task: its tid (4711), or its number ('#3')")
    add_view_arguments(parser)


def load(path: str | os.PathLike[str], *, sharing: bool = False) -> Trace:
    """The trace in a file, whoever wrote it. Raises OSError and TraceError."""
    from forklore.model.build import built
    from forklore.sources.files import open_any

    return built(open_any(path), sharing=sharing)


def run(arguments: argparse.Namespace) -> int:
    """Show; the exit status."""
    from forklore.events.lines import TraceError
    from forklore.report.task_card import NoSuchTaskError

    if (arguments.view == "task") != (arguments.id is not None):
        complain("show: --view task needs a FILE and the task's ID, and only that view takes one")
        return USAGE_ERROR
    if arguments.id is not None and _is_id(arguments.file) and not _is_id(arguments.id):
        arguments.file, arguments.id = arguments.id, arguments.file  # as in: --view task 4711 trace.jsonl
    try:
        if arguments.format == "log":
            _log(arguments)
        else:
            _whole(arguments)
    except (TraceError, NoSuchTaskError) as problem:
        complain(str(problem))
        return 1
    except BrokenPipeError:
        raise
    except OSError as problem:
        complain(f"{problem.filename or arguments.file}: {problem.strerror}")
        return 1
    return 0


def _is_id(word: str) -> bool:
    return word.removeprefix("#").isdecimal() and not os.path.exists(word)


def _whole(arguments: argparse.Namespace) -> None:
    sharing = arguments.view not in ("tree", "sites") or (arguments.format == "json" and arguments.view == "tree")
    trace = load(arguments.file, sharing=sharing)
    if arguments.format in ("json", "folded"):
        sys.stdout.buffer.write(_for_programs(trace, arguments))
        for warning in trace.warnings:
            complain(warning)
    elif arguments.view == "tree":
        print_tree(trace, arguments, sys.stdout)
    elif arguments.view == "sites":
        print_sites(trace, arguments, sys.stdout)
    else:
        print_lines(trace, _view(trace, arguments), arguments, sys.stdout)


def _for_programs(trace: Trace, arguments: argparse.Namespace) -> bytes:
    if arguments.format == "folded":
        from forklore.report.sites import folded_lines

        return "".join(f"{line}\n" for line in folded_lines(trace)).encode()
    if arguments.view == "sites":
        from forklore.report.sites import sites_json

        return sites_json(trace)
    from forklore.export.json_trace import to_json

    return to_json(trace)


def _view(trace: Trace, arguments: argparse.Namespace) -> list[Line]:
    width = columns(arguments, sys.stdout)
    if arguments.view == "task":
        from forklore.report.task_card import card_lines, find

        return card_lines(trace, find(trace, arguments.id), width)
    if arguments.view == "descriptors":
        from forklore.report.descriptors import descriptor_lines

        return descriptor_lines(trace, width)
    from forklore.report.sharing_table import table_lines

    return table_lines(trace, None if arguments.all else width, None if arguments.all else _TABLE_LINES)


def _log(arguments: argparse.Namespace) -> None:
    from forklore.cli.event_log import Log
    from forklore.sources.files import open_any
    from forklore.sources.source import nothing_to_do

    source = open_any(arguments.file)
    log = Log(source.header, sys.stdout, arguments.color, endless=False)
    source.run(log.event, nothing_to_do)
    for warning in source.warnings:
        complain(warning)
