"""``forklore why``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from forklore.abi.units import Pid
from forklore.cli.common import add_color_argument, columns, pid, positive, wants_color
from forklore.cli.main import complain

if TYPE_CHECKING:
    from forklore.features.why.conclude import Conclusion
    from forklore.features.why.graph import Graph

HELP = """\
Say why programs do not end: what each thread waits for, who could end the wait,
and so on to the root. Nothing is traced, stopped (but see --seize) or changed: all
is read from /proc and asked of the kernel. Without a PID, the programs that a forklore traces.
"""
EPILOG = """\
"for certain" is said only where it follows: nobody but a signal can end the wait,
for all who could are known, and each of them waits so, too.

exit status:
  0  something was found, and nothing of it is certain to wait for ever
  1  none of the processes could be found
  2  usage
  3  something waits for ever for certain

examples:
  forklore why 4711
  forklore why --tree $$
  forklore why --name make --watch 5
  sudo forklore why --all
  forklore why --format json 4711 | jq '.processes[].headline'
"""
STUCK = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore why``."""
    parser.add_argument("pid", nargs="*", type=pid, metavar="PID", help="a process, or a thread of it")
    parser.add_argument(
        "--tree", type=pid, action="append", default=[], metavar="PID", help="a process and its descendants"
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME", help="processes of that name, as ps and pgrep -x have it"
    )
    parser.add_argument(
        "--all", action="store_true", help="every process: those that look wrong, and a count of the others"
    )
    parser.add_argument("--watch", type=positive, metavar="S", help="look again every S seconds until all has ended")
    parser.add_argument(
        "--stack",
        action="store_true",
        help="each thread's call stack, as far as it is found without stopping it",
    )
    parser.add_argument(
        "--seize",
        action="store_true",
        help="with --stack: hold each thread that was asked about for a moment, to find all of its stack; not one whose"
        " call would fail for it",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="for people or for programs")
    view = parser.add_argument_group("the text")
    view.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="every thread, its call with arguments, state, times, what else could",
    )
    view.add_argument(
        "--columns", type=positive, metavar="N", help="as wide as that (default: the terminal, $COLUMNS, else 80)"
    )
    add_color_argument(view)


def run(arguments: argparse.Namespace) -> int:
    """Look, conclude and print; the exit status."""
    from forklore.features.why.conclude import Certainty, conclude
    from forklore.features.why.observe.observe import Stacks, observe

    wanted, trees = _wanted(arguments)
    if not (wanted or trees or arguments.all):
        return 1
    held = Stacks.HELD if arguments.seize else Stacks.AS_IT_GOES
    stacks = held if arguments.stack or arguments.seize else Stacks.NO
    while True:
        graph = observe(wanted, trees=trees, everything=arguments.all, stacks=stacks)
        found = conclude(graph)
        _print(graph, found, arguments)
        if not found or arguments.watch is None or _ended_within(found, arguments.watch):
            break
        print(flush=True)
    if not found:
        return 1
    return STUCK if any(each.chain.certainty is Certainty.CERTAIN for each in found) else 0


def _ended_within(found: list[Conclusion], seconds: int) -> bool:
    from forklore.linux.waits.processes import ended_within

    return ended_within([each.pid for each in found], seconds)


def _wanted(arguments: argparse.Namespace) -> tuple[list[Pid], list[Pid]]:
    from forklore.linux.waits import processes

    wanted = [Pid(number) for number in arguments.pid]
    trees = [Pid(number) for number in arguments.tree]
    for name in arguments.name:
        named = processes.named(name)
        if not named:
            complain(f"why: no process is called {name}")
        wanted += named
    if not (wanted or trees or arguments.all or arguments.name):
        wanted = processes.traced_by_forklore()
        if not wanted:
            complain(
                "why: name a PID, or give --tree PID, --name NAME or --all: no program is traced by a forklore now"
            )
    return wanted, trees


def _print(graph: Graph, found: list[Conclusion], arguments: argparse.Namespace) -> None:
    if arguments.format == "json":
        from forklore.features.why.data import to_json

        sys.stdout.buffer.write(to_json(graph, found))
        return
    from forklore.features.why.text import lines
    from forklore.report.styled_lines import drawn_for, write

    if not found:
        for gone in graph.gone:
            complain(f"{gone.tid}: {gone.why}")
        return
    with drawn_for(sys.stdout):
        view = lines(graph, found, columns(arguments, sys.stdout), verbose=arguments.verbose, everything=arguments.all)
        write(view, sys.stdout, color=wants_color(arguments.color, sys.stdout))
