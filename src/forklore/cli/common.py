"""What several verbs share: where trees go, how wide they are, and whether they are coloured."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
from typing import IO, TYPE_CHECKING, Any, TextIO

from forklore.abi.units import PID_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forklore.export.table import ExportOptions

DEFAULT_COLUMNS = 80


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every verb that prints a tree."""
    view = parser.add_argument_group("the tree")
    view.add_argument(
        "-v", "--verbose", action="store_true", help="below each task its call, flags, what it shares, and paths"
    )
    view.add_argument(
        "--depth", type=natural, metavar="N", help="show N levels; 0: the root alone (default: as many as fit)"
    )
    view.add_argument(
        "--siblings", type=positive, metavar="N", default=40, help="show N lines below a task (default: 40)"
    )
    view.add_argument(
        "--columns", type=positive, metavar="N", help="as wide as that (default: the terminal, $COLUMNS, else 80)"
    )
    view.add_argument("--all", action="store_true", help="every task on a line of its own, whatever their number")
    view.add_argument(
        "--stack", action="store_true", help="below each task the whole call stack that made it, equal ones once"
    )
    add_color_argument(view)


def add_color_argument(parser: argparse._ActionsContainer) -> None:
    """--color, as grep and ls have it."""
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour on a terminal (auto), or as said; NO_COLOR and CLICOLOR_FORCE are honoured",
    )


def add_check_arguments(group: argparse._ActionsContainer) -> None:
    """What is told, and what fails."""
    group.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="ID[:SITE]",
        help="do not tell findings of a rule, everywhere or at a source line, function or program (a shell's pattern)",
    )
    group.add_argument(
        "--fail-on",
        choices=("error", "warning", "note", "never"),
        help="from which severity on the exit status is 1 (default: what the configuration says, else warning)",
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration (default: forklore.toml, or pyproject.toml with [tool.forklore.check], here or above)",
    )


def positive(text: str) -> int:
    """An argument that is a number from 1."""
    return _number(text, 1)


def natural(text: str) -> int:
    """An argument that is a number from 0."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least}")
    return number


def pid(text: str) -> int:
    """An argument that is the number of a process or thread."""
    if not text.lstrip("+-").isdecimal():
        import shlex

        raise argparse.ArgumentTypeError(f"{text!r} is no pid; pgrep -f {shlex.quote(text)} finds those of a program")
    number = positive(text)
    if number >= PID_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is no pid: Linux numbers no task from {PID_LIMIT} on")
    return number


def wants_color(choice: str, file: TextIO) -> bool:
    """Whether to colour what goes to ``file`` (no-color.org, bixense.com/clicolors)."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return file.isatty() and os.environ.get("TERM") != "dumb"


def columns(arguments: argparse.Namespace, file: TextIO) -> int:
    """How wide the view may be."""
    if arguments.columns is not None:
        return max(int(arguments.columns), 40)
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return max(int(told), 40)
    return max(_terminal_columns(file) or DEFAULT_COLUMNS, 40)


def _terminal_columns(file: TextIO) -> int:
    # Behind a pipe, which leads to less or head, the terminal is the one that messages go to; if these go into the
    # pipe too (2>&1 |), the one that is typed on.
    try:
        piped = stat.S_ISFIFO(os.fstat(file.fileno()).st_mode)
        where = (2, 0) if piped else (file.fileno(),)
    except (OSError, ValueError):
        return 0
    for number in where:
        with contextlib.suppress(OSError):
            return os.get_terminal_size(number).columns
    return 0


def in_words(problem: OSError) -> str:
    """Of what it failed, where that is known, and why."""
    named = f"{problem.filename}: " if problem.filename else ""
    return f"{named}{problem.strerror or problem}"


def check_output(path: str) -> None:
    """Raise OSError where a file cannot be written there; what is there stays as it is."""
    from forklore.events.output_file import OutputPlace

    OutputPlace(path).close()


@contextlib.contextmanager
def output_file(path: str, *, text: bool) -> Iterator[IO[Any]]:
    """A file to write a view to, opened as a trace is (:mod:`forklore.events.output_file`). Raises OSError."""
    from forklore.events.output_file import OutputPlace

    place = OutputPlace(path)
    try:
        number = place.open()
    finally:
        place.close()
    with open(number, "w" if text else "wb", encoding="utf-8" if text else None) as file:
        try:
            yield file
        except OSError as problem:
            if problem.filename is None:
                problem.filename = path
            raise


def view_options(arguments: argparse.Namespace, file: TextIO) -> ExportOptions:
    """What was asked of a view that goes to ``file``."""
    from forklore.export.table import ExportOptions

    return ExportOptions(
        view=arguments.view,
        task=getattr(arguments, "id", None),
        columns=columns(arguments, file),
        cut=None if arguments.columns is None else columns(arguments, file),
        depth=arguments.depth,
        siblings=arguments.siblings,
        everything=arguments.all,
        stacks=arguments.stack,
        verbose=arguments.verbose,
        color=wants_color(arguments.color, file),
        traceparent=os.environ.get("TRACEPARENT"),
    )
