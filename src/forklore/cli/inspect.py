"""``forklore inspect``."""

from __future__ import annotations

import argparse
import sys

from forklore.abi.units import Tid
from forklore.cli.common import add_color_argument, columns, pid, positive, wants_color
from forklore.cli.main import complain
from forklore.features.inspect.observe import inspect

HELP = """\
Show what running tasks share right now: memory, descriptors, working directory,
signal handlers, semaphore undo, I/O context, namespaces and cgroups. Nothing is
traced or stopped; tasks are compared by kcmp(2) and read from /proc.
"""
EPILOG = """\
Processes that share an object with those asked for are found and shown too, unless
--only is given. What may not be read is "unknown", with the kernel's reason.

exit status: 0; 1 if none of the processes could be found

examples:
  forklore inspect 4711
  forklore inspect --tree $$
  sudo forklore inspect --all
  forklore inspect --format json 4711 | jq '.between'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore inspect``."""
    parser.add_argument("pid", nargs="*", type=pid, metavar="PID", help="a process, or a thread of it")
    parser.add_argument(
        "--tree", type=pid, action="append", default=[], metavar="PID", help="a process and its descendants"
    )
    parser.add_argument("--all", action="store_true", help="every process but the kernel's own threads")
    parser.add_argument("--only", action="store_true", help="do not look for others that share something with them")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="for people or for programs")
    view = parser.add_argument_group("the text")
    view.add_argument(
        "--columns", type=positive, metavar="N", help="as wide as that (default: the terminal, $COLUMNS, else 80)"
    )
    view.add_argument("--each", action="store_true", help="every task on a line of its own, whatever their number")
    add_color_argument(view)


def run(arguments: argparse.Namespace) -> int:
    """Inspect and print; the exit status."""
    if not (arguments.pid or arguments.tree or arguments.all):
        complain("inspect: name a PID, or give --tree PID or --all (see: forklore inspect --help)")
        return 2
    named, trees = ([Tid(number) for number in numbers] for numbers in (arguments.pid, arguments.tree))
    inspection = inspect(named, trees, everything=arguments.all, others=not arguments.only)
    for dropped in inspection.dropped:
        if not inspection.tasks or dropped.tid in {*named, *trees}:
            complain(f"{dropped.tid}: {dropped.why}")
    if arguments.format == "json":
        from forklore.features.inspect.text import to_json

        sys.stdout.buffer.write(to_json(inspection))
    elif inspection.tasks:
        from forklore.features.inspect.text import lines
        from forklore.report.styled_lines import drawn_for, write

        with drawn_for(sys.stdout):
            view = lines(inspection, columns(arguments, sys.stdout), each=arguments.each)
            write(view, sys.stdout, color=wants_color(arguments.color, sys.stdout))
    return 0 if inspection.tasks else 1
