"""``forklore show``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import IO, TYPE_CHECKING, Any, Final

from forklore.abi.text import printable
from forklore.cli.common import add_view_arguments, check_output, output_file, view_options
from forklore.cli.main import USAGE_ERROR, complain, say
from forklore.cli.progress import reading
from forklore.export.table import EXPORTERS, VIEWS, Exporter

if TYPE_CHECKING:
    from forklore.export.table import ExportOptions
    from forklore.model.tasks import Trace

HELP = """\
Show a trace: one that `forklore run -o` recorded, or what strace, ltrace,
perf, bpftrace, tracexec or QEMU_STRACE wrote. What a file is, is told by its
content. What a log cannot know is marked as unknown.
"""
_PER_TASK: Final = re.compile(r"\.\d+\Z")
EPILOG = """\
examples:
  forklore show trace.jsonl
  forklore show --format json trace.jsonl | jq '.tasks[].comm'
  forklore show --view sites trace.jsonl
  forklore show --view time trace.jsonl
  forklore show --view task 4711 trace.jsonl
  forklore show --format html -o page.html trace.jsonl
  forklore show --format folded trace.jsonl | flamegraph.pl > made.svg
  strace -f -o log.txt make; forklore show log.txt
  strace -ff -ttt -o logs/make make; forklore show logs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore show``."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="the trace or log; what strace -ff wrote as its directory, as the PREFIX of its files, or file by file;"
        " with --view task also the task's tid (4711), or its number ('#3')",
    )
    parser.add_argument(
        "--format",
        choices=EXPORTERS,
        metavar="NAME",
        default="tree",
        help="; ".join(f"{name}: {each.about}" for name, each in EXPORTERS.items()) + " (default: tree)",
    )
    parser.add_argument(
        "--view",
        choices=VIEWS,
        default="tree",
        help="what of it: the tree; where tasks are made, ranked, and where the time went, with the"
        " critical path (these two also as JSON); who shares what, a letter for each"
        " object; which descriptors survived an exec and who holds which end of a pipe; what changed in the"
        " environment at each exec (of run --env; also as JSON); or all that is known of one"
        " task",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write to FILE, which gets mode 0600, instead of the standard output"
    )
    parser.add_argument(
        "--otlp-endpoint",
        metavar="URL",
        help="send spans to this collector of OpenTelemetry (http://localhost:4318), and print nothing",
    )
    add_view_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show; the exit status."""
    from forklore.events.lines import TraceError
    from forklore.export.table import CannotExportError
    from forklore.report.task_card import NoSuchTaskError
    from forklore.sources.files import open_any, open_several

    arguments.file, *others = arguments.files
    arguments.id = None
    if arguments.view == "task":
        if len(others) != 1:
            complain("show: --view task needs a FILE and the task's ID, and only that view takes one")
            return USAGE_ERROR
        (arguments.id,) = others
        others = []
        if _is_id(arguments.file) and not _is_id(arguments.id):
            arguments.file, arguments.id = arguments.id, arguments.file  # as in: --view task 4711 trace.jsonl
    elif others and not all(_PER_TASK.search(os.path.basename(name)) for name in arguments.files):
        complain(
            "show: several FILEs must be those of one strace -ff -o PREFIX, named PREFIX.PID; --view task takes a FILE"
            f" and the task's ID; these are neither: {', '.join(map(printable, arguments.files))}"
        )
        return USAGE_ERROR
    exporter = EXPORTERS[arguments.format] if arguments.otlp_endpoint is None else _sender(arguments.otlp_endpoint)
    if arguments.output is not None and any(_same(arguments.output, name) for name in arguments.files):
        complain(f"show: {arguments.output} is the trace itself: give -o another file")
        return USAGE_ERROR
    try:
        if arguments.output is not None:
            check_output(arguments.output)
        source = open_several(arguments.files) if others else open_any(arguments.file)
        if arguments.output is not None:
            with output_file(arguments.output, text=exporter.text) as file:
                exporter.write(source, file, view_options(arguments, sys.stderr), complain)
            return 0
        stream = sys.stdout if exporter.text else sys.stdout.buffer
        with reading(arguments.file, stream) as out:
            exporter.write(source, out, view_options(arguments, sys.stdout), complain)
    except (TraceError, NoSuchTaskError, CannotExportError) as problem:
        complain(str(problem))
        return 1
    except OSError as problem:
        complain(f"{problem.filename or arguments.file}: {problem.strerror}{_rotated(arguments.file)}")
        return 1
    return 0


def _sender(url: str) -> Exporter:
    def send(trace: Trace, _out: IO[Any], options: ExportOptions) -> None:
        from forklore.export.otlp.official import send

        say(f"{send(trace, url, options):,} spans sent to {url}")

    return Exporter("", lambda _view: send)


def _rotated(file: str) -> str:
    """What is left of a recording whose first file was removed by --rotate."""
    if os.path.lexists(file):
        return ""
    folder, name = os.path.split(file)
    try:
        found = [each.removeprefix(f"{name}.") for each in os.listdir(folder or ".") if each.startswith(f"{name}.")]
    except OSError:
        return ""
    numbers = sorted(int(number) for number in found if number.isdecimal())
    if not numbers:
        return ""
    last = f" to {file}.{numbers[-1]}" if len(numbers) > 1 else ""
    return f"; --rotate went on in {file}.{numbers[0]}{last}, and removed what was before"


def _same(output: str, file: str) -> bool:
    return os.path.isfile(output) and os.path.isfile(file) and os.path.samefile(output, file)


def _is_id(word: str) -> bool:
    return word.removeprefix("#").isdecimal() and not os.path.exists(word)
